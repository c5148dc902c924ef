//! A connection between nodes, whatever arrives on it: nothing panics, every step moves on, and however the bytes are
//! cut the same messages come out and the same bytes are dropped.
#![no_main]

use dynomite_user::protocol::peer::{GossipScan, Matcher, Message, Scan, gossip, scan};
use dynomite_user::protocol::reply::Scanned;
use dynomite_user::protocol::request::{Decoded, Limits};
use dynomite_user::protocol::resp::decode::Decoder;
use dynomite_user::protocol::resp::scan::ReplyScanner;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&cut, stream)) = data.split_first() else { return };
    let whole = walk(stream.chunks(stream.len().max(1)));
    let cut = walk(stream.chunks(usize::from(cut).max(1)));
    assert_eq!(whole, cut);
    match_replies(&whole);
});

#[derive(Debug, PartialEq)]
enum Event {
    Message {
        id: u64,
        kind: Message,
        payload: Vec<u8>,
    },
    /// Its payload is nothing that the datastore's protocol knows.
    Broken {
        id: u64,
    },
    Dropped(usize),
}

#[derive(Default)]
struct Link {
    requests: Decoder,
    replies: ReplyScanner,
}

fn walk<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Event> {
    let mut link = Link::default();
    let mut inbox = Vec::new();
    let mut events = Vec::new();
    let mut dropped = 0;
    for piece in pieces {
        inbox.extend_from_slice(piece);
        while let Some((used, event)) = step(&mut link, &inbox) {
            assert!(used > 0 && used <= inbox.len(), "every step moves on");
            inbox.drain(..used);
            match event {
                None => dropped += used,
                Some(event) => {
                    if dropped > 0 {
                        events.push(Event::Dropped(dropped));
                        dropped = 0;
                    }
                    events.push(event);
                }
            }
        }
    }
    if dropped > 0 {
        events.push(Event::Dropped(dropped));
    }
    events
}

/// How many bytes to drop and what they were, unless they were nothing.
fn step(link: &mut Link, inbox: &[u8]) -> Option<(usize, Option<Event>)> {
    let (header, len) = match scan(inbox) {
        Scan::Incomplete => return None,
        Scan::Garbage { len } => return Some((len, None)),
        Scan::Head { header, len } => (header, len),
    };
    let (id, kind, rest) = (header.id, header.message, &inbox[len..]);
    let message = |payload: &[u8]| {
        let used = len + payload.len();
        Some((used, Some(Event::Message { id, kind, payload: payload.to_vec() })))
    };
    let broken = Some((len, Some(Event::Broken { id })));
    if kind == Message::Gossip {
        return match gossip(&header, rest) {
            GossipScan::Payload { len } => message(&rest[..len]),
            GossipScan::Incomplete { .. } => None,
            GossipScan::TooLong => broken,
        };
    }
    if kind.is_request() {
        return match link.requests.decode(rest, &Limits::default()) {
            Decoded::Request { consumed, .. } | Decoded::Refused { consumed, .. } | Decoded::Skip { consumed } => {
                message(&rest[..consumed])
            }
            Decoded::Incomplete { need } => {
                assert!(need > rest.len());
                None
            }
            Decoded::Broken { .. } => {
                link.requests = Decoder::default();
                broken
            }
        };
    }
    if kind.is_reply() {
        return match link.replies.scan(rest) {
            Scanned::Reply { len, .. } => message(&rest[..len]),
            Scanned::Incomplete { need } => {
                assert!(need > rest.len());
                None
            }
            Scanned::Broken => {
                link.replies = ReplyScanner::default();
                broken
            }
        };
    }
    Some((len, Some(Event::Message { id, kind, payload: Vec::new() })))
}

/// Whatever ids a peer answers with, each request is heard of once.
fn match_replies(events: &[Event]) {
    let mut matcher = Matcher::default();
    (1..=8_u64).for_each(|n| assert_eq!(matcher.sent(n), n));
    let mut ended = Vec::new();
    for event in events {
        if let Event::Message { id, .. } = event {
            let matched = matcher.replied(*id, |lost| ended.push(lost));
            ended.extend(matched);
        }
    }
    ended.extend(matcher.abandon());
    assert_eq!(ended, (1..=8).collect::<Vec<_>>());
}
