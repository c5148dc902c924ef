//! What is sent to datastores and peers instead of a request that must not go as it came.
//! Owns: the plain spelling of every command. Knows nothing of: what was wrong with the client's.
//!
//! On a connection that clients share every request must have exactly one reply. So `noreply` and the flag `q` are taken
//! out on the way there, and `silence` keeps from the client what memcached would not have said. Everything else that a
//! client may leave out or spell oddly (LF alone, a `+`, `delete key 0`) becomes what the C program's parser takes too.

use super::commands::{Form, Row, row};
use super::line::{Words, signed, split_line, unsigned, write_number};
use crate::protocol::request::Request;

/// A time that has passed, for any memcached: absolute, because it is more than 30 days. The C program takes no `-1`.
const LONG_AGO: u64 = 60 * 60 * 24 * 30 + 1;

/// Appends what is to be sent for a request: the frame itself if it is `verbatim`.
pub fn rewrite(request: &Request<'_>, out: &mut Vec<u8>) {
    let split = if request.verbatim { None } else { split_line(request.frame) };
    let Some((text, head)) = split else {
        return out.extend_from_slice(request.frame);
    };
    let row = row(request.command);
    let keep = words_kept(row, request);
    for (place, word) in Words::of_line(&request.frame[..text]).take(keep).enumerate() {
        if request.quiet && place >= first_flag(row.form) && word[0] == b'q' {
            continue;
        }
        if place > 0 {
            out.push(b' ');
        }
        match number_at(row.form, place) {
            Number::None => out.extend_from_slice(word),
            Number::Plain => write_number(unsigned(word).unwrap_or(0), out),
            Number::Flags => write_number(u64::from(unsigned(word).unwrap_or(0) as u32), out),
            Number::Time => write_number(signed(word).map_or(0, |time| u64::try_from(time).unwrap_or(LONG_AGO)), out),
        }
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&request.frame[head..]);
}

/// How many words of the line have a meaning other than `noreply`.
fn words_kept(row: &Row, request: &Request<'_>) -> usize {
    match row.form {
        Form::Store | Form::Cas | Form::Arithmetic | Form::Touch | Form::Delete => row.words.0 as usize + 1,
        Form::Setting => request.args as usize - usize::from(request.quiet),
        // `noreply` alone is the one word; with a delay it is the second, or something that memcached ignores.
        Form::Flush => {
            if request.quiet && request.args == 2 {
                1
            } else {
                2
            }
        }
        _ => usize::MAX,
    }
}

/// The place of the first word that may be the flag `q`.
fn first_flag(form: Form) -> usize {
    match form {
        Form::Meta => 2,
        Form::MetaStore => 3,
        _ => usize::MAX,
    }
}

enum Number {
    None,
    Plain,
    /// memcached takes 64 bits and keeps 32; older and smaller ones may refuse what is too large.
    Flags,
    Time,
}

fn number_at(form: Form, place: usize) -> Number {
    match (form, place) {
        (Form::Store | Form::Cas, 2) => Number::Flags,
        (Form::Store | Form::Cas, 4 | 5) | (Form::Arithmetic, 2) => Number::Plain,
        (Form::Store | Form::Cas, 3) | (Form::Touch, 2) => Number::Time,
        _ => Number::None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Decoder;
    use super::*;
    use crate::protocol::request::{Decoded, Limits};

    fn check(sent: &str, forwarded: &str) {
        let mut decoder = Decoder::default();
        match decoder.decode(sent.as_bytes(), &Limits::default()) {
            Decoded::Request { consumed, request } => {
                assert_eq!(consumed, sent.len(), "{sent:?}");
                let mut out = Vec::new();
                rewrite(&request, &mut out);
                assert_eq!(out.escape_ascii().to_string(), forwarded.as_bytes().escape_ascii().to_string());
                assert_eq!(request.verbatim, sent == forwarded, "{sent:?}");
            }
            other => panic!("{sent:?}: {other:?}"),
        }
    }

    #[test]
    fn plain_requests_stay_as_they_are() {
        check("get a\r\n", "get a\r\n");
        check("get  a   b \r\n", "get  a   b \r\n");
        check("set a 1 2 3\r\nabc\r\n", "set a 1 2 3\r\nabc\r\n");
        check("mg a v k Oq\r\n", "mg a v k Oq\r\n");
        check("gat -1 a\r\n", "gat -1 a\r\n");
        check("delete a\r\n", "delete a\r\n");
        check("set a 4294967295 2 3\r\nabc\r\n", "set a 4294967295 2 3\r\nabc\r\n");
    }

    #[test]
    fn flags_keep_32_bits() {
        check("set a 4294967297 2 3\r\nabc\r\n", "set a 1 2 3\r\nabc\r\n");
        check("cas a 18446744073709551615 2 3 4\r\nabc\r\n", "cas a 4294967295 2 3 4\r\nabc\r\n");
    }

    #[test]
    fn noreply_is_taken_out() {
        check("set a 1 2 3 noreply\r\nabc\r\n", "set a 1 2 3\r\nabc\r\n");
        check("cas a 1 2 3 4 noreply\r\nabc\r\n", "cas a 1 2 3 4\r\nabc\r\n");
        check("incr a 1 noreply\r\n", "incr a 1\r\n");
        check("touch a 1 noreply\r\n", "touch a 1\r\n");
        check("delete a noreply\r\n", "delete a\r\n");
        check("delete noreply noreply\r\n", "delete noreply\r\n");
        check("delete a 0 noreply\r\n", "delete a\r\n");
        check("verbosity 1 noreply\r\n", "verbosity 1\r\n");
        check("verbosity noreply\r\n", "verbosity\r\n");
        check("flush_all noreply\r\n", "flush_all\r\n");
        check("flush_all 10 noreply\r\n", "flush_all 10\r\n");
        check("get noreply\r\n", "get noreply\r\n");
        check("set a 1 2 9 noreply\r\n noreply\r\r\n", "set a 1 2 9\r\n noreply\r\r\n");
    }

    #[test]
    fn the_quiet_flag_is_taken_out_and_others_stay() {
        check("mg q q k Oqq\r\n", "mg q k Oqq\r\n");
        check("mg a v q\r\n", "mg a v\r\n");
        check("ms q 1 q k\r\nq\r\n", "ms q 1 k\r\nq\r\n");
        check("md a I qq T30\r\n", "md a I T30\r\n");
        check("ma a q v\r\n", "ma a v\r\n");
        check("me a q\r\n", "me a q\r\n");
    }

    #[test]
    fn odd_spellings_become_plain_ones() {
        check("get a\n", "get a\r\n");
        check("set a 0 0 1\nx\r\n", "set a 0 0 1\r\nx\r\n");
        check("set a +1 +2 +1\r\nx\r\n", "set a 1 2 1\r\nx\r\n");
        check("set a 0 0 1 what\r\nx\r\n", "set a 0 0 1\r\nx\r\n");
        check("set a 0 -1 1\r\nx\r\n", "set a 0 2592001 1\r\nx\r\n");
        check("set a 0 -0 1\r\nx\r\n", "set a 0 0 1\r\nx\r\n");
        check("touch a -5\r\n", "touch a 2592001\r\n");
        check("incr a +5\r\n", "incr a 5\r\n");
        check("delete a 0\r\n", "delete a\r\n");
        check("flush_all 1 2\r\n", "flush_all 1\r\n");
    }
}
