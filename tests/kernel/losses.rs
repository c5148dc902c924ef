//! A datastore that dies, a node that dies.

use std::time::{Duration, Instant};

use dynomite_tests::{Client, Value, until};

use crate::{adopted, count, node};

#[test]
fn a_datastore_killed_under_routed_load_costs_errors_and_no_connection() {
    let _alone = crate::alone();
    let Some((mut datastore, node)) = node(&["timeout: 2000"]) else { return };
    let mut clients: Vec<Client> = (0..10).map(|_| adopted(&node)).collect();
    datastore.pause();
    for client in &mut clients {
        client.send(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
    }
    let killed = Instant::now();
    datastore.kill();
    for client in &mut clients {
        assert!(matches!(client.reply(), Value::Error(_)), "an answer of a datastore that is dead");
    }
    assert!(killed.elapsed() < Duration::from_secs(2), "errors after {:?}", killed.elapsed());
    datastore.restart();
    for client in &mut clients {
        until("the client is served again", || client.ask("GET k") == Value::Null);
    }
    adopted(&node);
}

#[test]
fn a_datastore_that_does_not_answer_costs_an_error_after_the_timeout() {
    let _alone = crate::alone();
    let Some((datastore, node)) = node(&["timeout: 500"]) else { return };
    let mut client = adopted(&node);
    datastore.pause();
    let start = Instant::now();
    client.send(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
    assert!(matches!(client.reply(), Value::Error(_)));
    let took = start.elapsed();
    assert!(took > Duration::from_millis(400) && took < Duration::from_secs(8), "after {took:?}");
    datastore.resume();
    until("the client is served again", || client.ask("GET k") == Value::Null);
    assert!(count(&node, "watchdog_trips") > 0);
}

#[test]
fn a_killed_node_leaves_nothing_behind() {
    let _alone = crate::alone();
    let Some((datastore, mut node)) = node(&[]) else { return };
    let ours = || {
        let programs = aya::programs::loaded_programs().filter_map(Result::ok);
        programs.filter(|program| ["route", "reply", "adopt"].contains(&program.name_as_str().unwrap_or("?"))).count()
    };
    let mut client = adopted(&node);
    let before = ours();
    assert!(before >= 3, "{before} programs are loaded");
    node.kill();
    assert!(client.rest().is_empty(), "bytes after the end");
    until("the programs are gone", || ours() <= before - 3);
    until("the datastore has no clients of ours", || {
        let Value::Bulk(list) = datastore.client().ask("CLIENT LIST") else { return false };
        String::from_utf8_lossy(&list).lines().count() == 1
    });
    node.restart();
    adopted(&node);
}
