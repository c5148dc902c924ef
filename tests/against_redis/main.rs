//! What the daemon knows about Redis, held against Redis itself.

mod embedded;
mod envelopes;
mod refusals;
mod repair;
mod resp3;
mod session;
mod table;

use dynomite_tests::{Datastore, Kind, need};
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

/// Where a test needs one.
const PASSWORD: &str = "secret";

/// A Redis of the version that the table is about, or words about the skipped test.
fn redis(options: &[&str]) -> Option<Datastore> {
    let redis = Datastore::start_with(Kind::Redis, options)?;
    let version = version(&redis);
    if version.starts_with("7.0.") {
        return Some(redis);
    }
    need::skip(&format!("the table is that of Redis 7.0, this is {version}"));
    None
}

fn version(redis: &Datastore) -> String {
    let mut client = redis.client();
    // Without a password to say this is an error, which harms nobody.
    client.ask(&format!("AUTH {PASSWORD}"));
    let info = client.ask("INFO server").text();
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
    version.unwrap_or_default().trim().to_string()
}
