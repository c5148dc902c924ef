//! Network namespaces: machines with addresses of their own, for tests where loopback is not enough.
//! Owns: a namespace's life, which is that of a process in it; nothing has to be tidied up when a test dies.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use nix::sched::{CloneFlags, setns};
use tempfile::TempDir;

use crate::address::Host;
use crate::need::{need, skip};
use crate::process::Process;
use crate::until::until;

/// One namespace, with nothing but a loopback interface in it at first.
#[derive(Debug)]
pub struct Netns {
    holder: Process,
    _directory: TempDir,
}

impl Netns {
    /// `None`: it may not be made here; said aloud.
    pub fn new() -> Option<Netns> {
        for program in ["unshare", "nsenter", "ip"] {
            need(program)?;
        }
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new("unshare");
        command.args(["--net", "sleep", "infinity"]);
        let mut holder = Process::start(&command, &directory.path().join("log")).expect("unshare starts");
        let ours = file_of("self");
        let mut is_made = false;
        until("the namespace is made", || {
            is_made = file_of(&holder.pid().to_string()) != ours;
            is_made || holder.ended().is_some()
        });
        if !is_made {
            skip(&format!("no network namespace can be made: {}", holder.log().trim()));
            return None;
        }
        let netns = Netns { holder, _directory: directory };
        netns.ip("link set lo up");
        Some(netns)
    }

    /// The same program, in the namespace.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.holder.pid())).arg("--").arg(program);
        command
    }

    /// Runs `ip` with these arguments in the namespace.
    #[track_caller]
    pub fn ip(&self, arguments: &str) {
        if let Err(error) = self.try_ip(arguments) {
            panic!("ip {arguments}: {error}");
        }
    }

    /// The same where it may fail.
    pub fn try_ip(&self, arguments: &str) -> Result<(), String> {
        let mut command = self.command(Path::new("ip"));
        let output = command.args(arguments.split(' ')).output().expect("nsenter starts");
        output.status.success().then_some(()).ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// A process in it.
    pub fn pid(&self) -> i32 {
        self.holder.pid()
    }

    /// Does something in the namespace. Sockets made there stay there.
    pub fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let file = File::open(format!("/proc/{}/ns/net", self.holder.pid())).expect("the namespace is there");
        let run = move || {
            setns(file, CloneFlags::CLONE_NEWNET).expect("the namespace may be entered");
            act()
        };
        std::thread::scope(|scope| scope.spawn(run).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Does something in a namespace, if one is given.
pub fn within<T: Send>(netns: Option<&Netns>, act: impl FnOnce() -> T + Send) -> T {
    match netns {
        Some(netns) => netns.within(act),
        None => act(),
    }
}

fn file_of(process: &str) -> Option<std::path::PathBuf> {
    std::fs::read_link(format!("/proc/{process}/ns/net")).ok()
}

/// Machines at a switch, each with an address of 10.77/16. The switch can be taken apart: what is sent between its parts
/// then gets lost, and nobody is told.
pub struct Lan {
    switch: Netns,
    machines: Vec<(Host, Arc<Netns>)>,
}

impl Lan {
    /// `None`: there are no namespaces here; said aloud.
    pub fn new(machines: usize) -> Option<Lan> {
        let switch = Netns::new()?;
        for part in PARTS {
            switch.ip(&format!("link add {part} type bridge"));
            switch.ip(&format!("link set {part} up"));
        }
        let mut lan = Lan { switch, machines: Vec::new() };
        for number in 0..machines {
            let machine = Netns::new()?;
            let host = Host(Ipv4Addr::new(10, 77, 0, 1 + number as u8));
            machine.ip("link add eth0 type veth peer name cable");
            machine.ip(&format!("link set cable netns {} name {}", lan.switch.holder.pid(), port(number)));
            machine.ip(&format!("address add {}/16 dev eth0", host.0));
            machine.ip("link set eth0 up");
            lan.switch.ip(&format!("link set {} up master {}", port(number), PARTS[0]));
            lan.machines.push((host, Arc::new(machine)));
        }
        Some(lan)
    }

    pub fn machines(&self) -> &[(Host, Arc<Netns>)] {
        &self.machines
    }

    /// Nothing passes any more between these machines and the others.
    pub fn split(&self, machines: &[usize]) {
        for machine in machines {
            self.switch.ip(&format!("link set {} master {}", port(*machine), PARTS[1]));
        }
    }

    /// Everybody reaches everybody again.
    pub fn heal(&self) {
        for machine in 0..self.machines.len() {
            self.switch.ip(&format!("link set {} master {}", port(machine), PARTS[0]));
        }
    }
}

const PARTS: [&str; 2] = ["whole", "apart"];

fn port(machine: usize) -> String {
    format!("port{machine}")
}
