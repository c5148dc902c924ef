//! Links themselves: how fast they may be used, and that losing them harms nobody for long.

use std::time::{Duration, Instant};

use dynomite_tests::resp::words;
use dynomite_tests::{Cluster, Shape, Value, until};

#[test]
fn a_link_to_another_datacenter_is_not_used_faster_than_it_may() {
    let shape = Shape::redis(2, 1, 1).line("conn_msg_rate: 200").line("workers: 1");
    let Some(cluster) = Cluster::start(shape) else { return };
    let mut client = cluster.client(0);
    let cpu = cluster.members[0].node.process().cpu();
    let start = Instant::now();
    client.send(&words("INCR n").repeat(500));
    for number in 1..=500 {
        assert_eq!(client.reply(), Value::Integer(number));
    }
    let answered = start.elapsed();
    let mut far = cluster.datastores().remove(1);
    until("all have arrived", || far.ask("GET n").text() == "500");
    // 200 at once, the others at 200 a second.
    assert!(start.elapsed() > Duration::from_millis(1400), "all arrived after {:?}", start.elapsed());
    assert!(answered < Duration::from_millis(1000), "clients do not wait for it: {answered:?}");
    let used = cluster.members[0].node.process().cpu() - cpu;
    assert!(used < Duration::from_millis(700), "waiting took {used:?} of a processor");
}

#[test]
fn links_that_are_reset_again_and_again_mend() {
    let level = |kind: &str| format!("{kind}_consistency: dc_quorum");
    let shape = Shape::redis(1, 3, 1).line(&level("read")).line(&level("write")).line("timeout: 1000");
    let Some(cluster) = Cluster::start(shape) else { return };
    let mut client = cluster.client(0);
    let mut known = vec![Value::Null];
    for turn in 0..300 {
        if turn % 20 == 0 {
            cluster.members[turn / 20 % 3].node.get("/peer/reset/all");
        }
        let value = Value::bulk(turn.to_string());
        match client.ask(&format!("SET k {turn}")) {
            reply if reply.is_error() => known.push(value),
            reply => {
                assert_eq!(reply, Value::ok());
                known = vec![value];
            }
        }
        let reply = client.ask("GET k");
        assert!(reply.is_error() || known.contains(&reply), "{reply:?} is none of {known:?}");
    }
    cluster.until_connected();
    until("it has mended", || client.ask("SET k v") == Value::ok());
    assert_eq!(client.ask("GET k").text(), "v");
}
