//! The fast path on this very kernel: programs loaded for real, sockets adopted for real.
//! Needs root (or CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON) and a cgroup2 mount; says aloud when it has not.

mod proof;

use std::path::PathBuf;

use dynomite_tests::need::skip;

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
