//! What clients and datastores may send, taken in whole and in pieces: nothing panics, every step moves on, and both ways find the same.

use dynomite_user::protocol::Protocol;
use dynomite_user::protocol::codec::{Decoder, ReplyScanner};
use dynomite_user::protocol::reply::{Expect, Scanned};
use dynomite_user::protocol::request::{Decoded, Limits};

/// Small enough that the limits are met too.
const LIMITS: Limits = Limits { request_bytes_max: 3000, arguments_max: 40, line_bytes_max: 1000 };

pub fn check(protocol: Protocol, data: &[u8]) {
    let Some((&cut, stream)) = data.split_first() else { return };
    let piece = usize::from(cut).max(1);
    assert_eq!(requests(protocol, stream, stream.len().max(1)), requests(protocol, stream, piece));
    assert_eq!(replies(protocol, stream, stream.len().max(1)), replies(protocol, stream, piece));
}

/// What is found, with what the stream is then left at.
fn requests(protocol: Protocol, stream: &[u8], piece: usize) -> Vec<String> {
    let mut decoder = Decoder::new(protocol);
    let (mut found, mut start, mut held) = (Vec::new(), 0, 0);
    while held < stream.len() {
        held = (held + piece).min(stream.len());
        loop {
            let inbox = &stream[start..held];
            let consumed = match decoder.decode(inbox, &LIMITS) {
                Decoded::Request { consumed, request } => {
                    let keys: Vec<String> = request.keys().map(|key| key.escape_ascii().to_string()).collect();
                    let count = request.arguments().count();
                    found.push(format!("{} {keys:?} {count} {}", request.command.name, request.frame.escape_ascii()));
                    consumed
                }
                Decoded::Refused { consumed, error } => {
                    found.push(format!("refused {}", error.escape_ascii()));
                    consumed
                }
                Decoded::Skip { consumed } => consumed,
                Decoded::Incomplete { need } => {
                    assert!(need > inbox.len(), "needs {need}, has {}", inbox.len());
                    break;
                }
                Decoded::Broken { error } => {
                    found.push(format!("broken {}", error.escape_ascii()));
                    return found;
                }
            };
            assert!(consumed > 0 && consumed <= inbox.len());
            start += consumed;
            if start == held {
                break;
            }
        }
    }
    found
}

fn replies(protocol: Protocol, stream: &[u8], piece: usize) -> Vec<String> {
    let mut found = Vec::new();
    for expect in [Expect::Line, Expect::Values, Expect::Meta, Expect::Stats] {
        let mut scanner = ReplyScanner::new(protocol);
        let (mut start, mut held) = (0, 0);
        'pieces: while held < stream.len() {
            held = (held + piece).min(stream.len());
            while start < held {
                let inbox = &stream[start..held];
                match scanner.scan(expect, inbox) {
                    Scanned::Reply { len, is_error } => {
                        assert!(len > 0 && len <= inbox.len());
                        found.push(format!("{is_error} {}", inbox[..len].escape_ascii()));
                        start += len;
                    }
                    Scanned::Incomplete { need } => {
                        assert!(need > inbox.len());
                        break;
                    }
                    Scanned::Broken => {
                        found.push("broken".into());
                        break 'pieces;
                    }
                }
            }
        }
    }
    found
}
