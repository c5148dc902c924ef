//! The shortcut: shared datastore connections whose bytes go past TCP. Clients here pipeline, so the daemon serves them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use dynomite_common::limits::SHORTCUT_BYTES_MAX;
use dynomite_tests::order::{self, Workload};
use dynomite_tests::resp::{request, words};
use dynomite_tests::{Client, Datastore, Node, Random, Settings, Value, random, until};
use dynomite_user::kernel::{FastPath, Language, Settings as PathSettings, Shortcut};

use crate::count;
use crate::leaks::{kernels, kilobytes};

/// A datastore, and a node before it that does not start without the shortcut.
fn node(lines: &[&str]) -> Option<(Datastore, Node)> {
    crate::cgroup()?;
    let datastore = Datastore::redis()?;
    let settings = Settings::before(&datastore).line("kernel: {mode: required, shortcut: true}");
    let node = Node::start(lines.iter().fold(settings, |settings, line| settings.line(line)));
    Some((datastore, node))
}

/// Bytes that went straight: to the datastore, to the daemon.
#[track_caller]
fn straight(node: &Node) -> (u64, u64) {
    let metrics = node.get("/metrics");
    let of = |reason: &str| {
        let wanted = format!("reason=\"{reason}\"}}");
        let mut lines = metrics.lines().filter(|line| line.starts_with("dynomite_kernel_verdict_bytes_total"));
        let line = lines.find(|line| line.contains(&wanted)).expect("every reason is counted");
        line.rsplit(' ').next().and_then(|number| number.parse().ok()).expect("a number")
    };
    (of("short_to_datastore"), of("short_to_daemon"))
}

/// An error is something else than a damaged value.
#[track_caller]
fn holds(reply: &Value, expected: &[u8], what: &str) {
    match reply {
        Value::Bulk(value) => assert!(value == expected, "{what} is damaged"),
        other => panic!("{what}: {other:?}"),
    }
}

fn ordered(lines: &[&str], seconds: u64, disturb: impl Fn(&Node, &AtomicBool) + Sync) {
    let _alone = crate::alone();
    let Some((_datastore, node)) = node(lines) else { return };
    let workload = Workload { time: random::seconds(seconds), clients: 12, ..Workload::new(random::seed()) };
    let is_over = AtomicBool::new(false);
    let before = straight(&node);
    let checked = std::thread::scope(|scope| {
        scope.spawn(|| disturb(&node, &is_over));
        let checked = std::panic::catch_unwind(|| order::run(&workload, |_| node.address()));
        is_over.store(true, Ordering::Relaxed);
        checked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let after = straight(&node);
    println!("{checked} replies checked, {} bytes there and {} back", after.0 - before.0, after.1 - before.1);
    assert!(checked > 500 && after.0 > before.0 && after.1 > before.1, "{checked} checked, {before:?}, {after:?}");
}

#[test]
fn shortcut_replies_are_those_of_a_model() {
    ordered(&[], 6, |_, _| {});
}

#[test]
fn shortcut_over_several_connections_of_several_workers() {
    ordered(&["workers: 3", "datastore_connections: 2"], 4, |_, _| {});
}

#[test]
fn shortcut_switched_off_and_on_under_load_loses_nothing() {
    ordered(&["workers: 1"], 6, |node, is_over| {
        while !is_over.load(Ordering::Relaxed) {
            assert!(node.get("/kernel/off").starts_with("OK"));
            until("nothing takes the shortcut", || count(node, "shortcuts_now") == 0);
            assert!(node.get("/kernel/on").starts_with("OK"));
            until("it is taken again", || count(node, "shortcuts_now") > 0 || is_over.load(Ordering::Relaxed));
        }
    });
}

#[test]
fn shortcut_with_large_values_both_ways() {
    let _alone = crate::alone();
    let Some((_datastore, node)) = node(&["timeout: 60000"]) else { return };
    let mut random = Random::from_seed(random::seed());
    for (len, times) in [(16 << 10, 200), (1 << 20, 20), (20 << 20, 3)] {
        let values: Vec<Vec<u8>> = (0..times).map(|_| random.bytes(len)).collect();
        let mut client = node.client();
        let mut writer = client.writer();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for (number, value) in values.iter().enumerate() {
                    let key = format!("k{number}");
                    let pair = [request([&b"SET"[..], key.as_bytes(), value]), request(["GET", &key])].concat();
                    writer.send_cut(&pair, &[]).expect("the node reads");
                }
            });
            for value in &values {
                assert_eq!(client.reply(), Value::ok());
                holds(&client.reply(), value, &format!("a value of {len} bytes"));
            }
        });
    }
    let (there, back) = straight(&node);
    assert!(there > 20 << 20 && back > 20 << 20, "{there} bytes there and {back} back");
}

#[test]
fn shortcut_parks_little_before_a_datastore_that_stands_still() {
    let _alone = crate::alone();
    let Some((datastore, node)) = node(&["workers: 1", "timeout: 20000"]) else { return };
    let values: Vec<Vec<u8>> = (0..40).map(|number| vec![number; 500_000]).collect();
    let (mut client, mut other) = (node.client(), node.client());
    let mut writer = client.writer();
    assert_eq!(client.ask("GET nothing"), Value::Null);
    let before = straight(&node).0;
    datastore.pause();
    for (number, value) in values.iter().enumerate() {
        let key = format!("k{number}");
        writer.send_cut(&request([&b"SET"[..], key.as_bytes(), value]), &[]).expect("the node reads");
    }
    // Behind them stands one that is too long to go straight.
    let large = vec![b'x'; 8 << 20];
    let mut other_writer = other.writer();
    std::thread::scope(|scope| {
        scope.spawn(|| other_writer.send_cut(&request([&b"SET"[..], b"large", &large]), &[]).expect("the node reads"));
        until("the node has all of it", || node.stat("in_queue") + node.stat("out_queue") > 40);
        let parked = straight(&node).0 - before;
        assert!(parked > SHORTCUT_BYTES_MAX / 2 && parked <= SHORTCUT_BYTES_MAX, "{parked} bytes are parked");
        datastore.resume();
        (0..40).for_each(|_| assert_eq!(client.reply(), Value::ok()));
        assert_eq!(other.reply(), Value::ok());
    });
    for (number, value) in values.into_iter().enumerate() {
        client.send(&request(["GET", &format!("k{number}")]));
        holds(&client.reply(), &value, &format!("value {number}"));
    }
    client.send(&request(["GET", "large"]));
    holds(&client.reply(), &large, "the large value");
    // And straight again from then on.
    let before = straight(&node).0;
    client.send(&request(["GET", "nothing"]).repeat(2));
    assert_eq!([client.reply(), client.reply()], [Value::Null, Value::Null]);
    assert!(straight(&node).0 > before, "not straight again");
}

#[test]
fn shortcut_and_a_client_that_does_not_read() {
    let _alone = crate::alone();
    let Some((datastore, node)) = node(&["workers: 1", "timeout: 60000"]) else { return };
    let value: Vec<u8> = (0..20 << 20).map(|at| (at % 251) as u8).collect();
    datastore.client().call([&b"SET"[..], b"big", &value]);
    let (mut stalled, mut other) = (node.client(), node.client());
    stalled.send(&request(["GET", "big"]).repeat(3));
    until("the first reply is with the daemon", || straight(&node).1 > 1 << 20);
    for _ in 0..200 {
        other.send(&request(["GET", "nothing"]).repeat(2));
        assert_eq!([other.reply(), other.reply()], [Value::Null, Value::Null]);
    }
    let cpu = datastore.process().cpu();
    std::thread::sleep(Duration::from_secs(1));
    let used = datastore.process().cpu() - cpu;
    assert!(used < Duration::from_millis(100), "the datastore used {used:?} in a second");
    for number in 0..3 {
        holds(&stalled.reply(), &value, &format!("reply {number}"));
    }
}

/// Pairs of a write and a read of it until `stop`; what was answered and what was refused.
fn pairs(mut client: Client, number: usize, stop: &AtomicBool, answered: &AtomicU64, refused: &AtomicU64) {
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        let value = format!("{number}-{turn}-").repeat(1 + turn % 400);
        client.send(&[words(&format!("SET k{number} {value}")), words(&format!("GET k{number}"))].concat());
        match [client.reply(), client.reply()] {
            [Value::Simple(_), Value::Bulk(got)] => {
                assert!(String::from_utf8_lossy(&got) == value, "another value");
                answered.fetch_add(1, Ordering::Relaxed);
            }
            replies => {
                let gone = "ERR Storage: Datastore refused connection";
                let is_fine = |reply: &Value| matches!(reply, Value::Null | Value::Simple(_)) || reply.text() == gone;
                assert!(replies.iter().all(is_fine), "{replies:?}");
                refused.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[test]
fn shortcut_and_a_datastore_killed_and_started_again_under_load() {
    let _alone = crate::alone();
    let Some((mut datastore, node)) = node(&["timeout: 1000", "server_retry_timeout: 200"]) else { return };
    let (stop, answered, refused) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let more = |count: &AtomicU64, by: u64| {
        let before = count.load(Ordering::Relaxed);
        until("the load goes on", || count.load(Ordering::Relaxed) > before + by);
    };
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (node, stop, answered, refused) = (&node, &stop, &answered, &refused);
            scope.spawn(move || pairs(node.client(), number, stop, answered, refused));
        }
        for _ in 0..3 {
            more(&answered, 300);
            datastore.kill();
            more(&refused, 20);
            datastore.restart();
            more(&answered, 300);
            let before = straight(&node);
            more(&answered, 300);
            let after = straight(&node);
            assert!(after.0 > before.0 && after.1 > before.1, "no shortcut after a restart");
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn shortcut_is_given_up_when_its_connections_stand_still() {
    let _alone = crate::alone();
    let Some((datastore, node)) = node(&["workers: 1", "timeout: 100", "server_retry_timeout: 50"]) else { return };
    let mut client = node.client();
    let ask = |client: &mut Client| {
        client.send(&request(["GET", "nothing"]).repeat(2));
        [client.reply(), client.reply()]
    };
    assert_eq!(ask(&mut client), [Value::Null, Value::Null]);
    datastore.pause();
    until("it is given up", || {
        assert!(ask(&mut client).iter().all(Value::is_error));
        count(&node, "shortcut_on") == 0
    });
    assert!(node.get("/kernel").contains("stood still") && count(&node, "shortcuts_tripped") >= 3);
    datastore.resume();
    until("the client is served again", || ask(&mut client) == [Value::Null, Value::Null]);
    assert_eq!(count(&node, "shortcuts_now"), 0);
    assert!(node.get("/kernel/on").starts_with("OK"));
    until("it is taken again", || ask(&mut client) == [Value::Null, Value::Null] && count(&node, "shortcuts_now") > 0);
}

#[test]
fn shortcut_to_memcached() {
    let _alone = crate::alone();
    let Some(_) = crate::cgroup() else { return };
    let Some(datastore) = Datastore::memcached() else { return };
    let node = Node::start(Settings::before(&datastore).line("kernel: {mode: required, shortcut: true}"));
    let mut client = node.client();
    for round in 0..200 {
        let value = format!("{round}-").repeat(1 + round * 20 % 9000);
        let set = format!("set k{round} 0 0 {}\r\n{value}\r\n", value.len());
        client.send(format!("{set}get k{round}\r\ndelete k{round}\r\n").as_bytes());
        assert_eq!(client.memcache_reply(), b"STORED\r\n");
        let expected = format!("VALUE k{round} 0 {}\r\n{value}\r\nEND\r\n", value.len());
        assert!(client.memcache_reply() == expected.as_bytes(), "the value of round {round} is damaged");
        assert_eq!(client.memcache_reply(), b"DELETED\r\n");
    }
    let (there, back) = straight(&node);
    assert!(there > 1 << 20 && back > 1 << 20, "{there} bytes there and {back} back");
}

#[test]
fn shortcut_of_a_killed_node_leaves_nothing_behind() {
    let _alone = crate::alone();
    let Some((datastore, mut node)) = node(&[]) else { return };
    let ours = || {
        let programs = aya::programs::loaded_programs().filter_map(Result::ok);
        programs.filter(|program| program.name_as_str() == Some("shortcut")).count()
    };
    let before = ours();
    assert!(before > 0 && count(&node, "shortcuts_now") > 0);
    node.kill();
    until("the program is gone", || ours() < before);
    until("the datastore has no clients of ours", || {
        let Value::Bulk(list) = datastore.client().ask("CLIENT LIST") else { return false };
        String::from_utf8_lossy(&list).lines().count() == 1
    });
    node.restart();
    until("the shortcut is taken", || count(&node, "shortcuts_now") > 0);
}

#[test]
fn shortcut_is_taken_by_who_wants_it_alone() {
    let _alone = crate::alone();
    let Some(_) = crate::cgroup() else { return };
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::start(Settings::before(&datastore).line("kernel: {mode: required}"));
    let mut client = node.client();
    client.send(&words("PING").repeat(3));
    (0..3).for_each(|_| assert_eq!(client.reply(), Value::Simple("PONG".into())));
    assert_eq!((count(&node, "shortcut_on"), straight(&node)), (0, (0, 0)));
    assert!(node.get("/kernel").contains("kernel.shortcut is false"));
}

fn connected(path: &Arc<FastPath>, store: &TcpListener, to: SocketAddr) -> (TcpStream, Shortcut, TcpStream) {
    let mut announced = None;
    until("a pair is free", || {
        announced = Shortcut::announce(path, to);
        announced.is_some()
    });
    let (socket, mut shortcut) = announced.expect("just now");
    let _ = socket.connect(&to.into());
    let (datastore, _) = store.accept().unwrap();
    let own = TcpStream::from(socket);
    until("it is connected", || own.peer_addr().is_ok());
    own.set_nonblocking(false).unwrap();
    shortcut.join(own.as_fd());
    shortcut.settle(false);
    (own, shortcut, datastore)
}

/// Connections come and go, with bytes parked on them and without.
#[test]
fn shortcut_memory_is_where_it_was_after_many_connections() {
    let _alone = crate::alone();
    let Some(cgroup) = crate::cgroup() else { return };
    let store = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = store.local_addr().unwrap();
    let settings = PathSettings { datastore: to, language: Language::Resp, flows_max: 64, cgroup };
    let path = FastPath::start(&settings).unwrap_or_else(|error| panic!("{error}"));
    path.switch_shortcut(true);
    let cycle = |number: u64| {
        let (mut own, mut shortcut, mut datastore) = connected(&path, &store, to);
        own.write_all(&[7; 20_000]).unwrap();
        datastore.write_all(&[8; 30_000]).unwrap();
        if number.is_multiple_of(2) {
            datastore.read_exact(&mut [0; 20_000]).unwrap();
            own.read_exact(&mut [0; 30_000]).unwrap();
            shortcut.on_read(30_000);
            shortcut.on_answered(20_000);
            shortcut.settle(false);
        }
        match number % 3 {
            0 => drop((datastore, shortcut, own)),
            _ => drop((shortcut, own, datastore)),
        }
    };
    (0..300).for_each(cycle);
    let (ours, before) = (kilobytes("/proc/self/status", "VmRSS"), kernels());
    let tcp = tcp_pages();
    let cycles = random::seconds(4).as_secs() * 500;
    (0..cycles).for_each(cycle);
    until("the kernel's memory is back", || kernels() < before + 16 * 1024);
    until("TCP's memory is back", || tcp_pages() < tcp + 500);
    let grown = kilobytes("/proc/self/status", "VmRSS").saturating_sub(ours);
    assert!(grown < 4 * 1024, "{grown} kB more after {cycles} cycles");
}

/// Pages that TCP accounts for, parked ones included.
fn tcp_pages() -> u64 {
    let text = std::fs::read_to_string("/proc/net/sockstat").unwrap();
    let line = text.lines().find(|line| line.starts_with("TCP:")).expect("TCP is counted");
    line.rsplit(' ').next().and_then(|pages| pages.parse().ok()).expect("a number")
}
