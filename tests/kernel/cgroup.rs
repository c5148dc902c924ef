//! The cgroup of the configuration is where the datastore's sockets are, wherever the node's own are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use dynomite_tests::need::skip;
use dynomite_tests::node::dynomite;
use dynomite_tests::{Datastore, Node, Settings, until};

use crate::adopted;

/// A cgroup for this test, gone with the value.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(root: &Path, name: &str) -> Option<Cgroup> {
        let path = root.join(format!("dynomite-test-{}-{name}", std::process::id()));
        match fs::create_dir(&path) {
            Ok(()) => Some(Cgroup(path)),
            Err(error) => {
                skip(&format!("{}: {error}", path.display()));
                None
            }
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// This process, from now on, and what it starts.
fn enter(cgroup: &Path) {
    fs::write(cgroup.join("cgroup.procs"), std::process::id().to_string())
        .unwrap_or_else(|error| panic!("{}: {error}", cgroup.display()));
}

/// What `kernel-check` says of a configuration with this cgroup.
fn kernel_check(cgroup: &Path) -> String {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let conf = directory.path().join("node.yml");
    let yaml = "p:\n  listen: 127.0.0.1:1\n  dyn_listen: 127.0.0.1:2\n  tokens: 0\n  servers:\n  - 127.0.0.1:3:1\n";
    let kernel = format!("  kernel: {{cgroup: {}}}\n", cgroup.display());
    fs::write(&conf, format!("{yaml}{kernel}")).expect("written");
    let check = Command::new(dynomite()).arg("kernel-check").arg("-c").arg(&conf).output().expect("started");
    String::from_utf8_lossy(&check.stdout).into_owned() + &String::from_utf8_lossy(&check.stderr)
}

#[test]
fn a_cgroup_of_the_datastore_alone() {
    let _alone = crate::alone();
    let Some(root) = crate::cgroup() else { return };
    let own = fs::read_to_string("/proc/self/cgroup").expect("it is there");
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).expect("a cgroup of version 2");
    let (Some(theirs), Some(empty)) = (Cgroup::new(&root, "datastore"), Cgroup::new(&root, "empty")) else { return };
    enter(&theirs.0);
    let datastore = Datastore::redis();
    enter(&root.join(own));
    let Some(datastore) = datastore else { return };
    let before = |mode: &str, cgroup: &Cgroup| {
        let line = format!("kernel: {{mode: {mode}, cgroup: {}}}", cgroup.0.display());
        Node::start(Settings::before(&datastore).line(&line))
    };
    adopted(&before("required", &theirs));
    assert!(kernel_check(&theirs.0).contains("route: yes\n"), "{}", kernel_check(&theirs.0));

    let start = Instant::now();
    let node = before("auto", &empty);
    let took = start.elapsed();
    let line = format!("fast path: off, the datastore's sockets are not seen in cgroup {}\n", empty.0.display());
    until("it says so", || node.log().contains(&line));
    assert!(took < Duration::from_secs(15), "after {took:?}");
    drop((node, datastore));
    until("the cgroup is empty", || fs::remove_dir(&theirs.0).is_ok());
}
