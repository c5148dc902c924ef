//! Requests and replies of this protocol: see `walk`. Besides, what is forwarded for a request is one by itself that has a
//! reply and asks the same of the same key.
#![no_main]

mod walk;

use dynomite_user::protocol::Protocol;
use dynomite_user::protocol::memcache::{Decoder, merge, reply, rewrite};
use dynomite_user::protocol::reply::Expect;
use dynomite_user::protocol::request::{Decoded, Limits, Request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    walk::check(Protocol::Memcache, data);
    let mut decoder = Decoder::default();
    let mut left = data.get(1..).unwrap_or_default();
    loop {
        let consumed = match decoder.decode(left, &Limits::default()) {
            Decoded::Request { consumed, request } => {
                forwarded(&request);
                consumed
            }
            Decoded::Refused { consumed, .. } | Decoded::Skip { consumed } => consumed,
            Decoded::Incomplete { .. } | Decoded::Broken { .. } => break,
        };
        left = &left[consumed..];
    }
    for expect in [Expect::Line, Expect::Values, Expect::Stats, Expect::Meta] {
        reply::essence(expect, data, |part| assert!(part.len() <= data.len()));
    }
});

fn forwarded(request: &Request<'_>) {
    let mut frame = Vec::new();
    rewrite::rewrite(request, &mut frame);
    let mut decoder = Decoder::default();
    let Decoded::Request { consumed, request: plain } = decoder.decode(&frame, &Limits::default()) else {
        // A setting that lacks its value says so itself: `verbosity noreply`.
        assert!(request.key.is_none() && request.quiet, "{}", frame.escape_ascii());
        return;
    };
    assert_eq!(consumed, frame.len());
    assert!(!plain.quiet, "it has a reply");
    assert_eq!((plain.key, plain.command.name), (request.key, request.command.name));
    let split = merge::split(&plain, |key| key.len());
    assert_eq!(split.places.len(), merge::keys(&plain).count());
}
