//! What goes wrong in a simulated cluster, and when.
//! Owns: the plan, made from the seed before anything runs. `world` carries it out.

use std::time::Duration;

use dynomite_tests::random::Random;
use dynomite_user::moment::Moment;

#[derive(Clone, Debug)]
pub enum Fault {
    /// A process dies, and comes back with nothing in memory.
    Crash {
        node: usize,
        until: Moment,
    },
    /// Nothing passes between these nodes and the others.
    Partition {
        nodes: Vec<usize>,
        until: Moment,
    },
    /// Nothing passes between these two.
    Cut {
        nodes: (usize, usize),
        until: Moment,
    },
    /// One way between two nodes takes longer.
    Delay {
        from: usize,
        to: usize,
        by: Duration,
        until: Moment,
    },
    DatastoreSlow {
        node: usize,
        takes: Duration,
        until: Moment,
    },
    DatastoreHangs {
        node: usize,
        until: Moment,
    },
    DatastoreDies {
        node: usize,
        until: Moment,
    },
    /// Its clock is set, and later set right again.
    Clock {
        node: usize,
        skew: i64,
        until: Moment,
    },
    /// Some connection breaks, with what is on it. The number picks one.
    Reset {
        pick: usize,
    },
    /// A client goes away without a word.
    ClientLeaves {
        client: usize,
    },
    /// Somebody writes what is no message to a peer port.
    Stranger {
        node: usize,
        bytes: Vec<u8>,
    },
}

impl Fault {
    /// When it is over.
    pub fn until(&self) -> Option<Moment> {
        match self {
            Fault::Crash { until, .. }
            | Fault::Partition { until, .. }
            | Fault::Cut { until, .. }
            | Fault::Delay { until, .. }
            | Fault::DatastoreSlow { until, .. }
            | Fault::DatastoreHangs { until, .. }
            | Fault::Clock { until, .. }
            | Fault::DatastoreDies { until, .. } => Some(*until),
            Fault::Reset { .. } | Fault::ClientLeaves { .. } | Fault::Stranger { .. } => None,
        }
    }

    pub fn postponed(mut self, by: Duration) -> Fault {
        if let Fault::Crash { until, .. }
        | Fault::Partition { until, .. }
        | Fault::Cut { until, .. }
        | Fault::Delay { until, .. }
        | Fault::DatastoreSlow { until, .. }
        | Fault::DatastoreHangs { until, .. }
        | Fault::Clock { until, .. }
        | Fault::DatastoreDies { until, .. } = &mut self
        {
            *until = *until + by;
        }
        self
    }
}

impl Fault {
    /// Between which nodes it stands, by the pair; a node that is in trouble itself is so with everybody.
    pub fn troubles(&self, one: usize, other: usize) -> bool {
        match self {
            Fault::Crash { node, .. }
            | Fault::DatastoreSlow { node, .. }
            | Fault::DatastoreHangs { node, .. }
            | Fault::DatastoreDies { node, .. } => [one, other].contains(node),
            Fault::Partition { nodes, .. } => nodes.contains(&one) != nodes.contains(&other),
            Fault::Cut { nodes: (from, to), .. } | Fault::Delay { from, to, .. } => {
                (one, other) == (*from, *to) || (other, one) == (*from, *to)
            }
            // Which connection it is turns out later.
            Fault::Reset { .. } => false,
            Fault::Clock { .. } | Fault::ClientLeaves { .. } | Fault::Stranger { .. } => false,
        }
    }
}

/// When which fault begins, in order. All are over by `end`.
pub fn plan(random: &mut Random, nodes: usize, clients: usize, end: Moment) -> Vec<(Moment, Fault)> {
    let mut plan = Vec::new();
    for _ in 0..1 + random.below(10) {
        let at = Moment(random.below(end.0 as usize * 8 / 10) as u64);
        let lasts = Duration::from_millis(random.pick(&[20, 200, 1000, 3000, 8000]));
        let until = (at + lasts).min(end);
        let node = random.below(nodes);
        let other = random.below(nodes);
        let fault = match random.below(17) {
            16 => Fault::Clock { node, skew: skew(random), until },
            0..2 => Fault::Crash { node, until },
            2..4 => {
                let some = (0..nodes).filter(|_| random.one_in(3)).collect();
                Fault::Partition { nodes: some, until }
            }
            4..6 => Fault::Cut { nodes: (node, other), until },
            6 => Fault::Delay { from: node, to: other, by: Duration::from_millis(random.pick(&[5, 100, 700])), until },
            7 => Fault::DatastoreSlow { node, takes: Duration::from_millis(random.pick(&[1, 20, 300])), until },
            8..10 => Fault::DatastoreHangs { node, until },
            10 => Fault::DatastoreDies { node, until },
            11..13 => Fault::Reset { pick: random.below(1 << 20) },
            13..16 if clients > 0 => Fault::ClientLeaves { client: random.below(clients) },
            _ => Fault::Stranger { node, bytes: nonsense(random) },
        };
        plan.push((at, fault));
    }
    plan.sort_by_key(|(at, _)| *at);
    plan
}

/// How far a clock may be ahead or behind, in microseconds.
pub fn skew(random: &mut Random) -> i64 {
    let most = random.pick(&[0, 1_000, 50_000, 2_000_000, 100_000_000]);
    random.between(-most, most)
}

/// Messages that are cut, wrong, unasked for, or none.
fn nonsense(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..1 + random.below(4) {
        match random.below(7) {
            0 => {
                let len = random.below(200);
                bytes.extend(random.bytes(len));
            }
            1 => bytes.extend_from_slice(b"   $2014$ 7 5 0 1 1 *1 d *5\r\n+OK\r\n"),
            2 => bytes.extend_from_slice(b"   $2014$ 18446744073709551615 3 0 1 1 *1 d *99\r\n*1\r\n$4\r\nPING\r\n"),
            3 => bytes.extend_from_slice(b"   $2014$ 3 3 0 1 1 *1 d *99999999999999999999\r\n*2\r\n$-1\r\n"),
            4 => bytes.extend_from_slice(b"   $2014$ 3 8 0 1 1 *1 d *9\r\nwhatever "),
            5 => bytes.extend_from_slice(b"   $2014$ 1 7 0 1 1 *1 a *37\r\n"),
            _ => bytes.extend_from_slice(b"   $2014$ 3 3 0 1 1 *1 "),
        }
    }
    bytes
}
