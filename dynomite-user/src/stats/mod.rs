//! Counters and histograms: one set a worker, one writer each, summed when somebody asks.
//!
//! A worker holds its `Arc<Stats>` and counts with plain loads and stores: nobody else writes there, so no locked
//! instruction is needed, and the set starts on cache lines of its own. Readers go through the `Registry`.
//! Knows nothing of: sockets, time, who asks.

pub mod histogram;
pub mod peers;
pub mod render;
pub mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

pub use histogram::{Histogram, Summary};
pub use peers::{PeerStat, PeerStats};
pub use table::{Kind, Scope, Stat};

/// What one thread counts. ONE WRITER: the thread it was made for. Anyone may read.
///
/// 128 bytes: x86 fetches cache lines in pairs, so a neighbour one line away would still be disturbed.
#[repr(align(128))]
pub struct Stats {
    cells: [AtomicU64; Stat::COUNT],
    histograms: [histogram::Buckets; Histogram::COUNT],
    /// Shared by the registry's sets: a new number asks every writer to empty its histograms before it next records.
    histogram_epoch: Arc<AtomicU32>,
}

impl Stats {
    fn new(histogram_epoch: Arc<AtomicU32>) -> Stats {
        Stats {
            cells: [const { AtomicU64::new(0) }; Stat::COUNT],
            histograms: [const { histogram::Buckets::new() }; Histogram::COUNT],
            histogram_epoch,
        }
    }

    /// A set that belongs to no registry: for tests, benches and simulations.
    pub fn alone() -> Arc<Stats> {
        Arc::new(Stats::new(Arc::default()))
    }

    #[inline]
    pub fn bump(&self, stat: Stat) {
        self.add(stat, 1);
    }

    /// Wraps, so that a gauge which one worker raised and another lowered still sums to the truth.
    #[inline]
    pub fn add(&self, stat: Stat, amount: u64) {
        let cell = &self.cells[stat as usize];
        cell.store(cell.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    #[inline]
    pub fn sub(&self, stat: Stat, amount: u64) {
        self.add(stat, amount.wrapping_neg());
    }

    #[inline]
    pub fn set(&self, stat: Stat, value: u64) {
        self.cells[stat as usize].store(value, Ordering::Relaxed);
    }

    #[inline]
    pub fn get(&self, stat: Stat) -> u64 {
        self.cells[stat as usize].load(Ordering::Relaxed)
    }

    /// A set for one peer, whose histogram is emptied when the others are.
    pub fn for_peer(&self) -> Arc<PeerStats> {
        Arc::new(PeerStats::new(self.histogram_epoch.clone()))
    }

    /// Microseconds, bytes or a queue's length, as the histogram's row says.
    #[inline]
    pub fn record(&self, histogram: Histogram, value: u64) {
        self.histograms[histogram as usize].record(value, self.histogram_epoch.load(Ordering::Relaxed));
    }
}

/// Every thread's set. Made once, before the threads; each takes its own.
pub struct Registry {
    sets: Vec<Arc<Stats>>,
    histogram_epoch: Arc<AtomicU32>,
}

impl Registry {
    /// One set for each worker, one for the control thread (`control`), and one for what the kernel counts (`kernel`).
    pub fn new(workers: usize) -> Registry {
        let histogram_epoch = Arc::<AtomicU32>::default();
        let sets = (0..workers + 2).map(|_| Arc::new(Stats::new(histogram_epoch.clone()))).collect();
        Registry { sets, histogram_epoch }
    }

    /// The set of worker `index`. Panics when there is no such worker: a mistake in our own wiring.
    pub fn worker(&self, index: usize) -> Arc<Stats> {
        assert!(index + 2 < self.sets.len(), "stats for worker {index}, made for {}", self.sets.len() - 2);
        self.sets[index].clone()
    }

    pub fn control(&self) -> Arc<Stats> {
        self.sets[self.sets.len() - 1].clone()
    }

    /// Written by whoever reads the kernel's counters.
    pub fn kernel(&self) -> Arc<Stats> {
        self.sets[self.sets.len() - 2].clone()
    }

    /// Counters and gauges: the sum. Timestamps: the latest. A gauge read while it moves between two workers may pass
    /// below zero for a moment, which is shown as zero.
    pub fn total(&self, stat: Stat) -> u64 {
        let values = self.sets.iter().map(|stats| stats.get(stat));
        match stat.row().kind {
            Kind::Counter => values.fold(0, u64::wrapping_add),
            Kind::Gauge => u64::try_from(values.fold(0, u64::wrapping_add) as i64).unwrap_or(0),
            Kind::Timestamp => values.max().unwrap_or(0),
        }
    }

    pub fn summary(&self, histogram: Histogram) -> Summary {
        let epoch = self.histogram_epoch.load(Ordering::Relaxed);
        Summary::of(self.sets.iter().map(|stats| &stats.histograms[histogram as usize]), epoch)
    }

    /// Forget what the histograms hold: every five minutes, and by `/historeset`.
    pub fn reset_histograms(&self) {
        self.histogram_epoch.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_see_the_sum_of_all_writers() {
        let registry = Registry::new(2);
        registry.worker(0).bump(Stat::client_eof);
        registry.worker(1).add(Stat::client_eof, 4);
        registry.control().bump(Stat::client_eof);
        assert_eq!(registry.total(Stat::client_eof), 6);
        assert_eq!(registry.total(Stat::client_err), 0);
    }

    #[test]
    fn a_gauge_may_be_raised_here_and_lowered_there() {
        let registry = Registry::new(2);
        registry.worker(0).add(Stat::client_connections, 3);
        registry.worker(1).sub(Stat::client_connections, 2);
        assert_eq!(registry.total(Stat::client_connections), 1);
        registry.worker(1).sub(Stat::client_connections, 2);
        assert_eq!(registry.total(Stat::client_connections), 0, "never shown below zero");
    }

    #[test]
    fn the_latest_timestamp_wins() {
        let registry = Registry::new(2);
        registry.worker(0).set(Stat::server_ejected_at, 20);
        registry.worker(1).set(Stat::server_ejected_at, 10);
        assert_eq!(registry.total(Stat::server_ejected_at), 20);
    }

    #[test]
    fn a_reset_forgets_idle_and_busy_writers_alike() {
        let registry = Registry::new(2);
        registry.worker(0).record(Histogram::latency, 100);
        registry.worker(1).record(Histogram::latency, 900);
        assert_eq!((registry.summary(Histogram::latency).count, registry.summary(Histogram::latency).max), (2, 900));
        registry.reset_histograms();
        assert_eq!(registry.summary(Histogram::latency).count, 0);
        registry.worker(0).record(Histogram::latency, 7);
        assert_eq!((registry.summary(Histogram::latency).count, registry.summary(Histogram::latency).max), (1, 7));
    }

    #[test]
    fn sets_of_two_workers_share_no_cache_line() {
        assert_eq!(align_of::<Stats>(), 128);
    }
}
