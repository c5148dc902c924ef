//! What a C Dynomite peer can be asked. It closes the connection, with everything that is on it, over a request that its
//! parser does not know, and mixes up replies that its parser does not understand.

use super::Protocol;
use super::commands::{CPeer, Keys};
use super::request::Request;
use super::resp::encode;
use super::resp::head::{Head, number};

/// A key must fit one of the peer's buffers, with what stands around it (16 KB by default).
const KEY_BYTES_MAX: usize = 16_319;

/// What follows a client's script that has become a function: its result `r` as a reply that a C peer's parser
/// understands. An array, whatever is in it, is written as one string, the only element of another one. So is an error
/// without a blank: such a parser looks for one, and takes the reply behind it for the rest of the error.
const ENVELOPE: &str = include_str!("c_reply.lua");

/// Runs whatever it is given.
const SCRIPT: &[u8] = b"return redis.pcall(unpack(ARGV))";
/// Lua's stack holds not many more.
const SCRIPT_ARGS_MAX: u32 = 6000;

/// What a C peer gets for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digest {
    AsItIs,
    /// What `wrap` writes.
    Wrapped,
    /// What `envelop` writes; its reply is for `unveil`.
    Enveloped,
    Never,
}

/// How can a C peer be asked this?
pub fn digest(request: &Request<'_>) -> Digest {
    if takes(request) {
        match request.command.name {
            "eval" => Digest::Enveloped,
            // What a script replies is not known before it has run, and this one's text is not here.
            "evalsha" => Digest::Never,
            _ => Digest::AsItIs,
        }
    } else if is_wrappable(request) {
        Digest::Wrapped
    } else {
        Digest::Never
    }
}

/// A command that is no business of a C peer's parser if it comes inside a script. Scripts lose what tells one null from
/// another and arrays in arrays, so only commands whose reply is one element.
fn is_wrappable(request: &Request<'_>) -> bool {
    request.protocol == Protocol::Resp
        && (request.command.fast || request.command.fast_alone)
        && request.args <= SCRIPT_ARGS_MAX
        && request.key.is_some()
        && request.keys().all(fits)
}

/// Appends the request as a script with the same keys and the same reply.
pub fn wrap(request: &Request<'_>, out: &mut Vec<u8>) {
    let keys = request.keys().count();
    out.reserve(request.frame.len() + 256);
    encode::array_head(3 + keys + request.args as usize, out);
    encode::bulk(b"eval", out);
    encode::bulk(SCRIPT, out);
    encode::bulk(keys.to_string().as_bytes(), out);
    request.keys().for_each(|key| encode::bulk(key, out));
    request.arguments().for_each(|argument| encode::bulk(argument, out));
}

/// Appends an EVAL whose script does the same and whose reply a C peer understands.
pub fn envelop(request: &Request<'_>, out: &mut Vec<u8>) {
    let script = request.argument(1).unwrap_or_default();
    // A first line that begins so tells the datastore how to run the script.
    let head = if script.starts_with(b"#!") { script.iter().position(|byte| *byte == b'\n') } else { None };
    let (head, body) = script.split_at(head.map_or(0, |at| at + 1));
    let text = [head, b"local r=(function() ", body, b"\nend)()\n", ENVELOPE.as_bytes()].concat();
    encode::array_head(request.args as usize, out);
    for (at, argument) in request.arguments().enumerate() {
        encode::bulk(if at == 1 { &text } else { argument }, out);
    }
}

/// The reply that came in an envelope; one that needed none is as it is.
pub fn unveil(frame: &[u8]) -> &[u8] {
    let inside = || match number(frame.strip_prefix(b"*1\r\n$")?, 0) {
        Head::Number { value, next } => frame.get(5 + next..)?.get(..usize::try_from(value).ok()?),
        _ => None,
    };
    inside().unwrap_or(frame)
}

/// May it be sent to a C peer, as it is?
pub fn takes(request: &Request<'_>) -> bool {
    let CPeer::Args { min, max } = request.command.c_peer else { return false };
    if request.protocol == Protocol::Memcache {
        // What is odd about it is not sent to anybody: see `memcache::rewrite`.
        return true;
    }
    let words = request.command.name.split(' ').count() as u32;
    let args = request.args.saturating_sub(words);
    if args < min.into() || args > max {
        return false;
    }
    match request.command.keys {
        // What stands where others have their key is read as one.
        Keys::None => request.argument(words as usize).is_none_or(fits),
        // A script without keys, or with a number of keys that makes no sense.
        _ if request.key.is_none() => false,
        _ => request.keys().all(fits) && !nests(request),
    }
}

/// May a C peer see this key?
pub fn fits(key: &[u8]) -> bool {
    !key.is_empty() && key.len() <= KEY_BYTES_MAX
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
    fn memcached_commands_as_they_are_rewritten() {
        for (line, expected) in [
            ("set k 0 0 1 noreply\r\nx", true),
            ("delete k 0", true),
            ("touch k 9", true),
            ("get k", false),
            ("mg k v", false),
        ] {
            let mut decoder = crate::protocol::memcache::Decoder::default();
            let line = format!("{line}\r\n");
            let Decoded::Request { request, .. } = decoder.decode(line.as_bytes(), &Limits::default()) else {
                panic!("{line}")
            };
            assert_eq!(takes(&request), expected, "{line}");
        }
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
    fn what_it_takes_inside_a_script() {
        let check = |line: &str, expected: Option<&str>| {
            let mut decoder = Decoder::default();
            let line = format!("{line}\r\n");
            let Decoded::Request { request, .. } = decoder.decode(line.as_bytes(), &Limits::default()) else {
                panic!("{line}")
            };
            let Some(expected) = expected else { return assert_eq!(digest(&request), Digest::Never, "{line}") };
            assert_eq!(digest(&request), Digest::Wrapped, "{line}");
            let mut out = Vec::new();
            wrap(&request, &mut out);
            let mut again = Decoder::default();
            let Decoded::Request { consumed, request: wrapped } = again.decode(&out, &Limits::default()) else {
                panic!("{}", out.escape_ascii())
            };
            assert_eq!(consumed, out.len());
            assert!(takes(&wrapped));
            let words: Vec<_> = wrapped.arguments().skip(2).map(|word| String::from_utf8_lossy(word)).collect();
            assert_eq!(words.join(" "), expected);
        };
        check("hset h a 1 b 2", Some("1 h hset h a 1 b 2"));
        check("unlink a b a", Some("3 a b a unlink a b a"));
        check("Expire k 1 NX", Some("1 k Expire k 1 NX"));
        check("restore k 0 x replace", Some("1 k restore k 0 x replace"));
        check("lpop l 2", None);
        check("lpos l x", None);
        check("unlink a ''", None);
        check("dbsize", None);
        check(&format!("unlink {}", "k ".repeat(7000)), None);
    }

    #[test]
    fn its_replies() {
        check("geopos g a / georadius g 1 2 3 km / georadiusbymember g m 3 km count 2", true);
        check("geopos g a b / georadius g 1 2 3 km withdist / georadiusbymember g m 3 km WITHCOORD", false);
    }
}
