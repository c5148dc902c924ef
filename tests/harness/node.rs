//! One node of ours, as users run it: the built binary, a configuration file, real sockets.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, OnceLock};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::address::{CLIENT_PORT, Host, PEER_PORT, STATS_PORT};
use crate::client::Client;
use crate::datastore::{Datastore, Kind};
use crate::need::target;
use crate::netns::{Netns, within};
use crate::process::Process;
use crate::resp::Value;
use crate::until::{TIMEOUT, until};

/// What goes into a node's configuration. Everything has a value that suits a lone node.
#[derive(Clone, Debug)]
pub struct Settings {
    pub host: Host,
    /// `servers:`'s one entry, weight included.
    pub server: String,
    pub kind: Kind,
    pub embedded: bool,
    /// Further lines of the pool, `key: value`.
    pub lines: Vec<String>,
    /// Further options on the command line.
    pub options: Vec<String>,
    /// Variables of its environment.
    pub variables: Vec<(String, String)>,
    pub program: PathBuf,
    /// The program is a C Dynomite: nothing is said that it does not know.
    pub of_c: bool,
    /// Where it runs, if not where the test does.
    pub netns: Option<Arc<Netns>>,
}

impl Settings {
    pub fn before(datastore: &Datastore) -> Settings {
        Settings {
            server: datastore.server(),
            kind: datastore.kind,
            embedded: false,
            netns: datastore.netns.clone(),
            ..Settings::embedded(datastore.kind)
        }
    }

    /// Without a datastore: the node's own.
    pub fn embedded(kind: Kind) -> Settings {
        let host = Host::fresh();
        Settings {
            host,
            server: format!("{}:1:1", host.0),
            kind,
            embedded: true,
            lines: Vec::new(),
            options: Vec::new(),
            variables: Vec::new(),
            program: dynomite(),
            of_c: false,
            netns: None,
        }
    }

    /// The same for a C Dynomite.
    #[must_use]
    pub fn of_c(self, program: PathBuf) -> Settings {
        Settings { program, of_c: true, ..self }
    }

    /// One more line of configuration.
    #[must_use]
    pub fn line(mut self, line: &str) -> Settings {
        self.lines.push(line.to_string());
        self
    }

    /// One more variable of its environment.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Settings {
        self.variables.push((name.to_string(), value.to_string()));
        self
    }

    pub fn yaml(&self) -> String {
        let host = self.host.0;
        let data_store = u8::from(self.kind == Kind::Memcached);
        let mut yaml = format!(
            "dyn_o_mite:\n  listen: {host}:{CLIENT_PORT}\n  dyn_listen: {host}:{PEER_PORT}\n  stats_listen: {host}:{STATS_PORT}\n  \
             data_store: {data_store}\n  servers:\n  - {}\n",
            self.server
        );
        let given = |key: &str| self.lines.iter().any(|line| line.starts_with(key));
        if !given("tokens:") {
            yaml.push_str("  tokens: '0'\n");
        }
        // What is tested is the daemon, unless a test asks for the fast path (`DYNOMITE_KERNEL=auto` puts it under all).
        if !given("kernel:") && !self.of_c {
            let mode = std::env::var("DYNOMITE_KERNEL").unwrap_or_else(|_| "off".into());
            yaml.push_str(&format!("  kernel: {{mode: {mode}}}\n"));
        }
        // More than one, also where that is not the default: so that what several share is tested everywhere.
        if !given("workers:") && !self.of_c {
            yaml.push_str("  workers: 2\n");
        }
        for line in &self.lines {
            yaml.push_str(&format!("  {line}\n"));
        }
        yaml
    }
}

pub struct Node {
    pub settings: Settings,
    directory: TempDir,
    process: Option<Process>,
}

impl Node {
    /// Starts a node and waits until it serves.
    #[track_caller]
    pub fn start(settings: Settings) -> Node {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut node = Node { settings, directory, process: None };
        node.restart();
        node
    }

    /// Starts a node that will not answer just anybody.
    pub fn start_unchecked(settings: Settings) -> Node {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut node = Node { settings, directory, process: None };
        node.launch();
        node
    }

    /// A node with default settings before this datastore.
    #[track_caller]
    pub fn before(datastore: &Datastore) -> Node {
        Node::start(Settings::before(datastore))
    }

    /// Starts it, anew if it runs, with what `settings` say now.
    #[track_caller]
    pub fn restart(&mut self) {
        self.launch();
        let (address, kind) = (self.address(), self.settings.kind);
        until("the node serves", || {
            let process = self.process.as_mut().expect("just started");
            if let Some(status) = process.ended() {
                panic!("the node ended ({status}):\n{}\n{}", process.log(), self.settings.yaml());
            }
            within(self.settings.netns.as_deref(), || serves(address, kind))
        });
    }

    /// Starts it without waiting for anything.
    pub fn launch(&mut self) {
        self.process = None;
        let conf = self.directory.path().join("node.yml");
        std::fs::write(&conf, self.settings.yaml()).expect("the configuration is written");
        let mut command = match &self.settings.netns {
            Some(netns) => netns.command(&self.settings.program),
            None => Command::new(&self.settings.program),
        };
        command.arg("-c").arg(&conf).args(&self.settings.options).current_dir(self.directory.path());
        command.envs(self.settings.variables.iter().map(|(name, value)| (name, value)));
        if self.settings.embedded {
            command.arg("--embedded-datastore");
        }
        self.process = Some(Process::start(&command, &self.directory.path().join("log")).expect("the node starts"));
    }

    pub fn address(&self) -> SocketAddr {
        self.settings.host.port(CLIENT_PORT)
    }

    pub fn peer_address(&self) -> SocketAddr {
        self.settings.host.port(PEER_PORT)
    }

    pub fn stats_address(&self) -> SocketAddr {
        self.settings.host.port(STATS_PORT)
    }

    #[track_caller]
    pub fn client(&self) -> Client {
        self.connect(self.address())
    }

    /// A connection to one of its ports.
    #[track_caller]
    pub fn connect(&self, address: SocketAddr) -> Client {
        within(self.settings.netns.as_deref(), || Client::connect(address))
    }

    /// Does a client get an answer?
    pub fn serves(&self) -> bool {
        within(self.settings.netns.as_deref(), || serves(self.address(), self.settings.kind))
    }

    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("the node runs")
    }

    pub fn log(&self) -> String {
        self.process().log()
    }

    /// The body the stats port answers to `GET path`.
    #[track_caller]
    pub fn get(&self, path: &str) -> String {
        let mut client = self.connect(self.stats_address());
        client.send(format!("GET {path} HTTP/1.1\r\nHost: stats\r\nConnection: close\r\n\r\n").as_bytes());
        let answer = String::from_utf8_lossy(&client.rest()).into_owned();
        let body = answer.find("\r\n\r\n").unwrap_or_else(|| panic!("no body: {answer:?}"));
        answer[body + 4..].to_string()
    }

    /// A number of the stats document, wherever in it it stands.
    #[track_caller]
    pub fn stat(&self, name: &str) -> u64 {
        let info = self.get("/info");
        number(&info, name).unwrap_or_else(|| panic!("no number {name} in {info}"))
    }

    /// The same of a node that may not serve yet.
    pub fn try_stat(&self, name: &str) -> Option<u64> {
        within(self.settings.netns.as_deref(), || Client::try_connect(self.stats_address())).ok()?;
        number(&self.get("/info"), name)
    }

    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Waits until it has ended by itself, for its exit code.
    #[track_caller]
    pub fn ended(&mut self) -> Option<i32> {
        self.process.as_mut().expect("it was started").wait(TIMEOUT).expect("it ends").code()
    }

    /// Asks it to stop and waits for its exit code.
    #[track_caller]
    pub fn stop(&mut self) -> Option<i32> {
        let mut process = self.process.take().expect("the node runs");
        process.signal(Signal::SIGTERM);
        process.wait(TIMEOUT).expect("the node stops when asked").code()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(process) = self.process.as_mut().filter(|_| std::thread::panicking()) {
            let log = process.log();
            let tail = log.len().saturating_sub(4000);
            eprintln!(
                "the node ({:?}) said last:\n{}",
                process.ended(),
                String::from_utf8_lossy(&log.as_bytes()[tail..])
            );
        }
    }
}

fn number(info: &str, name: &str) -> Option<u64> {
    let (_, rest) = info.split_once(&format!("\"{name}\":"))?;
    rest.split([',', '}', '\n']).next()?.trim().parse().ok()
}

/// Does a client at this address get an answer?
pub fn serves(address: SocketAddr, kind: Kind) -> bool {
    let Ok(mut client) = Client::try_connect(address) else { return false };
    match kind {
        Kind::Redis => {
            client.try_send(b"*1\r\n$4\r\nPING\r\n").is_ok()
                && client.try_reply().is_ok_and(|reply| reply == Value::Simple("PONG".into()))
        }
        Kind::Memcached => {
            client.try_send(b"delete no-such-key\r\n").is_ok()
                && client.try_line().is_ok_and(|line| line == "NOT_FOUND")
        }
    }
}

/// The daemon to test: `DYNOMITE_BINARY`, or built now with the profile the tests were built with.
pub fn dynomite() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(given) = std::env::var_os("DYNOMITE_BINARY") {
        return given.into();
    }
    BUILT.get_or_init(build).clone()
}

fn build() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let directory = test
        .strip_prefix(target())
        .ok()
        .and_then(|path| path.iter().next())
        .and_then(|name| name.to_str())
        .unwrap_or("debug");
    let profile = if directory == "debug" { "dev" } else { directory };
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--package", "dynomite-user", "--bin", "dynomite", "--profile", profile]);
    let status = command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).status().expect("cargo runs");
    assert!(status.success(), "the daemon does not build");
    target().join(directory).join("dynomite")
}
