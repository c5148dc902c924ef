//! Every limit has an answer, and who reaches it pays for it alone.

use std::time::Duration;

use dynomite_tests::resp::{request, words};
use dynomite_tests::{Client, Datastore, Kind, Node, Settings, Value, until};

#[test]
fn a_client_too_many_is_told_or_closed_and_the_others_stay() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::start(Settings::before(&datastore).line("client_connections: 5"));
    until("the harness' own client is gone", || node.stat("client_connections") == 0);
    let mut clients: Vec<Client> = (0..5).map(|_| node.client()).collect();
    for client in &mut clients {
        assert_eq!(client.ask("PING").text(), "PONG");
    }
    // Whichever worker they come to.
    for _ in 0..10 {
        let mut surplus = node.client();
        let _ = surplus.try_send(&words("PING"));
        let said = String::from_utf8_lossy(&surplus.rest()).into_owned();
        assert!(said.is_empty() || said.starts_with("-ERR max number of clients reached"), "{said}");
    }
    assert_eq!(node.log().matches("client_connections is reached: 1 refused").count(), 1, "{}", node.log());
    for client in &mut clients {
        assert_eq!(client.ask("PING").text(), "PONG");
    }
    clients.pop();
    until("there is room again", || {
        let mut client = node.client();
        client.try_send(&words("PING")).is_ok() && client.try_reply().is_ok()
    });
}

#[test]
fn who_does_not_read_is_dropped_and_nobody_else_notices() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::start(Settings::before(&datastore).line("client_output_bytes_max: 1000000"));
    let mut neighbour = node.client();
    neighbour.call([b"SET", b"large".as_slice(), &vec![b'x'; 1 << 20]]);
    let rss = node.process().rss();
    let mut slow = node.client();
    // Far more than what the kernel keeps for us on the way.
    slow.send(&words("GET large").repeat(100));
    let mut served = 0;
    until("the slow one is dropped", || {
        assert_eq!(neighbour.ask("PING").text(), "PONG");
        assert_eq!(neighbour.ask("STRLEN large").text(), "1048576");
        served += 1;
        node.stat("client_connections") == 1
    });
    assert!(served > 0);
    assert_eq!(node.log().matches("left unread: 1 connections dropped").count(), 1, "{}", node.log());
    assert!(node.process().rss() < rss + (32 << 20), "what was meant for it has not been kept");
}

#[test]
fn a_client_that_reads_slowly_gets_everything() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::before(&datastore);
    let mut client = node.client();
    let value = vec![b'x'; 1 << 20];
    client.call([b"SET", b"large".as_slice(), &value]);
    client.send(&words("GET large").repeat(40));
    let mut neighbour = node.client();
    for _ in 0..40 {
        // Others are served between any two pieces of it.
        assert_eq!(neighbour.ask("STRLEN large").text(), "1048576");
        assert!(client.reply() == Value::Bulk(value.clone()));
    }
}

#[test]
fn a_request_too_large_is_refused_and_ends_the_connection() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::start(Settings::before(&datastore).line("request_bytes_max: 100000"));
    let mut neighbour = node.client();
    let fits = vec![b'x'; 90_000];
    assert_eq!(neighbour.call([b"SET", b"k".as_slice(), &fits]), Value::ok());
    for large in [request([b"SET", b"k".as_slice(), &vec![b'x'; 200_000]]), request(vec![b"MGET".as_slice(); 50_000])] {
        let mut client = node.client();
        let _ = client.try_send(&[words("PING"), large].concat());
        client.half_close();
        let said = String::from_utf8_lossy(&client.rest()).into_owned();
        assert!(said.starts_with("+PONG\r\n-ERR"), "{:?}", &said[..said.len().min(200)]);
        assert_eq!(neighbour.ask("STRLEN k").text(), "90000");
    }
    assert_eq!(node.stat("request_too_large"), 2);
}

#[test]
fn a_reply_too_large_fails_its_request_alone() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::start(Settings::before(&datastore).line("reply_bytes_max: 4096").line("workers: 1"));
    let (mut client, mut own) = (node.client(), datastore.client());
    let sizes = [4096 - 9, 4096 - 8, 5_000, 100_000, 20_000_000];
    for size in sizes {
        assert_eq!(own.call([b"SET", format!("k{size}").as_bytes(), &vec![b'x'; size]]), Value::ok());
    }
    own.call(std::iter::once("RPUSH").chain(["list"]).chain(std::iter::repeat_n("element", 100_000)));
    let connects = node.stat("datastore_connects");
    let asks = |key: &str| words(&format!("{key} 0 -1")).into_iter().chain(words("ECHO behind"));
    let lists = ["LRANGE list", "GETRANGE k5000"].map(|ask| asks(ask).collect::<Vec<u8>>()).concat();
    let values: Vec<u8> = sizes.iter().flat_map(|size| words(&format!("GET k{size}"))).collect();
    client.send(&[words("ECHO before"), values, lists].concat());
    let told = |client: &mut Client| match client.reply() {
        Value::Bulk(value) if value.len() > 100 => value.len().to_string(),
        other => other.text(),
    };
    let error = "ERR Dynomite: The reply is longer than reply_bytes_max";
    for expected in ["before", "4087", error, error, error, error, error, "behind", error, "behind"] {
        assert_eq!(told(&mut client), expected);
    }
    assert_eq!(node.stat("reply_too_large"), 6);
    assert_eq!(node.stat("datastore_connects"), connects, "no connection was closed");
    // The same on a connection of the client's own.
    for (ask, expected) in [("MULTI", "OK"), ("GET k20000000", "QUEUED"), ("EXEC", error), ("ECHO fine", "fine")] {
        assert_eq!(client.ask(ask).text(), expected, "{ask}");
    }
    assert_eq!(node.stat("reply_too_large"), 7);
}

#[test]
fn a_memcached_reply_too_large_fails_its_request_alone() {
    let Some(datastore) = Datastore::memcached() else { return };
    let node = Node::start(Settings::before(&datastore).line("reply_bytes_max: 4096").line("workers: 1"));
    let mut client = node.client();
    let value = "x".repeat(500_000);
    client.send(format!("set large 0 0 500000\r\n{value}\r\nset small 0 0 1\r\ny\r\n").as_bytes());
    client.send(b"get large\r\nget small\r\nmg large v\r\nmg small v\r\n");
    let error = "SERVER_ERROR Dynomite: The reply is longer than reply_bytes_max";
    for expected in ["STORED", "STORED", error, "VALUE small 0 1", "y", "END", error, "VA 1", "y"] {
        assert_eq!(client.try_line().expect("a line"), expected);
    }
    assert_eq!((node.stat("reply_too_large"), node.stat("datastore_connects")), (2, 1));
}

#[test]
fn a_request_of_too_many_arguments_is_refused_and_ends_the_connection() {
    let node = Node::start(Settings::embedded(Kind::Redis).line("request_arguments_max: 100"));
    let mut client = node.client();
    let mget = |keys| format!("MGET{}", " k".repeat(keys));
    assert_eq!(client.ask(&mget(99)), Value::Array(vec![Value::Null; 99]));
    assert!(client.ask(&mget(100)).text().contains("101 arguments in one request, the limit is 100"));
    assert!(client.is_closed());
    assert_eq!(node.stat("request_too_large"), 1);
}

#[test]
fn more_requests_than_may_be_outstanding_are_answered_in_time() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::start(Settings::before(&datastore).line("client_outstanding_max: 100"));
    let mut client = node.client();
    let mut writer = client.writer();
    let bytes: Vec<u8> = (0..20_000).flat_map(|number| words(&format!("ECHO {number}"))).collect();
    let gets = words("GET none").repeat(20_000);
    let sender = std::thread::spawn(move || writer.send_cut(&[bytes, gets].concat(), &[]));
    for number in 0..20_000 {
        assert_eq!(client.reply().text(), number.to_string());
    }
    for _ in 0..20_000 {
        assert_eq!(client.reply(), Value::Null);
    }
    sender.join().expect("no panic").expect("all was sent");
}

#[test]
fn what_the_datastore_queue_cannot_hold_is_refused() {
    let Some(datastore) = Datastore::redis() else { return };
    let settings = Settings::before(&datastore).line("datastore_queue_bytes_max: 65536").line("timeout: 20000");
    let node = Node::start(settings);
    let mut client = node.client();
    assert_eq!(client.ask("SET k v"), Value::ok());
    datastore.pause();
    // The kernel takes some megabytes on the way to the datastore, then the node's own queue fills.
    let value = vec![b'x'; 30_000];
    let mut writer = client.writer();
    let bytes = request([b"SET", b"k".as_slice(), &value]).repeat(1000);
    let sender = std::thread::spawn(move || writer.send_cut(&bytes, &[]));
    std::thread::sleep(Duration::from_millis(300));
    datastore.resume();
    let replies: Vec<Value> = (0..1000).map(|_| client.reply()).collect();
    sender.join().expect("no panic").expect("all was sent");
    let refused = replies.iter().filter(|reply| reply.is_error()).count();
    assert!(replies.iter().all(|reply| *reply == Value::ok() || reply.is_error()));
    println!("{refused} of 1000 were refused");
    assert_eq!(client.ask("STRLEN k").text(), "30000");
}

#[test]
fn memory_is_given_back_after_the_work() {
    let Some(datastore) = Datastore::redis() else { return };
    // What the node holds, not what its allocator holds back for it: one arena, given back at once.
    let settings = Settings::before(&datastore);
    let settings =
        [("MALLOC_ARENA_MAX", "1"), ("MALLOC_TRIM_THRESHOLD_", "65536"), ("MALLOC_MMAP_THRESHOLD_", "65536")]
            .iter()
            .fold(settings, |settings, (name, value)| settings.variable(name, value));
    let node = Node::start(settings);
    let work = |seed| {
        let workload = dynomite_tests::order::Workload {
            time: Duration::from_secs(1),
            ..dynomite_tests::order::Workload::new(seed)
        };
        dynomite_tests::order::run(&workload, |_| node.address());
        until("all clients are gone", || node.stat("client_connections") == 0);
        node.process().rss()
    };
    // What an allocator keeps depends on which of its arenas was asked for what at the same time, so it takes a few runs until
    // it has had the worst of it; what leaks goes on growing.
    let most = (1..4).map(work).max().unwrap_or(0);
    let descriptors = node.process().descriptors();
    let later: Vec<usize> = (4..9).map(work).collect();
    let least = later.iter().copied().min().unwrap_or(0);
    assert!(least < most + (4 << 20), "{most} bytes at most after the first three runs, then {later:?}");
    assert!(node.process().descriptors() <= descriptors + 4, "descriptors stay behind");
}

/// At most 8 KB for each: buffers are not kept by those who say nothing.
#[test]
fn idle_clients_cost_little() {
    let node = Node::start(Settings::embedded(Kind::Redis));
    let mut first = node.client();
    first.ask("PING");
    let rss = node.process().rss();
    let clients: Vec<Client> = (0..500)
        .map(|_| {
            let mut client = node.client();
            assert_eq!(client.call(["SET", "k", &"v".repeat(20_000)]), Value::ok());
            client
        })
        .collect();
    let each = node.process().rss().saturating_sub(rss) / clients.len();
    assert!(each <= 8 << 10, "{each} bytes for an idle client");
}
