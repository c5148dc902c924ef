//! Flows take what clients, peers and others need as well: descriptors of the node, connections of the datastore.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use dynomite_tests::{Client, Datastore, Kind, Node, Settings, Value, until};

use crate::{adopted, count};

/// So many of one client's requests, one at a time, that the kernel could answer the last.
fn ask(client: &mut Client) {
    for _ in 0..20 {
        assert_eq!(client.ask("GET nothing-here"), Value::Null);
    }
}

#[test]
fn every_client_finds_a_descriptor() {
    const LIMIT: usize = 400;
    let _alone = crate::alone();
    let (Some(_), Some(datastore)) = (crate::cgroup(), Datastore::redis()) else { return };
    let mut settings = Settings::before(&datastore).line("kernel: {mode: required}");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let script = directory.path().join("few-descriptors");
    fs::write(&script, format!("#!/bin/sh\nulimit -n {LIMIT}\nexec {} \"$@\"\n", settings.program.display()))
        .and_then(|()| fs::set_permissions(&script, fs::Permissions::from_mode(0o755)))
        .expect("a script");
    settings.program = script;
    let node = Node::start(settings);
    let taken = || fs::read_dir(format!("/proc/{}/fd", node.process().pid())).expect("it runs").count();
    // Each worker has connected itself to the datastore.
    until("every worker serves", || (0..10).all(|_| node.client().ask("GET nothing-here") == Value::Null));
    let others = taken();
    let mut clients = Vec::new();
    for _ in 0..LIMIT - others - 20 {
        let mut client = node.client();
        ask(&mut client);
        clients.push(client);
    }
    println!("{others} others, {} clients, {} taken, {} flows", clients.len(), taken(), count(&node, "flows_now"));
    // Few, and most of those were left to clients that came later.
    let adopted = count(&node, "flows_adopted");
    assert!((10..=100).contains(&adopted), "{adopted} of {} clients were taken in", clients.len());
    assert!(count(&node, "flows_refused") > 0);
    assert_eq!(count(&node, "flows_max"), 100);
    let log = node.log();
    assert!(log.contains("at most 100 flows, not 1024: a quarter of the 400 descriptors"), "{log}");
    assert!(!log.contains("cannot accept"), "{log}");
}

#[test]
fn one_flow_is_enough() {
    let _alone = crate::alone();
    let (Some(_), Some(datastore)) = (crate::cgroup(), Datastore::redis()) else { return };
    let node = Node::start(Settings::before(&datastore).line("kernel: {mode: required, flows_max: 1}"));
    let mut client = adopted(&node);
    ask(&mut node.client());
    assert_eq!((count(&node, "flows_now"), count(&node, "flows_adopted")), (1, 1));
    ask(&mut client);
}

/// Eighty clients before a datastore that takes forty connections: they are served, and so is somebody else.
fn check_forty(kind: Kind, options: &[&str], flows: u64, request: &str, reply: &str) {
    let _alone = crate::alone();
    let (Some(_), Some(datastore)) = (crate::cgroup(), Datastore::start_with(kind, options)) else { return };
    let node = Node::start(Settings::before(&datastore).line("kernel: {mode: required}"));
    // Two workers, each with a connection that its clients share; memcached keeps five for its one thread.
    assert_eq!(count(&node, "flows_max"), flows, "{}", node.log());
    assert!(node.get("/kernel").contains("connections that the datastore takes"), "{}", node.get("/kernel"));
    let mut clients: Vec<Client> = (0..80).map(|_| node.client()).collect();
    for client in clients.iter_mut().chain([&mut datastore.client()]) {
        for _ in 0..20 {
            client.send(request.as_bytes());
            assert_eq!(client.bytes(reply.len()), reply.as_bytes());
        }
    }
    until("as many as may be are taken in", || {
        for client in &mut clients {
            client.send(request.as_bytes());
            assert_eq!(client.bytes(reply.len()), reply.as_bytes());
        }
        count(&node, "flows_now") == flows
    });
}

#[test]
fn redis_has_connections_for_others() {
    check_forty(Kind::Redis, &["--maxclients", "40"], 18, "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", "$-1\r\n");
}

#[test]
fn memcached_has_connections_for_others() {
    check_forty(Kind::Memcached, &["-c", "40"], 15, "get k\r\n", "END\r\n");
}

#[test]
fn a_datastore_that_comes_late_is_asked_then() {
    let _alone = crate::alone();
    let (Some(_), Some(mut datastore)) = (crate::cgroup(), Datastore::redis()) else { return };
    datastore.kill();
    let node = Node::start_unchecked(Settings::before(&datastore).line("kernel: {mode: required}"));
    until("the stats port answers", || {
        node.process().log().contains("at most 256 flows, not 1024: the datastore has yet to say")
    });
    datastore.restart();
    until("it has said so", || count(&node, "flows_max") == 1024);
}

#[test]
fn a_datastore_that_keeps_it_to_itself_gets_few_flows() {
    let _alone = crate::alone();
    let silent = Datastore::start_with(Kind::Redis, &["--rename-command", "CONFIG", ""]);
    let (Some(_), Some(datastore)) = (crate::cgroup(), silent) else { return };
    let node = Node::start(Settings::before(&datastore).line("kernel: {mode: required}"));
    assert_eq!(count(&node, "flows_max"), 256, "{}", node.log());
    adopted(&node);
}
