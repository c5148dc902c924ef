//! Datastores that die, stall, lie or come late: errors are prompt, each fails only what it must, and all mends by itself.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dynomite_tests::resp::words;
use dynomite_tests::{Answer, Client, Datastore, Fake, Kind, Node, Settings, Value, until};

const GONE: &str = "ERR Storage: Datastore refused connection";

/// Every third request gets a value that names it; so a reply to somebody else's request is seen at once.
fn answer_named(words: &[String]) -> Vec<u8> {
    match words[0].to_ascii_lowercase().as_str() {
        "get" => format!("${}\r\n{}\r\n", words[1].len(), words[1]).into_bytes(),
        _ => b"+OK\r\n".to_vec(),
    }
}

#[test]
fn a_datastore_killed_and_started_again_under_load() {
    let Some(mut datastore) = Datastore::redis() else { return };
    let node = Node::start(Settings::before(&datastore).line("timeout: 1000").line("server_retry_timeout: 200"));
    let (stop, answered, refused) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let slowest = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|number| {
                let (node, stop, answered, refused) = (&node, &stop, &answered, &refused);
                scope.spawn(move || {
                    let (mut client, mut slowest, mut turn) = (node.client(), Duration::ZERO, 0);
                    while !stop.load(Ordering::Relaxed) {
                        turn += 1;
                        let value = format!("{number}-{turn}");
                        let start = Instant::now();
                        client.send(
                            &[words(&format!("SET k{number} {value}")), words(&format!("GET k{number}"))].concat(),
                        );
                        let replies = [client.reply(), client.reply()];
                        slowest = slowest.max(start.elapsed());
                        match &replies {
                            [Value::Simple(_), Value::Bulk(got)] => {
                                assert_eq!(String::from_utf8_lossy(got), value);
                                answered.fetch_add(1, Ordering::Relaxed);
                            }
                            // Refused, or written before it died and gone after it.
                            replies => {
                                let fine = |reply: &Value| {
                                    matches!(reply, Value::Null | Value::Simple(_)) || reply.text() == GONE
                                };
                                assert!(replies.iter().all(fine), "{replies:?}");
                                refused.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                    slowest
                })
            })
            .collect();
        for _ in 0..3 {
            let before = answered.load(Ordering::Relaxed);
            until("requests are answered", || answered.load(Ordering::Relaxed) > before + 500);
            datastore.kill();
            let before = refused.load(Ordering::Relaxed);
            until("requests are refused", || refused.load(Ordering::Relaxed) > before + 20);
            datastore.restart();
        }
        let before = answered.load(Ordering::Relaxed);
        until("it mends by itself", || answered.load(Ordering::Relaxed) > before + 500);
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().expect("no wrong reply")).max()
    });
    let slowest = slowest.unwrap_or_default();
    assert!(slowest < Duration::from_millis(2500), "an answer took {slowest:?}");
}

fn count(log: &str, words: &str) -> usize {
    log.matches(words).count()
}

#[test]
fn a_datastore_lost_and_found_is_said_once_each() {
    let Some(mut datastore) = Datastore::redis() else { return };
    let node =
        Node::start(Settings::before(&datastore).line("server_retry_timeout: 200").line("datastore_connections: 1"));
    // Every worker knows it.
    (0..16).for_each(|_| assert_eq!(node.client().ask("GET k"), Value::Null));
    assert!(!node.log().contains("the datastore at"), "{}", node.log());
    for turn in 1..=2 {
        datastore.kill();
        until("every worker has dialled in vain", || node.stat("server_ejects") >= 10 * turn as u64);
        assert_eq!(count(&node.log(), "is away: "), turn, "{}", node.log());
        assert!(node.log().contains(&format!("the datastore at {} is away: it closed", datastore.address())));
        datastore.restart();
        until("it is found", || count(&node.log(), "is back") == turn);
        // Nobody has asked anything.
        until("both workers are connected", || node.stat("datastore_connections") >= 2);
        // And has heard it, or one could find it after another has lost it again. These clients come to both workers.
        (0..16).for_each(|_| until("it is served", || node.client().ask("GET k") == Value::Null));
    }
    assert_eq!((count(&node.log(), "is away: "), count(&node.log(), "is back")), (2, 2), "{}", node.log());
}

#[test]
fn a_datastore_that_refuses_the_password_is_left_alone() {
    let Some(datastore) = Datastore::start_with(Kind::Redis, &["--requirepass", "secret"]) else { return };
    let settings = Settings::before(&datastore).line("requirepass: wrong").line("workers: 1");
    let settings = settings.line("server_failure_limit: 3").line("server_retry_timeout: 60000");
    let node = Node::start_unchecked(settings.line("datastore_connections: 1"));
    until("it has been tried", || node.try_stat("server_ejects").is_some_and(|ejects| ejects >= 3));
    // Ten more attempts would take less than that.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(node.stat("datastore_connects"), 3);
    assert_eq!(count(&node.log(), "refuses us: -WRONGPASS"), 1, "{}", node.log());
}

#[test]
fn a_node_may_be_started_before_its_datastore() {
    let Some(mut datastore) = Datastore::redis() else { return };
    datastore.kill();
    // Who cannot be connected is not left alone for that long.
    let settings = Settings::before(&datastore).line("server_failure_limit: 2").line("server_retry_timeout: 600000");
    let mut node = Node::start(settings);
    let mut client = node.client();
    let start = Instant::now();
    assert_eq!(client.ask("GET k").text(), GONE);
    assert!(start.elapsed() < Duration::from_secs(2), "refused after {:?}", start.elapsed());
    assert_eq!(count(&node.log(), "is away: Connection refused"), 1, "{}", node.log());
    until("it is looked for again and again", || {
        assert_eq!(client.ask("GET k").text(), GONE);
        node.stat("datastore_connects_failed") > 3
    });
    datastore.restart();
    until("the datastore is found", || client.ask("SET k v") == Value::ok());
    assert_eq!(client.ask("GET k").text(), "v");
    assert_eq!(node.stop(), Some(0));
}

#[test]
fn a_stalled_datastore_times_out_and_its_late_replies_are_nobodys() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::start(Settings::before(&datastore).line("timeout: 300").line("server_retry_timeout: 100"));
    let mut client = node.client();
    for number in 0..20 {
        assert_eq!(client.ask(&format!("SET k{number} v{number}")), Value::ok());
    }
    datastore.pause();
    let start = Instant::now();
    client.send(&(0..10).flat_map(|number| words(&format!("GET k{number}"))).collect::<Vec<u8>>());
    for _ in 0..10 {
        assert!(client.reply().is_error());
    }
    let took = start.elapsed();
    assert!((Duration::from_millis(250)..Duration::from_millis(1500)).contains(&took), "timed out after {took:?}");
    datastore.resume();
    until("it answers again", || client.ask("GET k19").text() == "v19");
    for number in 0..20 {
        assert_eq!(client.ask(&format!("GET k{number}")).text(), format!("v{number}"));
    }
}

#[test]
fn one_late_reply_fails_one_request_and_not_its_neighbours() {
    let fake = Fake::start(|words| match words.get(1).map(String::as_str) {
        Some("slow") => Answer::After(Duration::from_millis(800), answer_named(words)),
        _ => Answer::Reply(answer_named(words)),
    });
    let node = Node::start(
        Settings { server: fake.server(), embedded: false, ..Settings::embedded(Kind::Redis) }.line("timeout: 500"),
    );
    let (mut late, mut neighbour) = (node.client(), node.client());
    assert_eq!(neighbour.ask("GET before").text(), "before");
    late.send(&words("GET slow"));
    // Asked while the slow one is outstanding, on the same connection to the datastore, and within its own time.
    std::thread::sleep(Duration::from_millis(450));
    neighbour.send(&words("GET behind"));
    late.send(&words("GET own"));
    assert!(late.reply().is_error(), "the late one has timed out");
    assert_eq!(neighbour.reply().text(), "behind");
    assert_eq!(late.reply().text(), "own");
    assert_eq!(late.ask("GET after").text(), "after");
}

#[test]
fn a_datastore_that_talks_nonsense_is_left_and_tried_again() {
    let fake = Fake::start(|words| match words.get(1).map(String::as_str) {
        Some("nonsense") => Answer::Reply(b"what?\r\n".to_vec()),
        Some("half") => Answer::HangUp(b"$100\r\nhalf of".to_vec()),
        Some("gone") => Answer::HangUp(Vec::new()),
        Some("twice") => Answer::Reply(answer_named(words).repeat(2)),
        _ => Answer::Reply(answer_named(words)),
    });
    let settings = Settings { server: fake.server(), embedded: false, ..Settings::embedded(Kind::Redis) };
    let node =
        Node::start(settings.line("timeout: 1000").line("server_retry_timeout: 100").line("auto_eject_hosts: false"));
    let mut client = node.client();
    for bad in ["nonsense", "half", "gone"] {
        until("an ordinary answer", || client.ask("GET fine").text() == "fine");
        let start = Instant::now();
        assert_eq!(client.ask(&format!("GET {bad}")).text(), GONE, "{bad}");
        assert!(start.elapsed() < Duration::from_millis(900), "{bad}: refused only after {:?}", start.elapsed());
    }
    until("an ordinary answer", || client.ask("GET fine").text() == "fine");
    // A reply too many must never become the answer to the next question.
    assert_eq!(client.ask("GET twice").text(), "twice");
    for number in 0..20 {
        let reply = client.ask(&format!("GET n{number}")).text();
        assert!(reply == format!("n{number}") || reply == GONE, "{reply}");
    }
}

#[test]
fn large_replies_pass_while_others_are_served() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::before(&datastore);
    let mut client = node.client();
    let value = vec![b'x'; 64 << 20];
    assert_eq!(client.call([b"SET", b"large".as_slice(), &value]), Value::ok());
    let rss = node.process().rss();
    client.send(&words("GET large"));
    let mut neighbour = node.client();
    assert_eq!(neighbour.ask("SET small v"), Value::ok());
    assert_eq!(neighbour.ask("GET small").text(), "v");
    assert!(client.reply() == Value::Bulk(value), "64 MB came back damaged");
    drop(client);
    until("memory is given back", || node.process().rss() < rss + (16 << 20));
}

/// As large as Redis takes them. Several gigabytes pass through memory: on demand, `DYNOMITE_LARGE=1`.
#[test]
fn half_a_gigabyte_passes() {
    if std::env::var_os("DYNOMITE_LARGE").is_none() {
        return dynomite_tests::need::skip("DYNOMITE_LARGE is not set");
    }
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::start(Settings::before(&datastore).line("timeout: 30000"));
    let mut client = node.client();
    let value = vec![b'x'; 512 << 20];
    let rss = node.process().rss();
    assert_eq!(client.call([b"SET", b"large".as_slice(), &value]), Value::ok());
    assert!(client.ask("GET large") == Value::Bulk(value), "512 MB came back damaged");
    assert_eq!(client.ask("PING").text(), "PONG");
    drop(client);
    until("memory is given back", || node.process().rss() < rss + (16 << 20));
}

#[test]
fn a_datastore_behind_a_unix_socket() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("redis.sock");
    let Some(mut datastore) = Datastore::start_with(Kind::Redis, &["--unixsocket", &socket.to_string_lossy()]) else {
        return;
    };
    let settings = Settings { server: format!("{}:1", socket.display()), ..Settings::before(&datastore) };
    let node = Node::start(settings.line("server_retry_timeout: 200"));
    let mut client = node.client();
    assert_eq!(client.ask("SET k v"), Value::ok());
    assert_eq!(datastore.client().ask("GET k").text(), "v");
    datastore.restart();
    until("it is found again", || client.ask("SET k w") == Value::ok());
}

#[test]
fn a_datastore_with_a_password() {
    let Some(datastore) = Datastore::start_with(Kind::Redis, &["--requirepass", "secret"]) else { return };
    let mut node = Node::start_unchecked(Settings::before(&datastore).line("requirepass: secret"));
    let try_ask =
        |node: &Node, line: &str| Client::try_connect(node.address()).ok().map(|mut client| client.ask(line).text());
    until("the node listens", || try_ask(&node, "PING").is_some());
    assert!(try_ask(&node, "GET k").is_some_and(|said| said.starts_with("NOAUTH")));
    let mut client = node.client();
    assert!(client.ask("AUTH wrong").text().starts_with("WRONGPASS"));
    assert_eq!(client.ask("AUTH secret"), Value::ok());
    assert_eq!(client.ask("SET k v"), Value::ok());
    assert_eq!(client.ask("GET k").text(), "v");
    assert!(!node.client().ask("HELLO 3 AUTH default secret").is_error());
    // Commands with state have a connection of their own, which needs the password too.
    assert_eq!(client.ask("MULTI"), Value::ok());
    assert_eq!(client.ask("GET k").text(), "QUEUED");
    assert_eq!(client.ask("EXEC"), Value::Array(vec![Value::bulk("v")]));
    assert_eq!(node.stop(), Some(0));
}

#[test]
fn a_node_asked_to_stop_answers_what_it_was_asked() {
    let Some(datastore) = Datastore::redis() else { return };
    let mut node = Node::before(&datastore);
    let mut client = node.client();
    client.ask("SET k v");
    datastore.pause();
    client.send(&words("GET k").repeat(3));
    until("the requests have reached the node", || node.stat("client_connections") >= 1);
    let stopping = std::thread::spawn(move || node.stop());
    std::thread::sleep(Duration::from_millis(50));
    datastore.resume();
    for _ in 0..3 {
        assert_eq!(client.reply().text(), "v");
    }
    assert!(client.is_closed());
    assert_eq!(stopping.join().expect("it stops"), Some(0));
}
