//! What clients do: half-closing, hanging up, changing from one habit to another.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use dynomite_tests::{Value, until};
use socket2::SockRef;

use crate::{adopted, count, node, verdicts};

#[test]
fn a_client_that_asks_one_thing_at_a_time_is_answered_by_the_kernel() {
    let _alone = crate::alone();
    let Some((datastore, node)) = node(&[]) else { return };
    datastore.client().ask("SET key value");
    let mut client = adopted(&node);
    let routed = verdicts(&node, "routed");
    for _ in 0..100 {
        assert_eq!(client.ask("GET key"), Value::bulk("value"));
    }
    assert_eq!(verdicts(&node, "routed"), routed + 100);
    // Writes too: no other replica has to hear of them.
    assert_eq!(client.ask("SET key other"), Value::ok());
    assert_eq!(client.ask("GET key"), Value::bulk("other"));
    assert_eq!(verdicts(&node, "routed"), routed + 102);
    // Not a one-element reply: the daemon's.
    assert_eq!(client.ask("MGET key"), Value::Array(vec![Value::bulk("other")]));
    assert_eq!(client.ask("GET key"), Value::bulk("other"));
    assert_eq!(verdicts(&node, "routed"), routed + 103);
}

#[test]
fn what_the_kernel_answers_is_counted_like_everything_else() {
    const NAMES: [&str; 13] = [
        "client_requests",
        "client_replies",
        "client_bytes_in",
        "client_bytes_out",
        "client_read_requests",
        "client_write_requests",
        "redis_req_get",
        "redis_req_hashes",
        "read_requests",
        "read_request_bytes",
        "read_response_bytes",
        "read_responses",
        "write_responses",
    ];
    let _alone = crate::alone();
    let Some((datastore, node)) = node(&[]) else { return };
    datastore.client().ask("SET key value");
    datastore.client().ask(&format!("SET long {}", "v".repeat(100_000)));
    let mut client = adopted(&node);
    let stats = || NAMES.map(|name| node.stat(name));
    // (what, asked so often, what it adds)
    let mut check = |line: &str, times: u64, added: [u64; 13]| {
        let (routed, before) = (verdicts(&node, "routed"), stats());
        for _ in 0..times {
            client.ask(line);
        }
        assert_eq!(verdicts(&node, "routed"), routed + times, "{line}");
        let expected: Vec<_> =
            NAMES.iter().zip(before).zip(added).map(|((name, old), new)| (*name, old + new)).collect();
        until(&format!("{line} is counted"), || NAMES.into_iter().zip(stats()).eq(expected.iter().copied()));
    };
    // *2 $3 GET $3 key: 22 bytes; $5 value: 11
    check("GET key", 10, [10, 10, 220, 110, 10, 0, 10, 0, 10, 220, 110, 10, 0]);
    // *4 $4 HSET $4 hash $1 f $1 v: 38 bytes; :1 or :0: 4
    check("HSET hash f v", 3, [3, 3, 114, 12, 0, 3, 0, 3, 0, 0, 0, 0, 3]);
    // *2 $4 HLEN $4 hash: 24 bytes; :1: 4
    check("HLEN hash", 1, [1, 1, 24, 4, 1, 0, 0, 0, 1, 24, 4, 1, 0]);
    // Long replies are written on by the daemon: $100000 …
    check("GET long", 2, [2, 2, 46, 200_022, 2, 0, 2, 0, 2, 46, 200_022, 2, 0]);
}

#[test]
fn a_ping_now_and_then_leaves_a_client_where_it_is() {
    let _alone = crate::alone();
    let Some((_datastore, node)) = node(&[]) else { return };
    let mut client = adopted(&node);
    let (routed, released) = (verdicts(&node, "routed"), count(&node, "flows_released"));
    for _ in 0..50 {
        assert_eq!(client.ask("PING"), Value::Simple("PONG".into()));
        for _ in 0..5 {
            assert_eq!(client.ask("GET nothing-here"), Value::Null);
        }
    }
    assert_eq!(verdicts(&node, "routed"), routed + 250);
    assert_eq!(count(&node, "flows_released"), released);
}

/// The kernel wakes whoever polls a socket for readable bytes even if its program sends them elsewhere.
#[test]
fn the_daemon_sleeps_while_the_kernel_answers() {
    let _alone = crate::alone();
    let Some((_datastore, node)) = node(&[]) else { return };
    let mut client = adopted(&node);
    let (routed, sleeps) = (verdicts(&node, "routed"), node.process().sleeps());
    for _ in 0..5_000 {
        assert_eq!(client.ask("GET nothing-here"), Value::Null);
    }
    assert_eq!(verdicts(&node, "routed"), routed + 5_000);
    let woken = node.process().sleeps() - sleeps;
    assert!(woken < 1_000, "woken {woken} times by 5 000 requests that were not for it");
    // And it hears what is.
    for _ in 0..100 {
        assert_eq!(client.ask("MGET nothing-here"), Value::Array(vec![Value::Null]));
        assert_eq!(client.ask("GET nothing-here"), Value::Null);
    }
}

#[test]
fn a_half_closed_client_gets_what_is_outstanding() {
    let _alone = crate::alone();
    let Some((datastore, node)) = node(&[]) else { return };
    datastore.client().ask("SET key value");
    let mut client = adopted(&node);
    datastore.pause();
    client.send(b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n");
    client.half_close();
    datastore.resume();
    assert_eq!(client.reply(), Value::bulk("value"));
    assert!(client.rest().is_empty());
}

#[test]
fn a_client_comes_and_goes_with_its_habit() {
    let _alone = crate::alone();
    let Some((datastore, node)) = node(&[]) else { return };
    datastore.client().ask("SET key value");
    let mut client = adopted(&node);
    let released = count(&node, "flows_released");
    for round in 0..20 {
        let pipeline = "GET key\r\n".repeat(2);
        client.send(pipeline.as_bytes());
        for _ in 0..2 {
            assert_eq!(client.reply(), Value::bulk("value"), "round {round}");
        }
    }
    until("the client left the kernel", || count(&node, "flows_released") > released);
    let routed = verdicts(&node, "routed");
    assert_eq!(client.ask("GET key"), Value::bulk("value"));
    assert_eq!(verdicts(&node, "routed"), routed);
    // After its pause it may come again.
    let adoptions = count(&node, "flows_adopted");
    until("the client is taken in again", || {
        (0..20).for_each(|_| assert_eq!(client.ask("GET key"), Value::bulk("value")));
        count(&node, "flows_adopted") > adoptions
    });
}

#[test]
fn a_thousand_clients_ask_once_and_reset() {
    let _alone = crate::alone();
    let Some((_datastore, node)) = node(&[]) else { return };
    let mut witness = adopted(&node);
    for _ in 0..1000 {
        let mut stream = TcpStream::connect(node.address()).unwrap();
        stream.write_all(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n").unwrap();
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    for _ in 0..30 {
        let mut client = adopted(&node);
        client.send(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
        client.reset();
    }
    assert_eq!(witness.ask("GET k"), Value::Null);
    // So many at once are the daemon's, and it may have taken the witness back with them.
    until("only the witness is left", || count(&node, "flows_now") <= 1 && node.stat("client_connections") == 1);
}

#[test]
fn switched_off_everybody_is_let_go_unharmed() {
    let _alone = crate::alone();
    let Some((_datastore, node)) = node(&[]) else { return };
    let mut clients: Vec<_> = (0..20).map(|_| adopted(&node)).collect();
    assert!(node.get("/kernel/off").starts_with("OK"));
    let routed = verdicts(&node, "routed");
    for client in &mut clients {
        assert_eq!(client.ask("GET k"), Value::Null);
    }
    until("nobody is left in the kernel", || count(&node, "flows_now") == 0);
    assert_eq!(verdicts(&node, "routed"), routed);
    for client in &mut clients {
        assert_eq!(client.ask("GET k"), Value::Null);
    }
    assert!(node.get("/kernel").contains("switched off"));
    assert!(node.get("/kernel/on").starts_with("OK"));
    adopted(&node);
}

#[test]
fn a_client_in_resp3_is_answered_in_resp3() {
    let _alone = crate::alone();
    let Some((datastore, node)) = node(&[]) else { return };
    datastore.client().ask("ZADD set 1.5 member");
    let mut stream = TcpStream::connect(node.address()).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut ask = |request: &[u8]| {
        stream.write_all(request).unwrap();
        let mut space = [0; 4096];
        let count = stream.read(&mut space).unwrap();
        String::from_utf8_lossy(&space[..count]).into_owned()
    };
    assert!(ask(b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n").starts_with('%'));
    let before = count(&node, "flows_adopted");
    until("the client is taken in", || {
        for _ in 0..20 {
            assert_eq!(ask(b"*3\r\n$6\r\nZSCORE\r\n$3\r\nset\r\n$6\r\nmember\r\n"), ",1.5\r\n");
            assert_eq!(ask(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"), "_\r\n");
        }
        count(&node, "flows_adopted") > before
    });
    assert_eq!(ask(b"*3\r\n$6\r\nZSCORE\r\n$3\r\nset\r\n$6\r\nmember\r\n"), ",1.5\r\n");
    // And back: the flow that speaks the other version must not answer any more.
    assert!(ask(b"*2\r\n$5\r\nHELLO\r\n$1\r\n2\r\n").starts_with('*'));
    assert_eq!(ask(b"*3\r\n$6\r\nZSCORE\r\n$3\r\nset\r\n$6\r\nmember\r\n"), "$3\r\n1.5\r\n");
    assert_eq!(ask(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"), "$-1\r\n");
    let _ = stream.shutdown(Shutdown::Both);
}
