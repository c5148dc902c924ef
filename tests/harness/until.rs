//! Waiting for a condition instead of for a time.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long anything in a test may take before it counts as hung. Generous: the machine may be busy.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Waits until `condition` holds, and panics with `what` if it does not within `TIMEOUT`; on a machine that is emulated, so many
/// times as long as `DYNOMITE_PATIENCE` says.
#[track_caller]
pub fn until(what: &str, condition: impl FnMut() -> bool) {
    let patience = std::env::var("DYNOMITE_PATIENCE").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    let limit = TIMEOUT * patience;
    assert!(holds_within(limit, condition), "not within {limit:?}: {what}");
}

/// Does `condition` come to hold in time? Looks often at first, then less often.
pub fn holds_within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_micros(200);
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}
