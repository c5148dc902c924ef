//! May the kernel answer now? The decisions of route and reply program as functions of numbers, so that they are tested
//! on the host and proven once.
//! Owns: nothing. Knows nothing of: segments, sockets, maps.

use crate::flow::{Armed, Slot};
use crate::limits::{REPLY_BYTES_MAX, SEND_ROOM_BYTES};
use crate::reason::Reason;

/// What the route program knows when a segment has come: one reading of each counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    pub armed: u64,
    pub passed: u64,
    pub acked: u64,
    pub sent: u64,
    pub done: u64,
    pub relayed: u64,
    pub relay_acked: u64,
}

impl Gate {
    #[inline(always)]
    pub fn read(slot: &Slot) -> Gate {
        Gate {
            armed: slot.daemon.armed.get(),
            passed: slot.route.passed.get(),
            acked: slot.daemon.acked.get(),
            sent: slot.route.sent.get(),
            done: slot.reply.done.get(),
            relayed: slot.reply.relayed.get(),
            relay_acked: slot.daemon.relay_acked.get(),
        }
    }

    /// Err says why the daemon has to take it.
    #[inline(always)]
    pub fn open(&self) -> Result<(), Reason> {
        if self.armed != Armed::Open as u64 {
            return Err(Reason::Unarmed);
        }
        if self.acked != self.passed {
            return Err(Reason::DaemonBusy);
        }
        if self.relayed != self.relay_acked {
            return Err(Reason::Relaying);
        }
        if self.sent != self.done + self.relay_acked {
            return Err(Reason::Outstanding);
        }
        Ok(())
    }

    /// Nothing of this flow is with the datastore or on its way from there: the daemon may act.
    #[inline(always)]
    pub fn quiet(&self) -> bool {
        self.relayed == self.relay_acked && self.sent == self.done + self.relay_acked
    }
}

/// Does the longest reply fit into the client's send buffer, whatever it holds now? If it did not, the datastore's own
/// `write` would fail while its socket polls writable, and the datastore would spin.
#[inline(always)]
pub fn has_room(send_buffer: i32, queued: i32) -> bool {
    send_buffer.saturating_sub(queued) >= SEND_ROOM_BYTES as i32
}

/// What a reply's first bytes say about its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyHead {
    /// The whole reply, head included.
    Bytes(u64),
    Unknown,
}

/// What to do with bytes that the datastore writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carry {
    /// Redirect all of them to the client; so many of this reply are still to come.
    Redirect { rest: u64 },
    /// Pass: a reply begins that the daemon writes on.
    RelayStart,
    /// Pass: more of a reply that the daemon writes on.
    RelayPart,
    /// Pass: no request asked for this (answers to the daemon's own greeting, too).
    Unasked,
    /// Pass, and the flow is spoiled: more than the head announced.
    Overrun,
}

/// `head` is asked for only when a reply begins.
#[inline(always)]
pub fn carry(gate: &Gate, rest: u64, size: u64, head: impl FnOnce() -> ReplyHead) -> Carry {
    if gate.relayed != gate.relay_acked {
        return Carry::RelayPart;
    }
    if rest > 0 {
        return if size > rest { Carry::Overrun } else { Carry::Redirect { rest: rest - size } };
    }
    if gate.sent == gate.done + gate.relay_acked {
        return Carry::Unasked;
    }
    match head() {
        ReplyHead::Bytes(total) if total <= REPLY_BYTES_MAX => {
            if size > total {
                Carry::Overrun
            } else {
                Carry::Redirect { rest: total - size }
            }
        }
        ReplyHead::Bytes(_) | ReplyHead::Unknown => Carry::RelayStart,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Gate = Gate { armed: 2, passed: 30, acked: 30, sent: 5, done: 3, relayed: 2, relay_acked: 2 };

    #[test]
    fn the_gate_opens_only_when_nothing_is_anywhere() {
        let check = |gate: Gate, verdict| assert_eq!(gate.open(), verdict, "{gate:?}");
        check(OPEN, Ok(()));
        check(Gate { armed: 1, ..OPEN }, Err(Reason::Unarmed));
        check(Gate { armed: 0, ..OPEN }, Err(Reason::Unarmed));
        check(Gate { acked: 29, ..OPEN }, Err(Reason::DaemonBusy));
        check(Gate { relayed: 3, ..OPEN }, Err(Reason::Relaying));
        check(Gate { sent: 6, ..OPEN }, Err(Reason::Outstanding));
        check(Gate { done: 4, ..OPEN }, Err(Reason::Outstanding));
    }

    #[test]
    fn an_open_gate_is_quiet() {
        assert!(OPEN.quiet());
        assert!(Gate { acked: 0, ..OPEN }.quiet());
        assert!(!Gate { sent: 6, ..OPEN }.quiet());
        assert!(!Gate { sent: 6, relayed: 3, ..OPEN }.quiet());
    }

    #[test]
    fn room_is_for_the_longest_reply() {
        let room = SEND_ROOM_BYTES as i32;
        assert!(has_room(room, 0));
        assert!(!has_room(room, 1));
        assert!(!has_room(0, i32::MAX));
        assert!(!has_room(-1, 0));
    }

    #[test]
    fn replies_are_carried_whole_or_not_at_all() {
        let asked = Gate { sent: 6, ..OPEN };
        let check = |gate: &Gate, rest, size, head, what| assert_eq!(carry(gate, rest, size, || head), what);
        check(&asked, 0, 10, ReplyHead::Bytes(10), Carry::Redirect { rest: 0 });
        check(&asked, 0, 10, ReplyHead::Bytes(17), Carry::Redirect { rest: 7 });
        check(&asked, 7, 7, ReplyHead::Unknown, Carry::Redirect { rest: 0 });
        check(&asked, 7, 8, ReplyHead::Unknown, Carry::Overrun);
        check(&asked, 0, 11, ReplyHead::Bytes(10), Carry::Overrun);
        check(&asked, 0, 10, ReplyHead::Bytes(REPLY_BYTES_MAX), Carry::Redirect { rest: REPLY_BYTES_MAX - 10 });
        check(&asked, 0, 10, ReplyHead::Bytes(REPLY_BYTES_MAX + 1), Carry::RelayStart);
        check(&asked, 0, 1, ReplyHead::Unknown, Carry::RelayStart);
        check(&Gate { relayed: 3, ..asked }, 0, 1, ReplyHead::Bytes(1), Carry::RelayPart);
        check(&OPEN, 0, 1, ReplyHead::Bytes(1), Carry::Unasked);
    }
}
