//! What the tests of this folder share: a connection whose datastore speaks lines that begin with `+` or `:`.

use memchr::memchr;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Delivers the pieces one by one and tells what was understood. Bytes dropped in a row are one event.
pub fn walk(pieces: &[&[u8]]) -> Vec<String> {
    let mut events: Vec<String> = Vec::new();
    let mut dropped = 0;
    let mut inbox = Vec::new();
    for piece in pieces {
        inbox.extend_from_slice(piece);
        while let Some((used, event)) = step(&inbox) {
            assert!(used > 0 && used <= inbox.len(), "every step moves on");
            inbox.drain(..used);
            if event.is_none() {
                dropped += used;
            } else if dropped > 0 {
                events.push(format!("{dropped} bytes"));
                dropped = 0;
            }
            events.extend(event);
        }
    }
    if dropped > 0 {
        events.push(format!("{dropped} bytes"));
    }
    events
}

/// How many bytes to drop, and what they said unless they are garbage.
fn step(inbox: &[u8]) -> Option<(usize, Option<String>)> {
    let (header, len) = match scan(inbox) {
        Scan::Incomplete => return None,
        Scan::Garbage { len } => return Some((len, None)),
        Scan::Head { header, len } => (header, len),
    };
    let near = if header.same_datacenter { "near" } else { "far" };
    let encrypted = if header.is_encrypted() { " encrypted" } else { "" };
    let data = header.data.escape_ascii();
    let head = format!("{} {:?} {near}{encrypted} {data} *{}", header.id, header.message, header.payload_len);
    let rest = &inbox[len..];
    if header.message == Message::Gossip {
        return match gossip(&header, rest) {
            GossipScan::Incomplete { need } => {
                assert!(need > rest.len());
                None
            }
            GossipScan::TooLong => Some((len, Some(format!("{head}: too long")))),
            GossipScan::Payload { len: payload } => {
                Some((len + payload, Some(format!("{head}: {}", rest[..payload].escape_ascii()))))
            }
        };
    }
    if !header.message.is_request() && !header.message.is_reply() {
        return Some((len, Some(head)));
    }
    match rest.first()? {
        b'+' | b':' => {
            let end = memchr(b'\n', rest)?;
            Some((len + end + 1, Some(format!("{head}: {}", rest[..end].trim_ascii_end().escape_ascii()))))
        }
        _ => Some((len, Some(format!("{head}: broken")))),
    }
}

/// A message, right or nearly so, or something else.
pub fn part() -> impl Strategy<Value = Vec<u8>> {
    let message = (0..5_usize, any::<u8>(), 0_u64..10, 0..30_usize, "[+:][a-z $*]{0,20}\r\n").prop_map(
        |(blanks, id, message, excess, payload)| {
            let mut bytes = b" ".repeat(blanks);
            let len = payload.len() + excess;
            bytes.extend_from_slice(format!("$2014$ {id} {message} 0 1 1 *1 d *{len}\r\n{payload}").as_bytes());
            bytes
        },
    );
    let letters = vec(prop::sample::select(&b" $2014*\r\nd+"[..]), 0..30);
    let almost = (message.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut bytes, at, byte)| {
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes
    });
    prop_oneof![4 => message, 2 => letters, 1 => almost, 1 => Just(b"$2014$".to_vec())]
}
