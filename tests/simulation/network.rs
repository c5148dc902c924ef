//! The network of a simulated cluster: connections between places, on virtual time.
//! Owns: what is on its way and when it arrives. Knows nothing of: what the bytes mean.
//!
//! What is sent over a connection arrives in the order in which it was sent, cut into pieces anywhere; another connection
//! between the same places may be faster. A connection that is reset loses what was on its way. A cut between places holds
//! everything back until it heals, as a network does that loses packets and sends them again; what was given up meanwhile is
//! not sent again, and that it was given up nobody is told.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

use dynomite_tests::random::Random;
use dynomite_user::moment::Moment;

/// A machine. A node and its datastore share one; so do the clients of a node, for those are never cut off from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(pub u16);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnId(pub u32);

/// What somebody can connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Port {
    Clients(usize),
    Peers(usize),
    Datastore(usize),
}

/// Who holds an end of a connection. `number` is the holder's own name for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    Client(usize),
    /// A node and which of its lives.
    Node(usize, u32),
    Datastore(usize),
    /// Somebody who sends what no peer would.
    Stranger,
}

#[derive(Debug)]
pub enum Notice {
    /// Somebody wants to connect to this port.
    Knock(Port),
    Connected,
    Refused,
    Bytes(Vec<u8>),
    Closed,
}

/// Something that happens at one end of a connection.
#[derive(Debug)]
pub struct Arrival {
    pub conn: ConnId,
    /// The end where it happens: 0 dialled, 1 was dialled.
    pub side: usize,
    pub notice: Notice,
}

struct Conn {
    ends: [End; 2],
    /// What is sent to each end from now on is lost.
    cut: [bool; 2],
    /// What is on its way to each end, in its order. Something is due as often as something is in here, or less.
    queues: [VecDeque<Notice>; 2],
    /// When what was sent last arrives at each end.
    last_at: [Moment; 2],
}

#[derive(Clone, Copy)]
struct End {
    place: Place,
    holder: Option<Holder>,
    open: bool,
}

/// One direction between two places.
#[derive(Default)]
struct Path {
    /// Cuts that hold it now.
    cuts: u32,
    /// Ends where something was due.
    held: VecDeque<Due>,
    slow: Duration,
}

/// The next of its queue arrives at this end of a connection.
type Due = (ConnId, usize);

struct Scheduled {
    at: Moment,
    order: u64,
    due: Due,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    /// The earliest is the greatest: it leaves the heap first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

pub struct Network {
    random: Random,
    conns: Vec<Conn>,
    paths: BTreeMap<(Place, Place), Path>,
    queue: BinaryHeap<Scheduled>,
    order: u64,
    /// How long one way takes at least.
    latency: Box<dyn Fn(Place, Place) -> Duration>,
}

impl Network {
    pub fn new(seed: u64, latency: impl Fn(Place, Place) -> Duration + 'static) -> Network {
        Network {
            random: Random::from_seed(seed),
            conns: Vec::new(),
            paths: BTreeMap::new(),
            queue: BinaryHeap::new(),
            order: 0,
            latency: Box::new(latency),
        }
    }

    pub fn dial(&mut self, from: Place, holder: Holder, to: Place, port: Port, now: Moment) -> ConnId {
        let conn = ConnId(self.conns.len() as u32);
        let ends = [End { place: from, holder: Some(holder), open: true }, End { place: to, holder: None, open: true }];
        self.conns.push(Conn { ends, cut: [false; 2], queues: Default::default(), last_at: [Moment(0); 2] });
        self.post(conn, 1, Notice::Knock(port), now);
        conn
    }

    /// The answer to a knock.
    pub fn accept(&mut self, conn: ConnId, holder: Holder, now: Moment) {
        self.conns[conn.0 as usize].ends[1].holder = Some(holder);
        self.post(conn, 0, Notice::Connected, now);
    }

    pub fn refuse(&mut self, conn: ConnId, now: Moment) {
        self.conns[conn.0 as usize].ends[1].open = false;
        self.post(conn, 0, Notice::Refused, now);
    }

    /// Sends from `side` to the other end, perhaps in pieces.
    pub fn send(&mut self, conn: ConnId, side: usize, bytes: Vec<u8>, now: Moment) {
        debug_assert!(self.conns[conn.0 as usize].ends[side].open, "nobody sends on what it closed");
        let mut rest = bytes;
        while rest.len() > 1 && self.random.one_in(8) {
            let behind = rest.split_off(1 + self.random.below(rest.len() - 1));
            self.post(conn, 1 - side, Notice::Bytes(rest), now);
            rest = behind;
        }
        if !rest.is_empty() {
            self.post(conn, 1 - side, Notice::Bytes(rest), now);
        }
    }

    /// Closes an end in peace: what was sent arrives first.
    pub fn close(&mut self, conn: ConnId, side: usize, now: Moment) {
        let end = &mut self.conns[conn.0 as usize].ends[side];
        if std::mem::take(&mut end.open) {
            self.post(conn, 1 - side, Notice::Closed, now);
        }
    }

    /// Closes an end without regard: what was sent may be lost, and is if it was sent in vain so far.
    pub fn abort(&mut self, conn: ConnId, side: usize, now: Moment) {
        let ends = &self.conns[conn.0 as usize].ends;
        if !ends[side].open {
            return;
        }
        let is_cut = self.paths.get(&(ends[side].place, ends[1 - side].place)).is_some_and(|path| path.cuts > 0);
        self.conns[conn.0 as usize].ends[side].open = false;
        if is_cut || self.random.one_in(2) {
            self.lose(conn, 1 - side);
        }
        if !is_cut {
            self.post_anyway(conn, 1 - side, Notice::Closed, now);
        }
    }

    /// Breaks a connection for both ends; what is on its way is lost.
    pub fn reset(&mut self, conn: ConnId, now: Moment) {
        for side in [0, 1] {
            self.lose(conn, side);
            self.post_anyway(conn, side, Notice::Closed, now);
        }
    }

    /// Closes every connection that somebody holds an end of, as a dying process does. Perhaps what it sent last is lost.
    pub fn close_all(&mut self, holder: Holder, now: Moment) {
        for number in 0..self.conns.len() {
            for side in [0, 1] {
                let end = self.conns[number].ends[side];
                if end.holder == Some(holder) && end.open {
                    let conn = ConnId(number as u32);
                    if self.random.one_in(2) {
                        self.lose(conn, 1 - side);
                    }
                    self.conns[number].ends[side].open = false;
                    self.post_anyway(conn, 1 - side, Notice::Closed, now);
                }
            }
        }
    }

    /// Nothing more arrives at this end but the end.
    fn lose(&mut self, conn: ConnId, side: usize) {
        let conn = &mut self.conns[conn.0 as usize];
        conn.cut[side] = true;
        conn.queues[side].retain(|notice| matches!(notice, Notice::Knock(_) | Notice::Refused | Notice::Closed));
    }

    pub fn holder(&self, conn: ConnId, side: usize) -> Option<Holder> {
        self.conns[conn.0 as usize].ends[side].holder
    }

    pub fn places(&self, conn: ConnId) -> [Place; 2] {
        self.conns[conn.0 as usize].ends.map(|end| end.place)
    }

    /// Connections that are open at both ends.
    pub fn open(&self) -> Vec<ConnId> {
        let is_open = |conn: &Conn| conn.ends.iter().all(|end| end.open && end.holder.is_some());
        (0..self.conns.len()).filter(|n| is_open(&self.conns[*n])).map(|n| ConnId(n as u32)).collect()
    }

    /// Holds back everything between two places, both ways, until `heal` has been called as often.
    pub fn cut(&mut self, one: Place, other: Place) {
        for pair in [(one, other), (other, one)] {
            self.paths.entry(pair).or_default().cuts += 1;
        }
    }

    pub fn heal(&mut self, one: Place, other: Place, now: Moment) {
        for pair in [(one, other), (other, one)] {
            let path = self.paths.entry(pair).or_default();
            path.cuts = path.cuts.saturating_sub(1);
            if path.cuts > 0 {
                continue;
            }
            // Lost packets are sent again, each connection's in their order.
            for due in std::mem::take(&mut path.held) {
                self.schedule(pair, due, now);
            }
        }
    }

    /// Makes one direction slower from now on.
    pub fn slow(&mut self, from: Place, to: Place, by: Duration) {
        self.paths.entry((from, to)).or_default().slow = by;
    }

    pub fn next_at(&self) -> Option<Moment> {
        self.queue.peek().map(|scheduled| scheduled.at)
    }

    /// What happens next, if it happens by `now`.
    pub fn pop(&mut self, now: Moment) -> Option<Arrival> {
        loop {
            self.queue.peek().filter(|scheduled| scheduled.at <= now)?;
            let due = self.queue.pop()?.due;
            let (id, side) = due;
            let conn = &mut self.conns[id.0 as usize];
            let pair = (conn.ends[1 - side].place, conn.ends[side].place);
            if let Some(path) = self.paths.get_mut(&pair).filter(|path| path.cuts > 0) {
                path.held.push_back(due);
                continue;
            }
            let Some(notice) = conn.queues[side].pop_front() else { continue };
            if !conn.ends[side].open {
                // Who sends to an end that is gone is told so.
                if conn.ends[1 - side].open && matches!(notice, Notice::Bytes(_)) {
                    self.post_anyway(id, 1 - side, Notice::Closed, now);
                }
                continue;
            }
            if matches!(notice, Notice::Closed | Notice::Refused) {
                conn.ends[side].open = false;
            }
            return Some(Arrival { conn: id, side, notice });
        }
    }

    fn post(&mut self, conn: ConnId, side: usize, notice: Notice, now: Moment) {
        if !self.conns[conn.0 as usize].cut[side] {
            self.post_anyway(conn, side, notice, now);
        }
    }

    fn post_anyway(&mut self, conn: ConnId, side: usize, notice: Notice, now: Moment) {
        let Conn { ends, queues, .. } = &mut self.conns[conn.0 as usize];
        queues[side].push_back(notice);
        let pair = (ends[1 - side].place, ends[side].place);
        self.schedule(pair, (conn, side), now);
    }

    fn schedule(&mut self, pair: (Place, Place), due: Due, now: Moment) {
        let least = (self.latency)(pair.0, pair.1);
        let jitter = match self.random.below(100) {
            0 => least * 20,
            1..20 => least * self.random.below(4) as u32,
            _ => least / (1 + self.random.below(8) as u32),
        };
        let slow = self.paths.get(&pair).map_or(Duration::ZERO, |path| path.slow);
        let last_at = &mut self.conns[due.0.0 as usize].last_at[due.1];
        let at = (now + least + jitter + slow).max(Moment(last_at.0 + 1));
        *last_at = at;
        self.order += 1;
        self.queue.push(Scheduled { at, order: self.order, due });
    }
}
