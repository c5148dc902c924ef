//! The embedded memcached held against memcached: the same bytes, the same replies.

use std::time::{SystemTime, UNIX_EPOCH};

use dynomite_tests::random::seed;
use dynomite_tests::{Client, Datastore, Random};
use dynomite_user::embedded::memcache::Store;
use dynomite_user::protocol::commands::Routing;

use crate::bytes::{directly, through, without_times};
use crate::commands;

fn now_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// What differs by what the two keep beside the data: cas ids after failures, sizes and classes, and what memcached counts.
fn comparable(said: &[u8]) -> String {
    let text = without_times(said);
    let lines = text.split_inclusive('|').map(|line| match line {
        _ if line.starts_with("ME ") => "ME|".to_string(),
        // A decremented number may leave blanks.
        _ if line.starts_with("STAT ") => String::new(),
        _ => line.to_string(),
    });
    lines.collect()
}

fn check(memcached: &mut Client, store: &mut Store, sent: &str) {
    let bytes = format!("{sent}||").replace('|', "\r\n").into_bytes();
    let mut expected = Vec::new();
    let said = through(
        &bytes,
        |request| {
            assert_ne!(request.command.routing, Routing::Node);
            let mut out = Vec::new();
            store.execute(request, now_millis(), &mut out);
            out
        },
        |request| expected.extend_from_slice(&directly(memcached, request)),
    );
    assert_eq!(comparable(&said), comparable(&expected), "{}", bytes.escape_ascii());
}

#[test]
fn random_commands() {
    let Some(memcached) = Datastore::memcached() else { return };
    let (mut memcached, mut store) = (memcached.client(), Store::default());
    let mut random = Random::from_seed(seed());
    for _ in 0..2000 {
        // cas ids are given away alike only where the same is stored: what tells them is left out.
        let line = commands::random(&mut random);
        let tells_cas = ["gets", "gats", "cas ", " c", " C", "gat"].iter().any(|part| line.contains(part));
        if !tells_cas {
            check(&mut memcached, &mut store, &line);
        }
    }
}

#[test]
fn stories() {
    let Some(memcached) = Datastore::memcached() else { return };
    let (mut memcached, mut store) = (memcached.client(), Store::default());
    for line in STORIES.lines().filter(|line| !line.is_empty()) {
        check(&mut memcached, &mut store, &format!("{line}|"));
    }
}

const STORIES: &str = "
set a 0 0 1|x|gets a|cas a 5 0 1 1|y|gets a|cas a 0 0 1 1|z|get a|cas none 0 0 1 1|z|delete a
ms Zm9v 1 b|5|mg Zm9v b v|mg Zm9v b|mg Zm9v b k|mg Zm9v v k b f|mg foo v|md Zm9v b k O1|md Zm9v b k|ms Zm9v 1 b|5|ma Zm9v b k v|ma Zm9v b v|mg Zm9v k
ms x 1|5|ma x t v k O9|ma x N0 J7 T30 t v|ma yy N30 J7 t v k|ma yy D5 MD v|ma yy C1|ma yy C1 k|ma yy T0 t|md yy|md x
ms s 2|hi|mg s s t v|md s I|mg s v t|mg s v t|ms s 2|hi|mg s v|md s I T30|ms s 3 I C1|new|mg s v|mg s v|md s
ms r 2 T100|hi|mg r R30 v t|mg r R300 v t|mg r R300 v t|mg r v t|mg r T500 t|mg r R300 v|md r
mg v N30 t v k O1|mg v N30 t v|mg v v|get v|ms v 1|x|mg v N30 v|md v
ms f 2 MA|hi|ms f 2 MR|hi|ms f 2 ME F7|hi|ms f 2 MP F9 T5|lo|mg f v f t|ms f 2 C1 MA k|zz|ms f 2 MX|zz|ms f 2 MXX|zz|mg f v|md f C1 k|md f q C1|md f
set l 0 0 1|x|mg l h l t u|mg l h l|mg l h|set l 0 0 1|y|mg l h|gat 100 l|mg l t|append l 5 0 1|z|mg l t f v|incr l 1|delete l
set a 0 0 1|x|flush_all|get a|set a 0 0 1|x|flush_all 100|get a|flush_all 0|get a
set c 0 0 1|9|incr c 1|set c 0 0 2| 9|incr c 1|set c 0 0 20|18446744073709551615|incr c 2|set c 0 0 20|18446744073709551616|incr c 2|set c 0 0 2|-1|incr c 1
set e 0 -1 1|x|get e|set e 0 2592001 1|x|get e|touch e 0|set e 0 100 1|x|touch e -1|get e|mg e v|me e
ms q 1 q|x|mg q q|mg none q|md none q|md q q|ma none q|ma n N0 J5|ma n q|ma n q v|ma n v|set n 0 0 1 noreply|7|incr n 1 noreply|get n|delete n noreply|get n
";
