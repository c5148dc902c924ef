//! Nodes where the kernel's help cannot be had: each says why in one line and serves without; or, where it is required,
//! does not start.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use dynomite_tests::address::{CLIENT_PORT, PEER_PORT, STATS_PORT};
use dynomite_tests::need::{find, need, skip};
use dynomite_tests::node::{dynomite, serves};
use dynomite_tests::process::Process;
use dynomite_tests::{Datastore, Host, Kind, TIMEOUT, until};
use tempfile::TempDir;

/// How a node is started: a program and its arguments, before those of the daemon.
struct Context<'a> {
    wrapper: &'a [&'a str],
    /// What stands below `servers:`.
    server: &'a str,
    /// More of the `kernel:` map.
    kernel: &'a str,
    daemon: &'a Copy,
}

/// The daemon where users without rights find it, for as long as this lives.
struct Copy(TempDir);

impl Copy {
    fn new() -> Copy {
        let copy = Copy(tempfile::tempdir().expect("a temporary directory"));
        open(copy.0.path());
        fs::hard_link(dynomite(), copy.path())
            .or_else(|_| fs::copy(dynomite(), copy.path()).map(drop))
            .expect("copied");
        copy
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("dynomite")
    }
}

fn open(directory: &Path) {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("it is ours");
}

impl Context<'_> {
    fn start(&self, mode: &str, host: Host, directory: &TempDir) -> Process {
        open(directory.path());
        let conf = directory.path().join("node.yml");
        let listen = |port| host.port(port);
        let yaml = format!(
            "dyn_o_mite:\n  listen: {}\n  dyn_listen: {}\n  stats_listen: {}\n  tokens: 0\n  servers:\n  - {}\n  \
             kernel: {{mode: {mode}{}}}\n",
            listen(CLIENT_PORT),
            listen(PEER_PORT),
            listen(STATS_PORT),
            self.server,
            self.kernel
        );
        fs::write(&conf, yaml).expect("written");
        let mut command = self.command();
        command.arg("-c").arg(&conf).current_dir(directory.path());
        Process::start(&command, &directory.path().join("log")).expect("started")
    }

    fn command(&self) -> Command {
        let (first, rest) = self.wrapper.split_first().expect("a program");
        let mut command = Command::new(find(first).unwrap_or_else(|| first.into()));
        command.args(rest).arg(self.daemon.path());
        command
    }

    /// It serves, and what it says of the fast path.
    fn auto(&self) -> String {
        let (host, directory) = (Host::fresh(), tempfile::tempdir().expect("a temporary directory"));
        let mut process = self.start("auto", host, &directory);
        until("the node serves", || {
            assert!(process.ended().is_none(), "{}", process.log());
            serves(host.port(CLIENT_PORT), Kind::Redis)
        });
        process.log()
    }

    #[track_caller]
    fn check(&self, reason: &str) {
        let log = self.auto();
        let line = format!("fast path: off, {reason}\n");
        assert!(log.contains(&line), "no {line} in {log}");
        self.check_required(reason);
    }

    /// `kernel-check` looks at the same configuration.
    #[track_caller]
    fn check_said(&self, mode: &str, reason: &str) {
        let (host, directory) = (Host::fresh(), tempfile::tempdir().expect("a temporary directory"));
        drop(self.start(mode, host, &directory));
        let check = self.command().arg("kernel-check").arg("-c").arg(directory.path().join("node.yml")).output();
        let check = check.expect("started");
        let said = String::from_utf8_lossy(&check.stdout).into_owned();
        assert!(said.contains(&format!("route: no, {reason}\n")), "{said}");
        assert_eq!(check.status.code(), Some(1));
    }

    #[track_caller]
    fn check_required(&self, reason: &str) {
        let (host, directory) = (Host::fresh(), tempfile::tempdir().expect("a temporary directory"));
        let mut process = self.start("required", host, &directory);
        let code = process.wait(TIMEOUT).and_then(|status| status.code());
        let log = process.log();
        assert_eq!(code, Some(1), "{log}");
        // The guard, if one is asked for, comes first.
        let part = if self.kernel.contains("interface") { "guard" } else { "fast path" };
        let line = format!("kernel.mode is required, but the {part} cannot be had: {reason}\n");
        assert!(log.contains(&line), "no {line} in {log}");
    }
}

/// Nobody is asked for anything that this address would have to answer.
const NOWHERE: &str = "127.0.0.1:1:1";

/// Somebody without a name, with these capabilities alone.
fn nobody(capabilities: &str) -> Vec<String> {
    let mut words: Vec<String> =
        ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"].map(String::from).to_vec();
    let all = if capabilities.is_empty() { "-all".to_owned() } else { format!("-all,{capabilities}") };
    words.extend(["--inh-caps", &all, "--ambient-caps", &all, "--"].map(String::from));
    words
}

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        skip("only root can become somebody else");
    }
    root && need("setpriv").is_some()
}

#[test]
fn nobody_is_told_which_capabilities_are_missing() {
    if !is_root() {
        return;
    }
    for (has, missing) in [
        ("", "missing CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF"),
        ("+net_admin", "missing CAP_PERFMON, CAP_BPF"),
        ("+net_admin,+bpf", "missing CAP_PERFMON"),
        ("+bpf,+perfmon", "missing CAP_NET_ADMIN"),
    ] {
        let wrapper = nobody(has);
        let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
        let context = Context { wrapper: &wrapper, server: NOWHERE, kernel: ", interface: [lo]", daemon: &Copy::new() };
        let log = context.auto();
        assert!(log.contains(&format!("fast path: off, {missing}\n")), "{has}: {log}");
        // Without CAP_PERFMON, a verifier lets nobody step through a packet.
        assert!(log.contains(&format!("guard: off, {missing}\n")), "{has}: {log}");
        context.check_required(missing);
        let check = context.command().arg("kernel-check").output().expect("started");
        let said = String::from_utf8_lossy(&check.stdout).into_owned();
        assert!(
            said.ends_with(&format!("route: no, {missing}\nshortcut: no, {missing}\nguard: no, {missing}\n")),
            "{said}"
        );
        assert_eq!(check.status.code(), Some(1));
    }
}

#[test]
fn three_capabilities_are_enough() {
    if !is_root() || crate::cgroup().is_none() {
        return;
    }
    let _alone = crate::alone();
    let Some(datastore) = Datastore::redis() else { return };
    let wrapper = nobody("+net_admin,+bpf,+perfmon");
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let log = Context { wrapper: &wrapper, server: &datastore.server(), kernel: "", daemon: &Copy::new() }.auto();
    // Before 5.11, maps are locked memory, and nobody may not raise that limit.
    assert!(log.contains("fast path: on, ") || log.contains(LOCKED), "{log}");
}

const LOCKED: &str = "the kernel counts its maps as locked memory, and no more than 65536 bytes of that are allowed";

#[test]
fn too_little_memory_may_be_locked() {
    if !is_root() || crate::cgroup().is_none() || need("prlimit").is_none() {
        return;
    }
    let _alone = crate::alone();
    let Some(datastore) = Datastore::redis() else { return };
    let without = "-sys_resource,-sys_admin";
    let wrapper =
        ["prlimit", "--memlock=65536:65536", "setpriv", "--bounding-set", without, "--inh-caps", without, "--"];
    let context = Context { wrapper: &wrapper, server: &datastore.server(), kernel: "", daemon: &Copy::new() };
    // Newer kernels do not mind.
    if !context.auto().contains("fast path: on, ") {
        context.check(LOCKED);
    }
}

/// As in a container: root, with every capability, of a user namespace alone.
#[test]
fn roots_of_user_namespaces_are_not_roots() {
    if need("unshare").is_none() {
        return;
    }
    let made = Command::new("unshare").args(["--user", "--map-root-user", "true"]).status();
    if !made.is_ok_and(|status| status.success()) {
        return skip("no user namespace can be made");
    }
    let wrapper = ["unshare", "--user", "--map-root-user"];
    let context = Context { wrapper: &wrapper, server: NOWHERE, kernel: ", interface: [lo]", daemon: &Copy::new() };
    let reason = "in a user namespace; its capabilities do not count for programs in the kernel";
    assert!(context.auto().contains(&format!("guard: off, {reason}\n")), "{}", context.auto());
    context.check(reason);
}

#[test]
fn without_a_second_cgroup_hierarchy() {
    if !is_root() || need("unshare").is_none() {
        return;
    }
    let script = "grep cgroup2 /proc/self/mounts | while read what at rest; do umount -l $at; done; exec \"$@\"";
    let wrapper = ["unshare", "--mount", "sh", "-c", script, "sh"];
    Context { wrapper: &wrapper, server: NOWHERE, kernel: "", daemon: &Copy::new() }
        .check("no cgroup2 is mounted (version 1 alone does not do)");
}

#[test]
fn datastores_that_are_not_of_this_kernel() {
    if !is_root() {
        return;
    }
    let wrapper = ["setpriv", "--"];
    let daemon = &Copy::new();
    let context = |server| Context { wrapper: &wrapper, server, kernel: "", daemon };
    context("192.0.2.1:6379:1").check("the datastore 192.0.2.1:6379 is not on this host");
    context("/tmp/no-such-socket:1").check("the datastore is reached over a unix socket");
    context("/tmp/no-such-socket:1").check_said("auto", "the datastore is reached over a unix socket");
    context("192.0.2.1:6379:1").check_said("auto", "the datastore 192.0.2.1:6379 is not on this host");
    context(NOWHERE).check_said("off", "kernel.mode is off");
    if crate::cgroup().is_some() {
        Context { kernel: ", cgroup: /tmp", ..context(NOWHERE) }.check("cgroup /tmp: not a cgroup of version 2");
    }
}

/// In a machine that is thrown away afterwards: there is no way back.
#[test]
fn locked_down_kernels_show_programs_nothing() {
    if std::env::var_os("DYNOMITE_THROWN_AWAY").is_none() {
        return skip("locks the kernel down until the next boot: only in the machines of `cargo xtask kernels`");
    }
    let place = Path::new("/sys/kernel/security/lockdown");
    fs::write(place, "confidentiality").unwrap_or_else(|error| panic!("{}: {error}", place.display()));
    let Some(datastore) = Datastore::redis() else { return };
    let wrapper = ["setpriv", "--"];
    Context { wrapper: &wrapper, server: &datastore.server(), kernel: "", daemon: &Copy::new() }
        .check("the kernel is locked down (confidentiality)");
}
