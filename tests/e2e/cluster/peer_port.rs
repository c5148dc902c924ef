//! A node as its peers see it: bytes that C nodes were seen to send, and bytes that nobody should.

use std::time::Duration;

use dynomite_tests::peer::{EXECUTE, FORWARD, REPLY, message};
use dynomite_tests::resp::words;
use dynomite_tests::{Client, Cluster, Datastore, Node, Random, Settings, Shape, Value, random, until};

fn connect(node: &Node) -> Client {
    Client::connect(node.peer_address())
}

/// Sends the bytes at once and one by one; the answer is the same.
#[track_caller]
fn check(node: &Node, bytes: &[u8], expected: &[u8]) {
    for cuts in [Vec::new(), (1..bytes.len()).collect()] {
        let mut peer = connect(node);
        peer.send_cut(bytes, &cuts);
        assert_eq!(peer.bytes(expected.len()).escape_ascii().to_string(), expected.escape_ascii().to_string());
        assert!(peer.is_silent(Duration::from_millis(10)));
    }
}

#[test]
fn requests_as_c_nodes_write_them() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::before(&datastore);
    check(
        &node,
        b"   $2014$ 7 4 0 1 0 *1 d *31\r\n*3\r\n$3\r\nSET\r\n$3\r\nfoo\r\n$3\r\nbar\r\n",
        b"   $2014$ 7 5 0 2 0 *1 d *5\r\n+OK\r\n",
    );
    check(
        &node,
        b"   $2014$ 2 3 0 1 1 *1 d *22\r\n*2\r\n$3\r\nGET\r\n$3\r\nfoo\r\n",
        b"   $2014$ 2 5 0 2 1 *1 d *9\r\n$3\r\nbar\r\n",
    );
    // Relayed by another C node: the length counts an old head as well.
    check(
        &node,
        b"   $2014$ 5 3 0 1 1 *1 d *62\r\n*3\r\n$3\r\nSET\r\n$3\r\nfoo\r\n$3\r\nbar\r\n   $2014$ 18446744073709551615 3 0 1 1 *1 d *0\r\n*2\r\n$3\r\nGET\r\n$3\r\nfoo\r\n",
        b"   $2014$ 5 5 0 2 1 *1 d *5\r\n+OK\r\n   $2014$ 18446744073709551615 5 0 2 1 *1 d *9\r\n$3\r\nbar\r\n",
    );
    // Gossip of a C node that announces more than it sends, and another client's bytes behind it.
    check(
        &node,
        b"   $2014$ 0 7 0 1 1 *1 a *50\r\ndc1$rackA$100,1795332342,7,ec2-1-2-3-4.example.com   $2014$ 1 7 0 1 1 *1 a *37\r\n*2\r\n$3\r\nGET\r\n   $2014$ 3 3 0 1 1 *1 d *22\r\n*2\r\n$3\r\nGET\r\n$3\r\nfoo\r\n",
        b"   $2014$ 3 5 0 2 1 *1 d *9\r\n$3\r\nbar\r\n",
    );
    assert_eq!(node.stat("gossip_received"), 4);
    assert_eq!(node.stat("peer_garbage_bytes"), 0);
}

#[test]
fn memcached_requests_as_c_nodes_write_them() {
    let Some(datastore) = Datastore::memcached() else { return };
    let node = Node::before(&datastore);
    // The second says noreply and gets none.
    check(
        &node,
        b"   $2014$ 3 3 0 1 1 *1 d *16\r\nset a 0 0 1\r\n1\r\n   $2014$ 4 3 0 1 1 *1 d *24\r\nset a 0 0 1 noreply\r\n2\r\n   $2014$ 5 3 0 1 1 *1 d *8\r\nget a \r\n",
        b"   $2014$ 3 5 0 2 1 *1 d *8\r\nSTORED\r\n   $2014$ 5 5 0 2 1 *1 d *21\r\nVALUE a 0 1\r\n2\r\nEND\r\n",
    );
}

#[test]
fn what_cannot_be_done_is_answered_and_the_next_is_done() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::before(&datastore);
    let mut peer = connect(&node);
    let mut ask = |line: &str, expected: &str| {
        peer.send(&message(EXECUTE, 9, true, &words(line)));
        let reply = peer.message();
        assert_eq!((reply.kind, reply.id, reply.version), (REPLY, 9, 2), "{line}");
        assert!(reply.payload.text().starts_with(expected), "{line}: {:?}", reply.payload);
    };
    ask("QUIT", "ERR 'quit' is for the node that a client is connected to");
    ask("DYNO_CONFIG:CONN_CONSISTENCY dc_one", "ERR 'dyno_config:conn_consistency' is for the node");
    ask("MULTI", "ERR 'multi' is for the node");
    ask("FROBNICATE x", "ERR unknown command");
    ask("GET", "ERR wrong number of arguments");
    ask("PING", "PONG");
    ask("SET k v", "OK");
    assert_eq!(node.stat("peer_refused_requests"), 5);
}

#[test]
fn bytes_that_are_no_messages_harm_nobody() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::start(Settings::before(&datastore).line("workers: 1"));
    let (mut client, mut peer) = (node.client(), connect(&node));
    assert_eq!(client.ask("SET k v"), Value::ok());
    let mut is_well = |id: u64| {
        assert_eq!(client.ask("GET k").text(), "v");
        peer.send(&message(EXECUTE, id, true, &words("GET k")));
        let reply = peer.message();
        assert_eq!((reply.id, reply.payload.text().as_str()), (id, "v"));
    };
    is_well(1);
    // Skipped, and what comes behind is heard.
    for garbage in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], b"$2014", b"$2014$ x", b"   $2014$ 1 99 0 1 1 *1 d *3\r\nabc", b"\0\0\0"]
    {
        let mut other = connect(&node);
        other.send(garbage);
        other.send(&message(EXECUTE, 7, true, &words("GET k")));
        assert_eq!(other.message().payload.text(), "v", "{}", garbage.escape_ascii());
        is_well(2);
    }
    assert!(node.stat("peer_garbage_bytes") > 0 && node.stat("peer_resyncs") >= 5);
    // Ends the connection, after what was asked before is answered.
    let broken: [&[u8]; 4] = [
        b"   $2014$ 8 3 0 1 1 *1 d *9\r\n*1\r\n:1\r\n",
        b"   $2014$ 8 3 0 1 1 *1 d *9\r\n*1\r\n$99999999999999999\r\n",
        b"   $2014$ 8 3 0 1 1 *1 d *9\r\n*99999999999\r\n",
        b"   $2014$ 8 3 1 1 1 *128 x *32\r\n",
    ];
    for bytes in broken {
        let before = node.stat("peer_protocol_errors");
        let mut other = connect(&node);
        let bytes = match bytes.windows(4).any(|part| part == b"*128") {
            true => [&b"   $2014$ 8 3 1 1 1 *128 "[..], &[b'x'; 128], b" *32\r\n", &[b'y'; 32]].concat(),
            false => bytes.to_vec(),
        };
        other.send(&[message(EXECUTE, 7, true, &words("GET k")), bytes.clone()].concat());
        let said = String::from_utf8_lossy(&other.rest()).into_owned();
        assert!(said.starts_with("   $2014$ 7 5 0 2 1 *1 d *7\r\n$1\r\nv\r\n"), "{said}");
        assert_eq!(node.stat("peer_protocol_errors"), before + 1, "{}", bytes.escape_ascii());
        until("its end is an error", || node.stat("dnode_client_err") == node.stat("peer_protocol_errors"));
        is_well(3);
    }
    // Half of a message, and never the rest; half of one, and gone.
    let halves: Vec<Client> = (0..50)
        .map(|number| {
            let mut other = connect(&node);
            let whole = message(EXECUTE, 7, true, &words("SET k half"));
            other.send(&whole[..1 + number % (whole.len() - 1)]);
            other
        })
        .collect();
    is_well(4);
    drop(halves);
    until("they are gone", || node.stat("dnode_client_connections") == 1);
    // Anything.
    let mut random = Random::from_seed(random::seed());
    for _ in 0..200 {
        let mut other = connect(&node);
        let mut bytes = Vec::new();
        for _ in 0..random.below(6) {
            let line = random.pick(&["GET k", "PING", "DEL other", "MGET k other"]);
            let mut part = message(random.below(9) as u8, random.bits(), random.one_in(2), &words(line));
            match random.below(4) {
                0 => part.truncate(random.below(part.len())),
                1 => {
                    let at = random.below(part.len());
                    part[at] = random.bits() as u8;
                }
                2 => part = random.bytes(part.len()),
                _ => {}
            }
            bytes.extend_from_slice(&part);
        }
        // It may have been closed in the middle.
        let _ = other.try_send(&bytes);
        other.half_close();
    }
    is_well(5);
    until("they are gone", || node.stat("dnode_client_connections") == 1);
    assert_eq!(node.stat("dnode_client_out_queue"), 0);
    assert_eq!(node.stat("dnode_client_out_queue_bytes"), 0);
}

#[test]
fn a_forwarded_write_reaches_every_rack_here_and_no_other_datacenter() {
    let Some(cluster) = Cluster::start(Shape::redis(2, 2, 1)) else { return };
    let mut peer = connect(&cluster.members[0].node);
    peer.send(&message(FORWARD, 5, false, &words("INCR n")));
    peer.send(&message(EXECUTE, 6, true, &words("INCR m")));
    assert_eq!(peer.message().payload, Value::Integer(1));
    assert_eq!(peer.message().payload, Value::Integer(1));
    let mut datastores = cluster.datastores();
    until("the other rack has it", || datastores[1].ask("GET n").text() == "1");
    let mut row = |key: &str| -> Vec<String> {
        datastores.iter_mut().map(|datastore| datastore.ask(&format!("GET {key}")).text()).collect()
    };
    assert_eq!(row("n"), ["1", "1", "", ""]);
    assert_eq!(row("m"), ["1", "", "", ""]);
}

#[test]
fn many_requests_of_many_peers_are_answered_in_order() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::start(Settings::before(&datastore).line("workers: 2"));
    std::thread::scope(|scope| {
        for number in 0..8 {
            let node = &node;
            scope.spawn(move || {
                let mut peer = connect(node);
                let mut random = Random::from_seed(number);
                let mut next_id = 0;
                for _ in 0..20 {
                    let mut expected = Vec::new();
                    let mut bytes = Vec::new();
                    for _ in 0..200 {
                        next_id += 1 + random.bits() % 3;
                        let near = random.one_in(2);
                        bytes.extend_from_slice(&message(EXECUTE, next_id, near, &words(&format!("ECHOES {next_id}"))));
                        bytes.extend_from_slice(&message(
                            EXECUTE,
                            next_id + 1,
                            near,
                            &words(&format!("SETEX p{number} 100 {next_id}")),
                        ));
                        bytes.extend_from_slice(&message(
                            EXECUTE,
                            next_id + 2,
                            near,
                            &words(&format!("GET p{number}")),
                        ));
                        expected.push((next_id, near));
                        next_id += 2;
                    }
                    peer.send(&bytes);
                    for (id, near) in expected {
                        let replies = [peer.message(), peer.message(), peer.message()];
                        assert_eq!(replies.each_ref().map(|reply| reply.id), [id, id + 1, id + 2]);
                        assert!(replies.iter().all(|reply| reply.same_datacenter == near));
                        assert!(replies[0].payload.is_error());
                        assert_eq!(replies[1].payload, Value::ok());
                        assert_eq!(replies[2].payload.text(), id.to_string());
                    }
                }
            });
        }
    });
}

#[test]
fn a_peer_that_does_not_read_is_dropped_and_nobody_else() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::start(Settings::before(&datastore).line("peer_queue_bytes_max: 1048576").line("workers: 1"));
    let mut client = node.client();
    assert_eq!(client.call([b"SET", b"large".as_slice(), &vec![b'x'; 1 << 20]]), Value::ok());
    let mut deaf = connect(&node);
    for id in 0..200 {
        deaf.send(&message(EXECUTE, id, true, &words("GET large")));
    }
    until("it is dropped", || {
        assert_eq!(client.ask("GET none"), Value::Null);
        node.stat("dnode_client_err") == 1
    });
    assert_eq!((node.stat("dnode_client_connections"), node.stat("dnode_client_out_queue")), (0, 0));
    assert!(node.process().rss() < 300 << 20, "{} bytes", node.process().rss());
}
