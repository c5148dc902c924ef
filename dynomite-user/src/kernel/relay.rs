//! A reply that the kernel leaves to the daemon: where it ends, found from its head. One element, whatever its length.
//! Owns: the place in one reply. Knows nothing of: sockets, whose reply it is.

use dynomite_common::gate::ReplyHead;
use dynomite_common::peek;

/// What the datastore speaks, and what the route program saw of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Resp,
    /// memcached's `get` of a key of this length.
    Memcache {
        key_len: u32,
    },
}

#[derive(Debug)]
pub struct Relay {
    asked: Asked,
    /// Bytes of the head while it is not whole; all of them have been forwarded already.
    head: Vec<u8>,
    place: Place,
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    Head,
    /// One line, of any length: until its end.
    Line,
    /// So many bytes are missing.
    Body(u64),
}

/// What came of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    /// All of them belong to the reply, and more is to come.
    More,
    /// The reply ends with the last of them.
    End,
    /// Not a reply to what was asked, or something behind it.
    Broken,
}

/// A head that is longer than this is none: `VALUE`, the longest key, two numbers.
const HEAD_BYTES_MAX: usize = 320;

impl Relay {
    pub fn new(asked: Asked) -> Relay {
        Relay { asked, head: Vec::new(), place: Place::Head }
    }

    pub fn feed(&mut self, bytes: &[u8]) -> Fed {
        match &mut self.place {
            Place::Head => self.feed_head(bytes),
            Place::Line => line(bytes),
            Place::Body(rest) => match (bytes.len() as u64).cmp(rest) {
                std::cmp::Ordering::Less => {
                    *rest -= bytes.len() as u64;
                    Fed::More
                }
                std::cmp::Ordering::Equal => Fed::End,
                std::cmp::Ordering::Greater => Fed::Broken,
            },
        }
    }

    fn feed_head(&mut self, bytes: &[u8]) -> Fed {
        let earlier = self.head.len();
        let room = HEAD_BYTES_MAX - earlier;
        self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let whole = (earlier + bytes.len()) as u64;
        let byte = |at: u32| self.head.get(at as usize).copied();
        let (is_line, head) = match (self.asked, self.head.first()) {
            (_, None) => return Fed::More,
            (Asked::Resp, Some(b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(')) => (true, ReplyHead::Unknown),
            (Asked::Memcache { .. }, Some(b'E' | b'S' | b'C')) => (true, ReplyHead::Unknown),
            (Asked::Resp, Some(_)) => (false, peek::resp_reply(whole.min(u64::from(u32::MAX)) as u32, byte)),
            (Asked::Memcache { key_len }, Some(_)) => (false, peek::memcache_reply(0, key_len, byte)),
        };
        if is_line {
            self.place = Place::Line;
            return line(bytes);
        }
        match head {
            ReplyHead::Bytes(total) if total > whole => {
                self.place = Place::Body(total - whole);
                Fed::More
            }
            ReplyHead::Bytes(total) if total == whole => Fed::End,
            ReplyHead::Bytes(_) => Fed::Broken,
            // A head has one line; when that is there and still says nothing, it never will.
            ReplyHead::Unknown if self.head.len() < HEAD_BYTES_MAX && !self.head.contains(&b'\n') => Fed::More,
            ReplyHead::Unknown => Fed::Broken,
        }
    }
}

/// The first line end is the reply's last byte.
fn line(bytes: &[u8]) -> Fed {
    match bytes.iter().position(|&byte| byte == b'\n') {
        None => Fed::More,
        Some(at) if at + 1 == bytes.len() => Fed::End,
        Some(_) => Fed::Broken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However it is cut in two, the reply ends at its last byte and nowhere before.
    fn check(asked: Asked, reply: &str) {
        let bytes = reply.as_bytes();
        for cut in 0..bytes.len() {
            let mut relay = Relay::new(asked);
            if cut > 0 {
                assert_eq!(relay.feed(&bytes[..cut]), Fed::More, "{reply:?} cut at {cut}");
            }
            assert_eq!(relay.feed(&bytes[cut..]), Fed::End, "{reply:?} cut at {cut}");
        }
        let mut relay = Relay::new(asked);
        for byte in &bytes[..bytes.len() - 1] {
            assert_eq!(relay.feed(&[*byte]), Fed::More, "{reply:?} byte by byte");
        }
        assert_eq!(relay.feed(&bytes[bytes.len() - 1..]), Fed::End);
        let twice = [bytes, bytes].concat();
        assert_eq!(Relay::new(asked).feed(&twice), Fed::Broken, "{reply:?} twice");
    }

    #[test]
    fn replies_end_where_they_end() {
        for reply in [
            "+OK\r\n",
            "-ERR no\r\n",
            ":12\r\n",
            "$-1\r\n",
            "$0\r\n\r\n",
            "$3\r\nfoo\r\n",
            "$12\r\nhello\r\nworld\r\n",
            "_\r\n",
        ] {
            check(Asked::Resp, reply);
        }
        check(Asked::Resp, &format!("-ERR {}\r\n", "x".repeat(1000)));
        for reply in
            ["END\r\n", "VALUE foo 0 3\r\nbar\r\nEND\r\n", "VALUE foo 1 0\r\n\r\nEND\r\n", "SERVER_ERROR x\r\n"]
        {
            check(Asked::Memcache { key_len: 3 }, reply);
        }
    }

    #[test]
    fn what_is_no_single_reply_is_refused() {
        for bad in ["*1\r\n", "foo\r\n", "$x\r\n", "%1\r\n"] {
            assert_eq!(Relay::new(Asked::Resp).feed(bad.as_bytes()), Fed::Broken, "{bad:?}");
        }
        assert_eq!(Relay::new(Asked::Memcache { key_len: 3 }).feed(b"VALUE fooo 0 3\r\n"), Fed::Broken);
        assert_eq!(Relay::new(Asked::Resp).feed(&[b'$'; 400]), Fed::Broken);
    }
}
