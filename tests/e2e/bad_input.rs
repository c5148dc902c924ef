//! What no client should send. The answer is what Redis says, nobody else is disturbed, and nothing stays behind.

use dynomite_tests::resp::words;
use dynomite_tests::{Client, Datastore, Kind, Node, Settings, Value, until};

/// Sends the bytes to both, says that nothing more comes, and expects the same answer and the same end.
fn check(redis: &Datastore, node: &Node, input: &[u8]) {
    let answer = |mut client: Client| {
        let _ = client.try_send(input);
        client.half_close();
        String::from_utf8_lossy(&client.rest()).into_owned()
    };
    let (expected, got) = (answer(redis.client()), answer(node.client()));
    assert_eq!(got, expected, "to {:?}", input[..input.len().min(200)].escape_ascii().to_string());
}

#[test]
fn malformed_requests_are_answered_as_redis_answers() {
    let (Some(behind), Some(redis)) = (Datastore::redis(), Datastore::redis()) else { return };
    let node = Node::before(&behind);
    let mut neighbour = node.client();
    let inputs: &[&[u8]] = &[
        b"",
        b"\r\n",
        b"\r\n\r\nPING\r\n",
        b"*0\r\nPING\r\n",
        b"*-1\r\nPING\r\n",
        b"*-5\r\n*1\r\n$4\r\nPING\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$4\r\nPING\r\n*1\r\n$-7\r\n*1\r\n$4\r\nPING\r\n",
        b"*x\r\n",
        b"*1x\r\n",
        b"*\r\n",
        b"*2147483648\r\n",
        b"*99999999999999999999\r\n",
        b"*1\r\n$99999999999999999999\r\n",
        b"*1\r\n$x\r\n",
        b"*1\r\n$\r\n",
        b"*1\r\n:4\r\nPING\r\n",
        b"*1\r\nPING\r\n",
        b"*2\r\n$3\r\nGET\r\n$3\r\nab",
        b"*2\r\n$3\r\nGET\r\n",
        b"*2\r\n$3\r\nGE",
        b"*2",
        b"PING",
        b"PING\nECHO a\n",
        b"  ping  \r\n",
        b"SET inline \"a b\\x41\"\r\nGET inline\r\n",
        b"SET inline 'it\\'s'\r\nGET inline\r\n",
        b"GET \"unbalanced\r\nPING\r\n",
        b"GET 'unbalanced\r\nPING\r\n",
        b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$0\r\n\r\n*2\r\n$3\r\nGET\r\n$0\r\n\r\n",
        b"*3\r\n$3\r\nSET\r\n$4\r\n\x00\r\n\xff\r\n$2\r\n\r\n\r\n*2\r\n$3\r\nget\r\n$4\r\n\x00\r\n\xff\r\n",
        b"*1\r\n$0\r\n\r\n*1\r\n$4\r\nPING\r\n",
        b"*1\r\n$6\r\nNOSUCH\r\n*1\r\n$4\r\nPING\r\n",
        b"*1\r\n$3\r\nGET\r\n*1\r\n$4\r\nPING\r\n",
        b"QUIT\r\nPING\r\n",
        b"*1\r\n$4\r\nquit\r\n",
    ];
    for input in inputs {
        check(&redis, &node, input);
        assert_eq!(neighbour.ask("PING").text(), "PONG");
    }
    // Lines without an end, longer than anybody needs.
    check(&redis, &node, &[b"PING ".as_slice(), &vec![b'x'; 70_000]].concat());
    check(&redis, &node, &vec![0; 100_000]);
    until("nobody stays but the neighbour", || node.stat("client_connections") == 1);
}

#[test]
fn requests_may_come_byte_by_byte() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::before(&datastore);
    let mut client = node.client();
    let bytes: Vec<u8> =
        ["SET k value", "GET k", "MGET k none", "NOSUCH", "PING"].iter().flat_map(|line| words(line)).collect();
    client.send_cut(&bytes, &(1..bytes.len()).collect::<Vec<_>>());
    let replies: Vec<String> = (0..5).map(|_| format!("{:?}", client.reply())).collect();
    assert_eq!(replies[..3], ["+OK", "\"value\"", "[\"value\", null]"]);
    assert!(replies[3].contains("unknown command"), "{replies:?}");
    assert_eq!(replies[4], "+PONG");
}

#[test]
fn keys_and_values_may_be_any_bytes_of_any_length() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::before(&datastore);
    let mut client = node.client();
    for len in [0, 1, 15, 16_319, 16_320, 16_384, 65_535, 65_536, 131_072, 1_000_000] {
        let key: Vec<u8> = (0..len).map(|byte| (byte * 7) as u8).collect();
        assert_eq!(client.call([b"SET", key.as_slice(), &key]), Value::ok(), "{len}");
        assert_eq!(client.call([b"GET", key.as_slice()]), Value::bulk(&key), "{len}");
        let pair = client.call([b"MGET", key.as_slice(), b"none", &key]);
        assert_eq!(pair, Value::Array(vec![Value::bulk(&key), Value::Null, Value::bulk(&key)]), "{len}");
    }
}

#[test]
fn half_closed_clients_get_what_is_outstanding() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::before(&datastore);
    let mut client = node.client();
    let value = vec![b'v'; 1 << 20];
    client.call([b"SET", b"large".as_slice(), &value]);
    datastore.pause();
    client.send(&words("GET large").repeat(5));
    client.send(&words("PING"));
    client.half_close();
    datastore.resume();
    for _ in 0..5 {
        assert_eq!(client.reply(), Value::bulk(&value));
    }
    assert_eq!(client.reply().text(), "PONG");
    assert!(client.is_closed());
}

#[test]
fn ten_thousand_come_and_go() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::before(&datastore);
    let mut neighbour = node.client();
    neighbour.ask("SET k v");
    let mut settled = None;
    for round in 0..50 {
        let mut clients: Vec<Client> = (0..200).map(|_| node.client()).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            match number % 4 {
                0 => client.send(&words("GET k")),
                1 => client.send(b"*2\r\n$3\r\nGET\r\n$100\r\nk"),
                2 => assert_eq!(client.ask("GET k").text(), "v"),
                _ => {}
            }
        }
        for (number, client) in clients.into_iter().enumerate() {
            if number % 3 == 0 {
                client.reset();
            }
        }
        assert_eq!(neighbour.ask("GET k").text(), "v");
        until("all of them are forgotten", || node.stat("client_connections") == 1);
        if round == 4 {
            settled = Some((node.process().rss(), node.process().descriptors()));
        }
    }
    let (rss, descriptors) = settled.expect("five rounds were over");
    let grown = node.process().rss().saturating_sub(rss);
    assert!(grown < 2 << 20, "{grown} bytes more after 9 000 further clients");
    assert!(node.process().descriptors() <= descriptors + 2, "descriptors stay behind");
}

#[test]
fn malformed_memcached_commands_are_answered_and_cost_nothing() {
    let Some(datastore) = Datastore::memcached() else { return };
    let node = Node::before(&datastore);
    let mut neighbour = node.client();
    let long = format!("get {}\r\n", "k".repeat(251));
    for (input, expected) in [
        ("nonsense\r\n", "ERROR\r\n"),
        ("GET k\r\n", "ERROR\r\n"),
        ("\r\n", "ERROR\r\n"),
        ("get\r\n", "ERROR\r\n"),
        ("set k 0 0 -1\r\n", "CLIENT_ERROR bad command line format\r\n"),
        ("set k 0 0 x\r\n", "CLIENT_ERROR bad command line format\r\n"),
        ("set k 0 0 2\r\nabc\r\n", "CLIENT_ERROR bad data chunk\r\n"),
        ("incr k x\r\n", "CLIENT_ERROR invalid numeric delta argument\r\n"),
        (&long, "CLIENT_ERROR bad command line format\r\n"),
    ] {
        let mut client = node.client();
        client.send(input.as_bytes());
        let said = client.memcache_reply();
        assert_eq!(String::from_utf8_lossy(&said), expected, "to {input:?}");
        assert_eq!(neighbour.memcache("get k"), "END\r\n", "after {input:?}");
    }
    // A line without an end.
    let mut client = node.client();
    let _ = client.try_send(&vec![b'x'; 200_000]);
    client.half_close();
    client.rest();
    assert_eq!(neighbour.memcache("version").split(' ').next(), Some("VERSION"));
}

#[test]
fn garbage_on_any_port_ends_nothing_but_itself() {
    let node = Node::start(Settings::embedded(Kind::Redis));
    let mut neighbour = node.client();
    let mut random = dynomite_tests::Random::from_seed(dynomite_tests::random::seed());
    let ports = [node.address(), node.stats_address(), node.settings.host.port(dynomite_tests::address::PEER_PORT)];
    for round in 0..300 {
        let mut client = Client::connect(ports[round % 3]);
        let len = random.below(3000);
        let _ = client.try_send(&random.bytes(len));
        if random.one_in(2) {
            client.half_close();
            client.rest();
        }
        assert_eq!(neighbour.ask("PING").text(), "PONG");
    }
}
