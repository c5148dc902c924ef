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
    pub keys: BTreeMap<u32, Writes>,
}

/// Writes of one key, in the order in which they were asked. Those behind one that is under way are kept: milliseconds, so
/// that they are not many.
#[derive(Default)]
pub(super) struct Writes {
    pub asked: VecDeque<Write>,
    /// Times under which some were sent again, with the times that these were given first.
    again: Vec<(u64, u64)>,
}

/// All that were given the same time first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Write {
    pub first: u64,
    /// So many are under way.
    pub count: usize,
    /// They may be executed once more without a difference to anybody: none is told how often it was, nor was told yet.
    may_come_again: bool,
}

impl Writing {
    pub fn begin(&mut self, repair: &Repair) {
        let time = repair.spelled.call.time();
        for token in &repair.tokens {
            let writes = self.keys.entry(*token).or_default();
            let may_come_again = repair.rewrite.says_ok;
            match writes.asked.binary_search_by_key(&repair.first, |write| write.first) {
                Ok(at) => {
                    writes.asked[at].count += 1;
                    writes.asked[at].may_come_again &= may_come_again;
                }
                Err(at) => writes.asked.insert(at, Write { first: repair.first, count: 1, may_come_again }),
            }
            if time != repair.first {
                writes.again.push((repair.first, time));
            }
        }
    }

    /// A client was told that it is done.
    pub fn tell(&mut self, repair: &Repair) {
        for token in &repair.tokens {
            if let Some(writes) = self.keys.get_mut(token)
                && let Ok(at) = writes.asked.binary_search_by_key(&repair.first, |write| write.first)
            {
                writes.asked[at].may_come_again = false;
            }
        }
    }

    pub fn end(&mut self, repair: &Repair) {
        for token in &repair.tokens {
            let Some(writes) = self.keys.get_mut(token) else { continue };
            if let Ok(at) = writes.asked.binary_search_by_key(&repair.first, |write| write.first) {
                writes.asked[at].count -= 1;
            }
            while writes.asked.front().is_some_and(|write| write.count == 0) {
                writes.asked.pop_front();
            }
            match writes.asked.front() {
                // Whatever is under way has a time at or above its first one.
                Some(front) => writes.again.retain(|(_, time)| *time > front.first),
                None => _ = self.keys.remove(token),
            }
        }
    }

    /// May it be sent under a later time? Not if one of its keys was written again since, by what it would overwrite then.
    pub fn may_come_again(&self, repair: &Repair) -> bool {
        let writes = repair.tokens.iter().filter_map(|token| self.keys.get(token));
        let mut later = writes.flat_map(|writes| &writes.asked).filter(|write| write.first > repair.first);
        later.all(|write| write.may_come_again)
    }

    /// The latest time under which a write that was asked before this one was sent again, if that is behind this one's: it
    /// would stay in its place.
    pub fn passed_by(&self, repair: &Repair) -> Option<u64> {
        let own = repair.spelled.call.time();
        let writes = repair.tokens.iter().filter_map(|token| self.keys.get(token));
        let again =
            writes.flat_map(|writes| &writes.again).filter(|(first, time)| *first < repair.first && *time > own);
        again.map(|(_, time)| *time).max()
    }

    /// Does the reply say that it was skipped, and only for later writes of ours?
    pub fn is_overtaken_at(&self, repair: &Repair, reply: Reply<'_>) -> bool {
        let Some(mut times) = repair.rewrite.late_behind(reply.frame) else { return false };
        let own = repair.spelled.call.time();
        times.all(|time| {
            let gave = |writes: &Writes| {
                let is_first = writes.asked.binary_search_by_key(&time, |write| write.first).is_ok();
                is_first || writes.again.iter().any(|(first, again)| *again == time && *first > repair.first)
            };
            time > own && repair.tokens.iter().any(|token| self.keys.get(token).is_some_and(gave))
        })
    }
}
