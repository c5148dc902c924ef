//! Many clients, random pipelines, random cuts; every reply is checked against a model of what a store must say.
//! A client writes ahead of what it reads, so replies out of order, of somebody else, doubled, lost or damaged are all found.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::random::Random;
use crate::resp::{Value, request};

#[derive(Clone, Debug)]
pub struct Workload {
    pub seed: u64,
    pub clients: usize,
    pub time: Duration,
    /// The largest value, but for one in a thousand that has a megabyte.
    pub value_bytes_max: usize,
    /// Requests in one pipeline at most.
    pub pipeline_max: usize,
    /// Also commands that run on a connection of the client's own: transactions, blocking ones.
    pub private: bool,
    /// Commands of several keys; off where they may be refused because keys have several owners.
    pub many_keys: bool,
    pub scripts: bool,
    /// Clients hang up and come back now and then, in the middle of a pipeline too.
    pub reconnect: bool,
}

impl Workload {
    pub fn new(seed: u64) -> Workload {
        Workload {
            seed,
            clients: 24,
            time: Duration::from_secs(3),
            value_bytes_max: 40_000,
            pipeline_max: 32,
            private: true,
            many_keys: true,
            scripts: true,
            reconnect: true,
        }
    }
}

/// Runs the workload and returns how many replies were checked. Panics at the first wrong one. `place` is who a client talks to.
#[track_caller]
pub fn run(workload: &Workload, place: impl Fn(usize) -> SocketAddr + Sync) -> u64 {
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..workload.clients)
            .map(|number| {
                let address = place(number);
                scope.spawn(move || one_client(workload, number, address))
            })
            .collect();
        clients
            .into_iter()
            .map(|client| {
                client.join().unwrap_or_else(|_| panic!("a client of seed {} found a wrong reply", workload.seed))
            })
            .sum()
    })
}

struct Model {
    random: Random,
    strings: HashMap<String, Vec<u8>>,
    list: VecDeque<Vec<u8>>,
    counter: i64,
    name: String,
    large: usize,
    private: bool,
    many_keys: bool,
    scripts: bool,
}

type Expected = (String, Value);

fn one_client(workload: &Workload, number: usize, address: SocketAddr) -> u64 {
    let mut model = Model {
        random: Random::from_seed(workload.seed ^ (number as u64) << 32),
        strings: HashMap::new(),
        list: VecDeque::new(),
        counter: 0,
        name: format!("{}:{number}", workload.seed),
        large: workload.value_bytes_max,
        private: workload.private,
        many_keys: workload.many_keys,
        scripts: workload.scripts,
    };
    let end = Instant::now() + workload.time;
    let mut checked = 0;
    while Instant::now() < end {
        checked += one_connection(workload, &mut model, address, end);
    }
    checked
}

/// Pipelines over one connection. What was sent is always read, so that the model knows what was done.
fn one_connection(workload: &Workload, model: &mut Model, address: SocketAddr, end: Instant) -> u64 {
    let mut client = Client::connect(address);
    let mut writer = client.writer();
    let (to_write, writes) = sync_channel::<(Vec<u8>, Vec<usize>)>(2);
    let (to_read, reads) = sync_channel::<Vec<Expected>>(4);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for (bytes, cuts) in writes {
                if writer.send_cut(&bytes, &cuts).is_err() {
                    return;
                }
            }
        });
        let reader = scope.spawn(move || check(&mut client, &reads));
        let mut pipelines = if workload.reconnect { 1 + model.random.below(60) } else { usize::MAX };
        while pipelines > 0 && Instant::now() < end {
            pipelines -= 1;
            let (bytes, expected) = model.pipeline(workload.pipeline_max);
            let cuts = model.cuts(bytes.len());
            if to_read.send(expected).is_err() || to_write.send((bytes, cuts)).is_err() {
                break;
            }
        }
        drop((to_read, to_write));
        match reader.join() {
            Ok(checked) => checked,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn check(client: &mut Client, reads: &Receiver<Vec<Expected>>) -> u64 {
    let mut checked = 0;
    for expected in reads {
        for (asked, expected) in expected {
            let got = client.try_reply().unwrap_or_else(|error| panic!("{asked}: no reply: {error}"));
            assert!(got == expected, "{asked}\n  should be {expected:?}\n  is        {got:?}");
            checked += 1;
        }
    }
    checked
}

impl Model {
    fn pipeline(&mut self, length_max: usize) -> (Vec<u8>, Vec<Expected>) {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        let length = if self.random.one_in(3) { 1 } else { 1 + self.random.below(length_max) };
        for _ in 0..length {
            self.step(&mut bytes, &mut expected);
        }
        (bytes, expected)
    }

    /// Nowhere, or at a few places, or, of what is short, behind every byte.
    fn cuts(&mut self, len: usize) -> Vec<usize> {
        let mut cuts: Vec<usize> = match self.random.below(8) {
            0 if len < 300 => (1..len).collect(),
            0..4 => (0..1 + self.random.below(5)).map(|_| self.random.below(len)).collect(),
            _ => Vec::new(),
        };
        cuts.sort_unstable();
        cuts
    }

    fn key(&mut self) -> String {
        format!("{{{}}}:{}", self.name, self.random.below(6))
    }

    fn value(&mut self) -> Vec<u8> {
        let len = match self.random.below(1000) {
            0 => 1 << 20,
            1..50 => self.random.below(self.large.max(1)),
            50..80 => 0,
            _ => self.random.below(100),
        };
        self.random.bytes(len)
    }

    fn step(&mut self, bytes: &mut Vec<u8>, expected: &mut Vec<Expected>) {
        let key = self.key();
        let held = self.strings.get(&key).cloned();
        let integer = |number: usize| Value::Integer(number as i64);
        let bulk = |value: Option<Vec<u8>>| value.map_or(Value::Null, Value::Bulk);
        let mut ask = |args: &[&[u8]], value: Value| {
            bytes.extend_from_slice(&request(args));
            let shown: Vec<String> =
                args.iter().map(|arg| arg[..arg.len().min(40)].escape_ascii().to_string()).collect();
            expected.push((shown.join(" "), value));
        };
        match self.random.below(100) {
            0..30 => ask(&[b"GET", key.as_bytes()], bulk(held)),
            30..50 => {
                let value = self.value();
                ask(&[b"SET", key.as_bytes(), &value], Value::ok());
                self.strings.insert(key, value);
            }
            50..55 => ask(&[b"strlen", key.as_bytes()], integer(held.map_or(0, |value| value.len()))),
            55..60 if held.as_ref().is_none_or(|value| value.len() < 1 << 20) => {
                let value = [held.unwrap_or_default(), self.random.bytes(9)].concat();
                ask(&[b"APPEND", key.as_bytes(), &value[value.len() - 9..]], integer(value.len()));
                self.strings.insert(key, value);
            }
            60..65 => {
                self.counter += 1;
                ask(&[b"INCR", format!("{{{}}}:n", self.name).as_bytes()], Value::Integer(self.counter));
            }
            65..70 if self.many_keys => {
                let (other, third) = (self.key(), self.key());
                let values = [&key, &other, &third].map(|key| bulk(self.strings.get(key).cloned()));
                ask(&[b"MGET", key.as_bytes(), other.as_bytes(), third.as_bytes()], Value::Array(values.into()));
            }
            70..74 if self.many_keys => {
                let other = self.key();
                let count = [&key, &other].iter().filter(|key| self.strings.remove(**key).is_some()).count();
                ask(&[b"DEL", key.as_bytes(), other.as_bytes()], integer(count));
            }
            74..78 => {
                let value = self.value();
                ask(&[b"GETSET", key.as_bytes(), &value], bulk(held));
                self.strings.insert(key, value);
            }
            78..81 => ask(&[b"PING"], Value::Simple("PONG".into())),
            81..84 => ask(&[b"ECHO", key.as_bytes()], Value::bulk(&key)),
            84..86 => ask(&[b"LPOP", key.as_bytes()], wrong_type(held.is_some())),
            86..90 => {
                let value = self.random.bytes(20);
                self.list.push_back(value.clone());
                ask(&[b"RPUSH", format!("{{{}}}:l", self.name).as_bytes(), &value], integer(self.list.len()));
            }
            90..93 => {
                let all = self.list.iter().take(8).map(Value::bulk).collect();
                ask(&[b"LRANGE", format!("{{{}}}:l", self.name).as_bytes(), b"0", b"7"], Value::Array(all));
            }
            93..95 if self.scripts => {
                // Nested, and slower than others.
                let script = b"for i = 1, 20000 do end return {KEYS[1], {{1, 2}, {}}, redis.call('get', KEYS[1])}";
                let nested =
                    Value::Array(vec![Value::Array(vec![Value::Integer(1), Value::Integer(2)]), Value::Array(vec![])]);
                ask(
                    &[b"EVAL", script, b"1", key.as_bytes()],
                    Value::Array(vec![Value::bulk(&key), nested, bulk(held)]),
                );
            }
            95..97 if self.private => {
                let list = format!("{{{}}}:l", self.name);
                if let Some(first) = self.list.pop_front() {
                    ask(&[b"BLPOP", list.as_bytes(), b"5"], Value::Array(vec![Value::bulk(&list), Value::Bulk(first)]));
                }
            }
            97..99 if self.private => {
                let value = self.random.bytes(30);
                ask(&[b"MULTI"], Value::ok());
                ask(&[b"SET", key.as_bytes(), &value], Value::Simple("QUEUED".into()));
                ask(&[b"GET", key.as_bytes()], Value::Simple("QUEUED".into()));
                ask(&[b"EXEC"], Value::Array(vec![Value::ok(), Value::bulk(&value)]));
                self.strings.insert(key, value);
            }
            _ => {
                let text = "ERR wrong number of arguments for 'get' command".to_string();
                ask(&[b"GET"], Value::Error(text));
            }
        }
    }
}

fn wrong_type(there: bool) -> Value {
    if there {
        Value::Error("WRONGTYPE Operation against a key holding the wrong kind of value".into())
    } else {
        Value::Null
    }
}
