//! Is a client one for the kernel? It answers requests that come one at a time and are small reads of its own keys;
//! everything else costs more there than in the daemon, which batches.
//! Owns: what one client did lately. Pure: requests and a moment in, a wish out.

use std::time::Duration;

use crate::moment::Moment;

/// What a read from a client held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// One whole small request that the kernel could have answered, none before it unanswered.
    Routable,
    /// The same, but the daemon's to answer.
    Other,
    /// Several at once, a part of one, a large one, or one that changes what the connection is.
    Unfit,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Habit {
    score: u8,
    /// Doubles with every stay that was too short.
    pauses: u8,
    not_before: Moment,
    came: Moment,
}

/// So many routable requests more than others in a row: an adoption costs about as much as ten requests.
const SCORE_IN: u8 = 16;
const SCORE_MAX: u8 = 32;
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSES_MAX: u8 = 6;
/// Who stayed as long as this was rightly taken in.
const STAY: Duration = Duration::from_secs(10);

impl Habit {
    /// A read of the daemon's; `routed` requests were answered by the kernel since the last.
    pub fn on_read(&mut self, seen: Seen, routed: u64) {
        let up = u8::try_from(routed.min(u64::from(SCORE_MAX))).unwrap_or(SCORE_MAX);
        self.score = match seen {
            Seen::Routable => self.score.saturating_add(up).saturating_add(1),
            Seen::Other => self.score.saturating_add(up).saturating_sub(1),
            Seen::Unfit => 0,
        }
        .min(SCORE_MAX);
    }

    pub fn wants_in(&self, now: Moment) -> bool {
        self.score >= SCORE_IN && now >= self.not_before
    }

    /// Asked after `on_read` about a client that is in.
    pub fn wants_out(&self) -> bool {
        self.score == 0
    }

    pub fn came(&mut self, now: Moment) {
        self.came = now;
        self.score = SCORE_MAX;
    }

    /// It left, or could not be taken in: not again for a while.
    pub fn left(&mut self, now: Moment) {
        let stayed = self.came != Moment(0) && now.since(self.came) >= STAY;
        self.pauses = if stayed { 0 } else { (self.pauses + 1).min(PAUSES_MAX) };
        self.not_before = now + PAUSE_FIRST * (1 << self.pauses);
        self.came = Moment(0);
        self.score = 0;
    }

    /// Not a reason to wait: the node's doing, not the client's.
    pub fn forgive(&mut self) {
        self.pauses = 0;
        self.not_before = Moment(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// r routable, o other, u unfit: does the client want in at the end?
    fn check(reads: &str, wants_in: bool) {
        let mut habit = Habit::default();
        for letter in reads.chars() {
            let seen = match letter {
                'r' => Seen::Routable,
                'o' => Seen::Other,
                _ => Seen::Unfit,
            };
            habit.on_read(seen, 0);
        }
        assert_eq!(habit.wants_in(Moment(1)), wants_in, "{reads}");
    }

    #[test]
    fn who_asks_one_at_a_time_gets_in() {
        check("", false);
        check(&"r".repeat(15), false);
        check(&"r".repeat(16), true);
        check(&"rrro".repeat(8), true);
        check(&"ro".repeat(100), false);
        check(&("r".repeat(32) + "u"), false);
        check(&("r".repeat(32) + "u" + &"r".repeat(16)), true);
        check(&"o".repeat(100), false);
    }

    #[test]
    fn who_is_in_stays_while_the_kernel_has_work() {
        let mut habit = Habit::default();
        habit.came(Moment(1));
        for _ in 0..100 {
            habit.on_read(Seen::Other, 1);
            assert!(!habit.wants_out());
        }
        for _ in 0..SCORE_MAX {
            habit.on_read(Seen::Other, 0);
        }
        assert!(habit.wants_out());
        habit.came(Moment(1));
        habit.on_read(Seen::Unfit, 1000);
        assert!(habit.wants_out());
    }

    #[test]
    fn pauses_double_unless_the_stay_was_long() {
        let mut habit = Habit::default();
        let second = |seconds: u64| Moment(seconds * 1_000_000_000);
        let wait = |habit: &mut Habit, now: Moment| {
            habit.left(now);
            habit.not_before.since(now).as_secs()
        };
        let mut now = second(100);
        for expected in [2, 4, 8, 16, 32, 64, 64] {
            habit.came(now);
            assert_eq!(wait(&mut habit, now), expected);
            now = now + Duration::from_secs(100);
        }
        habit.came(now);
        assert_eq!(wait(&mut habit, now + STAY), 1);
        habit.forgive();
        (0..16).for_each(|_| habit.on_read(Seen::Routable, 0));
        assert!(habit.wants_in(now));
    }
}
