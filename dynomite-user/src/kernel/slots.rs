//! Which slots are free. A slot that was used rests until no program can have it in hand any more.
//! Owns: the numbers. Knows nothing of: what is in a slot, clocks.

use std::collections::VecDeque;

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

    /// A slot and the number of its new life.
    pub fn take(&mut self) -> Option<(u32, u64)> {
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
        assert_eq!(slots.take(), Some((0, 1)));
        assert_eq!(slots.take(), Some((1, 2)));
        assert_eq!(slots.take(), None);
        slots.rest(0);
        assert_eq!(slots.take(), None);
        slots.rested(0);
        assert_eq!(slots.take(), Some((0, 3)));
        assert_eq!(slots.in_use(), 2);
    }
}
