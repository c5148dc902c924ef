//! The stats port: what it counts is what happened, and nobody there can hold up the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dynomite_tests::resp::{request, words};
use dynomite_tests::{Answer, Client, Datastore, Fake, Kind, Node, Settings, exposition, until};

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

/// Whatever became of it: a request that was read is a request that was answered.
#[test]
fn requests_and_replies_come_to_the_same() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::before(&datastore);
    until("the harness' own client is gone", || node.stat("client_connections") == 0);
    let names = ["client_requests", "client_replies", "client_pushes", "client_dropped_requests", "client_err"];
    let before = names.map(|name| node.stat(name));
    let since = || {
        let after = names.map(|name| node.stat(name));
        let more: Vec<u64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
        more
    };
    let mut client = node.client();
    // Held back (MULTI, BLPOP behind what is outstanding), refused, unknown, with a wrong number of arguments.
    let lines =
        ["SET k v", "MULTI", "GET k", "EXEC", "GET k", "BLPOP none 0.01", "MONITOR", "NOSUCH a b", "GET", "GET k"];
    client.send(&lines.iter().flat_map(|line| words(line)).collect::<Vec<u8>>());
    lines.iter().for_each(|_| _ = client.reply());
    let requests = lines.len() as u64;
    until("all is counted", || since() == [requests, requests, 0, 0, 0]);
    let mut nonsense = node.client();
    nonsense.send(b"*1\r\n!nonsense\r\n");
    nonsense.rest();
    let requests = requests + 1;
    until("nonsense is an error", || since() == [requests, requests, 0, 0, 1]);
    // One request, three confirmations; then one more, and a message. The first confirmation is the reply.
    let mut listener = node.client();
    listener.send(&[words("SUBSCRIBE a b c"), words("SUBSCRIBE d")].concat());
    (0..4).for_each(|_| _ = listener.reply());
    client.ask("PUBLISH a hello");
    listener.reply();
    let requests = requests + 3;
    until("pushes are no replies", || since() == [requests, requests, 4, 0, 1]);
    // Nobody is there to hear it.
    let mut gone = node.client();
    gone.send(&words("BLPOP none 0"));
    until("it waits", || node.stat("alloc_msgs") == 1);
    drop(gone);
    until("it was dropped", || since() == [requests + 1, requests, 4, 1, 1]);
}

#[test]
fn what_waits_for_the_datastore_is_shown() {
    let goes_on = Arc::new(AtomicBool::new(false));
    let fake = Fake::start({
        let goes_on = goes_on.clone();
        move |_| {
            while !goes_on.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
            Answer::Reply(b"+OK\r\n".to_vec())
        }
    });
    let settings = Settings { server: fake.server(), embedded: false, ..Settings::embedded(Kind::Redis) };
    let node = Node::start(settings.line("workers: 1"));
    let queues = || ["in_queue", "in_queue_bytes", "out_queue", "out_queue_bytes"].map(|name| node.stat(name));
    let before = node.stat("client_bytes_out");
    let get = request(["GET", "k"]);
    let mut client = node.client();
    client.send(&get.repeat(3));
    until("all is with the datastore", || queues() == [0, 0, 3, 3 * get.len() as u64]);
    assert_eq!(node.stat("alloc_msgs"), 3);
    // More than sockets hold.
    let set = request([b"SET".as_slice(), b"k", &vec![b'x'; 32 << 20]]);
    client.send(&set);
    until("the rest waits", || queues()[0] == 1 && queues()[1] > 0 && queues()[1] + queues()[3] > set.len() as u64);
    assert_eq!((node.stat("out_queue"), node.stat("alloc_msgs")), (3, 4));
    goes_on.store(true, Ordering::Relaxed);
    (0..4).for_each(|_| assert_eq!(client.reply().text(), "OK"));
    until("nothing waits", || queues() == [0; 4] && node.stat("alloc_msgs") == 0);
    assert!(node.stat("datastore_bytes_out") >= (3 * get.len() + set.len()) as u64);
    assert_eq!(node.stat("client_bytes_out") - before, 4 * "+OK\r\n".len() as u64);
    assert!(node.stat("client_wakeups") > 0);
    let metrics = node.get("/metrics");
    for name in ["server_in_queue_requests", "server_out_queue_requests", "client_out_queue_requests"] {
        assert!(!count_of(&metrics, name).is_empty() && count_of(&metrics, name) != "0", "{name}: {metrics}");
    }
    assert_ne!(count_of(&metrics, "server_queue_wait_microseconds"), "0");
}

/// How many values a summary holds.
fn count_of<'a>(metrics: &'a str, name: &str) -> &'a str {
    let head = format!("dynomite_{name}_count{{");
    metrics.lines().find(|line| line.starts_with(&head)).and_then(|line| line.rsplit(' ').next()).unwrap_or_default()
}

#[test]
fn pages() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::before(&datastore);
    node.client().ask("GET k");
    assert_eq!(node.get("/ping"), "OK\r\n");
    for path in ["/info", "/"] {
        assert!(node.get(path).starts_with("{\"service\":\"dynomite\""), "{path}");
    }
    assert!(node.get("/help").contains("/cluster_describe"));
    assert!(node.get("/get_consistency").starts_with("Read Consistency: DC_ONE"));
    let metrics = node.get("/metrics");
    let samples = exposition::samples(&metrics);
    assert!(samples.keys().any(|series| series.starts_with("dynomite_client_read_requests_total{")), "{metrics}");
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
