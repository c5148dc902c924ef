//! A datastore of the simulated cluster: one queue for all its connections, as a single-threaded server has.
//! Owns: the data, which survives everything, and how fast it is served.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use dynomite_tests::random::Random;
use dynomite_tests::resp::Value;
use dynomite_user::moment::Moment;

use crate::network::ConnId;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// Each request takes this long.
    Slow(Duration),
    /// Reads what it is sent and answers when it feels better.
    Hung,
    Dead,
}

pub struct Store {
    pub mood: Mood,
    data: BTreeMap<Vec<u8>, Vec<u8>>,
    inboxes: BTreeMap<ConnId, Vec<u8>>,
    /// Whole requests in the order in which they came.
    queue: VecDeque<(ConnId, Vec<Vec<u8>>)>,
    busy_until: Moment,
    pub executed: u64,
}

impl Store {
    pub fn new() -> Store {
        Store {
            mood: Mood::Well,
            data: BTreeMap::new(),
            inboxes: BTreeMap::new(),
            queue: VecDeque::new(),
            busy_until: Moment(0),
            executed: 0,
        }
    }

    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.data.get(key).map(Vec::as_slice)
    }

    pub fn connected(&mut self, conn: ConnId) {
        self.inboxes.insert(conn, Vec::new());
    }

    /// What it was sent before is executed all the same.
    pub fn closed(&mut self, conn: ConnId) {
        self.inboxes.remove(&conn);
    }

    /// All connections are gone, and with them what was not executed.
    pub fn die(&mut self) {
        self.mood = Mood::Dead;
        self.inboxes.clear();
        self.queue.clear();
    }

    pub fn bytes(&mut self, conn: ConnId, bytes: &[u8], now: Moment) {
        let Some(inbox) = self.inboxes.get_mut(&conn) else { return };
        inbox.extend_from_slice(bytes);
        if self.queue.is_empty() {
            self.busy_until = self.busy_until.max(now);
        }
        while let Some((value, len)) = Value::parse(inbox) {
            let Value::Array(words) = value else { panic!("the datastore is sent {value:?}") };
            let words = words.into_iter().map(|word| match word {
                Value::Bulk(word) => word,
                other => panic!("the datastore is sent {other:?}"),
            });
            self.queue.push_back((conn, words.collect()));
            inbox.drain(..len);
        }
    }

    pub fn next_at(&self) -> Option<Moment> {
        match self.mood {
            Mood::Well | Mood::Slow(_) if !self.queue.is_empty() => Some(self.busy_until),
            _ => None,
        }
    }

    /// Executes one request that is due.
    pub fn step(&mut self, now: Moment, random: &mut Random) -> Option<(ConnId, Vec<u8>)> {
        if self.next_at().is_none_or(|at| at > now) {
            return None;
        }
        let (conn, words) = self.queue.pop_front()?;
        let takes = match self.mood {
            Mood::Slow(takes) => takes,
            _ => Duration::from_micros(5 + random.below(20) as u64),
        };
        self.busy_until = now + takes;
        self.executed += 1;
        let reply = self.execute(&words);
        Some((conn, reply)).filter(|_| self.inboxes.contains_key(&conn))
    }

    fn execute(&mut self, words: &[Vec<u8>]) -> Vec<u8> {
        let name = words[0].to_ascii_lowercase();
        match (name.as_slice(), &words[1..]) {
            (b"set", [key, value]) => {
                self.data.insert(key.clone(), value.clone());
                b"+OK\r\n".to_vec()
            }
            (b"mset", pairs) => {
                for pair in pairs.chunks(2) {
                    self.data.insert(pair[0].clone(), pair[1].clone());
                }
                b"+OK\r\n".to_vec()
            }
            (b"echo", [word]) => bulk(Some(word)),
            (b"get", [key]) => bulk(self.data.get(key)),
            (b"mget", keys) => {
                let mut reply = format!("*{}\r\n", keys.len()).into_bytes();
                keys.iter().for_each(|key| reply.extend(bulk(self.data.get(key))));
                reply
            }
            (b"del", keys) => {
                let gone = keys.iter().filter(|key| self.data.remove(*key).is_some()).count();
                format!(":{gone}\r\n").into_bytes()
            }
            (b"strlen", [key]) => format!(":{}\r\n", self.data.get(key).map_or(0, Vec::len)).into_bytes(),
            _ => format!("-ERR unknown command '{}'\r\n", name.escape_ascii()).into_bytes(),
        }
    }
}

fn bulk(value: Option<&Vec<u8>>) -> Vec<u8> {
    match value {
        None => b"$-1\r\n".to_vec(),
        Some(value) => [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat(),
    }
}
