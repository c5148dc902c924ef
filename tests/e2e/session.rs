//! What clients and people say to a server about the connection and the server itself.

use dynomite_tests::resp::words;
use dynomite_tests::{Datastore, Kind, Node, Settings, Value};

#[test]
fn hello_says_who_answers_and_switches_the_protocol() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::before(&datastore);
    let mut client = node.client();
    let hello = client.ask("HELLO");
    assert_eq!(hello.at("proto").and_then(Value::integer), Some(2));
    assert_eq!(client.ask("HELLO 4").text(), "NOPROTO unsupported protocol version");
    assert!(client.ask("HELLO x").is_error());
    let hello = client.ask("HELLO 3 SETNAME me");
    assert!(matches!(hello, Value::Map(_)), "{hello:?}");
    for key in ["server", "version", "proto", "id", "mode", "role", "modules"] {
        assert!(hello.at(key).is_some(), "{key} in {hello:?}");
    }
    assert_eq!(client.ask("CLIENT GETNAME").text(), "me");
    assert_eq!(client.ask("GET none"), Value::Null);
    client.ask("HSET h f v");
    assert_eq!(client.ask("HGETALL h"), Value::Map(vec![(Value::bulk("f"), Value::bulk("v"))]));
    client.ask("HELLO 2");
    assert_eq!(client.ask("HGETALL h"), Value::Array(vec![Value::bulk("f"), Value::bulk("v")]));
    // In one pipeline, each answer is in the protocol that was in force when it was asked.
    client.send(
        &["HGETALL h", "HELLO 3", "HGETALL h", "HELLO 2", "HGETALL h"]
            .iter()
            .flat_map(|line| words(line))
            .collect::<Vec<u8>>(),
    );
    let replies: Vec<Value> = (0..5).map(|_| client.reply()).collect();
    let maps: Vec<bool> = [0, 2, 4].iter().map(|index| matches!(replies[*index], Value::Map(_))).collect();
    assert_eq!(maps, [false, true, false]);
}

#[test]
fn questions_about_the_connection() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::before(&datastore);
    let (mut client, mut other) = (node.client(), node.client());
    for (asked, answer) in [
        ("PING", "PONG"),
        ("PING hello", "hello"),
        ("ECHO hello", "hello"),
        ("SELECT 0", "OK"),
        ("CLIENT SETNAME me", "OK"),
        ("CLIENT GETNAME", "me"),
        ("CLIENT SETINFO LIB-NAME tests", "OK"),
        ("CLIENT SETINFO LIB-VER 1.0", "OK"),
        ("READONLY", "ERR This instance has cluster support disabled"),
        ("CLIENT NO-EVICT ON", "OK"),
    ] {
        assert_eq!(client.ask(asked).text(), answer, "{asked}");
    }
    assert!(client.ask("SELECT 1").is_error());
    assert!(client.ask("PING a b").is_error());
    let (id, other_id) = (client.ask("CLIENT ID").integer(), other.ask("CLIENT ID").integer());
    assert!(id.is_some() && id != other_id, "{id:?} {other_id:?}");
    assert!(client.ask("CLIENT INFO").text().contains("name=me"));
    let list = other.ask("CLIENT LIST").text();
    assert!(list.lines().any(|line| line.contains("name=me")), "{list}");
    assert!(client.ask("AUTH secret").is_error());
}

#[test]
fn questions_about_the_server() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::before(&datastore);
    let mut client = node.client();
    for number in 0..50 {
        client.ask(&format!("SET k{number} v"));
    }
    assert_eq!(client.ask("DBSIZE").integer(), Some(50));
    assert_eq!(client.ask("KEYS *").elements().len(), 50);
    let (mut cursor, mut found) = ("0".to_string(), 0);
    loop {
        let reply = client.ask(&format!("SCAN {cursor} COUNT 7"));
        found += reply.elements()[1].elements().len();
        cursor = reply.elements()[0].text();
        if cursor == "0" {
            break;
        }
    }
    assert!(found >= 50, "{found} keys found");
    assert!(client.ask("COMMAND COUNT").integer().is_some_and(|count| count > 200));
    assert_eq!(client.ask("COMMAND INFO get nosuch").elements().len(), 2);
    assert!(client.ask("COMMAND DOCS get").at("get").is_some());
    assert!(client.ask("COMMAND").elements().len() > 200);
    assert!(client.ask("INFO").text().contains("redis_version"));
    assert_eq!(client.ask("TIME").elements().len(), 2);
    assert_eq!(client.ask("CONFIG GET maxmemory").elements().len(), 2);
    assert_eq!(client.ask("FLUSHALL"), Value::ok());
    assert_eq!(client.ask("DBSIZE").integer(), Some(0));
}

#[test]
fn quit_ends_the_connection_when_everything_before_it_is_answered() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::before(&datastore);
    let mut client = node.client();
    client.ask("SET k v");
    client.send(&["GET k", "GET k", "QUIT", "GET k"].iter().flat_map(|line| words(line)).collect::<Vec<u8>>());
    assert_eq!(client.rest(), b"$1\r\nv\r\n$1\r\nv\r\n+OK\r\n");
    // The datastore's connection is everybody's, and lives on.
    assert_eq!(node.client().ask("GET k").text(), "v");
}

#[test]
fn consistency_may_be_said_for_one_connection() {
    let node = Node::start(Settings::embedded(Kind::Redis));
    let mut client = node.client();
    client.send(
        &["DYNO_CONFIG:CONN_CONSISTENCY DC_QUORUM", "PING"].iter().flat_map(|line| words(line)).collect::<Vec<u8>>(),
    );
    assert_eq!(client.reply(), Value::ok());
    assert_eq!(client.reply().text(), "PONG");
    assert!(client.ask("DYNO_CONFIG:CONN_CONSISTENCY NOSUCH").is_error());
    assert_eq!(client.ask("PING").text(), "PONG");
}

#[test]
fn the_embedded_datastore_serves_both_protocols() {
    let redis = Node::start(Settings::embedded(Kind::Redis));
    let mut client = redis.client();
    for (asked, answer) in [
        ("SET k 1", "OK"),
        ("INCR k", "2"),
        ("RPUSH l a b", "2"),
        ("LPOP l", "a"),
        ("HSET h f v", "1"),
        ("HGET h f", "v"),
        ("SADD s m", "1"),
        ("ZADD z 1 m", "1"),
        ("ZSCORE z m", "1"),
        ("TTL k", "-1"),
        ("EXPIRE k 100", "1"),
        ("TTL k", "100"),
        ("DEL k", "1"),
    ] {
        assert_eq!(client.ask(asked).text(), answer, "{asked}");
    }
    let memcached = Node::start(Settings::embedded(Kind::Memcached));
    let mut client = memcached.client();
    assert_eq!(client.memcache("set k 5 0 5\r\nhello"), "STORED\r\n");
    assert_eq!(client.memcache("get k"), "VALUE k 5 5\r\nhello\r\nEND\r\n");
    assert_eq!(client.memcache("delete k"), "DELETED\r\n");
    assert_eq!(client.memcache("get k"), "END\r\n");
}
