//! What a C Dynomite peer can be asked. It closes the connection, with everything that is on it, over a request that its
//! parser does not know, and mixes up replies that its parser does not understand.

use super::Protocol;
use super::commands::{CPeer, Keys};
use super::request::Request;

/// A key must fit one of the peer's buffers, with what stands around it (16 KB by default).
const KEY_BYTES_MAX: usize = 16_319;

/// May it be sent to a C peer, as it is?
pub fn takes(request: &Request<'_>) -> bool {
    let CPeer::Args { min, max } = request.command.c_peer else { return false };
    let words = request.command.name.split(' ').count() as u32;
    let args = request.args.saturating_sub(words);
    if args < min.into() || args > max {
        return false;
    }
    if request.protocol == Protocol::Memcache {
        return true;
    }
    let fits = |key: &[u8]| !key.is_empty() && key.len() <= KEY_BYTES_MAX;
    match request.command.keys {
        // What stands where others have their key is read as one.
        Keys::None => request.argument(words as usize).is_none_or(fits),
        // A script without keys, or with a number of keys that makes no sense.
        _ if request.key.is_none() => false,
        _ => request.keys().all(fits) && !nests(request),
    }
}

/// Does a C peer take it for the write that it is, and so replicate it within its datacenter? If not, every rack's owner
/// must be asked by itself.
pub fn replicates(request: &Request<'_>) -> bool {
    const TAKEN_FOR_READS: [&str; 6] =
        ["sunionstore", "zinterstore", "zunionstore", "sort store", "georadius store", "georadiusbymember store"];
    !TAKEN_FOR_READS.contains(&request.command.name)
}

/// Is the reply an array of arrays? Of those a C peer understands one, in the last place.
fn nests(request: &Request<'_>) -> bool {
    const OPTIONS: [&str; 3] = ["withcoord", "withdist", "withhash"];
    request.command.name.starts_with("georadius")
        && request.arguments().any(|word| OPTIONS.iter().any(|option| word.eq_ignore_ascii_case(option.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::request::{Decoded, Limits};
    use crate::protocol::resp::decode::Decoder;

    #[track_caller]
    fn check(requests: &str, expected: bool) {
        for line in requests.split(" / ") {
            let mut decoder = Decoder::default();
            let line = format!("{line}\r\n");
            let Decoded::Request { request, .. } = decoder.decode(line.as_bytes(), &Limits::default()) else {
                panic!("{line}")
            };
            assert_eq!(takes(&request), expected, "{line}");
        }
    }

    #[test]
    fn its_table_and_its_numbers_of_arguments() {
        check("get k / set k v ex 10 / hset h f v / lpop l / pfcount k / mget a b c / mset a 1 b 2 / del a b", true);
        check(
            "hstrlen k f / unlink k / bitpos k 1 / xadd k * a b / getex k / ping / hello 3 / multi / copy a b",
            false,
        );
        check(
            "hset h f v g w / lpop l 2 / srandmember s 2 / restore k 0 x replace / pfcount a b / lpushx l a b",
            false,
        );
        check("script load x / script exists a / script flush / script kill / info / keys * / scan 0 count 5", true);
        check("script exists a b / script flush sync / info a b / expire k 1 nx", false);
    }

    #[test]
    fn its_keys() {
        check("get '' / del a '' b / keys ''", false);
        check(&format!("get {}", "k".repeat(KEY_BYTES_MAX)), true);
        check(&format!("get {}", "k".repeat(KEY_BYTES_MAX + 1)), false);
        check(&format!("set k {}", "v".repeat(30_000)), true);
        check("eval s 1 k / evalsha s 2 a b", true);
        check("eval s 0 x / eval s 0 / eval s x k", false);
    }

    #[test]
    fn its_replies() {
        check("geopos g a / georadius g 1 2 3 km / georadiusbymember g m 3 km count 2", true);
        check("geopos g a b / georadius g 1 2 3 km withdist / georadiusbymember g m 3 km WITHCOORD", false);
    }
}
