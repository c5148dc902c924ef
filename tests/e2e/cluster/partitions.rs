//! Nodes that lose sight of each other: what they send gets lost, and nobody tells them. Each node and its datastore have a
//! machine of their own, with clients on it; the network between the machines comes apart under load.

use std::time::Duration;

use dynomite_tests::{Cluster, Lan, Shape, Value, until};

use super::load::under_load;

fn start(shape: Shape) -> Option<(Lan, Cluster)> {
    let lan = Lan::new(shape.datacenters * shape.racks * shape.nodes)?;
    let cluster = Cluster::start_on(shape, &lan)?;
    Some((lan, cluster))
}

fn quorum(shape: Shape) -> Shape {
    shape.line("read_consistency: dc_quorum").line("write_consistency: dc_quorum").line("timeout: 500")
}

/// Longer than any request may take: the timeout, what a peer is given on top, and a machine that is busy.
const SLOWEST: Duration = Duration::from_millis(2500);

#[test]
fn a_rack_that_is_cut_off_is_not_missed_at_quorum_and_knows_that_it_is_alone() {
    let Some((lan, mut cluster)) = start(quorum(Shape::redis(1, 3, 1))) else { return };
    let load = under_load(&mut cluster, &[0, 1], |cluster, load| {
        for _ in 0..2 {
            lan.split(&[2]);
            load.until_answered(500);
            let mut alone = cluster.client(2);
            until("it says why it refuses", || {
                let reply = alone.ask("SET alone v").text();
                reply.starts_with("ERR Peer: Peer Node ")
                    && reply.contains("DC_QUORUM needs 2 of 3 racks of dc0, 1 ans")
            });
            until("the others know that it is away", || {
                (0..2).all(|member| cluster.members[member].node.stat("peers_down") == 1)
            });
            load.until_answered(500);
            lan.heal();
            cluster.until_connected();
            load.until_answered(500);
            until("it serves again", || alone.ask("SET alone v") == Value::ok());
        }
    });
    assert_eq!(load.errors(), Vec::<String>::new());
    assert!(load.slowest() < SLOWEST, "an answer took {:?}", load.slowest());
}

#[test]
fn clients_of_a_part_without_a_majority_hear_so_in_time() {
    let Some((lan, mut cluster)) = start(quorum(Shape::redis(1, 3, 1))) else { return };
    let load = under_load(&mut cluster, &[2], |cluster, load| {
        lan.split(&[2]);
        load.until_errors(200);
        lan.heal();
        cluster.until_connected();
        load.until_answered(500);
    });
    let says_so =
        |error: &&String| error.contains(": ERR Peer: Peer Node ") && error.contains("DC_QUORUM needs 2 of 3");
    let errors = load.errors();
    assert!(errors.iter().all(|error| says_so(&error)), "{:?}", errors.iter().find(|error| !says_so(error)));
    assert!(load.slowest() < SLOWEST, "an answer took {:?}", load.slowest());
}

#[test]
fn a_datacenter_that_is_cut_off_goes_on_by_itself() {
    let Some((lan, mut cluster)) = start(quorum(Shape::redis(2, 2, 1))) else { return };
    let load = under_load(&mut cluster, &[0, 3], |cluster, load| {
        lan.split(&[2, 3]);
        load.until_answered(500);
        // Who writes finds out.
        until("writes are not sent there any more", || {
            [0, 3].iter().all(|member| cluster.members[*member].node.stat("remote_peer_dropped_requests") > 0)
        });
        load.until_answered(500);
        lan.heal();
        cluster.until_connected();
        load.until_answered(500);
    });
    assert_eq!(load.errors(), Vec::<String>::new());
    assert!(load.slowest() < SLOWEST, "an answer took {:?}", load.slowest());
    assert_eq!(cluster.client(0).ask("SET after v"), Value::ok());
    for mut far in cluster.datastores().drain(2..) {
        until("the write has arrived there", || far.ask("GET after") == Value::bulk("v"));
    }
}
