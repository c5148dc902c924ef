//! A flow's slot: what route program, reply program and daemon tell each other about one adopted client.
//! It lives in a memory-mapped array, so the daemon looks without system calls. **Every field has one writer**, which
//! is what keeps the protocol right on kernels without fetching atomics; who that is, is the struct it stands in.
//!
//! Order between writers: additions are locked instructions, a full barrier on x86. Where a reader must not miss what
//! a writer does while it decides, both sides add or fence first and load then (`Route::enter`, `Reply::complete`).

use core::sync::atomic::AtomicU64;
#[cfg(not(target_arch = "bpf"))]
use core::sync::atomic::Ordering;

/// One writer; anybody reads. Everything here is one of these, marks too.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Count(AtomicU64);

#[cfg(not(target_arch = "bpf"))]
impl Count {
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::SeqCst);
    }

    /// Everything before it is seen before everything after it.
    pub fn add(&self, value: u64) {
        self.0.fetch_add(value, Ordering::SeqCst);
    }
}

/// The same in a kernel program. The compiler knows no atomic instruction of BPF; an aligned word is read and written
/// whole, and every kernel has the locked addition as long as its result is not fetched (5.12).
#[cfg(target_arch = "bpf")]
impl Count {
    #[inline(always)]
    pub fn get(&self) -> u64 {
        // SAFETY: the address is that of `self`; volatile, because others write it.
        unsafe { self.0.as_ptr().read_volatile() }
    }

    #[inline(always)]
    pub fn set(&self, value: u64) {
        // SAFETY: as above.
        unsafe { self.0.as_ptr().write_volatile(value) }
    }

    #[inline(always)]
    pub fn add(&self, value: u64) {
        // SAFETY: the address is that of `self`.
        unsafe { core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) self.0.as_ptr(), in(reg) value) }
    }
}

/// Written by the route program, under the client socket's lock.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Route {
    /// Segments that the program has begun and ended to look at. Equal: it is not running.
    pub entered: Count,
    pub left: Count,
    /// Client bytes handed up to the daemon.
    pub passed: Count,
    /// Client bytes redirected to the datastore.
    pub routed: Count,
    /// Requests redirected to the datastore.
    pub sent: Count,
    /// What `passed` was when a segment came that did not start where the last one ended; valid once `broken` is 1.
    pub broken_at: Count,
    pub broken: Count,
    /// The request that is with the datastore: its `CommandRow::number`, and in the lower half the length of its key.
    /// (memcached repeats the key before the value.)
    asked: Count,
}

/// Written by the reply program, under the datastore socket's lock.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Reply {
    pub entered: Count,
    pub left: Count,
    /// Replies completely delivered to the client's socket.
    pub done: Count,
    /// Reply bytes delivered to the client's socket.
    pub out: Count,
    /// Replies handed up to the daemon to be written on.
    pub relayed: Count,
    /// Bytes of the current reply that have not come yet.
    pub rest: Count,
    /// 1 once the datastore said something that belongs to no request or is longer than announced.
    pub spoiled: Count,
}

/// Written by the daemon.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Daemon {
    /// Client bytes, of those passed, that the daemon has taken and completely answered.
    pub acked: Count,
    /// Replies, of those relayed, that the daemon has completely written on.
    pub relay_acked: Count,
    /// TCP sequence number of the first byte that the route program saw or will see.
    pub base_seq: Count,
    /// An `Armed`.
    pub armed: Count,
    /// Which flow this is, of all that had this slot.
    pub life: Count,
    /// 1: the daemon's poll tells it of every segment. 0: it does not, and the route program says when it passes one.
    pub polls: Count,
}

/// Written by the adopt program.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Adopted {
    /// 1 when the datastore's end of this flow's connection is in the map; 2 when the kernel would not have it.
    pub datastore: Count,
}

/// How far the route program may go: the values of `Daemon::armed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Armed {
    /// Passes everything; sequence numbers are not looked at.
    Off = 0,
    /// Passes everything and watches sequence numbers.
    Watching = 1,
    /// Routes what it may.
    Open = 2,
}

#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Slot {
    pub route: Route,
    pub reply: Reply,
    pub daemon: Daemon,
    pub adopted: Adopted,
}

const _: () = assert!(size_of::<Slot>() == 256 && align_of::<Slot>() == 64);
const _: () = assert!(size_of::<Route>() == 64 && size_of::<Reply>() == 64 && size_of::<Daemon>() == 64);

impl Slot {
    /// Is a program at work on it?
    #[cfg(not(target_arch = "bpf"))]
    pub fn is_in_hand(&self) -> bool {
        let Slot { route, reply, .. } = self;
        route.entered.get() != route.left.get() || reply.entered.get() != reply.left.get()
    }

    /// Back to the beginning, for another flow. Only while no program can have this slot in hand.
    pub fn reset(&self, life: u64) {
        let Slot { route, reply, daemon, adopted } = self;
        let Route { entered, left, passed, routed, sent, broken_at, broken, asked } = route;
        for count in [entered, left, passed, routed, sent, broken_at, broken, asked] {
            count.set(0);
        }
        let Reply { entered, left, done, out, relayed, rest, spoiled } = reply;
        for count in [entered, left, done, out, relayed, rest, spoiled] {
            count.set(0);
        }
        let Daemon { acked, relay_acked, base_seq, armed, polls, life: lives } = daemon;
        for count in [acked, relay_acked, base_seq, armed, polls, &adopted.datastore] {
            count.set(0);
        }
        lives.set(life);
    }
}

impl Route {
    #[inline(always)]
    pub fn ask(&self, number: u32, key_len: u32) {
        self.asked.set(u64::from(number) << 32 | u64::from(key_len));
    }

    #[inline(always)]
    pub fn number(&self) -> u32 {
        (self.asked.get() >> 32) as u32
    }

    #[inline(always)]
    pub fn key_len(&self) -> u32 {
        self.asked.get() as u32
    }

    /// The TCP sequence number that the next segment must start with: bytes seen so far, behind the first one.
    #[inline(always)]
    pub fn next_seq(&self, base_seq: u64) -> u32 {
        (base_seq as u32).wrapping_add(self.passed.get() as u32).wrapping_add(self.routed.get() as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_wrap() {
        let slot = Slot::default();
        slot.route.passed.add(0x1_0000_0003);
        slot.route.routed.add(5);
        assert_eq!(slot.route.next_seq(u64::from(u32::MAX)), 7);
    }

    #[test]
    fn reset_forgets_everything_but_the_life() {
        let slot = Slot::default();
        slot.route.passed.add(9);
        slot.reply.rest.set(4);
        slot.daemon.armed.set(Armed::Open as u64);
        slot.adopted.datastore.set(1);
        slot.reset(7);
        let fresh = Slot::default();
        fresh.daemon.life.set(7);
        assert_eq!(format!("{slot:?}"), format!("{fresh:?}"));
    }
}
