//! The clients of a simulated cluster: what they ask, and what they are told.
//! Owns: each client's place in its conversation. What answers are right is the oracle's business.
//!
//! Every key has one writer, on one connection: when that is lost its keys are never written again, and the next
//! connection writes new ones. So the writes of a key have an order, and it is known which of them count.

use std::collections::VecDeque;
use std::time::Duration;

use dynomite_tests::random::Random;
use dynomite_tests::resp::Value;
use dynomite_user::moment::Moment;

use crate::network::ConnId;
use crate::oracle::{KeyId, Oracle};

pub struct Client {
    pub number: usize,
    /// Whose clients' port it connects to.
    pub node: usize,
    pub conn: Option<ConnId>,
    pub is_connected: bool,
    /// When it next does something.
    pub next_at: Moment,
    /// Keys that this connection writes.
    keys: Vec<KeyId>,
    outstanding: VecDeque<Asked>,
    inbox: Vec<u8>,
}

/// What was asked and not yet answered.
pub struct Asked {
    pub at: Moment,
    pub what: What,
}

#[derive(Clone, Debug)]
pub enum What {
    /// These keys get this version each.
    Write(Vec<(KeyId, u64)>),
    /// These keys are read; a version of each that may not be missed.
    Read(Vec<(KeyId, u64)>, Style),
    /// A word that comes back.
    Echo(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Get,
    Mget,
}

/// How the clients of one run behave.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    pub pipeline_max: usize,
    /// Time between what they ask, at most.
    pub pause: Duration,
    pub value_bytes_max: usize,
    pub many_keys: bool,
}

const KEYS_PER_CLIENT: usize = 4;

impl Client {
    pub fn new(number: usize, node: usize) -> Client {
        Client {
            number,
            node,
            conn: None,
            is_connected: false,
            next_at: Moment(0),
            keys: Vec::new(),
            outstanding: VecDeque::new(),
            inbox: Vec::new(),
        }
    }

    /// A fresh connection: new keys.
    pub fn connected(&mut self, oracle: &mut Oracle) {
        self.is_connected = true;
        self.keys = (0..KEYS_PER_CLIENT).map(|_| oracle.new_key(self.number, self.node)).collect();
    }

    /// Nothing that was asked will be answered. What was written may have been executed, or may yet be.
    pub fn disconnected(&mut self) {
        self.conn = None;
        self.is_connected = false;
        self.keys.clear();
        self.outstanding.clear();
        self.inbox.clear();
    }

    pub fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// Since when the oldest request waits.
    pub fn waits_since(&self) -> Option<Moment> {
        self.outstanding.front().map(|asked| asked.at)
    }

    /// Some requests, as bytes. `writes` while there is load; later it only reads.
    pub fn ask(
        &mut self,
        habits: &Habits,
        writes: bool,
        oracle: &mut Oracle,
        random: &mut Random,
        now: Moment,
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..1 + random.below(habits.pipeline_max) {
            let what = self.choose(habits, writes, oracle, random);
            write(&what, habits, oracle, random, &mut bytes);
            self.outstanding.push_back(Asked { at: now, what });
        }
        bytes
    }

    /// Reads one key, whatever happened before.
    pub fn ask_for(&mut self, key: KeyId, oracle: &Oracle, now: Moment) -> Vec<u8> {
        let mut bytes = Vec::new();
        let what = What::Read(vec![(key, oracle.floor(key, self.node))], Style::Get);
        words(&[b"GET", oracle.name(key).as_bytes()], &mut bytes);
        self.outstanding.push_back(Asked { at: now, what });
        bytes
    }

    fn choose(&self, habits: &Habits, writes: bool, oracle: &mut Oracle, random: &mut Random) -> What {
        let many = if habits.many_keys && random.one_in(4) { 2 + random.below(3) } else { 1 };
        match random.below(20) {
            0 => What::Echo(format!("client{}-{}", self.number, random.below(1 << 30))),
            1..8 if writes => {
                let mut keys = self.keys.clone();
                while keys.len() > many {
                    keys.swap_remove(random.below(keys.len()));
                }
                What::Write(keys.into_iter().map(|key| (key, oracle.begin_write(key))).collect())
            }
            _ => {
                let keys = (0..many).map(|_| match random.below(3) {
                    0 => oracle.any_key(random),
                    _ => random.pick(&self.keys),
                });
                let keys =
                    keys.collect::<Vec<_>>().into_iter().map(|key| (key, oracle.floor(key, self.node))).collect();
                What::Read(keys, if many > 1 || random.one_in(8) { Style::Mget } else { Style::Get })
            }
        }
    }

    /// Bytes from the node; `Err` is what was wrong with them.
    pub fn hear(&mut self, bytes: &[u8], oracle: &mut Oracle, now: Moment) -> Result<(), String> {
        self.inbox.extend_from_slice(bytes);
        while let Some((reply, len)) = Value::parse(&self.inbox) {
            self.inbox.drain(..len);
            let asked = self.outstanding.pop_front().ok_or_else(|| format!("a reply to nothing: {reply:?}"))?;
            oracle.judge(&asked, &reply, self.node, now).map_err(|wrong| {
                format!(
                    "client {} of node {} asked {} and heard {reply:?}: {wrong}",
                    self.number,
                    self.node,
                    oracle.say(&asked.what)
                )
            })?;
        }
        Ok(())
    }
}

fn write(what: &What, habits: &Habits, oracle: &Oracle, random: &mut Random, out: &mut Vec<u8>) {
    match what {
        What::Echo(word) => words(&[b"ECHO", word.as_bytes()], out),
        What::Read(keys, style) => {
            let mut all: Vec<&[u8]> = vec![if *style == Style::Get { b"GET" } else { b"MGET" }];
            all.extend(keys.iter().map(|(key, _)| oracle.name(*key).as_bytes()));
            words(&all, out);
        }
        What::Write(keys) => {
            let values: Vec<_> = keys
                .iter()
                .map(|(key, version)| {
                    let padding = random.below(habits.value_bytes_max + 1);
                    format!("{}={version}={}", oracle.name(*key), ".".repeat(padding))
                })
                .collect();
            let mut all: Vec<&[u8]> = vec![if keys.len() == 1 { b"SET" } else { b"MSET" }];
            for ((key, _), value) in keys.iter().zip(&values) {
                all.push(oracle.name(*key).as_bytes());
                all.push(value.as_bytes());
            }
            words(&all, out);
        }
    }
}

fn words(words: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}
