//! So many messages a second, and as many at once after a quiet second.
//! Owns: what is left of that. Pure: time comes in as an argument.

use std::time::Duration;

use crate::moment::Moment;

const SECOND: u64 = 1_000_000_000;
/// Waiting for less is not worth a wake-up; what has come together by then goes in one write.
const PAUSE_MIN: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub struct Throttle {
    /// What one message costs, and what there is, in nanoseconds.
    cost: u64,
    left: u64,
    filled_at: Moment,
}

impl Throttle {
    /// `None`: no limit.
    pub fn new(messages_per_second: u32) -> Option<Throttle> {
        let cost = SECOND.checked_div(messages_per_second.into())?;
        Some(Throttle { cost, left: SECOND, filled_at: Moment(0) })
    }

    /// May one more message go out? Then it is counted.
    pub fn take(&mut self, now: Moment) -> bool {
        let passed = now.since(self.filled_at);
        self.filled_at = now;
        self.left = SECOND.min(self.left.saturating_add(u64::try_from(passed.as_nanos()).unwrap_or(SECOND)));
        let may = self.left >= self.cost;
        if may {
            self.left -= self.cost;
        }
        may
    }

    /// After `take` said no: when to ask again.
    pub fn ready_at(&self, now: Moment) -> Moment {
        now + Duration::from_nanos(self.cost.saturating_sub(self.left)).max(PAUSE_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_at_once_then_one_at_a_time() {
        let mut throttle = Throttle::new(100).unwrap();
        let now = Moment(5 * SECOND);
        assert_eq!((0..1000).filter(|_| throttle.take(now)).count(), 100);
        assert_eq!(throttle.ready_at(now), now + Duration::from_millis(10));
        let now = now + Duration::from_millis(9);
        assert!(!throttle.take(now));
        assert_eq!(throttle.ready_at(now), now + PAUSE_MIN);
        let now = now + Duration::from_millis(26);
        assert_eq!((0..1000).filter(|_| throttle.take(now)).count(), 3);
        let now = now + Duration::from_secs(100);
        assert_eq!((0..1000).filter(|_| throttle.take(now)).count(), 100);
    }

    #[test]
    fn as_many_as_are_asked_for_in_the_long_run() {
        let mut throttle = Throttle::new(50_000).unwrap();
        let sent =
            (0..20_000_u64).map(|n| Moment(n * 500_000)).map(|now| (0..1000).filter(|_| throttle.take(now)).count());
        assert_eq!(sent.sum::<usize>(), 50_000 * 10 + 50_000 - 25);
    }

    #[test]
    fn no_limit() {
        assert!(Throttle::new(0).is_none());
        assert!(Throttle::new(u32::MAX).unwrap().take(Moment(1)));
    }
}
