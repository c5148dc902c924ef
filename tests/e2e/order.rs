//! Replies come in the order of their requests, to the client that asked, whole, whatever others do meanwhile.

use dynomite_tests::order::{Workload, run};
use dynomite_tests::{Datastore, Kind, Node, Settings, random};

fn check(settings: Settings) {
    let node = Node::start(settings);
    let workload = Workload { time: random::seconds(4), ..Workload::new(random::seed()) };
    let checked = run(&workload, |_| node.address());
    assert!(checked > 1_000, "only {checked} replies were checked");
}

#[test]
fn many_clients_get_their_own_replies_in_order() {
    let Some(datastore) = Datastore::redis() else { return };
    check(Settings::before(&datastore));
}

#[test]
fn also_over_several_datastore_connections_and_workers() {
    let Some(datastore) = Datastore::redis() else { return };
    check(Settings::before(&datastore).line("datastore_connections: 3").line("workers: 3"));
}

#[test]
fn also_before_the_embedded_datastore() {
    let node = Node::start(Settings::embedded(Kind::Redis));
    // The embedded datastore has no scripts; everything else is the same.
    let workload = Workload { time: random::seconds(2), scripts: false, ..Workload::new(random::seed()) };
    assert!(run(&workload, |_| node.address()) > 1_000);
}
