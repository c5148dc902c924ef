//! Commands with connection state: transactions, blocking commands, subscriptions. Each client has its own, and only its own.

use std::time::{Duration, Instant};

use dynomite_tests::resp::words;
use dynomite_tests::{Client, Datastore, Node, Settings, Value, until};

fn texts(value: &Value) -> Vec<String> {
    value.elements().iter().map(Value::text).collect()
}

fn lines(lines: &[&str]) -> Vec<u8> {
    lines.iter().flat_map(|line| words(line)).collect()
}

#[test]
fn transactions_are_of_one_client() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::before(&datastore);
    let (mut one, mut other) = (node.client(), node.client());
    assert_eq!(one.ask("MULTI"), Value::ok());
    assert_eq!(one.ask("SET k 1").text(), "QUEUED");
    assert_eq!(other.ask("GET k"), Value::Null);
    assert_eq!(other.ask("SET k 0"), Value::ok());
    assert_eq!(one.ask("INCR k").text(), "QUEUED");
    assert_eq!(one.ask("EXEC"), Value::Array(vec![Value::ok(), Value::Integer(2)]));
    assert_eq!(other.ask("GET k").text(), "2");
    assert_eq!(one.ask("GET k").text(), "2");
}

#[test]
fn transactions_in_one_pipeline_see_what_came_before_and_are_seen_by_what_follows() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::before(&datastore);
    let mut client = node.client();
    for round in 0..200 {
        client.send(&lines(&[&format!("SET k {round}"), "MULTI", "INCR k", "EXEC", "GET k"]));
        assert_eq!(client.reply(), Value::ok());
        assert_eq!(client.reply(), Value::ok());
        assert_eq!(client.reply().text(), "QUEUED");
        assert_eq!(client.reply(), Value::Array(vec![Value::Integer(round + 1)]));
        assert_eq!(client.reply().text(), (round + 1).to_string());
    }
}

#[test]
fn discarded_broken_and_watched_transactions() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::before(&datastore);
    let (mut one, mut other) = (node.client(), node.client());
    for (asked, answer) in [
        ("MULTI", "OK"),
        ("SET k 1", "QUEUED"),
        ("DISCARD", "OK"),
        ("GET k", ""),
        ("MULTI", "OK"),
        ("NOSUCH", "ERR unknown command 'NOSUCH', with args beginning with: "),
        ("EXEC", "EXECABORT Transaction discarded because of previous errors."),
        ("EXEC", "ERR EXEC without MULTI"),
        ("DISCARD", "ERR DISCARD without MULTI"),
        ("MULTI", "OK"),
        ("MULTI", "ERR MULTI calls can not be nested"),
        ("DISCARD", "OK"),
        ("WATCH k", "OK"),
    ] {
        assert_eq!(one.ask(asked).text(), answer, "{asked}");
    }
    other.ask("SET k other");
    assert_eq!(one.ask("MULTI"), Value::ok());
    assert_eq!(one.ask("SET k one").text(), "QUEUED");
    assert_eq!(one.ask("EXEC"), Value::Null);
    assert_eq!(one.ask("GET k").text(), "other");
    assert_eq!(one.ask("WATCH k"), Value::ok());
    assert_eq!(one.ask("UNWATCH"), Value::ok());
    other.ask("SET k again");
    one.send(&lines(&["MULTI", "GET k", "EXEC"]));
    let replies: Vec<Value> = (0..3).map(|_| one.reply()).collect();
    assert_eq!(replies[2], Value::Array(vec![Value::bulk("again")]));
}

#[test]
fn who_is_blocked_blocks_nobody_else() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::before(&datastore);
    let mut blocked: Vec<Client> = (0..20).map(|_| node.client()).collect();
    for (number, client) in blocked.iter_mut().enumerate() {
        client.send(&lines(&[&format!("BLPOP list{number} 20"), "PING"]));
    }
    let mut other = node.client();
    for (number, client) in blocked.iter_mut().enumerate() {
        assert_eq!(other.ask(&format!("RPUSH list{number} v{number}")).integer(), Some(1));
        assert_eq!(texts(&client.reply()), [format!("list{number}"), format!("v{number}")]);
        assert_eq!(client.reply().text(), "PONG");
    }
    // Nothing comes: null, not an error.
    assert_eq!(other.ask("BLPOP nothing 0.05"), Value::Null);
    assert_eq!(other.ask("BRPOPLPUSH nothing nowhere 0.05"), Value::Null);
}

#[test]
fn a_blocked_client_that_hangs_up_takes_nothing_with_it() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::before(&datastore);
    let mut other = node.client();
    for _ in 0..10 {
        let mut blocked = node.client();
        blocked.send(&words("BLPOP list 0"));
        until("it is blocked", || datastore.client().ask("INFO clients").text().contains("blocked_clients:1"));
        drop(blocked);
        until("it is forgotten", || datastore.client().ask("INFO clients").text().contains("blocked_clients:0"));
    }
    assert_eq!(other.ask("RPUSH list v").integer(), Some(1));
    assert_eq!(other.ask("LPOP list").text(), "v");
}

#[test]
fn blocking_in_a_transaction_does_not_block() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::before(&datastore);
    let mut client = node.client();
    client.send(&lines(&["MULTI", "BLPOP nothing 0", "EXEC", "PING"]));
    let replies: Vec<Value> = (0..4).map(|_| client.reply()).collect();
    assert_eq!(replies[2], Value::Array(vec![Value::Null]));
    assert_eq!(replies[3].text(), "PONG");
}

#[test]
fn subscribing_in_a_transaction_is_refused_and_the_transaction_with_it() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::before(&datastore);
    let mut client = node.client();
    assert_eq!(client.ask("MULTI"), Value::ok());
    let refused = client.ask("SUBSCRIBE news");
    assert_eq!(refused.text(), "ERR Dynomite: 'subscribe' is not served between MULTI or WATCH and EXEC");
    assert_eq!(client.ask("SET k v").text(), "QUEUED");
    assert!(client.ask("EXEC").text().starts_with("EXECABORT"));
    assert_eq!(client.ask("GET k"), Value::Null);
    assert_eq!(texts(&client.ask("SUBSCRIBE news")), ["subscribe", "news", "1"]);
}

#[test]
fn subscribing_without_a_datastore_is_an_error_and_the_client_goes_on() {
    const GONE: &str = "ERR Storage: Datastore refused connection";
    let Some(mut datastore) = Datastore::redis() else { return };
    let settings = Settings::before(&datastore).line("timeout: 500").line("server_retry_timeout: 100");
    let node = Node::start(settings);
    let mut client = node.client();
    datastore.kill();
    let start = Instant::now();
    client.send(&lines(&["SUBSCRIBE a", "PSUBSCRIBE a*", "ECHO behind"]));
    assert_eq!([client.reply().text(), client.reply().text()], [GONE, GONE]);
    assert_eq!(client.reply().text(), "behind");
    assert!(start.elapsed() < Duration::from_secs(2), "after {:?}", start.elapsed());
    datastore.restart();
    until("the datastore is found", || client.ask("GET none") == Value::Null);
    // It takes connections and says nothing.
    datastore.pause();
    let start = Instant::now();
    assert_eq!(client.ask("SUBSCRIBE a b").text(), GONE);
    let took = start.elapsed();
    assert!((Duration::from_millis(450)..Duration::from_secs(3)).contains(&took), "after {took:?}");
    datastore.resume();
    until("the datastore answers", || client.ask("GET none") == Value::Null);
    until("it can be subscribed", || texts(&client.ask("SUBSCRIBE a")) == ["subscribe", "a", "1"]);
}

#[test]
fn messages_reach_their_subscribers() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::before(&datastore);
    let (mut one, mut two, mut publisher) = (node.client(), node.client(), node.client());
    one.send(&words("SUBSCRIBE a b"));
    assert_eq!(texts(&one.reply()), ["subscribe", "a", "1"]);
    assert_eq!(texts(&one.reply()), ["subscribe", "b", "2"]);
    assert_eq!(texts(&two.ask("PSUBSCRIBE a*")), ["psubscribe", "a*", "1"]);
    assert_eq!(publisher.ask("PUBLISH a hello").integer(), Some(2));
    assert_eq!(texts(&one.reply()), ["message", "a", "hello"]);
    assert_eq!(texts(&two.reply()), ["pmessage", "a*", "a", "hello"]);
    // In RESP2 a subscriber may say little, and PING has another answer.
    assert!(one.ask("GET k").text().starts_with("ERR Can't execute 'get': only (P|S)SUBSCRIBE"));
    assert_eq!(texts(&one.ask("PING")), ["pong", ""]);
    assert_eq!(texts(&one.ask("UNSUBSCRIBE a")), ["unsubscribe", "a", "1"]);
    assert_eq!(texts(&one.ask("UNSUBSCRIBE")), ["unsubscribe", "b", "0"]);
    assert_eq!(one.ask("SET k v"), Value::ok());
    assert_eq!(one.ask("GET k").text(), "v");
    assert_eq!(publisher.ask("PUBLISH b nobody").integer(), Some(0));
    drop(two);
    until("the other is forgotten", || publisher.ask("PUBLISH a x").integer() == Some(0));
}

#[test]
fn resp3_subscribers_get_pushes_and_may_go_on_asking() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::before(&datastore);
    let (mut subscriber, mut publisher) = (node.client(), node.client());
    subscriber.ask("HELLO 3");
    let push = |texts: &[&str]| Value::Push(texts.iter().map(Value::bulk).collect());
    let got = subscriber.ask("SUBSCRIBE news");
    assert_eq!(got, Value::Push(vec![Value::bulk("subscribe"), Value::bulk("news"), Value::Integer(1)]));
    assert_eq!(subscriber.ask("SET k v"), Value::ok());
    assert_eq!(publisher.ask("PUBLISH news first").integer(), Some(1));
    assert_eq!(subscriber.reply(), push(&["message", "news", "first"]));
    assert_eq!(subscriber.ask("GET k").text(), "v");
    assert!(matches!(subscriber.ask("HGETALL none"), Value::Map(_)));
}

#[test]
fn many_subscribers_get_every_message_in_order() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::before(&datastore);
    let mut subscribers: Vec<Client> = (0..30).map(|_| node.client()).collect();
    for client in &mut subscribers {
        client.ask("SUBSCRIBE news");
    }
    let mut publisher = node.client();
    publisher.send(&(0..500).flat_map(|number| words(&format!("PUBLISH news {number}"))).collect::<Vec<u8>>());
    for _ in 0..500 {
        assert_eq!(publisher.reply().integer(), Some(30));
    }
    for client in &mut subscribers {
        for number in 0..500 {
            assert_eq!(texts(&client.reply())[2], number.to_string());
        }
        assert!(client.is_silent(Duration::from_millis(1)));
    }
}

#[test]
fn reset_forgets_everything() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::before(&datastore);
    let mut client = node.client();
    client.ask("HELLO 3");
    client.ask("CLIENT SETNAME somebody");
    client.ask("SUBSCRIBE news");
    client.ask("MULTI");
    assert_eq!(client.ask("RESET").text(), "RESET");
    assert_eq!(client.ask("CLIENT GETNAME").text(), "");
    assert_eq!(client.ask("HGETALL none"), Value::Array(vec![]));
    assert_eq!(client.ask("EXEC").text(), "ERR EXEC without MULTI");
    assert_eq!(client.ask("SET k v"), Value::ok());
}

#[test]
fn connections_of_ones_own_are_given_back() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::before(&datastore);
    let connected = |expected: &dyn Fn(usize) -> bool| {
        let info = datastore.client().ask("INFO clients").text();
        let number = info
            .lines()
            .find_map(|line| line.strip_prefix("connected_clients:"))
            .and_then(|number| number.trim().parse().ok());
        expected(number.expect("a number"))
    };
    node.client().ask("PING");
    let mut clients: Vec<Client> = (0..100).map(|_| node.client()).collect();
    for client in &mut clients {
        client.ask("WATCH k");
    }
    assert!(connected(&|number| number >= 100), "each has a connection of its own");
    for client in &mut clients {
        client.ask("UNWATCH");
        client.ask("SUBSCRIBE a");
    }
    drop(clients);
    until("all of them are given back", || connected(&|number| number < 20));
}
