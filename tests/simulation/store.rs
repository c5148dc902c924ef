//! A datastore of the simulated cluster: the one that is embedded in the daemon, with one queue for all its connections, as
//! a single-threaded server has.
//! Owns: the data, which survives everything, and how fast it is served.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use dynomite_tests::random::Random;
use dynomite_tests::resp::Value;
use dynomite_user::embedded::redis::{Store as Data, repair_scripts};
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
    data: Data,
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
            data: Data::default().knowing(repair_scripts()),
            inboxes: BTreeMap::new(),
            queue: VecDeque::new(),
            busy_until: Moment(0),
            executed: 0,
        }
    }

    /// Asked past all connections.
    pub fn ask(&mut self, words: &[&[u8]], now: Moment) -> Vec<u8> {
        let mut reply = Vec::new();
        self.data.execute(words, now.0 / 1_000_000, &mut reply);
        reply
    }

    pub fn connected(&mut self, conn: ConnId) {
        self.inboxes.insert(conn, Vec::new());
    }

    /// What it was sent before is executed all the same.
    pub fn closed(&mut self, conn: ConnId) {
        self.inboxes.remove(&conn);
    }

    /// All connections are gone, and with them what was not executed. The data come back from its disk, scripts do not.
    pub fn die(&mut self, now: Moment) {
        self.mood = Mood::Dead;
        self.inboxes.clear();
        self.queue.clear();
        self.ask(&[b"SCRIPT", b"FLUSH"], now);
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
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let reply = self.ask(&words, now);
        Some((conn, reply)).filter(|_| self.inboxes.contains_key(&conn))
    }
}
