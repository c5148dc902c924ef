//! Nodes, datastores and links that die, stall and come back under load: clients see errors only where their level cannot
//! be met, nothing takes longer than it may, and all mends by itself.

use std::time::Duration;

use dynomite_tests::{Cluster, Shape, Value, address, until};

use super::load::under_load;

fn quorum(shape: Shape) -> Shape {
    shape.line("read_consistency: dc_quorum").line("write_consistency: dc_quorum").line("timeout: 1000")
}

#[test]
fn a_node_that_dies_and_comes_back_is_not_missed_at_quorum() {
    let Some(mut cluster) = Cluster::start(quorum(Shape::redis(1, 3, 1))) else { return };
    let load = under_load(&mut cluster, &[0, 1], |cluster, load| {
        for _ in 0..3 {
            cluster.members[2].node.kill();
            load.until_answered(1000);
            cluster.members[2].node.restart();
            cluster.until_connected();
            load.until_answered(500);
        }
    });
    assert_eq!(load.errors(), Vec::<String>::new());
    assert!(load.slowest() < Duration::from_secs(1), "an answer took {:?}", load.slowest());
}

#[test]
fn a_datastore_that_dies_and_comes_back_is_not_missed_at_quorum() {
    let Some(mut cluster) = Cluster::start(quorum(Shape::redis(1, 3, 1)).line("server_retry_timeout: 100")) else {
        return;
    };
    let load = under_load(&mut cluster, &[0, 1, 2], |cluster, load| {
        for _ in 0..3 {
            let datastore = cluster.members[2].datastore.as_mut().expect("it has one");
            datastore.kill();
            load.until_answered(1000);
            datastore.restart();
            load.until_answered(1000);
        }
    });
    assert_eq!(load.errors(), Vec::<String>::new());
    assert!(load.slowest() < Duration::from_secs(2), "an answer took {:?}", load.slowest());
}

#[test]
fn a_node_that_stalls_holds_up_nobody_at_quorum() {
    let Some(mut cluster) = Cluster::start(quorum(Shape::redis(1, 3, 1))) else { return };
    let load = under_load(&mut cluster, &[0, 1], |cluster, load| {
        cluster.members[2].node.process().pause();
        load.until_answered(2000);
        let stalled = || cluster.members[0].node.stat("peers_down") == 1;
        until("the node is found to be down", stalled);
        load.until_answered(500);
        cluster.members[2].node.process().resume();
        cluster.until_connected();
        load.until_answered(500);
        let log = cluster.members[0].node.log();
        let peer = format!("the peer at {} is", cluster.members[2].place.host.port(address::PEER_PORT));
        let said: Vec<&str> = log.lines().filter_map(|line| line.split_once(&peer)).map(|(_, said)| said).collect();
        assert_eq!(said[..2], [" there", " away: no link to it is left"], "{log}");
        assert_eq!(said.last(), Some(&" there"), "{log}");
    });
    assert_eq!(load.errors(), Vec::<String>::new());
    assert!(load.slowest() < Duration::from_millis(900), "an answer took {:?}", load.slowest());
}

#[test]
fn another_rack_stands_in_at_dc_one() {
    let Some(mut cluster) = Cluster::start(Shape::redis(1, 2, 2).line("timeout: 1000")) else { return };
    // Everything goes through one node of the first rack; its neighbour there dies.
    let load = under_load(&mut cluster, &[0], |cluster, load| {
        cluster.members[1].node.kill();
        load.until_answered(2000);
    });
    assert_eq!(load.errors(), Vec::<String>::new());
    assert!(cluster.members[0].node.stat("reads_failed_over") < 50, "the plan avoids who is down");
    cluster.members[1].node.restart();
    cluster.until_connected();
    assert_eq!(cluster.client(0).ask("SET k v"), Value::ok());
}

#[test]
fn without_a_quorum_there_are_errors_that_say_so_and_at_once() {
    let Some(mut cluster) = Cluster::start(quorum(Shape::redis(1, 3, 1))) else { return };
    let load = under_load(&mut cluster, &[0], |cluster, load| {
        cluster.members[1].node.kill();
        cluster.members[2].node.kill();
        load.until_errors(500);
        cluster.members[2].node.restart();
        cluster.members[1].node.restart();
        cluster.until_connected();
        load.until_answered(500);
    });
    let errors = load.errors();
    let says_so =
        |error: &&String| error.contains(": ERR Peer: Peer Node ") && error.contains("DC_QUORUM needs 2 of 3");
    assert!(
        errors.len() >= 500 && errors.iter().all(|error| says_so(&error)),
        "{:?}",
        errors.iter().find(|e| !says_so(e))
    );
    assert!(load.slowest() < Duration::from_secs(1), "an answer took {:?}", load.slowest());
}

#[test]
fn another_datacenter_that_is_away_is_not_waited_for() {
    let Some(mut cluster) = Cluster::start(quorum(Shape::redis(2, 1, 1))) else { return };
    let load = under_load(&mut cluster, &[0], |cluster, load| {
        for _ in 0..2 {
            cluster.members[1].node.kill();
            load.until_answered(1000);
            cluster.members[1].node.restart();
            cluster.until_connected();
            load.until_answered(500);
        }
    });
    assert_eq!(load.errors(), Vec::<String>::new());
    assert!(load.slowest() < Duration::from_millis(900), "an answer took {:?}", load.slowest());
    assert!(cluster.members[0].node.stat("remote_peer_dropped_requests") > 0);
    // What is written now arrives there.
    assert_eq!(cluster.client(0).ask("SET after v"), Value::ok());
    let mut far = cluster.datastores().remove(1);
    until("the write has arrived", || far.ask("GET after") == Value::bulk("v"));
}
