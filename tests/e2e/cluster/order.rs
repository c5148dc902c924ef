//! Replies come in the order of their requests, to the client that asked, also when other nodes give them.

use dynomite_tests::order::{Workload, run};
use dynomite_tests::{Cluster, Shape, random};

fn check(shape: Shape) {
    let Some(cluster) = Cluster::start(shape) else { return };
    let nodes = cluster.members.len();
    let workload = Workload { time: random::seconds(3), private: false, ..Workload::new(random::seed()) };
    let checked = run(&workload, |client| cluster.members[client % nodes].node.address());
    assert!(checked > 1_000, "only {checked} replies were checked");
}

#[test]
fn one_rack_of_three_nodes() {
    check(Shape::redis(1, 1, 3));
}

#[test]
fn three_racks_of_two_nodes_at_quorum() {
    // A client that comes back may get another worker, and with it another link to each peer: its write there may overtake
    // an acknowledged one that is still on its way to the third replica.
    let shape = Shape::redis(1, 3, 2).line("workers: 1");
    check(shape.line("read_consistency: dc_quorum").line("write_consistency: dc_quorum"));
}

#[test]
fn two_datacenters_all_of_whose_racks_must_agree() {
    let level = "dc_each_safe_quorum";
    let shape = Shape::redis(2, 2, 1).line("workers: 2");
    check(shape.line(&format!("read_consistency: {level}")).line(&format!("write_consistency: {level}")));
}

#[test]
fn several_workers_and_links() {
    let shape = Shape::redis(1, 2, 2).line("workers: 2").line("datastore_connections: 2");
    check(shape.line("local_peer_connections: 3").line("remote_peer_connections: 2"));
}
