//! The stats port: what it counts is what happened, and nobody there can hold up the others.

use dynomite_tests::{Client, Datastore, Node, until};

#[test]
fn what_happened_is_counted() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::before(&datastore);
    until("the harness' own client is gone", || node.stat("client_connections") == 0);
    let before =
        ["client_read_requests", "client_write_requests", "redis_req_get", "redis_req_set"].map(|name| node.stat(name));
    let mut client = node.client();
    for _ in 0..10 {
        client.ask("SET k v");
    }
    for _ in 0..20 {
        client.ask("GET k");
    }
    let after =
        ["client_read_requests", "client_write_requests", "redis_req_get", "redis_req_set"].map(|name| node.stat(name));
    let more: Vec<u64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    assert_eq!(more, [20, 10, 20, 10]);
    assert_eq!(node.stat("client_connections"), 1);
    drop(client);
    until("it is seen to leave", || node.stat("client_connections") == 0);
    assert!(node.stat("client_eof") >= 1);
}

#[test]
fn pages() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::before(&datastore);
    node.client().ask("GET k");
    assert_eq!(node.get("/ping"), "OK\r\n");
    assert!(node.get("/info").starts_with("{\"service\":\"dynomite\""));
    assert!(node.get("/help").contains("/cluster_describe"));
    assert!(node.get("/get_consistency").starts_with("Read Consistency: DC_ONE"));
    let metrics = node.get("/metrics");
    for line in metrics.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let number = line.rsplit(' ').next().unwrap_or_default();
        assert!(number.parse::<f64>().is_ok(), "{line}");
    }
    assert!(metrics.contains("client_read_requests"), "{metrics}");
}

#[test]
fn idle_visitors_hold_up_nobody() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::before(&datastore);
    let idle: Vec<Client> = (0..50).map(|_| Client::connect(node.stats_address())).collect();
    assert_eq!(node.get("/ping"), "OK\r\n");
    let mut half = Client::connect(node.stats_address());
    half.send(b"GET /in");
    assert_eq!(node.get("/ping"), "OK\r\n");
    half.send(b"fo HTTP/1.1\r\n\r\n");
    assert!(String::from_utf8_lossy(&half.rest()).contains("\"service\""));
    drop(idle);
    for nonsense in [
        "POST /info HTTP/1.1\r\n\r\n",
        "GET\r\n\r\n",
        "\r\n\r\n",
        "GET /nosuch HTTP/1.0\r\n\r\n",
        "\0\u{1}\u{2}\r\n\r\n",
    ] {
        let mut client = Client::connect(node.stats_address());
        client.send(nonsense.as_bytes());
        client.half_close();
        client.rest();
        assert_eq!(node.get("/ping"), "OK\r\n");
    }
}
