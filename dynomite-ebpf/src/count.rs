//! bump(Reason): every exit of every program is counted, per CPU.

use dynomite_common::reason::Reason;

use crate::maps::{ANSWERS, TALLIES};

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

/// A request of a command went to the datastore.
#[inline(always)]
pub fn asked(number: u32, bytes: u64) {
    if let Some(answers) = ANSWERS.get_ptr_mut(number) {
        // SAFETY: as above; `answered` writes other fields.
        unsafe {
            (*answers).requests += 1;
            (*answers).request_bytes += bytes;
        }
    }
}

/// Bytes of the reply went to the client, or with the last of them the reply.
#[inline(always)]
pub fn answered(number: u32, replies: u64, bytes: u64) {
    if let Some(answers) = ANSWERS.get_ptr_mut(number) {
        // SAFETY: as above.
        unsafe {
            (*answers).replies += replies;
            (*answers).reply_bytes += bytes;
        }
    }
}
