//! Times of writes: what they are given, and what those that are under way were given.
//! Owns: the order of one key's writes. Knows nothing of: replicas.

use std::collections::{BTreeMap, VecDeque};

use super::Repair;
use crate::protocol::reply::Reply;

/// Times for writes: milliseconds since 1970. Those of one key grow from write to write, and stay ahead of what was seen
/// of other nodes, whose clocks may be ahead of ours.
#[derive(Default)]
pub(super) struct Times {
    /// By the key's token; empty until the first write. Keys that share a slot share its times: to forget one key's for
    /// another one would let its next write come too late.
    slots: Vec<Slot>,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    /// The last time given.
    last: u64,
    /// The latest time seen.
    seen: u64,
}

pub(super) const SLOTS: usize = 1024;
/// How far keys that are written more than once in each millisecond may run ahead of the clock: beyond that, writes share
/// a time. Nodes that write the same key must wait for as long to be heard.
pub(super) const AHEAD_MILLIS: u64 = 100;

impl Times {
    /// The time of a write of these keys.
    pub fn next(&mut self, tokens: &[u32], clock: u64) -> u64 {
        let time = tokens.iter().map(|token| self.slot(*token).next(clock)).max().unwrap_or(clock);
        tokens.iter().for_each(|token| self.slot(*token).last = time);
        time
    }

    /// Another node gave this time to these keys.
    pub fn see(&mut self, tokens: &[u32], time: u64) {
        for token in tokens {
            let slot = self.slot(*token);
            slot.seen = slot.seen.max(time);
        }
    }

    fn slot(&mut self, token: u32) -> &mut Slot {
        if self.slots.is_empty() {
            self.slots = vec![Slot::default(); SLOTS];
        }
        &mut self.slots[token as usize % SLOTS]
    }
}

impl Slot {
    fn next(&self, clock: u64) -> u64 {
        // Where a clock was before it was set back is another clock to be ahead of.
        let was_set_back = self.last > clock.max(self.seen) + AHEAD_MILLIS;
        let ahead = clock.max(self.seen).max(if was_set_back { self.last } else { 0 });
        let next = (self.last.max(self.seen) + 1).min(ahead + AHEAD_MILLIS);
        clock.max(next).max(self.last)
    }
}

/// Keys that are being written, by their tokens.
#[derive(Default)]
pub(super) struct Writing {
    pub keys: BTreeMap<u32, Given>,
}

/// Times that writes of one key were given first, which is the order in which they were asked, and how many of these are
/// under way. Those behind one that is under way are kept: milliseconds, so that they are not many.
pub(super) type Given = VecDeque<(u64, usize)>;

impl Writing {
    pub fn begin(&mut self, repair: &Repair) {
        for token in &repair.tokens {
            let given = self.keys.entry(*token).or_default();
            match given.binary_search_by_key(&repair.first, |(time, _)| *time) {
                Ok(at) => given[at].1 += 1,
                Err(at) => given.insert(at, (repair.first, 1)),
            }
        }
    }

    pub fn end(&mut self, repair: &Repair) {
        for token in &repair.tokens {
            let Some(given) = self.keys.get_mut(token) else { continue };
            if let Ok(at) = given.binary_search_by_key(&repair.first, |(time, _)| *time) {
                given[at].1 -= 1;
            }
            while given.front().is_some_and(|(_, count)| *count == 0) {
                given.pop_front();
            }
            if given.is_empty() {
                self.keys.remove(token);
            }
        }
    }

    /// Was one of its keys written again since?
    pub fn is_overtaken(&self, repair: &Repair) -> bool {
        let last = |token| self.keys.get(token).and_then(|given: &Given| given.back()).map_or(0, |(time, _)| *time);
        repair.tokens.iter().any(|token| last(token) > repair.first)
    }

    /// Does the reply say that it was skipped, and only for later writes of ours?
    pub fn is_overtaken_at(&self, repair: &Repair, reply: Reply<'_>) -> bool {
        let Some(mut times) = repair.rewrite.late_behind(reply.frame) else { return false };
        let own = repair.spelled.call.time();
        times.all(|time| {
            let gave = |given: &Given| given.binary_search_by_key(&time, |(time, _)| *time).is_ok();
            time > own && repair.tokens.iter().any(|token| self.keys.get(token).is_some_and(gave))
        })
    }
}
