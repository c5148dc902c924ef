//! What a node makes of a fast path that it may not have, or not yet.

use dynomite_tests::{Datastore, Node, Settings, until};

use crate::{adopted, count};

/// A node before `datastore` with these lines, the fast path as `mode` says.
fn start(datastore: &Datastore, mode: &str, lines: &[&str]) -> Node {
    let settings = Settings::before(datastore).line(&format!("kernel: {{mode: {mode}}}"));
    Node::start_unchecked(lines.iter().fold(settings, |settings, line| settings.line(line)))
}

#[test]
fn nothing_to_be_routed_is_said_and_not_started_where_it_is_required() {
    let _alone = crate::alone();
    let (Some(_), Some(datastore)) = (crate::cgroup(), Datastore::redis()) else { return };
    let of_two = ["hash: md5", "rack: r", "datacenter: d", "dyn_seeds:\n  - 127.0.0.2:8101:r:d:7"];
    for (options, lines, why) in [
        ("", &of_two[..], "the hash md5 is not computed in the kernel"),
        (", flows_max: 0", &[], "kernel.flows_max is 0"),
    ] {
        let node = start(&datastore, &format!("auto{options}"), lines);
        until("it says so", || node.log().contains(&format!("fast path: off, {why}\n")));
        drop(node);
        let mut node = start(&datastore, &format!("required{options}"), lines);
        let code = node.ended();
        let log = node.log();
        assert_eq!(code, Some(1), "{log}");
        let line = format!("kernel.mode is required, but the fast path cannot be had: {why}\n");
        assert!(log.contains(&line), "{log}");
    }
}

#[test]
fn who_comes_second_takes_over() {
    let _alone = crate::alone();
    let (Some(_), Some(datastore)) = (crate::cgroup(), Datastore::redis()) else { return };
    let node = || Node::start(Settings::before(&datastore).line("kernel: {mode: auto}"));
    let (mut first, mut second) = (node(), node());
    assert_eq!((count(&first, "route_on"), count(&second, "route_on")), (1, 0));
    let taken = |pid: i32| format!("process {pid} routes for the datastore");
    assert!(second.log().contains(&taken(first.process().pid())), "{}", second.log());
    first.kill();
    until("the second has taken over", || count(&second, "route_on") == 1);
    assert!(second.log().contains("fast path: on, "), "{}", second.log());
    adopted(&second);

    let third = node();
    assert!(third.get("/kernel").contains(&taken(second.process().pid())), "{}", third.get("/kernel"));
    second.kill();
    third.get("/kernel/on");
    assert_eq!(count(&third, "route_on"), 1, "{}", third.get("/kernel"));
    adopted(&third);
}
