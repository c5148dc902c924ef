//! What an operator says of a node or a peer at the stats port, and what follows.

use std::time::{Duration, Instant};

use dynomite_tests::peer::{EXECUTE, message};
use dynomite_tests::resp::words;
use dynomite_tests::{Client, Cluster, Datastore, Node, Settings, Shape, Value, until};

const STATE: &str = "ERR Dynomite: Dynomite's current state does not allow this request";

#[test]
fn a_node_that_is_warmed_up_keeps_writes_for_later() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::start(Settings::before(&datastore).line("timeout: 500").line("workers: 1"));
    let (mut client, mut past) = (node.client(), datastore.client());
    let mut peer = Client::connect(node.peer_address());
    let mut ask_as_peer = |line: &str| {
        peer.send(&message(EXECUTE, 1, true, &words(line)));
        peer.message().payload
    };
    assert_eq!(client.ask("RPUSH l 0"), Value::Integer(1));

    node.get("/state/standby");
    until("reads are refused", || client.ask("LLEN l").text() == STATE);
    assert_eq!(client.ask("RPUSH l x").text(), STATE);
    assert_eq!(ask_as_peer("GET k").text(), STATE);
    assert_eq!(client.ask("PING").text(), "PONG");

    node.get("/state/writes_only");
    assert_eq!(client.ask("LLEN l").text(), STATE);
    assert_eq!(ask_as_peer("LLEN l").text(), STATE);
    // They wait; whoever asked is told that it takes too long, but they are executed.
    client.send(&(1..=3).flat_map(|n| words(&format!("RPUSH l {n}"))).collect::<Vec<u8>>());
    for _ in 0..3 {
        assert!(client.reply().is_error());
    }
    client.send(&words("RPUSH l 4"));
    until("four wait", || node.stat("writes_parked") == 4);
    assert_eq!(past.ask("LLEN l"), Value::Integer(1));

    node.get("/state/resuming");
    assert_eq!(client.reply(), Value::Integer(5));
    assert_eq!(client.ask("LLEN l").text(), STATE);
    assert_eq!(client.ask("RPUSH l 5"), Value::Integer(6));
    assert_eq!(ask_as_peer("RPUSH l 6"), Value::Integer(7));

    node.get("/state/normal");
    until("reads are served", || !client.ask("LLEN l").is_error());
    let all: Vec<String> = client.ask("LRANGE l 0 -1").elements().iter().map(Value::text).collect();
    assert_eq!(all, ["0", "1", "2", "3", "4", "5", "6"]);
    assert_eq!(node.stat("writes_parked"), 0);
    assert!(node.stat("state_refused") >= 5);
}

#[test]
fn other_racks_answer_for_a_node_in_standby() {
    let Some(cluster) = Cluster::start(Shape::redis(1, 2, 1).line("workers: 1")) else { return };
    let mut client = cluster.client(0);
    assert_eq!(client.ask("SET k v"), Value::ok());
    let mut datastores = cluster.datastores();
    until("both have it", || datastores.iter_mut().all(|datastore| datastore.ask("GET k").text() == "v"));
    cluster.members[0].node.get("/state/standby");
    for _ in 0..10 {
        assert_eq!(client.ask("GET k").text(), "v");
        assert_eq!(client.ask("SET k v"), Value::ok());
    }
    assert_eq!(cluster.client(1).ask("GET k").text(), "v");
}

#[test]
fn a_peer_that_an_operator_calls_down_is_not_asked() {
    let Some(cluster) =
        Cluster::start(Shape::redis(1, 2, 1).line("workers: 1").line("write_consistency: dc_safe_quorum"))
    else {
        return;
    };
    let (node, name) = (&cluster.members[0].node, cluster.members[1].place.host.0);
    let mut client = node.client();
    assert_eq!(client.ask("SET k v"), Value::ok());
    assert!(node.get("/cluster_describe").matches("\"state\":\"UP\"").count() == 1);
    node.get(&format!("/peer/down/{name}"));
    until("it is down", || node.stat("peers_down") == 1);
    assert!(node.get("/cluster_describe").contains("\"state\":\"DOWN\""));
    let reply = client.ask("SET k w").text();
    assert!(reply.starts_with("ERR Peer: Peer Node is not connected (DC_SAFE_QUORUM needs 2 of 2"), "{reply}");
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(300) {
        assert!(client.ask("SET k w").is_error());
    }
    assert_eq!(cluster.members[1].datastore.as_ref().expect("it has one").client().ask("GET k").text(), "v");
    node.get(&format!("/peer/up/{name}"));
    until("it is up", || client.ask("SET k w") == Value::ok());
    // Another connection, and nobody notices.
    let connects = node.stat("peer_connects");
    node.get("/peer/reset/all");
    until("it is connected again", || node.stat("peer_connects") == connects + 1 && node.stat("peers_up") == 1);
    until("it is asked again", || client.ask("SET k x") == Value::ok());
}

#[test]
fn peers_are_found_by_name() {
    // A name that stands for 127.0.0.1 on every machine.
    let Some(datastore) = Datastore::redis() else { return };
    let other = dynomite_tests::peer::FakePeer::start(dynomite_tests::Host([127, 0, 0, 1].into()), |_| {
        dynomite_tests::peer::Said::Reply(b"+PONG\r\n".to_vec())
    });
    let settings = Settings::before(&datastore).line("rack: r1").line("datacenter: d").line("workers: 1");
    let node = Node::start(settings.line("dyn_seeds:").line("- localhost:18101:r2:d:0"));
    until("it is resolved and connected", || node.stat("peers_up") == 1);
    drop(other);
}

#[test]
fn admin_mode_makes_no_links_and_deletes_own_keys() {
    let Some(datastore) = Datastore::redis() else { return };
    let settings = Settings::before(&datastore).line("rack: r1").line("datacenter: d").line("tokens: '2147483647'");
    let mut settings = settings.line("dyn_seeds:").line("- 127.0.0.1:18999:r1:d:4294967295");
    settings.options = vec!["-x".to_owned(), "1".to_owned()];
    let node = Node::start(settings);
    let mut client = node.client();
    // `bar` is this node's, `foo` the other's.
    assert_eq!(client.ask("SET bar v"), Value::ok());
    assert_eq!(client.ask("DEL bar"), Value::Integer(1));
    assert_eq!(client.ask("DEL foo").text(), "ERR Dynomite: Invalid request in Dynomite's admin mode");
    assert_eq!(client.ask("GET foo").text(), "ERR Peer: Peer Node is not connected");
}
