//! What a client is not told, because it asked for that.
//! Owns: the rules by which memcached keeps quiet. A value of it is kept beside the client's place in the reply order.

use super::commands::{self, Form, row};
use crate::protocol::request::Request;

/// Which replies to one request are kept from the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Silence {
    /// None: the usual case.
    #[default]
    None,
    /// All, errors too: `noreply`.
    All,
    /// A miss: `q` of a meta get. A hit is told.
    Misses,
    /// Success, with a value or without: `q` of the other meta commands. A miss is told. (memcached 1.6 tells that `ma` with
    /// `N` created a counter, but its reply does not say that it did: a success like others.)
    Successes,
}

impl Silence {
    pub fn of(request: &Request<'_>) -> Silence {
        if !request.quiet {
            return Silence::None;
        }
        match request.command.verb.0 {
            commands::MG | commands::MG_OWN | commands::MG_WRITE => Silence::Misses,
            _ if matches!(row(request.command).form, Form::Meta | Form::MetaStore) => Silence::Successes,
            _ => Silence::All,
        }
    }

    /// Is this reply kept from the client?
    pub fn hides(self, reply: &[u8]) -> bool {
        let code = || reply.split(|&byte| byte == b' ' || byte == b'\r').next().unwrap_or_default();
        match self {
            Silence::None => false,
            Silence::All => true,
            Silence::Misses => code() == b"EN",
            Silence::Successes => matches!(code(), b"HD" | b"VA"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Decoder;
    use super::*;
    use crate::protocol::request::{Decoded, Limits};

    fn check(sent: &str, hidden: &[&str], told: &[&str]) {
        let mut decoder = Decoder::default();
        let Decoded::Request { request, .. } = decoder.decode(sent.as_bytes(), &Limits::default()) else {
            panic!("{sent:?}")
        };
        let silence = Silence::of(&request);
        for (replies, hides) in [(hidden, true), (told, false)] {
            for reply in replies {
                assert_eq!(silence.hides(reply.as_bytes()), hides, "{sent:?} {reply:?}");
            }
        }
    }

    #[test]
    fn memcached_keeps_quiet_about() {
        check("get a\r\n", &[], &["END\r\n"]);
        check("set a 0 0 0 noreply\r\n\r\n", &["STORED\r\n", "SERVER_ERROR object too large for cache\r\n"], &[]);
        check("delete a noreply\r\n", &["DELETED\r\n", "NOT_FOUND\r\n"], &[]);
        check("mg a v q\r\n", &["EN\r\n", "EN ka O1\r\n"], &["VA 1\r\nx\r\n", "HD\r\n", "CLIENT_ERROR x\r\n"]);
        check("mg a t q\r\n", &["EN\r\n"], &["HD t-1\r\n"]);
        check("mg a N30 q\r\n", &["EN\r\n"], &["HD W\r\n"]);
        check("ms a 1 q\r\nx\r\n", &["HD\r\n", "HD c1 ka\r\n"], &["NS\r\n", "EX\r\n", "NF\r\n", "SERVER_ERROR x\r\n"]);
        check("md a q\r\n", &["HD\r\n"], &["NF\r\n", "EX ka\r\n"]);
        check("ma a q v\r\n", &["HD\r\n", "VA 1\r\n7\r\n"], &["NF\r\n", "NS\r\n", "EX\r\n", "CLIENT_ERROR x\r\n"]);
        check("me a q\r\n", &[], &["EN\r\n", "ME a exp=-1\r\n"]);
    }
}
