//! What all workers say together, so that the log says it once: the datastore lost and found, clients refused and dropped.
//! Owns: what was said last. Knows nothing of: connections, requests.

use std::fmt::Display;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use super::stream::Address;
use crate::moment::Moment;

#[derive(Debug, Default)]
pub struct Notices {
    /// What was said of the datastore: `NOTHING` and so on.
    datastore: AtomicU8,
    refused: Seldom,
    overflowed: Seldom,
    unaccepted: Seldom,
}

const NOTHING: u8 = 0;
const UP: u8 = 1;
const AWAY: u8 = 2;
const REFUSES: u8 = 3;

impl Notices {
    /// A connection to the datastore is gone, or did not come about. One that never was good says nothing against others that
    /// are.
    pub fn lost(&self, address: &Address, was_good: bool, why: &dyn Display) {
        if (was_good || self.datastore.load(Ordering::Relaxed) != UP) && self.turns(AWAY) {
            tracing::warn!("the datastore at {address} is away: {why}");
        }
    }

    /// It does not want what every connection begins with.
    pub fn refuses(&self, address: &Address, reply: &[u8]) {
        if self.turns(REFUSES) {
            tracing::error!("the datastore at {address} refuses us: {}", String::from_utf8_lossy(reply).trim_end());
        }
    }

    /// It gave the first good answer on a connection.
    pub fn found(&self, address: &Address) {
        let was_missed = self.is_missed();
        if self.turns(UP) && was_missed {
            tracing::info!("the datastore at {address} is back");
        }
    }

    pub fn client_refused(&self, now: Moment) {
        if let Some(count) = self.refused.again(now) {
            tracing::warn!("client_connections is reached: {count} refused since this was last said");
        }
    }

    pub fn client_overflowed(&self, now: Moment) {
        if let Some(count) = self.overflowed.again(now) {
            tracing::warn!("too many replies are left unread: {count} connections dropped since this was last said");
        }
    }

    /// Somebody waits at a listener, most often for a descriptor.
    pub fn cannot_accept(&self, why: &dyn Display, now: Moment) {
        if let Some(count) = self.unaccepted.again(now) {
            tracing::error!("cannot accept a connection: {why}; {count} tries since this was last said");
        }
    }

    /// Was it said that there is none, and not yet that it is back?
    pub fn is_missed(&self) -> bool {
        !matches!(self.datastore.load(Ordering::Relaxed), NOTHING | UP)
    }

    fn turns(&self, to: u8) -> bool {
        self.datastore.swap(to, Ordering::Relaxed) != to
    }
}

/// Something that may happen very often, and is said at most once in `PAUSE`.
#[derive(Debug, Default)]
struct Seldom {
    unsaid: AtomicU64,
    /// Nanoseconds, as `Moment` counts them.
    due_at: AtomicU64,
}

const PAUSE: Duration = Duration::from_secs(10);

impl Seldom {
    /// It happened once more. `Some`: so many times since it was last said, and it is time to say so.
    fn again(&self, now: Moment) -> Option<u64> {
        self.unsaid.fetch_add(1, Ordering::Relaxed);
        let due = self.due_at.load(Ordering::Relaxed);
        let next = (now + PAUSE).0;
        // Of several workers one says it.
        (due <= now.0 && self.due_at.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok())
            .then(|| self.unsaid.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_one_is_said_at_once_and_then_how_many_there_were() {
        let (seldom, start) = (Seldom::default(), Moment(5));
        assert_eq!(seldom.again(start), Some(1));
        assert!((0..100).all(|_| seldom.again(start + PAUSE / 2).is_none()));
        assert_eq!(seldom.again(start + PAUSE), Some(101));
        assert_eq!(seldom.again(start + PAUSE * 3), Some(1));
    }

    #[test]
    fn every_change_of_the_datastore_is_said_once() {
        let (notices, address) = (Notices::default(), Address::Unix("/x".into()));
        assert!(!notices.is_missed());
        assert!(notices.turns(AWAY) && !notices.turns(AWAY) && notices.is_missed());
        assert!(notices.turns(REFUSES) && !notices.turns(REFUSES) && notices.is_missed());
        notices.found(&address);
        assert!(!notices.turns(UP) && !notices.is_missed());
        notices.lost(&address, false, &"a dial failed");
        assert!(!notices.is_missed());
        notices.lost(&address, true, &"it hung up");
        assert!(notices.is_missed());
    }
}
