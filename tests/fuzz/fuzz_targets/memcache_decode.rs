//! Requests and replies of this protocol: see `walk`.
#![no_main]

mod walk;

use dynomite_user::protocol::Protocol;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| walk::check(Protocol::Memcache, data));
