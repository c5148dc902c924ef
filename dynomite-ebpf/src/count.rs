//! bump(Reason): every exit of every program is counted, per CPU.

use dynomite_common::reason::Reason;

use crate::maps::TALLIES;

#[inline(always)]
pub fn bump(reason: Reason, bytes: u64) {
    if let Some(tally) = TALLIES.get_ptr_mut(reason as u32) {
        // SAFETY: an element of a per-CPU map; programs of this object do not interrupt each other between the two
        // lines in a way that does more than lose a count.
        unsafe {
            (*tally).times += 1;
            (*tally).bytes += bytes;
        }
    }
}
