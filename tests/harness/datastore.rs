//! A real datastore: redis-server or memcached, on an address of its own, that can be paused, killed and started again.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;

use crate::address::{DATASTORE_PORT, Host};
use crate::client::Client;
use crate::need::{find, need};
use crate::netns::{Netns, within};
use crate::process::Process;
use crate::until::until;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Redis,
    Memcached,
}

pub struct Datastore {
    pub kind: Kind,
    pub host: Host,
    /// Where it runs, if not where the test does.
    pub netns: Option<Arc<Netns>>,
    program: PathBuf,
    options: Vec<String>,
    directory: TempDir,
    process: Option<Process>,
}

impl Datastore {
    /// Starts one, or says that the test is skipped.
    pub fn start(kind: Kind) -> Option<Datastore> {
        Datastore::start_with(kind, &[])
    }

    /// Starts one with further options of its own.
    pub fn start_with(kind: Kind, options: &[&str]) -> Option<Datastore> {
        Datastore::start_at(kind, options, Host::fresh(), None)
    }

    /// Starts one at an address, perhaps of another machine.
    pub fn start_at(kind: Kind, options: &[&str], host: Host, netns: Option<Arc<Netns>>) -> Option<Datastore> {
        let program = match kind {
            Kind::Redis => find("redis-server").or_else(|| find("valkey-server")).or_else(|| need("redis-server"))?,
            Kind::Memcached => need("memcached")?,
        };
        let directory = tempfile::tempdir().expect("a temporary directory");
        let options = options.iter().map(ToString::to_string).collect();
        let mut datastore = Datastore { kind, host, netns, program, options, directory, process: None };
        datastore.restart();
        Some(datastore)
    }

    pub fn redis() -> Option<Datastore> {
        Datastore::start(Kind::Redis)
    }

    pub fn memcached() -> Option<Datastore> {
        Datastore::start(Kind::Memcached)
    }

    pub fn address(&self) -> SocketAddr {
        self.host.port(DATASTORE_PORT)
    }

    /// What `servers:` says about it, weight included.
    pub fn server(&self) -> String {
        format!("{}:1", self.address())
    }

    /// A connection past the node.
    #[track_caller]
    pub fn client(&self) -> Client {
        within(self.netns.as_deref(), || Client::connect(self.address()))
    }

    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("the datastore runs")
    }

    /// Ends it at once; its connections are reset or closed.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it, anew if it runs, empty, at the same address.
    pub fn restart(&mut self) {
        self.kill();
        let mut command = match &self.netns {
            Some(netns) => netns.command(&self.program),
            None => Command::new(&self.program),
        };
        let (host, port) = (self.host.0.to_string(), DATASTORE_PORT.to_string());
        match self.kind {
            Kind::Redis => {
                command.args([
                    "--bind",
                    &host,
                    "--port",
                    &port,
                    "--save",
                    "",
                    "--appendonly",
                    "no",
                    "--maxclients",
                    "20000",
                    // Clients of a machine of its own do not come from loopback.
                    "--protected-mode",
                    "no",
                ]);
                command.args(["--dir"]).arg(self.directory.path());
            }
            // Another user than root would no longer end with us: who changes its user forgets PR_SET_PDEATHSIG.
            // One thread answers as fast as a test asks; -c: the test of many clients.
            Kind::Memcached => {
                command.args(["-u", "root", "-l", &host, "-p", &port, "-U", "0", "-t", "1", "-c", "4096"]);
            }
        }
        command.args(&self.options);
        let process = Process::start(&command, &self.directory.path().join("log")).expect("the datastore starts");
        self.process = Some(process);
        let (netns, address) = (self.netns.as_deref(), self.address());
        until("the datastore answers", || within(netns, || Client::try_connect(address).is_ok()));
    }

    /// Stops it in its tracks; its connections stay open. As slow as a datastore can be.
    pub fn pause(&self) {
        self.process().pause();
    }

    pub fn resume(&self) {
        self.process().resume();
    }
}
