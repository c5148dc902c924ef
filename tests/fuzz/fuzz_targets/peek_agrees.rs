//! What the kernel is sure of, the full decoder says too: one request and nothing else, of that command, with that many
//! arguments and that key. The first byte says which protocol.
#![no_main]

use std::collections::HashMap;
use std::sync::LazyLock;

use dynomite_common::abi::{CommandRow, Name};
use dynomite_common::limits::HEAD_BYTES;
use dynomite_common::peek::{Head, Peek, State};
use dynomite_user::daemon::kernel;
use dynomite_user::protocol::request::{Decoded, Limits, Request};
use dynomite_user::protocol::{Protocol, memcache, resp};
use libfuzzer_sys::fuzz_target;

type Rows = HashMap<Name, CommandRow>;

static RESP: LazyLock<Rows> = LazyLock::new(|| kernel::commands(Protocol::Resp, true).into_iter().collect());
static MEMCACHE: LazyLock<Rows> = LazyLock::new(|| kernel::commands(Protocol::Memcache, true).into_iter().collect());

fuzz_target!(|data: &[u8]| {
    let Some((first, segment)) = data.split_first() else { return };
    if segment.is_empty() {
        return;
    }
    let limits = Limits::default();
    if first & 1 == 0 {
        check(segment, Protocol::Resp, &RESP, resp::decode::Decoder::default().decode(segment, &limits));
    } else {
        check(segment, Protocol::Memcache, &MEMCACHE, memcache::Decoder::default().decode(segment, &limits));
    }
});

fn check(segment: &[u8], protocol: Protocol, rows: &Rows, decoded: Decoded<'_>) {
    let mut bytes = [0; HEAD_BYTES];
    let known = segment.len().min(HEAD_BYTES);
    bytes[..known].copy_from_slice(&segment[..known]);
    let tail = segment.last_chunk().copied().unwrap_or_default();
    let state = State::default();
    let head = Head::new(&bytes, segment.len() as u32, tail, &state);
    let peeked = if protocol == Protocol::Resp { head.resp() } else { head.memcache() };
    let Peek::Sure(name) = peeked else { return };
    let args = state.args.get();
    let Some(row) = rows.get(&name) else { return };
    if args < row.args_min || args > row.args_max {
        return;
    }
    let Decoded::Request { consumed, request: Request { command, args: all, key, quiet, verbatim, .. } } = decoded
    else {
        panic!("the kernel takes what the decoder does not: {}", segment.escape_ascii());
    };
    assert_eq!(consumed, segment.len(), "{}", segment.escape_ascii());
    assert_eq!(Name::new(command.name), Some(name), "{}", segment.escape_ascii());
    assert!(command.fast || command.fast_alone, "{}", command.name);
    assert_eq!((all, quiet, verbatim), (args, false, true), "{}", segment.escape_ascii());
    let at = state.key_at.get() as usize;
    assert_eq!(key, bytes.get(at..at + state.key_len.get() as usize), "{}", segment.escape_ascii());
}
