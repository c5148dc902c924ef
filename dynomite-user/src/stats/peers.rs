//! What is counted of each peer by itself: rows as in `table`, a set for each worker, and a histogram of its answers.
//! As many sets as there are workers times members, so the series are as many as the cluster has members.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::histogram::{Buckets, Summary};
use super::table::Kind;

pub struct Row {
    pub name: &'static str,
    pub kind: Kind,
    pub help: &'static str,
}

macro_rules! stats {
    ($($name:ident, $kind:ident, $help:literal;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(non_camel_case_types, reason = "the names are those of the documents")]
        pub enum PeerStat { $($name,)* }

        impl PeerStat {
            pub const ALL: &[PeerStat] = &[$(PeerStat::$name,)*];
            pub const COUNT: usize = PeerStat::ALL.len();

            pub fn row(self) -> &'static Row { &ROWS[self as usize] }
        }

        const ROWS: [Row; PeerStat::COUNT] =
            [$(Row { name: stringify!($name), kind: Kind::$kind, help: $help },)*];
    };
}

// requests = replies + errors + in_queue + out_queue.
stats! {
    requests, Counter, "requests meant for this peer, sent or not";
    replies, Counter, "its replies; an error that its datastore gave is one";
    errors, Counter, "requests without a reply: no link, its queue full, the link lost, or it could not answer";
    timeouts, Counter, "requests it had not answered at their deadline; a reply may come yet";
    missed_writes, Counter, "writes asked of other replicas too that this peer did not confirm";
    in_queue, Gauge, "requests waiting to be sent to this peer";
    out_queue, Gauge, "requests that await this peer's reply";
}

/// What one worker counts of one peer. ONE WRITER, as `Stats`.
#[repr(align(128))]
pub struct PeerStats {
    cells: [AtomicU64; PeerStat::COUNT],
    /// Microseconds from a request to its reply.
    latency: Buckets,
    epoch: Arc<AtomicU32>,
}

impl PeerStats {
    pub(super) fn new(epoch: Arc<AtomicU32>) -> PeerStats {
        PeerStats { cells: [const { AtomicU64::new(0) }; PeerStat::COUNT], latency: Buckets::new(), epoch }
    }

    pub fn bump(&self, stat: PeerStat) {
        self.add(stat, 1);
    }

    pub fn sub(&self, stat: PeerStat, amount: u64) {
        self.add(stat, amount.wrapping_neg());
    }

    pub fn record_latency(&self, micros: u64) {
        self.latency.record(micros, self.epoch.load(Ordering::Relaxed));
    }

    fn add(&self, stat: PeerStat, amount: u64) {
        let cell = &self.cells[stat as usize];
        cell.store(cell.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }
}

/// The sum over one peer's sets. A gauge read while it moves between two workers may pass below zero for a moment.
pub fn total(sets: &[Arc<PeerStats>], stat: PeerStat) -> u64 {
    let values = sets.iter().map(|set| set.cells[stat as usize].load(Ordering::Relaxed));
    let sum = values.fold(0, u64::wrapping_add);
    if stat.row().kind == Kind::Gauge { u64::try_from(sum as i64).unwrap_or(0) } else { sum }
}

pub fn latency(sets: &[Arc<PeerStats>]) -> Summary {
    let epoch = sets.first().map_or(0, |set| set.epoch.load(Ordering::Relaxed));
    Summary::of(sets.iter().map(|set| &set.latency), epoch)
}
