//! Randomness from a seed: a failing test prints it, `DYNOMITE_SEED` plays it again.

use std::time::{SystemTime, UNIX_EPOCH};

/// xorshift64*: small, fast, and good enough to pick test inputs.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn from_seed(seed: u64) -> Random {
        // Neighbouring seeds must not begin alike.
        let mut random = Random((seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1);
        (0..4).for_each(|_| _ = random.bits());
        random
    }

    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// From 0 to `end` - 1.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.bits()) * end as u128) >> 64) as usize
    }

    pub fn between(&mut self, first: i64, last: i64) -> i64 {
        first + self.below((last - first + 1) as usize) as i64
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.bits().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}

/// The seed of this run: `DYNOMITE_SEED`, or the clock's. Said aloud, so that a failure can be played again.
pub fn seed() -> u64 {
    let given = std::env::var("DYNOMITE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given
        .unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_nanos() as u64 >> 10));
    println!("seed: DYNOMITE_SEED={seed}");
    seed
}

/// How long a test that may take any time runs: `DYNOMITE_SECONDS`, or this long.
pub fn seconds(otherwise: u64) -> std::time::Duration {
    let given = std::env::var("DYNOMITE_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    std::time::Duration::from_secs(given.unwrap_or(otherwise))
}
