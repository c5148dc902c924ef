//! No corrupted value, ever: uploads through connections that the kernel has and has not let go yet, on a busy machine.
//! A connection may be reset (a segment overlapped another); a value may never be another one than was sent.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use dynomite_tests::resp::request;
use dynomite_tests::{Client, Datastore, Node, Random, Value, random};

use crate::count;

const VALUE_BYTES: usize = 1 << 20;
const UPLOADERS: u64 = 4;
/// One behind the other on a connection: it leaves the kernel only when all of them are answered.
const UPLOADS_MAX: usize = 4;

#[derive(Default)]
struct Seen {
    uploads: AtomicU64,
    resets: AtomicU64,
    connections: AtomicU64,
}

/// Bytes in which no place is like another: a value is a window into them.
fn noise() -> Vec<u8> {
    Random::from_seed(7).bytes(2 * VALUE_BYTES)
}

/// How the uploads of one connection ended.
enum End {
    /// All of them were answered.
    Answered,
    Reset,
}

/// Connects, is taken in, and uploads one value behind the other.
fn upload(node: &Node, key: &str, values: &[&[u8]], seen: &Seen) -> End {
    let mut client = node.client();
    // More than a client has to ask before it is taken in.
    for _ in 0..40 {
        assert_eq!(client.ask("EXISTS nothing-here"), Value::Integer(0));
    }
    seen.connections.fetch_add(1, Ordering::Relaxed);
    let all: Vec<u8> = values.iter().flat_map(|value| request([&b"SET"[..], key.as_bytes(), value])).collect();
    if client.try_send(&all).is_err() {
        return End::Reset;
    }
    for _ in values {
        match client.try_reply() {
            Ok(reply) => assert_eq!(reply, Value::ok(), "uploading {key}"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("uploading {key}: no answer and no end"),
            Err(_) => return End::Reset,
        }
        seen.uploads.fetch_add(1, Ordering::Relaxed);
    }
    End::Answered
}

/// `key` holds one of these values; nothing may be there too if `or_nothing`.
fn check(direct: &mut Client, key: &str, values: &[&[u8]], or_nothing: bool) {
    let held = match direct.call(["GET", key]) {
        Value::Bulk(held) => held,
        Value::Null if or_nothing => return,
        other => panic!("{key} holds {other:?}"),
    };
    if values.iter().all(|value| *value != held) {
        let last = values.last().expect("something was sent");
        let first = held.iter().zip(*last).position(|(held, sent)| held != sent);
        panic!("{key} holds {} bytes that nobody sent, other than the last value's from {first:?}", held.len());
    }
}

fn uploader(node: &Node, datastore: &Datastore, number: u64, noise: &[u8], seed: u64, end: Instant, seen: &Seen) {
    let mut random = Random::from_seed(seed ^ number << 40);
    let mut direct = datastore.client();
    let (mut lost, mut before) = (0, None);
    while Instant::now() < end {
        let key = format!("upload:{number}:{lost}");
        let values: Vec<&[u8]> = (0..1 + random.below(UPLOADS_MAX))
            .map(|_| {
                let at = random.below(VALUE_BYTES);
                &noise[at..at + VALUE_BYTES]
            })
            .collect();
        match upload(node, &key, &values, seen) {
            End::Answered => {
                check(&mut direct, &key, &values[values.len() - 1..], false);
                before = values.last().copied();
            }
            End::Reset => {
                seen.resets.fetch_add(1, Ordering::Relaxed);
                // What came whole before the overlap may still be on its way: nobody else writes to this key.
                let values: Vec<_> = values.into_iter().chain(before).collect();
                check(&mut direct, &key, &values, before.is_none());
                (lost, before) = (lost + 1, None);
            }
        }
    }
}

#[test]
fn no_upload_is_ever_damaged() {
    let _alone = crate::alone();
    let Some((datastore, node)) = crate::node(&[]) else { return };
    let (noise, seed, seen) = (noise(), random::seed(), Seen::default());
    let end = Instant::now() + random::seconds(8);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Loss probes that resend what was not lost come from processors that have no time.
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let uploaders: Vec<_> = (0..UPLOADERS)
            .map(|number| {
                let (node, datastore, noise, seen) = (&node, &datastore, &noise, &seen);
                scope.spawn(move || uploader(node, datastore, number, noise, seed, end, seen))
            })
            .collect();
        let ended: Vec<_> = uploaders.into_iter().map(|uploader| uploader.join()).collect();
        is_over.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok), "seed {seed}");
    });
    let [uploads, resets, connections] =
        [&seen.uploads, &seen.resets, &seen.connections].map(|count| count.load(Ordering::Relaxed));
    let [adopted, broken, torn] = ["flows_adopted", "flows_broken", "flows_torn"].map(|name| count(&node, name));
    println!(
        "{uploads} uploads over {connections} connections, {adopted} of them adopted; {resets} reset: {broken} broken, {torn} torn"
    );
    assert!(uploads >= 8 && adopted * 2 > connections, "hardly a test");
    assert!(resets <= broken + torn, "a connection was reset without a reason");
    assert_eq!(count(&node, "flows_spoiled"), 0);
}
