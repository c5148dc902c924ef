//! Read repair over three racks: what one of them missed while its node was away is brought to it by reads, and nothing that
//! was removed comes back.

use dynomite_tests::samples::{Likeness, SAMPLES, SETUP};
use dynomite_tests::{Cluster, Random, Shape, Value, random, resp, until};
use dynomite_user::protocol::commands::Routing;
use dynomite_user::protocol::resp::commands::find;

fn start() -> Option<Cluster> {
    start_with(Shape::redis(1, 3, 1))
}

/// With a timeout that lets what is under way settle within two seconds.
fn start_with(shape: Shape) -> Option<Cluster> {
    let shape = shape
        .line("read_consistency: dc_quorum")
        .line("write_consistency: dc_quorum")
        .line("read_repairs_enabled: true")
        .line("timeout: 500");
    Cluster::start(shape)
}

/// The lines are asked while the last rack's node is away; its datastore stays what it is.
#[track_caller]
fn behind_its_back(cluster: &mut Cluster, lines: &[&str]) {
    cluster.members[2].node.kill();
    let mut client = cluster.client(0);
    for line in lines {
        let reply = client.ask(line);
        assert!(!reply.is_error(), "{line}: {reply:?}");
    }
    cluster.members[2].node.restart();
    cluster.until_connected();
}

/// Reads through the cluster until the last rack's datastore, asked past its node, says what is expected. Every read on
/// the way is right already.
#[track_caller]
fn converges(cluster: &Cluster, read: &str, told: &Value, look: &str, expected: impl Fn(&Value) -> bool) {
    let mut clients: Vec<_> = (0..3).map(|member| cluster.client(member)).collect();
    let mut datastore = cluster.members[2].datastore.as_ref().unwrap().client();
    until(&format!("{look} after {read}"), || {
        // The node that was away has the stale value at hand and asks the others all the same.
        for client in &mut clients {
            assert_eq!(client.ask(read), *told, "{read}");
        }
        expected(&datastore.ask(look))
    });
}

#[test]
fn replicas_converge_after_reads() {
    let Some(mut cluster) = start() else { return };
    let mut client = cluster.client(1);
    for line in [
        "SET s old",
        "SET gone old",
        "HSET h f old g old",
        "SADD m a b",
        "ZADD z 1 a 2 b",
        "SET n 5",
        "MSET x old y old",
    ] {
        assert!(!client.ask(line).is_error(), "{line}");
    }
    let away = [
        "SET s new EX 1000",
        "SET fresh v PX 900000",
        "DEL gone",
        "HSET h f new",
        "HDEL h g",
        "SADD m c",
        "SREM m a",
        "ZADD z 7 a",
        "ZREM z b",
        "INCRBY n 3",
        "MSET x new y new",
        "HSET k f v",
        "EXPIRE k 800",
    ];
    behind_its_back(&mut cluster, &away);
    let is = |expected: Value| move |value: &Value| *value == expected;
    let within =
        |least: i64, most: i64| move |value: &Value| value.integer().is_some_and(|n| (least..=most).contains(&n));
    converges(&cluster, "GET s", &Value::bulk("new"), "GET s", is(Value::bulk("new")));
    converges(&cluster, "GET s", &Value::bulk("new"), "TTL s", within(900, 1000));
    converges(&cluster, "GET fresh", &Value::bulk("v"), "TTL fresh", within(800, 900));
    converges(&cluster, "GET gone", &Value::Null, "EXISTS gone", is(Value::Integer(0)));
    converges(&cluster, "HGET h f", &Value::bulk("new"), "HGET h f", is(Value::bulk("new")));
    converges(&cluster, "HGET h g", &Value::Null, "HEXISTS h g", is(Value::Integer(0)));
    converges(&cluster, "SISMEMBER m c", &Value::Integer(1), "SISMEMBER m c", is(Value::Integer(1)));
    converges(&cluster, "SISMEMBER m a", &Value::Integer(0), "SISMEMBER m a", is(Value::Integer(0)));
    converges(&cluster, "ZSCORE z a", &Value::bulk("7"), "ZSCORE z a", is(Value::bulk("7")));
    converges(&cluster, "ZSCORE z b", &Value::Null, "ZSCORE z b", is(Value::Null));
    converges(&cluster, "GET n", &Value::bulk("8"), "GET n", is(Value::bulk("8")));
    converges(&cluster, "GET y", &Value::bulk("new"), "GET y", is(Value::bulk("new")));
    let repaired: u64 = cluster.members.iter().map(|member| member.node.stat("read_repairs")).sum();
    let failed: u64 = cluster.members.iter().map(|member| member.node.stat("read_repairs_failed")).sum();
    assert!(repaired >= 10, "{repaired} repairs are counted");
    assert_eq!(failed, 0);
}

#[test]
fn what_was_removed_does_not_come_back() {
    let Some(mut cluster) = start() else { return };
    let mut client = cluster.client(0);
    for n in 0..50 {
        assert_eq!(client.ask(&format!("SET k{n} old")), Value::ok());
    }
    let removals: Vec<_> = (0..50).map(|n| format!("{} k{n}", ["DEL", "UNLINK", "GETDEL"][n % 3])).collect();
    behind_its_back(&mut cluster, &removals.iter().map(String::as_str).collect::<Vec<_>>());
    for n in 0..50 {
        let (read, look) = (format!("GET k{n}"), format!("EXISTS k{n}"));
        converges(&cluster, &read, &Value::Null, &look, |value| *value == Value::Integer(0));
    }
}

/// When everybody has seen a removal, nobody keeps a note of it.
#[test]
fn removals_are_forgotten() {
    let Some(cluster) = start() else { return };
    let mut client = cluster.client(0);
    for n in 0..50 {
        assert_eq!(client.ask(&format!("SET k{n} v")), Value::ok());
        assert_eq!(client.ask(&format!("DEL k{n} other{n}")), Value::Integer(1));
    }
    for member in &cluster.members {
        let mut datastore = member.datastore.as_ref().unwrap().client();
        until("no notes are left", || datastore.ask("ZCARD ._rem-set") == Value::Integer(0));
        assert_eq!(datastore.ask("ZCARD ._add-set"), Value::Integer(0));
    }
}

/// A node with a datastore of its own loses all of it when it dies; what is read comes back.
#[test]
fn an_embedded_datastore_is_repaired_too() {
    let Some(mut cluster) = start_with(Shape::embedded(1, 3, 1)) else { return };
    let mut client = cluster.client(0);
    for line in ["SET s v", "HSET h f v", "ZADD z 1 m"] {
        assert!(!client.ask(line).is_error(), "{line}");
    }
    cluster.members[2].node.kill();
    cluster.members[2].node.restart();
    cluster.until_connected();
    let mut own = cluster.client(2);
    assert_eq!(own.ask("DYNO_CONFIG:CONN_CONSISTENCY DC_ONE"), Value::ok());
    for (read, value) in [("GET s", "v"), ("HGET h f", "v"), ("ZSCORE z m", "1")] {
        assert_eq!(own.ask(read), Value::Null, "{read}");
        until(&format!("{read} finds it"), || {
            assert_eq!(client.ask(read).text(), value);
            own.ask(read).text() == value
        });
    }
}

#[test]
fn a_batch_is_executed_in_order() {
    let Some(cluster) = start() else { return };
    let mut client = cluster.client(0);
    let mut batch = Vec::new();
    for n in 0..200 {
        batch.extend(resp::words(&format!("SET k {n}")));
        batch.extend(resp::words("GET k"));
        batch.extend(resp::words("INCR count"));
    }
    // Nobody knows the scripts at first, and in the middle everybody forgets them.
    for round in 0..2 {
        for member in &cluster.members {
            member.datastore.as_ref().unwrap().client().ask("SCRIPT FLUSH");
        }
        for half in batch.chunks(batch.len() / 2 + 1) {
            client.send(half);
        }
        for n in 0..200 {
            assert_eq!(client.reply(), Value::ok(), "SET {n}");
            assert_eq!(client.reply(), Value::bulk(n.to_string()), "GET {n}");
            assert_eq!(client.reply(), Value::Integer(200 * round + n + 1), "INCR {n}");
        }
    }
    assert_eq!(client.ask("SET k last"), Value::ok());
    for datastore in &mut cluster.datastores() {
        until("the replica has the last one", || datastore.ask("GET k") == Value::bulk("last"));
        assert_eq!(datastore.ask("EXISTS ._add-set"), Value::Integer(1));
    }
}

#[test]
fn connections_with_a_level_or_a_version_of_their_own_get_plain_replies() {
    let Some(cluster) = start() else { return };
    let mut client = cluster.client(0);
    assert_eq!(client.ask("SET s v"), Value::ok());
    assert_eq!(client.ask("ZADD z 1.5 m"), Value::Integer(1));
    assert_eq!(client.ask("HMSET h f v"), Value::ok());
    let mut one = cluster.client(1);
    assert_eq!(one.ask("DYNO_CONFIG:CONN_CONSISTENCY DC_ONE"), Value::ok());
    until("the write has arrived everywhere", || one.ask("GET s") == Value::bulk("v"));
    assert_eq!(one.ask("INCR n"), Value::Integer(1));
    let mut three = cluster.client(2);
    assert!(matches!(three.ask("HELLO 3"), Value::Map(_)));
    assert_eq!(three.ask("ZSCORE z m"), Value::Double("1.5".into()));
    assert_eq!(three.ask("GET none"), Value::Null);
    assert_eq!(three.ask("SISMEMBER none m"), Value::Integer(0));
    let big = "9007199254740993";
    assert_eq!(three.ask(&format!("INCRBY big {big}")), Value::Integer(big.parse().unwrap()));
}

/// Whatever a client asks of keys, it hears what a Redis of its own would say.
#[test]
fn clients_notice_nothing() {
    let Some(cluster) = start() else { return };
    let Some(alone) = dynomite_tests::Datastore::redis() else { return };
    let (mut client, mut direct) = (cluster.client(0), alone.client());
    let mut random = Random::from_seed(random::seed());
    for line in SETUP {
        client.ask(line);
        direct.ask(line);
    }
    for _ in 0..4 {
        for sample in SAMPLES {
            let command = find(sample.name.as_bytes());
            let routed = command.is_some_and(|command| command.routing == Routing::Normal);
            let frame = resp::request(sample.request(&mut random));
            // Times are each datastore's own; with scores that differ, ranges by name are left to Redis' dice.
            let by_name = frame.windows(3).any(|word| word.eq_ignore_ascii_case(b"lex"));
            if !routed || sample.likeness != Likeness::Bytes || by_name || sample.name == "spop" {
                continue;
            }
            let in_order = |value: Value| match (value, sample.name) {
                (Value::Array(mut elements), "smembers" | "sdiff" | "sinter" | "sunion") => {
                    elements.sort_by_key(Value::text);
                    Value::Array(elements)
                }
                (value, _) => value,
            };
            client.send(&frame);
            direct.send(&frame);
            let (told, expected) = (in_order(client.reply()), in_order(direct.reply()));
            assert_eq!(told, expected, "{}", frame.escape_ascii());
        }
    }
}
