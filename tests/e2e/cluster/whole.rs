//! One keyspace over many nodes: what asks for all of it, and what cannot be asked where keys have different owners.

use dynomite_tests::address::PEER_PORT;
use dynomite_tests::resp::walk;
use dynomite_tests::{Client, Cluster, Shape, Value, until};

/// Two racks that cut the ring in two and in the same places, so that every command below has several owners.
fn start(lines: &[&str]) -> Option<Cluster> {
    let shape = Shape::redis(1, 2, 2).line("hash_tag: '{}'").line("timeout: 5000");
    Cluster::start(lines.iter().fold(shape, |shape, line| shape.line(line)))
}

fn names(value: &Value) -> Vec<String> {
    let mut names: Vec<String> = value.elements().iter().map(Value::text).collect();
    names.sort();
    names
}

/// Every key once, whatever the order.
fn scan(client: &mut Client, options: &str) -> Vec<String> {
    names(&Value::Array(walk(|cursor| client.ask(format!("SCAN {cursor} {options}").trim()))))
}

#[test]
fn all_keys_are_found_through_any_node() {
    let Some(cluster) = start(&["write_consistency: dc_safe_quorum"]) else { return };
    let mut client = cluster.client(0);
    let mut keys: Vec<String> = (0..300).map(|n| format!("key:{n}")).collect();
    keys.sort();
    for key in &keys {
        assert_eq!(client.ask(&format!("SET {key} v")), Value::ok());
    }
    for datastore in &mut cluster.datastores() {
        let own = datastore.ask("DBSIZE").integer().unwrap();
        assert!((1..300).contains(&own), "one node has {own} of 300 keys");
    }
    for member in 0..cluster.members.len() {
        let mut client = cluster.client(member);
        assert_eq!(client.ask("DBSIZE"), Value::Integer(300));
        assert_eq!(names(&client.ask("KEYS *")), keys);
        assert_eq!(scan(&mut client, ""), keys);
        assert_eq!(scan(&mut client, "MATCH key:1? COUNT 7").len(), 10);
    }
    assert_eq!(client.ask("FLUSHALL"), Value::ok());
    for datastore in &mut cluster.datastores() {
        until("it is empty", || datastore.ask("DBSIZE") == Value::Integer(0));
    }
}

#[test]
fn all_keys_are_found_while_a_datastore_is_away() {
    let Some(mut cluster) = start(&["write_consistency: dc_safe_quorum"]) else { return };
    let mut client = cluster.client(0);
    let mut keys: Vec<String> = (0..300).map(|n| format!("key:{n}")).collect();
    keys.sort();
    for key in &keys {
        assert_eq!(client.ask(&format!("SET {key} v")), Value::ok());
    }
    let mut step = |cursor: &str| client.ask(&format!("SCAN {cursor} COUNT 20"));
    let first = step("0").elements().to_vec();
    // The node is there; what it stands before is not.
    cluster.members[1].datastore.as_mut().expect("it has one").kill();
    let onward = first[0].text();
    let rest = walk(|cursor| step(if cursor == "0" { &onward } else { cursor }));
    let mut found = [first[1].elements(), &rest].concat().iter().map(Value::text).collect::<Vec<_>>();
    found.sort();
    found.dedup();
    assert_eq!(found, keys);
    assert_eq!(client.ask("DBSIZE"), Value::Integer(300));
    assert_eq!(names(&client.ask("KEYS *")), keys);
    assert!(cluster.members[0].node.stat("reads_failed_over") > 0);
    let lost = client.ask("FLUSHALL").text();
    let missing = format!("missing: rack0 {}", cluster.members[1].place.host.port(PEER_PORT));
    assert!(lost.contains("(DC_SAFE_QUORUM needs 2 of 2 racks of dc0, ") && lost.contains(&missing), "{lost}");
    assert_eq!(client.ask("DYNO_CONFIG:CONN_CONSISTENCY DC_ONE"), Value::ok());
    assert_eq!(client.ask("FLUSHALL"), Value::ok());
}

#[test]
fn scripts_are_known_everywhere_and_run_where_their_keys_are() {
    let Some(cluster) = start(&["write_consistency: dc_safe_quorum"]) else { return };
    let script = "return redis.call('incrby',KEYS[1],ARGV[1])";
    let mut client = cluster.client(0);
    let sha = client.call(["SCRIPT", "LOAD", script]).text();
    for (member, datastore) in cluster.datastores().iter_mut().enumerate() {
        until("the script has arrived", || {
            datastore.ask(&format!("SCRIPT EXISTS {sha}")).elements()[0] == Value::Integer(1)
        });
        let mut client = cluster.client(member);
        assert_eq!(client.ask(&format!("SCRIPT EXISTS {sha}")).elements(), [Value::Integer(1)]);
        for key in 0..20 {
            let reply = client.ask(&format!("EVALSHA {sha} 1 n{key} 3"));
            assert_eq!(reply, Value::Integer(3 * (member as i64 + 1)), "n{key} through node {member}");
        }
    }
    assert_eq!(client.call(["EVAL", script, "1", "other", "7"]), Value::Integer(7));
    for owner in cluster.owners("other") {
        assert_eq!(cluster.members[owner].datastore.as_ref().unwrap().client().ask("GET other").text(), "7");
    }
    assert_eq!(client.ask("SCRIPT FLUSH"), Value::ok());
    for datastore in &mut cluster.datastores() {
        until("it is forgotten", || datastore.ask(&format!("SCRIPT EXISTS {sha}")).elements()[0] == Value::Integer(0));
    }
}

#[test]
fn keys_of_different_owners_are_refused_by_the_commands_name() {
    let Some(cluster) = start(&[]) else { return };
    let mut client = cluster.client(0);
    // `foo` and `bar` are on different nodes.
    assert_ne!(cluster.owners("foo"), cluster.owners("bar"));
    for line in [
        "SUNION foo bar",
        "SINTERSTORE foo bar foo",
        "ZUNIONSTORE foo 1 bar",
        "SMOVE foo bar m",
        "RPOPLPUSH foo bar",
        "RENAME foo bar",
        "BITOP AND foo bar foo",
        "PFMERGE foo bar",
        "MSETNX foo 1 bar 2",
        "LMOVE foo bar LEFT LEFT",
    ] {
        let name = line.split(' ').next().unwrap().to_lowercase();
        let reply = client.ask(line).text();
        let expected =
            format!("ERR Dynomite: Keys of '{name}' belong to different nodes; a hash_tag keeps them together");
        assert_eq!(reply, expected, "{line}");
    }
    let reply = client.call(["EVAL", "return 1", "2", "foo", "bar"]).text();
    assert_eq!(reply, "ERR Dynomite: Keys in the script cannot span multiple nodes");
    // With a tag they are together, on every replica.
    for (line, expected) in [
        ("SADD {t}a 1 2 3", Value::Integer(3)),
        ("SADD {t}b 2 3 4", Value::Integer(3)),
        ("SINTERSTORE {t}c {t}a {t}b", Value::Integer(2)),
        ("SMOVE {t}a {t}b 1", Value::Integer(1)),
        ("ZUNIONSTORE {t}z 2 {t}a {t}b", Value::Integer(4)),
        ("MSETNX {t}x 1 {t}y 2", Value::Integer(1)),
        ("RENAME {t}x {t}w", Value::ok()),
    ] {
        assert_eq!(client.ask(line), expected, "{line}");
    }
    for owner in cluster.owners("t") {
        let mut datastore = cluster.members[owner].datastore.as_ref().unwrap().client();
        until("the replica has them all", || {
            names(&datastore.ask("KEYS *")) == ["{t}a", "{t}b", "{t}c", "{t}w", "{t}y", "{t}z"]
        });
    }
}

#[test]
fn a_level_is_a_connections_own_and_new_ones_get_what_the_operator_said() {
    let Some(mut cluster) = Cluster::start(Shape::redis(1, 3, 1).line("timeout: 1000")) else { return };
    let mut before = cluster.client(0);
    assert_eq!(before.ask("SET k v"), Value::ok());
    cluster.members[1].node.kill();
    cluster.members[2].node.kill();
    until("they are known to be away", || cluster.members[0].node.stat("peers_down") == 2);
    // One replica is enough, unless a connection says that it is not.
    assert_eq!(before.ask("SET k w"), Value::ok());
    let mut careful = cluster.client(0);
    assert_eq!(careful.ask("DYNO_CONFIG:CONN_CONSISTENCY DC_SAFE_QUORUM"), Value::ok());
    let reply = careful.ask("SET k x").text();
    // It is said at once: our own datastore may not have answered yet, but it is not missing.
    let (said, missing) = reply.split_once("; missing: ").unwrap_or_default();
    let level = "ERR Peer: Peer Node is not connected (DC_SAFE_QUORUM needs 2 of 3 racks of dc0, ";
    assert!(said.starts_with(level), "{reply}");
    let names = [1, 2].map(|member: usize| format!("rack{member} {}:18101", cluster.members[member].place.host.0));
    assert!(names.iter().all(|name| missing.contains(name)) && !missing.contains("rack0"), "{reply}");
    assert!(careful.ask("GET k").is_error());
    cluster.members[0].node.get("/set_consistency/write/dc_quorum");
    assert_eq!(before.ask("SET k y"), Value::ok());
    assert!(cluster.client(0).ask("SET k z").text().contains("(DC_QUORUM needs 2 of 3 racks of dc0, "));
    assert!(!cluster.client(0).ask("GET k").is_error());
    cluster.members[0].node.get("/set_consistency/write/dc_one");
    assert_eq!(cluster.client(0).ask("SET k v"), Value::ok());
}

/// No two datastores need have a set's members in the same order; to agree, they have to have the same members.
#[test]
fn sets_agree_whatever_their_order() {
    let Some(cluster) = Cluster::start(Shape::redis(1, 3, 1).line("read_consistency: dc_safe_quorum")) else { return };
    let mut members: Vec<String> = (0..1000).map(|n| format!("m{n}")).collect();
    for datastore in &mut cluster.datastores() {
        members.rotate_left(300);
        datastore.ask(&format!("SADD s {}", members.join(" ")));
        datastore.ask("SADD other m1 m2 m3 x");
        datastore.ask("RPUSH l a b");
    }
    members.sort();
    let mut client = cluster.client(0);
    for line in ["SMEMBERS s", "SUNION s", "SINTER s s"] {
        assert_eq!(names(&client.ask(line)), members, "{line}");
    }
    assert_eq!(names(&client.ask("SINTER s other")), ["m1", "m2", "m3"]);
    assert!(client.ask("SMEMBERS l").text().starts_with("WRONGTYPE"));
    cluster.datastores()[1].ask("SREM s m7");
    cluster.datastores()[2].ask("SREM s m8");
    assert!(client.ask("SMEMBERS s").is_error());
}
