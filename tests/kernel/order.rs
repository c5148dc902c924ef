//! Clients that change their habits, each reply checked against a model, while the fast path is switched off and on.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dynomite_tests::resp::request;
use dynomite_tests::{Client, Cluster, Datastore, Kind, Node, Random, Shape, TIMEOUT, random};

/// An emulated machine may take long for what is answered at once elsewhere.
const PATIENT: &str = "timeout: 20000";

/// What is sent, and what has to come for it, to the byte.
type Asked = (Vec<u8>, Vec<u8>);

/// How a client behaves for a while.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Habit {
    /// One small request at a time, as the kernel takes them.
    Calm,
    /// One at a time, but anything.
    Patient,
    /// Many behind each other, in pieces.
    Hasty,
}

/// One client's own keys and what they hold.
struct Model {
    kind: Kind,
    /// One node has all keys: commands that block are allowed.
    is_alone: bool,
    random: Random,
    number: usize,
    held: HashMap<usize, Vec<u8>>,
}

impl Model {
    fn value(&mut self, habit: Habit) -> Vec<u8> {
        let len = match self.random.below(if habit == Habit::Calm { 200_000 } else { 1000 }) {
            0 => 1_000_000,
            1..40 => self.random.below(40_000),
            40..60 => 60_000 + self.random.below(10_000),
            60..70 => 0,
            _ => self.random.below(200),
        };
        self.random.bytes(len)
    }

    fn step(&mut self, habit: Habit, writes_in_ten: usize) -> Asked {
        let key = self.random.below(8);
        let name = format!("client:{}:{key}", self.number);
        if self.random.below(10) < writes_in_ten {
            let value = self.value(habit);
            self.held.insert(key, value.clone());
            return match self.kind {
                Kind::Redis => (request([&b"SET"[..], name.as_bytes(), &value]), b"+OK\r\n".to_vec()),
                Kind::Memcached => {
                    let line = format!("set {name} 0 0 {}\r\n", value.len()).into_bytes();
                    ([&line[..], &value, b"\r\n"].concat(), b"STORED\r\n".to_vec())
                }
            };
        }
        match self.kind {
            Kind::Redis => self.redis(habit, key, &name),
            Kind::Memcached => self.memcached(habit, key, &name),
        }
    }

    fn redis(&mut self, habit: Habit, key: usize, name: &str) -> Asked {
        let held = self.held.get(&key);
        let len = held.map_or(0, Vec::len);
        let ask = |words: &[&str], reply: Vec<u8>| (request(words), reply);
        match self.random.below(if habit == Habit::Calm { 80 } else { 100 }) {
            0..10 => ask(&["STRLEN", name], format!(":{len}\r\n").into()),
            10..20 => ask(&["EXISTS", name], format!(":{}\r\n", usize::from(held.is_some())).into()),
            20..30 => {
                let part = held.map_or(&b""[..], |held| &held[len.min(3)..len.min(100)]);
                ask(&["GETRANGE", name, "3", "99"], bulk(Some(part)))
            }
            80..88 => ask(&["PING"], b"+PONG\r\n".to_vec()),
            88..94 => ask(&["MGET", name], [b"*1\r\n", &bulk(held.map(Vec::as_slice))[..]].concat()),
            // Slow ones: at the datastore, and on a connection of the client's own.
            94..98 => ask(&["EVAL", "for i = 1, 20000 do end return #KEYS", "1", name], b":1\r\n".to_vec()),
            98 if self.is_alone => ask(&["BLPOP", &format!("{name}:none"), "0.01"], b"*-1\r\n".to_vec()),
            _ => ask(&["GET", name], bulk(held.map(Vec::as_slice))),
        }
    }

    fn memcached(&mut self, habit: Habit, key: usize, name: &str) -> Asked {
        let held = self.held.get(&key);
        let values = |count: usize| -> Vec<u8> {
            let value = held.map_or(Vec::new(), |held| {
                [format!("VALUE {name} 0 {}\r\n", held.len()).as_bytes(), held, b"\r\n"].concat()
            });
            [value.repeat(count), b"END\r\n".to_vec()].concat()
        };
        match self.random.below(if habit == Habit::Calm { 8 } else { 10 }) {
            8 => (format!("get {name} {name}:none\r\n").into(), values(1)),
            9 => (format!("delete {name}:none\r\n").into(), b"NOT_FOUND\r\n".to_vec()),
            _ => (format!("get {name}\r\n").into(), values(1)),
        }
    }
}

fn bulk(value: Option<&[u8]>) -> Vec<u8> {
    match value {
        None => b"$-1\r\n".to_vec(),
        Some(value) => [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat(),
    }
}

/// Connects, is calm until the kernel has taken it in, and changes its habits; leaves in the middle of it.
fn client(mut model: Model, address: SocketAddr, is_over: &AtomicBool) -> u64 {
    let mut checked = 0;
    while !is_over.load(Ordering::Relaxed) {
        let mut client = Client::connect(address);
        for phase in 0..1 + model.random.below(8) {
            let habit = match phase {
                0 => Habit::Calm,
                _ => model.random.pick(&[Habit::Calm, Habit::Patient, Habit::Hasty]),
            };
            let steps = match habit {
                Habit::Calm => 40 + model.random.below(200),
                Habit::Patient => model.random.below(60),
                Habit::Hasty => 1 + model.random.below(10),
            };
            let writes_in_ten = model.random.pick(&[0, 1, 5]);
            for _ in 0..steps {
                checked += turn(&mut client, &mut model, habit, writes_in_ten);
                if is_over.load(Ordering::Relaxed) {
                    return checked;
                }
            }
        }
    }
    checked
}

fn turn(client: &mut Client, model: &mut Model, habit: Habit, writes_in_ten: usize) -> u64 {
    let burst = if habit == Habit::Hasty { 1 + model.random.below(30) } else { 1 };
    let asked: Vec<Asked> = (0..burst).map(|_| model.step(habit, writes_in_ten)).collect();
    let bytes: Vec<u8> = asked.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
    let mut cuts: Vec<usize> = match habit {
        Habit::Patient | Habit::Hasty if model.random.one_in(3) => {
            (0..3).map(|_| model.random.below(bytes.len())).collect()
        }
        _ => Vec::new(),
    };
    cuts.sort_unstable();
    let mut writer = client.writer();
    std::thread::scope(|scope| {
        // A burst may be larger than what fits on the way; replies are read meanwhile.
        let writing = (bytes.len() > 60_000).then(|| scope.spawn(|| writer.send_cut(&bytes, &cuts)));
        if writing.is_none() {
            client.send_cut(&bytes, &cuts);
        }
        asked.iter().for_each(|asked| hear(client, asked));
        if let Some(writing) = writing {
            writing.join().expect("no panic").expect("written");
        }
    });
    asked.len() as u64
}

/// The first few bytes by themselves: if they are others already, the rest is not waited for.
fn hear(client: &mut Client, (request, expected): &Asked) {
    let (head, rest) = expected.split_at(expected.len().min(4));
    for part in [head, rest] {
        let got = client.bytes(part.len());
        if got != part {
            let at = got.iter().zip(part).position(|(got, part)| got != part).unwrap_or_default();
            let shown = |bytes: &[u8]| bytes[at..bytes.len().min(at + 60)].escape_ascii().to_string();
            let request = request[..request.len().min(60)].escape_ascii();
            // Of an error all that it says.
            let more = if got.starts_with(b"-") || got == b"SERV" { client.line() } else { String::new() };
            panic!("to {request} after {at} bytes\n should come {}\n is          {}{more}", shown(part), shown(&got));
        }
    }
}

/// Runs clients of these nodes while `disturb` does what it does: so long, and until the kernel has had its share, which
/// on a slow machine takes longer.
fn check(kind: Kind, nodes: &[&Node], clients: usize, seconds: u64, disturb: impl Fn(&AtomicBool) + Sync) {
    let seed = random::seed();
    let start = Instant::now();
    let (end, give_up_at) = (start + random::seconds(seconds), start + random::seconds(seconds) + 2 * TIMEOUT);
    let all = |name: &str| nodes.iter().map(|node| crate::count(node, name)).sum::<u64>();
    let routed = || nodes.iter().map(|node| crate::verdicts(node, "routed")).sum::<u64>();
    let is_over = AtomicBool::new(false);
    let checked: u64 = std::thread::scope(|scope| {
        scope.spawn(|| disturb(&is_over));
        let clients: Vec<_> = (0..clients)
            .map(|number| {
                let (address, is_over) = (nodes[number % nodes.len()].address(), &is_over);
                let random = Random::from_seed(seed ^ (number as u64) << 40);
                let model = Model { kind, is_alone: nodes.len() == 1, random, number, held: HashMap::new() };
                scope.spawn(move || client(model, address, is_over))
            })
            .collect();
        let is_enough = || Instant::now() > end && (routed() > 100 || Instant::now() > give_up_at);
        while !is_enough() && !clients.iter().any(std::thread::ScopedJoinHandle::is_finished) {
            std::thread::sleep(Duration::from_millis(100));
        }
        is_over.store(true, Ordering::Relaxed);
        let checked = clients.into_iter().map(|client| client.join());
        checked.map(|checked| checked.unwrap_or_else(|_| panic!("a wrong reply, seed {seed}"))).sum()
    });
    let (routed, adopted, broken, torn) = (routed(), all("flows_adopted"), all("flows_broken"), all("flows_torn"));
    println!("{checked} replies checked, {routed} of them routed; {adopted} adopted, {broken} broken, {torn} torn");
    assert_eq!(all("flows_spoiled"), 0);
    assert!(routed > 100, "{checked} checked, {routed} routed, {adopted} adopted");
}

/// What an operator may do at any time, again and again.
fn switch(node: &Node, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        for path in ["/kernel/off", "/kernel/on", "/set_consistency/read/dc_quorum", "/set_consistency/read/dc_one"] {
            assert!(node.get(path).starts_with("OK"), "{path}");
            std::thread::sleep(Duration::from_millis(70));
        }
    }
}

#[test]
fn replies_are_those_of_a_model_whatever_the_habit() {
    let _alone = crate::alone();
    let Some((_datastore, node)) = crate::node(&[PATIENT]) else { return };
    check(Kind::Redis, &[&node], 12, 6, |_| {});
}

#[test]
fn also_over_one_worker_and_few_flows() {
    let _alone = crate::alone();
    let lines = ["workers: 1", "datastore_connections: 1", PATIENT];
    let Some((_datastore, node)) = crate::node(&lines) else { return };
    // More of them would be a crowd, which is the daemon's.
    check(Kind::Redis, &[&node], 6, 4, |_| {});
}

#[test]
fn also_while_it_is_switched_off_and_on() {
    let _alone = crate::alone();
    let Some((_datastore, node)) = crate::node(&[PATIENT]) else { return };
    check(Kind::Redis, &[&node], 12, 6, |is_over| switch(&node, is_over));
}

#[test]
fn also_before_memcached() {
    let _alone = crate::alone();
    let Some((_datastore, node)) = crate::node_before(Datastore::memcached(), &[PATIENT]) else { return };
    check(Kind::Memcached, &[&node], 12, 4, |is_over| switch(&node, is_over));
}

/// Two of three keys are another node's: the kernel must not answer for them.
#[test]
fn also_in_a_ring_of_several_nodes() {
    let _alone = crate::alone();
    if crate::cgroup().is_none() {
        return;
    }
    let shape = Shape::redis(1, 1, 3).line("kernel: {mode: required}").line(PATIENT);
    let Some(cluster) = Cluster::start(shape) else { return };
    let nodes: Vec<&Node> = cluster.members.iter().map(|member| &member.node).collect();
    check(Kind::Redis, &nodes, 12, 6, |is_over| switch(nodes[0], is_over));
    assert!(nodes.iter().map(|node| crate::verdicts(node, "not_owner")).sum::<u64>() > 10);
}
