//! A RESP client's bytes, beyond `resp_decode`: nothing panics, the same requests come out however the bytes
//! are cut, and what goes on to datastores and peers is canonical.
#![no_main]

use dynomite_user::protocol::c_peer;
use dynomite_user::protocol::merge::Merge;
use dynomite_user::protocol::request::{Decoded, Limits, Request};
use dynomite_user::protocol::resp::decode::Decoder;
use dynomite_user::protocol::resp::resp3::{convert, shape_of};
use dynomite_user::protocol::split::{Split, is_splittable, split};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&cut, stream)) = data.split_first() else { return };
    let whole = walk(stream, stream.len().max(1));
    assert_eq!(whole, walk(stream, usize::from(cut).max(1)));
});

/// What came of a stream that arrives in pieces of this length.
fn walk(stream: &[u8], piece: usize) -> Vec<String> {
    let limits = Limits { request_bytes_max: 1 << 16, arguments_max: 64, line_bytes_max: 1 << 12 };
    let (mut decoder, mut said, mut at, mut held) = (Decoder::default(), Vec::new(), 0, 0);
    while held < stream.len() {
        held = stream.len().min(held + piece);
        while at < held {
            let inbox = &stream[at..held];
            at += match decoder.decode(inbox, &limits) {
                Decoded::Request { consumed, request } => {
                    said.push(look(&request));
                    consumed
                }
                Decoded::Refused { consumed, error } => {
                    assert!(error.starts_with(b"-") && error.ends_with(b"\r\n"));
                    assert_eq!(error.iter().filter(|byte| **byte == b'\n').count(), 1);
                    said.push(error.escape_ascii().to_string());
                    consumed
                }
                Decoded::Skip { consumed } => consumed,
                Decoded::Incomplete { need } => {
                    assert!(need > inbox.len());
                    break;
                }
                Decoded::Broken { .. } => {
                    // How much of a broken request was seen may decide what is said about it.
                    said.push("broken".into());
                    return said;
                }
            };
            assert!(at <= held);
        }
    }
    said
}

/// Everything that later stages ask of a request.
fn look(request: &Request<'_>) -> String {
    let arguments: Vec<&[u8]> = request.arguments().collect();
    assert_eq!(arguments.len(), request.args as usize);
    let mut canonical = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in &arguments {
        canonical.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        canonical.extend_from_slice(argument);
        canonical.extend_from_slice(b"\r\n");
    }
    assert_eq!(canonical, request.frame);
    let keys: Vec<&[u8]> = request.keys().collect();
    assert_eq!(keys.first().copied(), request.key);
    assert_eq!(keys.len() > 1, request.has_many_keys());
    if c_peer::takes(request) {
        assert!(keys.iter().all(|key| !key.is_empty()));
    }
    let mut out = Vec::new();
    convert(shape_of(request), b"*2\r\n$1\r\na\r\n$-1\r\n", &mut out);
    if is_splittable(request.command) {
        taken_apart(request, &keys);
    }
    format!("{} {}", request.command.name, request.frame.escape_ascii())
}

fn taken_apart(request: &Request<'_>, keys: &[&[u8]]) {
    let Split { fragments, merge } = split(request, |key| key.first().map_or(0, |byte| u32::from(*byte) % 3));
    let mut count = 0;
    for fragment in &fragments {
        let mut decoder = Decoder::default();
        let Decoded::Request { consumed, request: whole } = decoder.decode(&fragment.frame, &Limits::default()) else {
            panic!("a fragment is a request")
        };
        assert_eq!(consumed, fragment.frame.len());
        assert_eq!((whole.key, whole.args), (fragment.request().key, fragment.request().args));
        count += whole.keys().count();
    }
    assert_eq!(count, keys.len());
    joined(&merge, fragments.len());
}

fn joined(merge: &Merge, fragments: usize) {
    for reply in [&b":1\r\n"[..], b"*1\r\n$1\r\na\r\n", b"*9\r\n", b"+OK\r\n", b"-ERR\r\n", b""] {
        merge.merge(&vec![reply; fragments], &mut Vec::new());
    }
}
