//! Who answers faster depends on how many ask at once: the kernel answers each by itself, the daemon everybody of a
//! wake-up with one write to the datastore. With few the kernel is faster, with many the daemon.
//! Owns: how many of one worker's clients have lately been asking at the same time. Pure: counts in, a verdict out.

/// Kept in sixteenths, so that a slow average can be made of small numbers.
const ONE: u32 = 16;
/// More than this and the daemon takes over, fewer than that and the kernel does; between them all stays as it is.
const MANY: u32 = 5 * ONE;
const FEW: u32 = 2 * ONE;

#[derive(Clone, Copy, Debug, Default)]
pub struct Crowd {
    /// Clients heard in this wake-up.
    heard: u32,
    /// Of a wake-up in which any was heard, on average.
    in_daemon: u32,
    /// Clients whose request was with the datastore at a look at all flows, on average.
    in_kernel: u32,
    is_many: bool,
}

impl Crowd {
    pub fn hear(&mut self) {
        self.heard += 1;
    }

    /// At the end of a wake-up.
    pub fn settle(&mut self) {
        if self.heard > 0 {
            self.in_daemon = drift(self.in_daemon, self.heard, 8);
            self.heard = 0;
            self.judge();
        }
    }

    /// At a look at all flows, in which so many waited for the datastore.
    pub fn look(&mut self, waiting: u32) {
        self.in_kernel = drift(self.in_kernel, waiting, 2);
        // Who is silent does not crowd: without this, the last that was heard before a pause would.
        self.in_daemon -= self.in_daemon / 8;
        self.judge();
    }

    fn judge(&mut self) {
        let now = self.in_daemon + self.in_kernel;
        self.is_many = now > if self.is_many { FEW } else { MANY };
    }

    /// Is it the daemon's turn?
    pub fn is_many(&self) -> bool {
        self.is_many
    }
}

/// Of the way from `average` to `value`, one of `parts`.
fn drift(average: u32, value: u32, parts: u32) -> u32 {
    let value = value.saturating_mul(ONE);
    if value > average { average + (value - average).div_ceil(parts) } else { average - (average - value) / parts }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wakeups(crowd: &mut Crowd, clients: u32, times: u32) {
        for _ in 0..times {
            (0..clients).for_each(|_| crowd.hear());
            crowd.settle();
        }
    }

    #[test]
    fn many_in_the_daemon_stay_there_until_they_are_few() {
        let mut crowd = Crowd::default();
        wakeups(&mut crowd, 5, 100);
        assert!(!crowd.is_many());
        wakeups(&mut crowd, 25, 10);
        assert!(crowd.is_many());
        wakeups(&mut crowd, 3, 100);
        assert!(crowd.is_many());
        wakeups(&mut crowd, 1, 20);
        assert!(!crowd.is_many());
    }

    #[test]
    fn many_in_the_kernel_are_seen_within_a_few_looks() {
        let mut crowd = Crowd::default();
        (0..100).for_each(|_| crowd.look(4));
        assert!(!crowd.is_many());
        (0..3).for_each(|_| crowd.look(20));
        assert!(crowd.is_many());
    }

    #[test]
    fn silence_is_not_a_crowd() {
        let mut crowd = Crowd::default();
        wakeups(&mut crowd, 25, 100);
        (0..30).for_each(|_| crowd.look(0));
        assert!(!crowd.is_many());
    }

    #[test]
    fn empty_wakeups_count_for_nothing() {
        let mut crowd = Crowd::default();
        wakeups(&mut crowd, 25, 100);
        wakeups(&mut crowd, 0, 1000);
        assert!(crowd.is_many());
    }
}
