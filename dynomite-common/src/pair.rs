//! A pair's slot: what the shortcut program and the daemon tell each other about one shared datastore connection, and when
//! bytes may go straight from socket to socket.
//!
//! Bytes that go straight are read before bytes that came over TCP, whichever were written first. So a direction may fall
//! back to TCP at any time, but goes straight again only when everything written is read: then the daemon begins a new
//! *term*. It knows that moment without asking anybody: whatever was asked is answered.

use crate::flow::Count;
use crate::limits::SHORTCUT_BYTES_MAX;
use crate::reason::Reason;

/// One direction. Written by the shortcut program under the sending socket's lock.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Lane {
    /// Bytes that went straight.
    pub given: Count,
    /// The last term in which something had to go over TCP: until the next, everything does.
    pub fell_in: Count,
}

/// Written by the worker whose connection it is.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Terms {
    /// Nothing goes straight while it is 0.
    pub term: Count,
    /// Bytes, of those given, that the datastore must have read because it answered them.
    pub answered: Count,
    /// Bytes, of those given, that the daemon has read.
    pub read: Count,
}

/// Written by the adopt program.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Adopted {
    /// 1 when the datastore's end is in the map; 2 when the kernel would not have it.
    pub datastore: Count,
}

#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Pair {
    pub to_datastore: Lane,
    pub to_daemon: Lane,
    pub daemon: Terms,
    pub adopted: Adopted,
}
const _: () = assert!(size_of::<Pair>() == 256 && align_of::<Pair>() == 64);

/// Which end of a pair, by its place in the map of sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum End {
    Daemon = 0,
    Datastore = 1,
}

impl End {
    #[inline(always)]
    pub const fn place(self, pair: u32) -> u32 {
        2 * pair + self as u32
    }

    #[inline(always)]
    pub const fn other(self) -> End {
        match self {
            End::Daemon => End::Datastore,
            End::Datastore => End::Daemon,
        }
    }
}

impl Pair {
    /// Back to the beginning, for another connection. Only while no program can have this slot in hand.
    pub fn reset(&self) {
        let Pair { to_datastore, to_daemon, daemon: Terms { term, answered, read }, adopted } = self;
        for count in [&to_datastore.given, &to_datastore.fell_in, &to_daemon.given, &to_daemon.fell_in] {
            count.set(0);
        }
        for count in [term, answered, read, &adopted.datastore] {
            count.set(0);
        }
    }

    /// What `end` writes on, and how much of it the other end has read.
    #[inline(always)]
    pub fn lane(&self, end: End) -> (&Lane, &Count) {
        match end {
            End::Daemon => (&self.to_datastore, &self.daemon.answered),
            End::Datastore => (&self.to_daemon, &self.daemon.read),
        }
    }
}

impl Lane {
    /// May `size` bytes more go straight? If not, then none until the next term.
    #[inline(always)]
    pub fn admit(&self, term: u64, taken: &Count, size: u64) -> Result<(), Reason> {
        if term == 0 {
            return Err(Reason::ShortClosed);
        }
        if self.fell_in.get() == term {
            return Err(Reason::ShortFallen);
        }
        if self.given.get().wrapping_sub(taken.get()).wrapping_add(size) > SHORTCUT_BYTES_MAX {
            self.fell_in.set(term);
            return Err(Reason::ShortFull);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(lane: &Lane, term: u64, taken: u64, size: u64) -> Result<(), Reason> {
        let count = Count::default();
        count.set(taken);
        let verdict = lane.admit(term, &count, size);
        if verdict.is_ok() {
            lane.given.add(size);
        }
        verdict
    }

    #[test]
    fn nothing_goes_straight_outside_of_a_term() {
        assert_eq!(admit(&Lane::default(), 0, 0, 1), Err(Reason::ShortClosed));
        assert_eq!(admit(&Lane::default(), 1, 0, 1), Ok(()));
    }

    #[test]
    fn what_is_not_taken_is_bounded_and_a_lane_that_fell_stays_down() {
        let lane = Lane::default();
        assert_eq!(admit(&lane, 1, 0, SHORTCUT_BYTES_MAX - 1), Ok(()));
        assert_eq!(admit(&lane, 1, 0, 1), Ok(()));
        assert_eq!(admit(&lane, 1, 0, 1), Err(Reason::ShortFull));
        assert_eq!(admit(&lane, 1, SHORTCUT_BYTES_MAX, 1), Err(Reason::ShortFallen), "though there is room again");
        assert_eq!(admit(&lane, 2, SHORTCUT_BYTES_MAX, 1), Ok(()));
    }

    #[test]
    fn a_pair_begins_anew() {
        let pair = Pair::default();
        pair.lane(End::Daemon).0.given.add(3);
        pair.lane(End::Datastore).1.add(4);
        assert_eq!((pair.to_datastore.given.get(), pair.daemon.read.get()), (3, 4));
        pair.reset();
        assert_eq!((pair.to_datastore.given.get(), pair.daemon.read.get()), (0, 0));
    }

    #[test]
    fn ends_have_places_of_their_own() {
        assert_eq!([End::Daemon.place(0), End::Datastore.place(0), End::Daemon.place(1)], [0, 1, 2]);
        assert_eq!(End::Daemon.other().place(7), End::Datastore.place(7));
    }
}
