//! A client's bytes → decoded → rewritten → a real memcached → scanned → perhaps not told: the client must get byte for byte
//! what another memcached says when it is given the bytes themselves.

use std::fmt::Write as _;

use dynomite_tests::random::seed;
use dynomite_tests::{Client, Datastore, Random};
use dynomite_user::protocol::commands::Routing;
use dynomite_user::protocol::memcache::{Decoder, ReplyScanner, Silence, merge, rewrite};
use dynomite_user::protocol::reply::{Expect, Scanned};
use dynomite_user::protocol::request::{Decoded, Limits, Request};

use crate::commands;

/// The answer of the node itself.
const NOTHING_LEFT: &[u8] = b"MN\r\n";

/// What a memcached itself says to the bytes.
pub fn directly(client: &mut Client, bytes: &[u8]) -> Vec<u8> {
    client.send(bytes);
    // A barrier that no test line is: everything before it was answered when its answer comes.
    client.send(b"mg barrier k Oend\r\n");
    const END: &[u8] = b"EN kbarrier Oend\r\n";
    let mut said = client.through(END);
    said.truncate(said.len() - END.len());
    said
}

/// One reply, taken from the connection byte by byte, so that what is left over stays there to be found.
fn one_reply(client: &mut Client, expect: Expect) -> Vec<u8> {
    let mut scanner = ReplyScanner::default();
    let mut inbox = Vec::new();
    loop {
        match scanner.scan(expect, &inbox) {
            Scanned::Reply { len, is_error } => {
                assert_eq!(len, inbox.len());
                assert_eq!(is_error, inbox.starts_with(b"ERR") || inbox.windows(6).take(8).any(|six| six == b"_ERROR"));
                return inbox;
            }
            Scanned::Incomplete { need } => {
                let more = client.bytes(need - inbox.len());
                inbox.extend_from_slice(&more);
            }
            Scanned::Broken => panic!("{expect:?} is not {}", inbox.escape_ascii()),
        }
    }
}

/// A node's way from bytes to bytes, without the node. `take` sees the bytes of each request.
pub fn through(bytes: &[u8], mut execute: impl FnMut(&Request<'_>) -> Vec<u8>, mut take: impl FnMut(&[u8])) -> Vec<u8> {
    let mut decoder = Decoder::default();
    let mut said = Vec::new();
    let mut left = bytes;
    while !left.is_empty() {
        let consumed = match decoder.decode(left, &Limits::default()) {
            Decoded::Request { consumed, request } => {
                if request.command.routing == Routing::Node {
                    said.extend_from_slice(NOTHING_LEFT);
                } else {
                    let reply = execute(&request);
                    if !Silence::of(&request).hides(&reply) {
                        said.extend_from_slice(&reply);
                    }
                }
                consumed
            }
            Decoded::Refused { consumed, error } => {
                said.extend_from_slice(&error);
                consumed
            }
            Decoded::Skip { consumed } => consumed,
            Decoded::Incomplete { need } => panic!("{need} bytes of {}", left.escape_ascii()),
            Decoded::Broken { error } => panic!("{} in {}", error.escape_ascii(), left.escape_ascii()),
        };
        take(&left[..consumed]);
        left = &left[consumed..];
    }
    said
}

/// Asks one memcached, and looks that nothing is left of the request or its reply.
fn forwarded(client: &mut Client, request: &Request<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    rewrite::rewrite(request, &mut frame);
    client.send(&frame);
    let reply = one_reply(client, request.expect());
    let behind = directly(client, b"");
    assert!(
        behind.is_empty(),
        "{} was answered {} and then {}",
        frame.escape_ascii(),
        reply.escape_ascii(),
        behind.escape_ascii()
    );
    reply
}

/// Times that pass while two memcacheds are asked one after the other.
pub fn without_times(said: &[u8]) -> String {
    let text = said.escape_ascii().to_string().replace("\\r\\n", "|");
    let mut out = String::new();
    for line in text.split_inclusive('|') {
        if line.starts_with("ME ") || line.starts_with("HD ") || line.starts_with("VA ") || line.starts_with("EN ") {
            for word in line.split_inclusive([' ', '|']) {
                let name = word.trim_end_matches(|end: char| end.is_ascii_digit() || " |".contains(end));
                let is_time = matches!(name, "t" | "l" | "exp=" | "la=" | "exp=-");
                let _ = write!(out, "{}", if is_time { name } else { word });
            }
        } else {
            out.push_str(line);
        }
    }
    out
}

fn check(direct: &mut Client, ours: &mut Client, sent: &str) {
    // The empty lines end what promised more data than it brought.
    let bytes = format!("{sent}||").replace('|', "\r\n").into_bytes();
    let mut expected = Vec::new();
    // One request at a time: an item that a pipelined read still holds is changed in another way, which shows (`decr`).
    let said = through(
        &bytes,
        |request| forwarded(ours, request),
        |request| expected.extend_from_slice(&directly(direct, request)),
    );
    assert_eq!(without_times(&said), without_times(&expected), "{}", bytes.escape_ascii());
}

#[test]
fn every_command_and_flag_and_mistake() {
    let (Some(direct), Some(ours)) = (Datastore::memcached(), Datastore::memcached()) else { return };
    let (mut direct, mut ours) = (direct.client(), ours.client());
    for line in commands::LINES.lines().filter(|line| !line.is_empty()) {
        check(&mut direct, &mut ours, &format!("{line}|"));
    }
}

#[test]
fn keys_and_values_at_their_limits() {
    let (Some(direct), Some(ours)) = (Datastore::memcached(), Datastore::memcached()) else { return };
    let (mut direct, mut ours) = (direct.client(), ours.client());
    for len in [249, 250, 251, 1000] {
        let key = "k".repeat(len);
        for line in [
            "get K",
            "gets K",
            "get a K",
            "gat 0 K",
            "set K 0 0 1|x",
            "set K 0 0 1 noreply|x",
            "get K",
            "incr K 1",
            "touch K 1",
            "delete K",
            "delete K noreply",
            "mg K",
            "ms K 1|x",
            "ms K 1 q|x",
            "md K",
            "ma K",
            "me K",
            "cas K 0 0 1 1|x",
        ] {
            check(&mut direct, &mut ours, &format!("{}|", line.replace('K', &key)));
        }
    }
    let large = "x".repeat(1 << 20);
    for line in [
        "set a 0 0 1048576|",
        "set a 0 0 1048576 noreply|",
        "ms a 1048576|",
        "ms a 1048576 q|",
        "append a 0 0 1048576|",
    ] {
        check(&mut direct, &mut ours, &format!("{line}{large}|get a|"));
    }
    let keys = " a b".repeat(20_000);
    check(&mut direct, &mut ours, "set a 0 0 1|x|");
    check(&mut direct, &mut ours, &format!("get{keys}|"));
    check(&mut direct, &mut ours, &format!("gat 0{}|", " a b".repeat(500)));
}

#[test]
fn random_commands() {
    let (Some(direct), Some(ours)) = (Datastore::memcached(), Datastore::memcached()) else { return };
    let (mut direct, mut ours) = (direct.client(), ours.client());
    let mut random = Random::from_seed(seed());
    for _ in 0..800 {
        let pipeline: String = (0..1 + random.below(4)).map(|_| commands::random(&mut random)).collect();
        check(&mut direct, &mut ours, &pipeline);
        // Not told, but kept: what is stored must be the same as well.
        for key in ["a", "b", "c", "n", "noreply", "Zm9v", "foo"] {
            let item = format!("mg {key} v c f u\r\n").into_bytes();
            let item_of = |client| directly(client, &item).escape_ascii().to_string();
            // A counter changed in place stays stale; memcached decides about that as it likes.
            let fresh = |item: String| item.replace(" X", "").replace(" Z", "").replace(" W", "");
            assert_eq!(fresh(item_of(&mut ours)), fresh(item_of(&mut direct)), "{pipeline}");
        }
    }
}

#[test]
fn many_keys_of_several_owners() {
    let Some(direct) = Datastore::memcached() else { return };
    let Some(owners) = (0..3).map(|_| Datastore::memcached()).collect::<Option<Vec<_>>>() else { return };
    let mut direct = direct.client();
    let mut owners: Vec<Client> = owners.iter().map(Datastore::client).collect();
    let owner_of = |key: &[u8]| usize::from(key[key.len() - 1]) % 3;
    let mut random = Random::from_seed(seed());
    for _ in 0..1000 {
        let key = |random: &mut Random| format!("key{}", random.below(20));
        let sent = match random.below(3) {
            0 => format!("set {} {} 0 3|abc|", key(&mut random), random.below(100)),
            1 => format!("delete {}|", key(&mut random)),
            _ => {
                let name = random.pick(&["get", "gat 0"]);
                let keys: Vec<String> = (0..1 + random.below(12)).map(|_| key(&mut random)).collect();
                format!("{name} {}|", keys.join(" "))
            }
        };
        let bytes = sent.replace('|', "\r\n").into_bytes();
        let expected = directly(&mut direct, &bytes);
        let execute = |request: &Request<'_>| {
            if !request.has_many_keys() {
                return forwarded(&mut owners[owner_of(request.key.expect("a key"))], request);
            }
            let split = merge::split(request, |key| owner_of(key));
            let replies: Vec<Vec<u8>> = split
                .fragments
                .iter()
                .map(|fragment| {
                    owners[fragment.owner].send(&fragment.frame);
                    one_reply(&mut owners[fragment.owner], request.expect())
                })
                .collect();
            let replies: Vec<&[u8]> = replies.iter().map(Vec::as_slice).collect();
            let mut merged = Vec::new();
            merge::merge(merge::keys(request), &split.places, &replies, &mut merged);
            merged
        };
        let said = through(&bytes, execute, |_| {});
        assert_eq!(said.escape_ascii().to_string(), expected.escape_ascii().to_string(), "{sent}");
    }
}
