//! The clients of a simulated cluster: what they ask, and what they are told.
//! Owns: each client's place in its conversation. What answers are right is the oracle's business.
//!
//! Every key has one writer. Without read repair that is one connection: when it is lost its keys are never written again,
//! and the next connection writes new ones. With it a client goes on with its keys, also through another node whose clock
//! is another one. So the writes of a key have an order, and it is known which of them count. What was not answered when a
//! connection was lost may be asked again on the next one.

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
    /// Writes that were not answered when the last connection was lost.
    unanswered: Vec<What>,
    /// The node of the last connection, and which of its lives.
    last: Option<(usize, u32)>,
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
    /// These keys are read.
    Read(Vec<Wanted>, Style),
    /// A word that comes back.
    Echo(String),
}

/// A key that is read.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub key: KeyId,
    /// A version that may not be missed.
    pub floor: u64,
    /// The lowest that any replica held when this was asked.
    pub lowest: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Get,
    Mget,
}

/// The lowest and the highest version that replicas hold of a key.
pub type Span<'a> = &'a mut dyn FnMut(&str) -> (u64, u64);

/// How the clients of one run behave.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    pub pipeline_max: usize,
    /// Time between what they ask, at most.
    pub pause: Duration,
    pub value_bytes_max: usize,
    pub many_keys: bool,
    /// Keys are removed, too.
    pub removes: bool,
    /// A client takes its keys along to its next connection.
    pub moves: bool,
    /// What was not answered is asked again.
    pub repeats: bool,
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
            unanswered: Vec::new(),
            last: None,
            inbox: Vec::new(),
        }
    }

    /// A fresh connection to this life of the node: what is asked at once.
    pub fn connected(
        &mut self,
        life: u32,
        habits: &Habits,
        oracle: &mut Oracle,
        random: &mut Random,
        now: Moment,
    ) -> Vec<u8> {
        self.is_connected = true;
        let same_node = self.last.replace((self.node, life)) == Some((self.node, life));
        let mut again = std::mem::take(&mut self.unanswered);
        if habits.moves && self.keys.iter().all(|key| oracle.moves_to(*key, self.node)) && !self.keys.is_empty() {
            self.keys.iter().for_each(|key| oracle.move_to(*key, self.node));
        } else {
            // A key's last version alone may come twice, and not past what is still on its way.
            let is_alone = |what: &What| match what {
                What::Write(keys) => same_node && keys.iter().all(|(key, version)| oracle.awaits_only(*key, *version)),
                _ => false,
            };
            again.retain(is_alone);
            self.keys = (0..KEYS_PER_CLIENT).map(|_| oracle.new_key(self.number, self.node)).collect();
        }
        let mut bytes = Vec::new();
        for what in again.into_iter().filter(|_| habits.repeats) {
            write(&what, habits, oracle, random, &mut bytes);
            self.outstanding.push_back(Asked { at: now, what });
        }
        bytes
    }

    /// Nothing that was asked will be answered. What was written may have been executed, or may yet be.
    pub fn disconnected(&mut self, oracle: &mut Oracle) {
        self.conn = None;
        self.is_connected = false;
        self.unanswered.clear();
        for asked in self.outstanding.drain(..) {
            if let What::Write(keys) = &asked.what {
                oracle.lost_sight(keys);
                self.unanswered.push(asked.what);
            }
        }
        self.inbox.clear();
    }

    pub fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// Since when the oldest request waits.
    pub fn waits_since(&self) -> Option<Moment> {
        self.outstanding.front().map(|asked| asked.at)
    }

    /// Some requests, as bytes.
    pub fn ask(
        &mut self,
        habits: &Habits,
        oracle: &mut Oracle,
        random: &mut Random,
        span: Span<'_>,
        now: Moment,
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..1 + random.below(habits.pipeline_max) {
            let what = self.choose(habits, oracle, random, span);
            write(&what, habits, oracle, random, &mut bytes);
            self.outstanding.push_back(Asked { at: now, what });
        }
        bytes
    }

    /// Reads one key, whatever happened before.
    pub fn ask_for(&mut self, key: KeyId, oracle: &Oracle, now: Moment) -> Vec<u8> {
        let mut bytes = Vec::new();
        let floor = oracle.floor(key, self.node, Style::Get);
        let what = What::Read(vec![Wanted { key, floor, lowest: 0 }], Style::Get);
        words(&oracle.read(key), &mut bytes);
        self.outstanding.push_back(Asked { at: now, what });
        bytes
    }

    fn choose(&self, habits: &Habits, oracle: &mut Oracle, random: &mut Random, span: Span<'_>) -> What {
        let many = if habits.many_keys && random.one_in(4) { 2 + random.below(3) } else { 1 };
        match random.below(20) {
            0 => What::Echo(format!("client{}-{}", self.number, random.below(1 << 30))),
            1..8 => {
                let mut keys = self.keys.clone();
                while keys.len() > many {
                    keys.swap_remove(random.below(keys.len()));
                }
                let one = keys[0];
                if keys.len() > 1 {
                    keys.retain(|key| *key == one || oracle.is_text(*key) && oracle.is_text(one));
                }
                let removes = habits.removes && keys.len() == 1 && random.one_in(5);
                What::Write(keys.into_iter().map(|key| (key, oracle.begin_write(key, removes))).collect())
            }
            _ => {
                let mut keys: Vec<KeyId> = (0..many)
                    .map(|_| match random.below(3) {
                        0 => oracle.any_key(random),
                        _ => random.pick(&self.keys),
                    })
                    .collect();
                let one = keys[0];
                keys.retain(|key| oracle.is_text(*key));
                let style =
                    if keys.len() > 1 || !keys.is_empty() && random.one_in(8) { Style::Mget } else { Style::Get };
                if style == Style::Get {
                    keys = vec![one];
                }
                let wanted = |key: KeyId| Wanted {
                    key,
                    floor: oracle.floor(key, self.node, style),
                    lowest: if oracle.is_held_to_replicas() { span(oracle.name(key)).0 } else { 0 },
                };
                What::Read(keys.into_iter().map(wanted).collect(), style)
            }
        }
    }

    /// Bytes from the node; `Err` is what was wrong with them.
    pub fn hear(&mut self, bytes: &[u8], oracle: &mut Oracle, span: Span<'_>) -> Result<(), String> {
        self.inbox.extend_from_slice(bytes);
        while let Some((reply, len)) = Value::parse(&self.inbox) {
            self.inbox.drain(..len);
            let asked = self.outstanding.pop_front().ok_or_else(|| format!("a reply to nothing: {reply:?}"))?;
            oracle.judge(&asked, &reply, self.node, span).map_err(|wrong| {
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
        What::Read(keys, Style::Get) => words(&oracle.read(keys[0].key), out),
        What::Read(keys, Style::Mget) => {
            let names = keys.iter().map(|wanted| oracle.name(wanted.key).as_bytes());
            words(&[b"MGET".as_slice()].into_iter().chain(names).collect::<Vec<_>>(), out);
        }
        What::Write(keys) => {
            let values: Vec<_> = keys
                .iter()
                .map(|(key, version)| {
                    let padding = random.below(habits.value_bytes_max + 1);
                    format!("{}={version}={}", oracle.name(*key), ".".repeat(padding))
                })
                .collect();
            match (&keys[..], &values[..]) {
                ([(key, version)], [value]) => words(&oracle.write(*key, *version, value), out),
                _ => {
                    let pairs = keys.iter().zip(&values);
                    let pairs = pairs.flat_map(|((key, _), value)| [oracle.name(*key).as_bytes(), value.as_bytes()]);
                    words(&[b"MSET".as_slice()].into_iter().chain(pairs).collect::<Vec<_>>(), out);
                }
            }
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
