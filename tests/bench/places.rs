//! Who is measured: the datastore itself, this node, and others in front of the same datastore.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use dynomite_tests::address::{CLIENT_PORT, Host};
use dynomite_tests::node::serves;
use dynomite_tests::process::Process;
use dynomite_tests::until::{TIMEOUT, holds_within};
use dynomite_tests::{Datastore, Kind, Node, Settings};
use tempfile::TempDir;

/// One who answers requests.
pub struct Place {
    pub name: &'static str,
    pub address: SocketAddr,
    runs: Runs,
}

enum Runs {
    Elsewhere,
    Node(Box<Node>),
    Other(Process, #[expect(dead_code, reason = "its configuration lies there")] TempDir),
}

impl Place {
    pub fn direct(datastore: &Datastore) -> Place {
        Place { name: "direct", address: datastore.address(), runs: Runs::Elsewhere }
    }

    /// A Dynomite, ours or C's.
    pub fn node(name: &'static str, settings: Settings) -> Place {
        Place::of(name, Node::start(settings))
    }

    /// A node that has been started.
    pub fn of(name: &'static str, node: Node) -> Place {
        Place { name, address: node.address(), runs: Runs::Node(Box::new(node)) }
    }

    pub fn nutcracker(program: &Path, datastore: &Datastore) -> Result<Place> {
        let directory = tempfile::tempdir()?;
        let address = Host::fresh().port(CLIENT_PORT);
        let conf = directory.path().join("nutcracker.yml");
        let yaml = format!(
            "pool:\n  listen: {address}\n  hash: fnv1a_64\n  distribution: ketama\n  redis: true\n  preconnect: true\n  auto_eject_hosts: false\n  \
             server_connections: 1\n  servers:\n  - {}\n",
            datastore.server()
        );
        std::fs::write(&conf, yaml)?;
        let mut command = Command::new(program);
        let stats = Host::fresh();
        command
            .arg("-c")
            .arg(&conf)
            .args(["-a", &stats.0.to_string(), "-s", "18222", "-m", "16384"])
            .current_dir(directory.path());
        let process = Process::start(&command, &directory.path().join("log"))?;
        holds_within(TIMEOUT, || serves_get(address)).then_some(()).context("nutcracker does not serve")?;
        Ok(Place { name: "nutcracker", address, runs: Runs::Other(process, directory) })
    }

    fn process(&self) -> Option<&Process> {
        match &self.runs {
            Runs::Elsewhere => None,
            Runs::Node(node) => Some(node.process()),
            Runs::Other(process, _) => Some(process),
        }
    }

    /// The node, where the place is one.
    pub fn as_node(&self) -> Option<&Node> {
        match &self.runs {
            Runs::Node(node) => Some(node),
            _ => None,
        }
    }

    /// Processor time the place itself has used.
    pub fn cpu(&self) -> Option<Duration> {
        self.process().map(Process::cpu)
    }

    /// Resident bytes, where the place is a process of its own.
    pub fn rss(&self) -> Option<usize> {
        self.process().map(Process::rss)
    }
}

/// nutcracker of old answers no PING of its own.
fn serves_get(address: SocketAddr) -> bool {
    serves(address, Kind::Redis)
        || dynomite_tests::Client::try_connect(address).is_ok_and(|mut client| {
            client.try_send(b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n").is_ok() && client.try_reply().is_ok()
        })
}

/// Where a program is, for who starts it in a directory of its own.
pub fn absolute(program: &Path) -> PathBuf {
    std::path::absolute(program).unwrap_or_else(|_| program.to_path_buf())
}
