//! A node among C nodes: what it sends them, byte by byte, what it never sends them, and what it makes of their answers.

use std::time::{Duration, Instant};

use dynomite_tests::cluster::{Place, places, settings};
use dynomite_tests::peer::{EXECUTE, FORWARD, FakePeer, Message, Said, message};
use dynomite_tests::{Client, Datastore, Kind, Node, Shape, Value, until};

/// Answers like the datastore of a C node: `OK` to SET, the key to GET.
fn like_c(asked: &Message) -> Said {
    let words: Vec<String> = asked.payload.elements().iter().map(Value::text).collect();
    Said::Reply(match words[0].to_ascii_lowercase().as_str() {
        "ping" => b"+PONG\r\n".to_vec(),
        "get" => format!("${}\r\n{}\r\n", words[1].len(), words[1]).into_bytes(),
        "eval" => b":2\r\n".to_vec(),
        _ => b"+OK\r\n".to_vec(),
    })
}

/// Our node, first of the shape, among C nodes.
struct Mixed {
    node: Node,
    _datastore: Datastore,
    c_nodes: Vec<FakePeer>,
}

fn start(shape: Shape, answer: impl Fn(&Message) -> Said + Send + Sync + Clone + 'static) -> Option<Mixed> {
    let datastore = Datastore::start(shape.kind)?;
    let places = places(&shape);
    let node = Node::start(settings(&shape, &places[0], &places, Some(&datastore)));
    let start = |place: &Place| FakePeer::start(place.host, answer.clone());
    let c_nodes: Vec<FakePeer> = places[1..].iter().map(start).collect();
    until("all are connected", || node.stat("peers_up") == c_nodes.len() as u64);
    Some(Mixed { node, _datastore: datastore, c_nodes })
}

fn one_worker(shape: Shape) -> Shape {
    shape.line("workers: 1").line("timeout: 1000")
}

#[test]
fn what_is_sent() {
    let shape = one_worker(Shape::redis(2, 2, 1));
    let Some(mixed) = start(shape, like_c) else { return };
    let mut client = mixed.node.client();
    assert_eq!(client.ask("SET foo bar"), Value::ok());
    assert_eq!(client.ask("set FOO bar"), Value::ok());
    let heard = |number: usize| {
        let c_node: &FakePeer = &mixed.c_nodes[number];
        until("both are heard", || c_node.heard().len() == 2);
        c_node.heard()
    };
    let expected = |kind| vec![(kind, "SET foo bar".to_owned()), (kind, "set FOO bar".to_owned())];
    assert_eq!(heard(0), expected(EXECUTE));
    assert_eq!(heard(1), expected(FORWARD));
    assert_eq!(mixed.c_nodes[2].heard(), []);
}

#[test]
fn ids_grow_and_heads_are_exact() {
    let (near, far) = (Shape::redis(1, 2, 1), Shape::redis(2, 1, 1));
    for (shape, digit) in [(near, true), (far, false)] {
        let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let log = seen.clone();
        let answer = move |asked: &Message| {
            log.lock().unwrap().push((asked.id, asked.version, asked.same_datacenter));
            like_c(asked)
        };
        let Some(mixed) = start(one_worker(shape), answer) else { return };
        let mut client = mixed.node.client();
        for _ in 0..50 {
            assert_eq!(client.ask("SET foo bar"), Value::ok());
        }
        until("all are heard", || mixed.c_nodes[0].heard().len() == 50);
        let seen = seen.lock().unwrap();
        assert!(seen.is_sorted_by(|one, next| one.0 < next.0), "{seen:?}");
        assert!(seen.iter().all(|(_, version, near)| *version == 2 && *near == digit));
    }
}

#[test]
fn what_a_c_node_cannot_digest_is_never_sent_to_it() {
    let Some(mixed) = start(one_worker(Shape::redis(1, 2, 1)), like_c) else { return };
    let mut client = mixed.node.client();
    let c_node = &mixed.c_nodes[0];
    for line in
        ["LPOP l 2", "LMOVE a a LEFT RIGHT", "XREAD COUNT 1 STREAMS s 0", "FUNCTION FLUSH", "FLUSHALL", "ZPOPMIN z"]
    {
        let reply = client.ask(line);
        let place = format!("was not sent: {}:18101 in rack rack1 of dc0 runs C Dynomite", c_node.host.0);
        // Reads are answered by whoever can.
        assert!(reply.text().contains(&place) || line.starts_with("XREAD"), "{line}: {reply:?}");
    }
    assert!(client.ask(&format!("SET {} v", "k".repeat(16_320))).text().contains("was not sent"));
    assert_eq!(c_node.heard(), []);
    assert_eq!(mixed.node.stat("peer_untranslatable"), 6);
    // In other words, with the same answer.
    assert_eq!(client.ask("HSET h a 1 b 2"), Value::Integer(2));
    until("the script is heard", || c_node.heard().len() == 1);
    let script = "eval return redis.pcall(unpack(ARGV)) 1 h HSET h a 1 b 2";
    assert_eq!(c_node.heard(), [(EXECUTE, script.to_owned())]);
}

#[test]
fn between_our_own_nodes_everything_is_sent() {
    let Some(cluster) = dynomite_tests::Cluster::start(Shape::redis(1, 2, 1)) else { return };
    let mut client = cluster.client(0);
    assert_eq!(client.ask("RPUSH l 1 2 3"), Value::Integer(3));
    assert_eq!(client.ask("LPOP l 2").elements().len(), 2);
    let mut datastores = cluster.datastores();
    until("both racks have done it", || datastores.iter_mut().all(|datastore| datastore.ask("LLEN l").text() == "1"));
}

/// Asks for keys of a C node in our own rack, all of which begin with `{foo}`, while it answers in its own way.
fn ask_neighbour(
    answer: impl Fn(&Message) -> Said + Send + Sync + Clone + 'static,
    story: impl FnOnce(&Node, &mut Client),
) {
    let shape = one_worker(Shape::redis(1, 1, 2)).line("hash_tag: '{}'");
    let Some(mixed) = start(shape, answer) else { return };
    let mut client = mixed.node.client();
    story(&mixed.node, &mut client);
}

/// What the C node does about `GET {foo}`; like a C node otherwise.
fn about_foo(answer: fn(&Message) -> Said) -> impl Fn(&Message) -> Said + Send + Sync + Clone + 'static {
    move |asked| match asked.payload.elements().get(1).map(Value::text).as_deref() {
        Some("{foo}") => answer(asked),
        _ => like_c(asked),
    }
}

#[test]
fn answers_with_a_wrong_length_are_understood() {
    // As a C node relays them: it counts the head it got as well.
    let relayed = |asked: &Message| {
        let head = format!("   $2014$ {} 5 0 1 {} *1 d *37\r\n", asked.id, u8::from(asked.same_datacenter));
        Said::Raw([head.as_bytes(), b"$2\r\nP2\r\n"].concat())
    };
    ask_neighbour(about_foo(relayed), |_, client| {
        client.send(&b"*2\r\n$3\r\nGET\r\n$5\r\n{foo}\r\n".repeat(3));
        for _ in 0..3 {
            assert_eq!(client.reply().text(), "P2");
        }
    });
}

#[test]
fn an_answer_that_never_comes_fails_its_request_alone() {
    ask_neighbour(about_foo(|_| Said::Nothing), |node, client| {
        let start = Instant::now();
        client.send(b"*2\r\n$3\r\nGET\r\n$5\r\n{foo}\r\n*2\r\n$3\r\nGET\r\n$6\r\n{foo}1\r\n");
        assert_eq!(client.reply().text(), "ERR Peer: Peer Node refused connection");
        assert_eq!(client.reply().text(), "{foo}1");
        // The next answer has shown that it will not come.
        assert!(start.elapsed() < Duration::from_millis(900), "failed after {:?}", start.elapsed());
        assert_eq!(node.stat("peer_mismatch_requests"), 1);
        assert_eq!(node.stat("peer_connects"), 1);
    });
}

#[test]
fn answers_that_nobody_asked_for_are_dropped() {
    let twice = |asked: &Message| {
        let ids = [asked.id, asked.id, u64::MAX, 0];
        Said::Raw(ids.iter().flat_map(|id| message(5, *id, asked.same_datacenter, b"$3\r\nfoo\r\n")).collect())
    };
    ask_neighbour(about_foo(twice), |node, client| {
        for _ in 0..5 {
            assert_eq!(client.ask("GET {foo}").text(), "foo");
            assert_eq!(client.ask("GET {foo}1").text(), "{foo}1");
        }
        assert_eq!(node.stat("peer_unknown_replies"), 15);
        assert_eq!(node.stat("peer_connects"), 1);
    });
}

#[test]
fn a_connection_that_breaks_fails_what_was_asked_on_it_and_is_made_again() {
    let answer = |asked: &Message| match asked.payload.elements().get(1).map(Value::text).as_deref() {
        Some("{foo}gone") => Said::HangUp,
        Some("{foo}nonsense") => Said::Raw(message(5, asked.id, true, b"what?\r\n")),
        Some("{foo}encrypted") => {
            Said::Raw(format!("   $2014$ {} 5 1 1 1 *1 d *16\r\n0123456789abcdef", asked.id).into_bytes())
        }
        Some("{foo}half") => {
            let whole = message(5, asked.id, true, b"$3\r\nfoo\r\n");
            Said::Raw(whole[..whole.len() - 4].to_vec())
        }
        _ => like_c(asked),
    };
    ask_neighbour(answer, |node, client| {
        for (number, key) in ["gone", "nonsense", "encrypted"].into_iter().enumerate() {
            let start = Instant::now();
            let reply = client.ask(&format!("GET {{foo}}{key}"));
            assert_eq!(reply.text(), "ERR Peer: Peer Node refused connection", "{key}");
            assert!(start.elapsed() < Duration::from_millis(900), "{key}: failed after {:?}", start.elapsed());
            until("it is connected again", || client.ask("GET {foo}1").text() == "{foo}1");
            assert_eq!(node.stat("peer_protocol_errors"), number as u64);
        }
        // Half an answer, and the next one behind it. What is missing seems to be in there: nothing can be trusted.
        client.send(b"*2\r\n$3\r\nGET\r\n$9\r\n{foo}half\r\n*2\r\n$3\r\nGET\r\n$6\r\n{foo}1\r\n");
        assert!(client.reply().is_error());
        assert!(client.reply().is_error());
        until("it is connected again", || client.ask("GET {foo}1").text() == "{foo}1");
        assert_eq!(node.stat("peer_protocol_errors"), 3);
    });
}

#[test]
fn a_node_that_answers_no_greeting_is_not_asked_anything() {
    let shape = one_worker(Shape::redis(1, 1, 2));
    let Some(datastore) = Datastore::start(shape.kind) else { return };
    let places = places(&shape);
    let node = Node::start(settings(&shape, &places[0], &places, Some(&datastore)));
    let mute = FakePeer::start(places[1].host, |_| Said::Nothing);
    until("it is dialled", || node.stat("peer_connects") >= 2);
    let start = Instant::now();
    assert_eq!(node.client().ask("GET foo").text(), "ERR Peer: Peer Node is not connected");
    assert!(start.elapsed() < Duration::from_millis(500));
    assert_eq!(mute.heard(), []);
    assert_eq!(node.stat("peers_up"), 0);
}

#[test]
fn memcached_pools_greet_too() {
    let shape = one_worker(Shape::memcached(1, 2, 1));
    let Some(cluster) = dynomite_tests::Cluster::start(shape) else { return };
    assert_eq!(cluster.shape.kind, Kind::Memcached);
    let mut client = cluster.client(0);
    assert_eq!(client.memcache("set k 0 0 1\r\nv"), "STORED\r\n");
    assert_eq!(client.memcache("append k 0 0 1 noreply\r\nw\r\nget k"), "VALUE k 0 2\r\nvw\r\nEND\r\n");
    let mut other = cluster.client(1);
    until("the other rack has it", || other.memcache("get k") == "VALUE k 0 2\r\nvw\r\nEND\r\n");
    let mut datastore = cluster.members[1].datastore.as_ref().expect("it has one").client();
    assert_eq!(datastore.memcache("get k"), "VALUE k 0 2\r\nvw\r\nEND\r\n");
}
