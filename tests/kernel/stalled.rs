//! A client that asks for much and reads nothing: the datastore must not spin, others are served, all bytes arrive.

use std::time::Duration;

use dynomite_tests::resp::request;
use dynomite_tests::until::holds_within;
use dynomite_tests::{Datastore, Value, until};

use crate::{adopted, node, verdicts};

fn used_in_a_second(datastore: &Datastore) -> Duration {
    let before = datastore.process().cpu();
    std::thread::sleep(Duration::from_secs(1));
    datastore.process().cpu() - before
}

fn check(value_bytes: usize, requests: usize) {
    let _alone = crate::alone();
    let Some((datastore, node)) = node(&[]) else { return };
    let value: Vec<u8> = (0..value_bytes).map(|at| (at % 251) as u8).collect();
    let idle = used_in_a_second(&datastore);
    datastore.client().call([&b"SET"[..], b"big", &value]);
    let mut stalled = adopted(&node);
    let mut other = adopted(&node);
    // One at a time for as long as the kernel takes them, then one behind the other.
    for _ in 0..requests {
        let routed = verdicts(&node, "routed");
        stalled.send(&request(["GET", "big"]));
        holds_within(Duration::from_millis(100), || verdicts(&node, "routed") > routed);
    }
    // What was asked for is on its way for a moment; then the datastore has nothing to do. If it spins, it never rests.
    until("the datastore rests", || used_in_a_second(&datastore) < idle + Duration::from_millis(50));
    for _ in 0..100 {
        assert_eq!(other.ask("GET nothing"), Value::Null);
    }
    for number in 0..requests {
        assert!(stalled.reply() == Value::Bulk(value.clone()), "reply {number} is damaged");
    }
    assert_eq!(stalled.ask("GET nothing"), Value::Null);
}

#[test]
fn twenty_megabytes() {
    check(20 << 20, 3);
}

#[test]
fn many_replies_of_forty_kilobytes() {
    check(40_000, 60);
}
