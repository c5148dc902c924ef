//! What the daemon knows about Redis, held against Redis itself.

mod refusals;
mod resp3;
mod table;

use dynomite_user::protocol::request::{Decoded, Limits};
use dynomite_user::protocol::resp::decode::Decoder;

/// What the decoder makes of one request: what `with` says of it, or the error that refuses it.
fn decode<T>(frame: &[u8], with: impl FnOnce(dynomite_user::protocol::request::Request) -> T) -> Result<T, Vec<u8>> {
    match Decoder::default().decode(frame, &Limits::default()) {
        Decoded::Request { request, consumed } => {
            assert_eq!(consumed, frame.len());
            Ok(with(request))
        }
        Decoded::Refused { error, .. } | Decoded::Broken { error } => Err(error),
        other => panic!("{other:?} of {}", frame.escape_ascii()),
    }
}
