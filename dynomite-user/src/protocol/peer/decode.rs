//! Bytes → heads of messages, whatever the bytes are.
//! Owns: finding a head, and how far gossip goes. Knows nothing of: requests and replies; the datastore's decoder says
//! where they end. Nothing here keeps state: an inbox that grew is looked at again from its first byte, and a head is at
//! most `HEAD_BYTES_MAX` long.

use memchr::memmem;

use super::header::{DATA_BYTES_MAX, GOSSIP_BYTES_MAX, HEAD_BYTES_MAX, Header, MAGIC, Message};

/// What an inbox begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan<'a> {
    /// The first `len` bytes are a head; the payload is behind them.
    Head { header: Header<'a>, len: usize },
    /// The first `len` bytes belong to no message: count them, drop them, look again.
    Garbage { len: usize },
    /// A head may have begun.
    Incomplete,
}

/// Looks for a head at the start of `inbox`.
pub fn scan(inbox: &[u8]) -> Scan<'_> {
    let blanks = inbox.iter().take(3).take_while(|byte| **byte == b' ').count();
    let start = &inbox[blanks..];
    if start.len() < MAGIC.len() {
        if MAGIC.starts_with(start) { Scan::Incomplete } else { garbage(inbox, blanks) }
    } else if start.starts_with(MAGIC) {
        match read(&start[..start.len().min(HEAD_BYTES_MAX)]) {
            Ok((header, len)) => Scan::Head { header, len: blanks + len },
            Err(Fail::Cut) if start.len() < HEAD_BYTES_MAX => Scan::Incomplete,
            Err(_) => garbage(inbox, blanks + 1),
        }
    } else {
        garbage(inbox, blanks)
    }
}

/// How far the payload of gossip goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GossipScan {
    /// The first `len` bytes of what follows the head.
    Payload { len: usize },
    /// Nothing more can be known before there are `need` bytes behind the head.
    Incomplete { need: usize },
    /// Longer than anybody may send. Drop the head alone; what follows is garbage up to the next.
    TooLong,
}

/// `rest` is what follows the head. C nodes have sent heads with less payload than announced, or none at all; then the
/// next message's magic stands inside of it and the payload ends there.
pub fn gossip(header: &Header<'_>, rest: &[u8]) -> GossipScan {
    let Some(len) = usize::try_from(header.payload_len).ok().filter(|len| *len <= GOSSIP_BYTES_MAX) else {
        return GossipScan::TooLong;
    };
    let here = &rest[..len.min(rest.len())];
    match memmem::find(here, MAGIC) {
        Some(next) => GossipScan::Payload { len: next - blanks_before(here, next) },
        None if rest.len() < len => GossipScan::Incomplete { need: len },
        None => GossipScan::Payload { len },
    }
}

/// Where a payload is expected: does the next message begin instead? `None`: that cannot be told yet. No request and no
/// reply begins like a head.
#[inline]
pub(super) fn next_head(rest: &[u8]) -> Option<bool> {
    let start = &rest[rest.iter().take(3).take_while(|byte| **byte == b' ').count()..];
    if start.len() >= MAGIC.len() && !start.starts_with(MAGIC) {
        return Some(false);
    }
    match scan(rest) {
        Scan::Head { .. } => Some(true),
        Scan::Garbage { .. } => Some(false),
        Scan::Incomplete => None,
    }
}

/// All up to the next place at or behind `from` where a head may begin, blanks included.
fn garbage(inbox: &[u8], from: usize) -> Scan<'_> {
    let next = memmem::find(&inbox[from..], MAGIC).map(|at| from + at).unwrap_or_else(|| {
        // The magic may be cut at the end of the inbox.
        let tail = inbox.len().saturating_sub(MAGIC.len() - 1).max(from);
        (tail..inbox.len()).find(|at| MAGIC.starts_with(&inbox[*at..])).unwrap_or(inbox.len())
    });
    Scan::Garbage { len: next - blanks_before(inbox, next) }
}

/// How many of the three blanks of a head stand before `at`.
fn blanks_before(bytes: &[u8], at: usize) -> usize {
    bytes[..at].iter().rev().take(3).take_while(|byte| **byte == b' ').count()
}

enum Fail {
    /// All right so far.
    Cut,
    /// No head.
    Wrong,
}

/// Reads a head that begins with the magic: its fields and its length.
fn read(bytes: &[u8]) -> Result<(Header<'_>, usize), Fail> {
    let mut at = MAGIC.len();
    expect(bytes, &mut at, b' ')?;
    let id = number(bytes, &mut at, b' ')?.value;
    let message = Message::of_number(number(bytes, &mut at, b' ')?.value);
    let flags = (number(bytes, &mut at, b' ')?.value & 0xf) as u8;
    let version = number(bytes, &mut at, b' ')?.value;
    let same_datacenter = number(bytes, &mut at, b' ')?.last_digit != 0;
    if bytes.get(at) == Some(&b'*') {
        at += 1;
    }
    let data_len = number(bytes, &mut at, b' ')?.value;
    let data_len = usize::try_from(data_len).ok().filter(|len| *len <= DATA_BYTES_MAX).ok_or(Fail::Wrong)?;
    let data = bytes.get(at..at + data_len).ok_or(Fail::Cut)?;
    at += data_len;
    // Nodes skip whatever stands between the data and the star.
    at += bytes[at..].iter().position(|byte| *byte == b'*').ok_or(Fail::Cut)? + 1;
    let payload_len = number(bytes, &mut at, b'\r')?.value;
    expect(bytes, &mut at, b'\n')?;
    Ok((Header { id, message, flags, version, same_datacenter, data, payload_len }, at))
}

#[inline]
fn expect(bytes: &[u8], at: &mut usize, byte: u8) -> Result<(), Fail> {
    match bytes.get(*at) {
        Some(found) if *found == byte => *at += 1,
        Some(_) => return Err(Fail::Wrong),
        None => return Err(Fail::Cut),
    }
    Ok(())
}

struct Number {
    /// Modulo 2^64.
    value: u64,
    last_digit: u8,
}

/// One or more digits and the byte that ends them.
#[inline]
fn number(bytes: &[u8], at: &mut usize, end: u8) -> Result<Number, Fail> {
    let mut value = 0_u64;
    let mut last_digit = None;
    loop {
        match bytes.get(*at) {
            Some(&digit @ b'0'..=b'9') => {
                let digit = digit - b'0';
                value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
                last_digit = Some(digit);
            }
            Some(&byte) if byte == end => {
                *at += 1;
                return last_digit.map(|last_digit| Number { value, last_digit }).ok_or(Fail::Wrong);
            }
            Some(_) => return Err(Fail::Wrong),
            None => return Err(Fail::Cut),
        }
        *at += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::peer::testing;

    /// What a whole inbox holds, as `testing::walk` tells it.
    fn check(inbox: &[u8], expected: &str) {
        assert_eq!(testing::walk(&[inbox]).join(" | "), expected, "{}", inbox.escape_ascii());
    }

    #[test]
    fn heads_with_their_payload() {
        check(b"   $2014$ 2 3 0 1 1 *1 d *5\r\n+abc\r\n", "2 Execute near d *5: +abc");
        check(b"   $2014$ 7 4 0 1 0 *1 d *5\r\n+abc\r\n", "7 Forward far d *5: +abc");
        check(b"   $2014$ 1 7 0 1 1 *1 a *4\r\nabcd", "1 Gossip near a *4: abcd");
        check(
            b"   $2014$ 9 5 0 1 0 *1 d *5\r\n+OK\r\n   $2014$ 10 5 0 1 0 *1 d *4\r\n:1\r\n",
            "9 Reply far d *5: +OK | 10 Reply far d *4: :1",
        );
    }

    #[test]
    fn a_wrong_payload_length_does_not_matter() {
        check(
            b"   $2014$ 5 3 0 1 1 *1 d *62\r\n+OK\r\n   $2014$ 6 3 0 1 1 *1 d *0\r\n+x\r\n",
            "5 Execute near d *62: +OK | 6 Execute near d *0: +x",
        );
    }

    #[test]
    fn ids_to_the_end_of_64_bits() {
        check(b"$2014$ 18446744073709551615 3 0 1 1 *1 d *4\r\n+a\r\n", "18446744073709551615 Execute near d *4: +a");
        check(b"$2014$ 18446744073709551617 3 0 1 1 *1 d *4\r\n+a\r\n", "1 Execute near d *4: +a");
    }

    #[test]
    fn what_nodes_tolerate() {
        // No blanks before, no star before the data's length, several digits of the datacenter, words before the star.
        check(b"$2014$ 2 3 0 1 1 *1 d *4\r\n+a\r\n", "2 Execute near d *4: +a");
        check(b"   $2014$ 2 3 0 1 1 1 d *4\r\n+a\r\n", "2 Execute near d *4: +a");
        check(b"   $2014$ 2 3 0 1 120 *1 d *4\r\n+a\r\n", "2 Execute far d *4: +a");
        check(b"   $2014$ 2 3 0 1 1 *1 d and more *4\r\n+a\r\n", "2 Execute near d *4: +a");
        check(b"   $2014$ 2 3 16 9 1 *1 d *4\r\n+a\r\n", "2 Execute near d *4: +a");
        check(b"   $2014$ 2 3 17 9 1 *4 d *z *4\r\n+a\r\n", "2 Execute near encrypted d *z *4: +a");
    }

    #[test]
    fn garbage_is_skipped_and_counted() {
        check(b"xy$2014$ 2 3 0 1 1 *1 d *4\r\n+a\r\n", "2 bytes | 2 Execute near d *4: +a");
        check(b"\r\n     $2014$ 2 3 0 1 1 *1 d *4\r\n+a\r\n", "4 bytes | 2 Execute near d *4: +a");
        check(b"$2014$2014$ 2 3 0 1 1 *1 d *4\r\n+a\r\n", "5 bytes | 2 Execute near d *4: +a");
        check(b"   $2014$ x $2014$ 2 3 0 1 1 *1 d *4\r\n+a\r\n", "11 bytes | 2 Execute near d *4: +a");
        check(b"$2014", "");
        check(b"  ", "");
        check(b"      ", "3 bytes");
        check(b"$20x", "4 bytes");
        check(b"abc$2014$ 1", "3 bytes");
        check(b"abc  $20", "3 bytes");
    }

    #[test]
    fn messages_without_a_meaning_are_skipped_to_the_next_head() {
        check(
            b"   $2014$ 4 8 0 1 1 *1 d *9\r\nsome$text   $2014$ 2 3 0 1 1 *1 d *4\r\n+a\r\n",
            "4 Other(8) near d *9 | 9 bytes | 2 Execute near d *4: +a",
        );
    }

    #[test]
    fn a_head_is_not_longer_than_its_limit() {
        let head = |zeros: usize| format!("$2014$ {}7 3 0 1 1 *1 d *4\r\n+a\r\n", "0".repeat(zeros));
        check(head(900).as_bytes(), "7 Execute near d *4: +a");
        let too_long = head(1100);
        let bytes = too_long.len();
        check(too_long.as_bytes(), &format!("{bytes} bytes"));
        let data =
            |len: usize| [format!("$2014$ 7 3 0 1 1 *{len} ").as_bytes(), &b"x".repeat(len), b" *4\r\n+a\r\n"].concat();
        assert!(matches!(scan(&data(512)), Scan::Head { .. }));
        assert!(matches!(scan(&data(513)), Scan::Garbage { .. }));
        assert!(matches!(scan(b"$2014$ 7 3 0 1 1 *18446744073709551615 x"), Scan::Garbage { .. }));
    }

    #[test]
    fn gossip_ends_where_the_next_message_begins() {
        check(
            b"   $2014$ 1 7 0 1 1 *1 a *37\r\n   $2014$ 2 7 0 1 1 *1 a *2\r\nab",
            "1 Gossip near a *37:  | 2 Gossip near a *2: ab",
        );
        check(
            b"   $2014$ 1 7 0 1 1 *1 a *37\r\nabc   $2014$ 2 3 0 1 1 *1 d *4\r\n+a\r\n",
            "1 Gossip near a *37: abc | 2 Execute near d *4: +a",
        );
        check(b"   $2014$ 1 7 0 1 1 *1 a *99999999999\r\nabc", "1 Gossip near a *99999999999: too long | 3 bytes");
    }

    proptest! {
        /// However the bytes are delivered, the same messages come out and the same number of bytes is dropped.
        #[test]
        fn cuts_do_not_matter(parts in prop::collection::vec(testing::part(), 0..12), cuts in prop::collection::vec(1_usize..40, 1..50)) {
            let stream = parts.concat();
            let mut pieces = Vec::new();
            let (mut rest, mut cuts) = (&stream[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            prop_assert_eq!(testing::walk(&pieces), testing::walk(&[&stream]));
        }

        #[test]
        fn nothing_panics_and_everything_moves_on(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            testing::walk(&[&bytes]);
        }
    }
}
