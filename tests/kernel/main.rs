//! The fast path on this very kernel: programs loaded for real, sockets adopted for real.
//! Needs root (or CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON) and a cgroup2 mount; says aloud when it has not.

mod cgroup;
mod guard;
mod habits;
mod leaks;
mod losses;
mod order;
mod overlap;
mod owners;
mod proof;
mod room;
mod shortcut;
mod stalled;
mod starts;
mod uploads;
mod without;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dynomite_tests::need::skip;
use dynomite_tests::{Client, Datastore, Node, Settings, until};

/// The root of the version 2 hierarchy, or `None` after saying that the calling test is skipped.
fn cgroup() -> Option<PathBuf> {
    if !nix::unistd::geteuid().is_root() {
        skip("loading programs into the kernel needs root");
        return None;
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let found =
        mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|fields| fields.get(2) == Some(&"cgroup2"));
    if found.is_none() {
        skip("no cgroup2 is mounted");
    }
    Some(found?[1].into())
}

/// Tests here load the machine and look at what is loaded in it: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A datastore, and a node before it that does not start without the fast path.
fn node(lines: &[&str]) -> Option<(Datastore, Node)> {
    node_before(Datastore::redis(), lines)
}

/// The same before another datastore.
fn node_before(datastore: Option<Datastore>, lines: &[&str]) -> Option<(Datastore, Node)> {
    cgroup()?;
    let datastore = datastore?;
    let settings = Settings::before(&datastore).line("kernel: {mode: required}");
    let settings = lines.iter().fold(settings, |settings, line| settings.line(line));
    let node = Node::start(settings);
    Some((datastore, node))
}

/// How often a program ended for this reason.
#[track_caller]
fn verdicts(node: &Node, reason: &str) -> u64 {
    let metrics = node.get("/metrics");
    let wanted = format!("reason=\"{reason}\"}}");
    let line =
        metrics.lines().find(|line| line.starts_with("dynomite_kernel_verdicts_total") && line.contains(&wanted));
    let number = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    number.unwrap_or_else(|| panic!("no verdicts for {reason} in {metrics}"))
}

/// A counter of the kernel section.
#[track_caller]
fn count(node: &Node, name: &str) -> u64 {
    let metrics = node.get("/metrics");
    let of = |suffix: &str| {
        let start = format!("dynomite_kernel_{name}{suffix}{{");
        metrics.lines().find(|line| line.starts_with(&start))?.rsplit(' ').next()?.parse().ok()
    };
    of("_total").or_else(|| of("")).unwrap_or_else(|| panic!("no {name} in {metrics}"))
}

/// A client that the kernel answers.
#[track_caller]
fn adopted(node: &Node) -> Client {
    adopted_by(node, "*2\r\n$3\r\nGET\r\n$12\r\nnothing-here\r\n", "$-1\r\n")
}

/// The same: it asks this, one thing at a time and always answered so, until it is taken in.
#[track_caller]
fn adopted_by(node: &Node, request: &str, reply: &str) -> Client {
    let mut client = node.client();
    let before = count(node, "flows_adopted");
    until("the client is taken in", || {
        for _ in 0..20 {
            client.send(request.as_bytes());
            assert_eq!(client.bytes(reply.len()), reply.as_bytes());
        }
        count(node, "flows_adopted") > before
    });
    client
}
