//! A datastore's bytes, whatever they are: nothing panics, the same replies come out however the bytes are cut, and a RESP2
//! reply that became a RESP3 one is still one whole reply.
#![no_main]

use dynomite_user::protocol::reply::Scanned;
use dynomite_user::protocol::resp::commands::COMMANDS;
use dynomite_user::protocol::resp::resp3::convert;
use dynomite_user::protocol::resp::scan::ReplyScanner;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [cut, row, stream @ ..] = data else { return };
    let whole = walk(stream, stream.len().max(1));
    assert_eq!(whole, walk(stream, usize::from(*cut).max(1)));
    let mut at = 0;
    for (len, is_error) in whole.into_iter().flatten() {
        let reply = &stream[at..at + len];
        at += len;
        // What RESP2 does not have does not come from a connection that speaks RESP2.
        if reply.iter().any(|byte| b"_,#(!=~%>|".contains(byte)) {
            continue;
        }
        let mut out = Vec::new();
        convert(COMMANDS[usize::from(*row) % COMMANDS.len()].shape, reply, &mut out);
        assert_eq!(ReplyScanner::default().scan(&out), Scanned::Reply { len: out.len(), is_error });
    }
});

/// The replies, and `None` where the place was lost.
fn walk(stream: &[u8], piece: usize) -> Vec<Option<(usize, bool)>> {
    let (mut scanner, mut found, mut at, mut held) = (ReplyScanner::default(), Vec::new(), 0, 0);
    while held < stream.len() {
        held = stream.len().min(held + piece);
        while at < held {
            match scanner.scan(&stream[at..held]) {
                Scanned::Reply { len, is_error } => {
                    assert!(len > 0 && at + len <= held);
                    at += len;
                    found.push(Some((len, is_error)));
                }
                Scanned::Incomplete { need } => {
                    assert!(need > held - at);
                    break;
                }
                Scanned::Broken => {
                    found.push(None);
                    return found;
                }
            }
        }
    }
    found
}
