//! Histograms of 94 buckets, each a fifth wider than the one before: good to 20 % from 1 to 36 157 192.
//! Owns: the bucket borders and what a percentile means. One writer a set, as for all stats.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

pub const BUCKETS: usize = 94;

/// The smallest value of each bucket: next = max(⌊1.2 · last⌋, last + 1).
pub const OFFSETS: [u64; BUCKETS] = {
    let mut offsets = [1; BUCKETS];
    let mut index = 1;
    while index < BUCKETS {
        let last = offsets[index - 1];
        let wider = last * 6 / 5;
        offsets[index] = if wider > last { wider } else { last + 1 };
        index += 1;
    }
    offsets
};

/// Values of one magnitude (bits) and the same three bits below the highest lie within 1/8 of each other, so at most
/// one border is between them: a look here and one comparison find the bucket.
const NEAREST: [u8; 64 * 8] = {
    let mut nearest = [0; 64 * 8];
    let mut slot = 0;
    while slot < nearest.len() {
        let (bits, fraction) = (slot / 8, (slot % 8) as u64);
        // The smallest value of this slot. Slots of numbers below 8 that no value has are filled all the same.
        let smallest = if bits >= 3 { (8 | fraction) << (bits - 3) } else { (8 | fraction) >> (3 - bits) };
        let mut bucket = 0;
        while bucket + 1 < BUCKETS && OFFSETS[bucket + 1] <= smallest {
            bucket += 1;
        }
        nearest[slot] = bucket as u8;
        slot += 1;
    }
    nearest
};

/// The last bucket whose offset is not above `value`; zero goes to the first.
#[inline]
pub fn bucket_of(value: u64) -> usize {
    let value = value.max(1);
    let bits = 63 - value.leading_zeros() as usize;
    let fraction = if bits >= 3 { (value >> (bits - 3)) & 7 } else { (value << (3 - bits)) & 7 };
    let bucket = usize::from(NEAREST[bits * 8 + fraction as usize]);
    let next = (bucket + 1).min(BUCKETS - 1);
    if OFFSETS[next] <= value { next } else { bucket }
}

macro_rules! histograms {
    ($($name:ident, $unit:ident, $help:literal;)*) => {
        /// What is measured rather than counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(non_camel_case_types, reason = "the names are those of the stats document")]
        pub enum Histogram { $($name,)* }

        impl Histogram {
            pub const ALL: &[Histogram] = &[$(Histogram::$name,)*];
            pub const COUNT: usize = Histogram::ALL.len();

            pub fn row(self) -> &'static Row { &ROWS[self as usize] }
        }

        const ROWS: [Row; Histogram::COUNT] =
            [$(Row { name: stringify!($name), unit: Unit::$unit, help: $help },)*];
    };
}

pub struct Row {
    pub name: &'static str,
    pub unit: Unit,
    pub help: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Microseconds,
    Bytes,
    Requests,
}

histograms! {
    latency, Microseconds, "from a client's request to its reply";
    payload_size, Bytes, "size of client write requests";
    cross_region_rtt, Microseconds, "from a request to a peer of another datacenter to its reply";
    cross_zone_latency, Microseconds, "from a request to a peer of this datacenter to its reply";
    server_latency, Microseconds, "from a request to the datastore to its reply";
    cross_region_queue_wait, Microseconds, "wait before sending to a peer of another datacenter";
    cross_zone_queue_wait, Microseconds, "wait before sending to a peer of this datacenter";
    server_queue_wait, Microseconds, "wait before sending to the datastore";
    client_out_queue, Requests, "requests of one client that await their replies";
    server_in_queue, Requests, "requests waiting to be sent to the datastore";
    server_out_queue, Requests, "requests that await the datastore's reply";
    dnode_client_out_queue, Requests, "requests of one peer that await their replies";
    peer_in_queue, Requests, "requests waiting to be sent to a peer of this datacenter";
    peer_out_queue, Requests, "requests that await the reply of a peer of this datacenter";
    remote_peer_out_queue, Requests, "requests that await the reply of a peer of another datacenter";
    remote_peer_in_queue, Requests, "requests waiting to be sent to a peer of another datacenter";
}

/// One writer's share of a histogram.
pub(super) struct Buckets {
    /// 32 bits: emptied every five minutes, a bucket would need 14 million values a second to wrap.
    counts: [AtomicU32; BUCKETS],
    /// Which reset these counts come after. Others are as good as empty.
    epoch: AtomicU32,
    max: AtomicU64,
}

impl Buckets {
    pub(super) const fn new() -> Buckets {
        Buckets { counts: [const { AtomicU32::new(0) }; BUCKETS], epoch: AtomicU32::new(0), max: AtomicU64::new(0) }
    }

    #[inline]
    pub(super) fn record(&self, value: u64, epoch: u32) {
        if self.epoch.load(Ordering::Relaxed) != epoch {
            self.clear(epoch);
        }
        let count = &self.counts[bucket_of(value)];
        count.store(count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        if value > self.max.load(Ordering::Relaxed) {
            self.max.store(value, Ordering::Relaxed);
        }
    }

    #[cold]
    fn clear(&self, epoch: u32) {
        for count in &self.counts {
            count.store(0, Ordering::Relaxed);
        }
        self.max.store(0, Ordering::Relaxed);
        // A reader that sees the new epoch sees the empty buckets too.
        self.epoch.store(epoch, Ordering::Release);
    }
}

/// A histogram as one reader saw it, over all writers.
#[derive(Clone, Debug)]
pub struct Summary {
    counts: [u64; BUCKETS],
    pub count: u64,
    pub max: u64,
}

impl Summary {
    pub(super) fn of<'a>(parts: impl Iterator<Item = &'a Buckets>, epoch: u32) -> Summary {
        let mut summary = Summary { counts: [0; BUCKETS], count: 0, max: 0 };
        for part in parts.filter(|part| part.epoch.load(Ordering::Acquire) == epoch) {
            for (sum, count) in summary.counts.iter_mut().zip(&part.counts) {
                *sum += u64::from(count.load(Ordering::Relaxed));
            }
            summary.max = summary.max.max(part.max.load(Ordering::Relaxed));
        }
        summary.count = summary.counts.iter().sum();
        summary
    }

    /// The first offset at which as many values as ⌊count · thousandths / 1000⌋ lie at or below; 1 when there are none.
    pub fn percentile(&self, thousandths: u64) -> u64 {
        let wanted = (u128::from(self.count) * u128::from(thousandths) / 1000) as u64;
        let mut seen = 0;
        for (offset, count) in OFFSETS.iter().zip(self.counts) {
            seen += count;
            if seen >= wanted {
                return *offset;
            }
        }
        OFFSETS[BUCKETS - 1]
    }

    /// Rounded up, from the offsets; 0 when there are no values.
    pub fn mean(&self) -> u64 {
        if self.count == 0 { 0 } else { (self.sum().div_ceil(u128::from(self.count))) as u64 }
    }

    /// As good as the buckets: each value counts as its bucket's offset.
    pub fn sum(&self) -> u128 {
        OFFSETS.iter().zip(self.counts).map(|(offset, count)| u128::from(*offset) * u128::from(count)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn summary(values: &[u64]) -> Summary {
        let buckets = Buckets::new();
        values.iter().for_each(|value| buckets.record(*value, 0));
        Summary::of([&buckets].into_iter(), 0)
    }

    #[test]
    fn offsets_are_those_of_the_table() {
        let start = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 19, 22, 26, 31, 37, 44, 52, 62, 74, 88, 105, 126, 151];
        assert_eq!(OFFSETS[..start.len()], start);
        assert!([448, 537, 644, 772, 926, 1111, 1333, 1599, 1918, 2301].iter().all(|o| OFFSETS.contains(o)));
        assert_eq!(OFFSETS[BUCKETS - 1], 36_157_192);
    }

    #[test]
    fn empty_reads_as_one_and_a_mean_of_zero() {
        let empty = summary(&[]);
        assert_eq!((empty.percentile(990), empty.mean(), empty.max), (1, 0, 0));
    }

    #[test]
    fn percentiles_take_the_bucket_and_the_mean_rounds_up() {
        let twelve = summary(&[100, 100, 100, 100, 100, 100, 100, 100, 100, 600, 600, 1106]);
        assert_eq!((twelve.percentile(950), twelve.percentile(990), twelve.max), (537, 537, 1106));
        assert_eq!(twelve.mean(), (9u64 * 88 + 2 * 537 + 926).div_ceil(12));
    }

    #[test]
    fn one_value_is_not_enough_for_a_percentile() {
        assert_eq!(summary(&[5000]).percentile(990), 1, "⌊1 · 0.99⌋ = 0 values are wanted: the first offset");
    }

    proptest! {
        #[test]
        fn a_value_lies_in_its_bucket(value in prop_oneof![0u64..5000, any::<u64>(), 0u64..100_000_000]) {
            let bucket = bucket_of(value);
            prop_assert!(OFFSETS[bucket] <= value.max(1));
            prop_assert!(bucket == BUCKETS - 1 || value < OFFSETS[bucket + 1]);
        }
    }
}
