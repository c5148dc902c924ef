//! Which slots are free. A slot that was used rests until no program can have it in hand any more.
//! Owns: the numbers. Knows nothing of: what is in a slot, clocks.

use std::collections::VecDeque;

/// Slots beyond the flows that there may be: those that rest for a moment while others come, and those of the self-test.
pub const SPARE: u32 = 64;

/// Slots of flows that are, were and may be.
#[derive(Debug)]
pub struct Slots {
    free: VecDeque<u32>,
    in_use: u32,
    /// Counts flows; a slot's `life` is the number of its flow.
    lives: u64,
}

impl Slots {
    pub fn new(count: u32) -> Slots {
        Slots { free: (0..count).collect(), in_use: 0, lives: 0 }
    }

    /// A slot and the number of its new life, if no more than `most` are in use with it.
    pub fn take(&mut self, most: u32) -> Option<(u32, u64)> {
        if self.in_use >= most {
            return None;
        }
        let slot = self.free.pop_front()?;
        self.in_use += 1;
        self.lives += 1;
        Some((slot, self.lives))
    }

    /// Out of every map, but a program that looked it up before may still be running: not free before `rested`.
    pub fn rest(&mut self, _slot: u32) {
        self.in_use -= 1;
    }

    /// Every program that ran when this was put to rest has ended.
    pub fn rested(&mut self, slot: u32) {
        self.free.push_back(slot);
    }

    pub fn in_use(&self) -> u32 {
        self.in_use
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_rests_before_it_is_used_again() {
        let mut slots = Slots::new(2);
        assert_eq!(slots.take(2), Some((0, 1)));
        assert_eq!(slots.take(2), Some((1, 2)));
        assert_eq!(slots.take(3), None);
        slots.rest(0);
        assert_eq!(slots.take(2), None);
        slots.rested(0);
        assert_eq!(slots.take(1), None, "as many in use as there may be");
        assert_eq!(slots.take(2), Some((0, 3)));
        assert_eq!(slots.in_use(), 2);
    }
}
