//! Where a memcached's reply ends, and how two replies are compared.
//! Owns: how far the reply at the head of the inbox was read. Knows nothing of: requests beyond the kind of reply they get.

use super::commands::row;
use super::line::{Words, unsigned};
use crate::protocol::reply::{Expect, Scanned};
use crate::protocol::request::Request;

/// A reply's line holds a key and a few numbers, an error's text, or one statistic.
const LINE_BYTES_MAX: usize = 64 << 10;
/// memcached's items are limited by `-I`, at most 1 GB.
const DATA_BYTES_MAX: u64 = 1 << 30;

/// Which kind of reply a request gets.
pub fn expect_of(request: &Request<'_>) -> Expect {
    row(request.command).expect
}

/// Finds replies at the head of an inbox. It never looks twice at a byte.
#[derive(Debug, Default)]
pub struct ReplyScanner {
    /// So many bytes are complete lines and data blocks of the reply that is being read.
    at: usize,
    /// So many bytes behind `at` hold no end of line.
    searched: usize,
    /// What ends at `at` is a data block, whose own end was not looked at yet.
    block: bool,
    /// Nothing follows that block.
    last: bool,
}

/// What one line says about the reply that it stands in.
enum Said {
    /// It is the last one.
    End {
        is_error: bool,
    },
    /// So many bytes of data and their line end follow, then more lines.
    Block(u64),
    /// So many bytes of data and their line end follow, and are the last.
    LastBlock(u64),
    /// Another line follows.
    More,
    Nonsense,
}

impl ReplyScanner {
    /// What the inbox starts with, if it is a reply of the expected kind.
    pub fn scan(&mut self, expect: Expect, inbox: &[u8]) -> Scanned {
        loop {
            if inbox.len() < self.at {
                return Scanned::Incomplete { need: self.at };
            }
            // Where a block ends there must be a line end, or the place is lost.
            if std::mem::take(&mut self.block) && !inbox[..self.at].ends_with(b"\r\n") {
                return Scanned::Broken;
            }
            if self.last {
                return self.found(self.at, false);
            }
            let unsearched = inbox.get(self.at + self.searched..).unwrap_or_default();
            let Some(found) = memchr::memchr(b'\n', unsearched) else {
                self.searched = inbox.len() - self.at;
                if self.searched > LINE_BYTES_MAX {
                    return Scanned::Broken;
                }
                return Scanned::Incomplete { need: inbox.len() + 1 };
            };
            let start = self.at;
            let end = start + self.searched + found;
            let line = &inbox[start..end];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if end - start > LINE_BYTES_MAX {
                return Scanned::Broken;
            }
            match said(expect, line, start == 0) {
                Said::End { is_error } => return self.found(end + 1, is_error),
                Said::More => self.at = end + 1,
                Said::Block(bytes) if bytes <= DATA_BYTES_MAX => {
                    self.at = end + 1 + bytes as usize + 2;
                    self.block = true;
                }
                Said::LastBlock(bytes) if bytes <= DATA_BYTES_MAX => {
                    self.at = end + 1 + bytes as usize + 2;
                    (self.block, self.last) = (true, true);
                }
                _ => return Scanned::Broken,
            }
            self.searched = 0;
        }
    }

    /// What is here of a reply that is not whole will not be looked at: so many bytes at the head of `inbox` may go, and the
    /// next look begins behind them. A block's own end is still looked at.
    pub fn pass_over(&mut self, inbox: &[u8]) -> usize {
        let passed = inbox.len().min(self.at.saturating_sub(2));
        self.at -= passed;
        passed
    }

    fn found(&mut self, len: usize, is_error: bool) -> Scanned {
        *self = ReplyScanner::default();
        Scanned::Reply { len, is_error }
    }
}

fn said(expect: Expect, line: &[u8], is_first: bool) -> Said {
    let end = |is_good: bool| if is_good { Said::End { is_error: false } } else { Said::Nonsense };
    if is_error(line) {
        return Said::End { is_error: true };
    }
    match expect {
        Expect::Line => end(is_answer(line)),
        Expect::Values => match line.strip_prefix(b"VALUE ") {
            Some(words) => Words::of_line(words).nth(2).and_then(unsigned).map_or(Said::Nonsense, Said::Block),
            None => end(line == b"END"),
        },
        Expect::Stats => match line {
            b"END" => Said::End { is_error: false },
            b"OK" | b"RESET" if is_first => Said::End { is_error: false },
            _ => Said::More,
        },
        Expect::Meta => match line.get(..2) {
            Some(b"VA") => Words::of_line(&line[2..]).next().and_then(unsigned).map_or(Said::Nonsense, Said::LastBlock),
            Some(b"HD" | b"EN" | b"NF" | b"NS" | b"EX" | b"ME" | b"MN") => {
                end(line.get(2).is_none_or(|&byte| byte == b' '))
            }
            _ => Said::Nonsense,
        },
        Expect::Resp => Said::Nonsense,
    }
}

/// Is it an error that a reply or its last line begins with? `ERROR` stands alone or has a text behind it, as the others do.
pub fn is_error(line: &[u8]) -> bool {
    line.starts_with(b"ERROR") || line.starts_with(b"CLIENT_ERROR") || line.starts_with(b"SERVER_ERROR")
}

/// Is it a line that stands alone? A stray line of a longer reply is none: it tells that the place is lost.
fn is_answer(line: &[u8]) -> bool {
    match line {
        b"STORED" | b"NOT_STORED" | b"EXISTS" | b"NOT_FOUND" | b"DELETED" | b"TOUCHED" | b"OK" => true,
        _ if line.starts_with(b"VERSION ") || line.starts_with(b"MEMLIMIT_TOO_SMALL") => true,
        // decr may leave blanks behind a number that became shorter.
        _ => line.first().is_some_and(u8::is_ascii_digit) && unsigned(line.trim_ascii_end()).is_some(),
    }
}

/// Hands over a reply without what is a replica's own (cas ids, times, hits), so that equal values compare equal.
pub fn essence(expect: Expect, mut frame: &[u8], mut take: impl FnMut(&[u8])) {
    if !matches!(expect, Expect::Values | Expect::Meta) {
        return take(frame);
    }
    while let Some((text, head)) = super::line::split_line(frame) {
        let mut words = Words::of_line(&frame[..text]);
        let Some(code) = words.next() else { break };
        take(code);
        let mut data = 0;
        match code {
            b"VALUE" => {
                for word in words.take(3) {
                    take(b" ");
                    take(word);
                    data = unsigned(word).unwrap_or(0);
                }
                data = data.saturating_add(2);
            }
            b"VA" | b"HD" | b"EN" | b"NF" | b"NS" | b"EX" => {
                if code == b"VA" {
                    data = words.clone().next().and_then(unsigned).unwrap_or(0).saturating_add(2);
                }
                for word in words.filter(|word| !matches!(word[0], b'c' | b'h' | b'l' | b't')) {
                    take(b" ");
                    take(word);
                }
            }
            _ => take(&frame[code.len()..text]),
        }
        take(b"\r\n");
        let rest = &frame[head..];
        let (block, rest) = rest.split_at(rest.len().min(usize::try_from(data).unwrap_or(usize::MAX)));
        take(block);
        frame = rest;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What `bytes`, which come piece by piece, are found to be: lengths of replies, `!` behind errors.
    fn scan_all(expect: Expect, bytes: &[u8], cuts: &[usize]) -> Vec<String> {
        scan_or_pass(expect, bytes, cuts, false)
    }

    /// The same; `passes`: nothing is kept of what is not whole.
    fn scan_or_pass(expect: Expect, bytes: &[u8], cuts: &[usize], passes: bool) -> Vec<String> {
        let mut passed = 0;
        let mut scanner = ReplyScanner::default();
        let (mut found, mut inbox, mut fed) = (Vec::new(), Vec::new(), 0);
        for cut in cuts.iter().copied().chain([bytes.len()]) {
            inbox.extend_from_slice(&bytes[fed..cut.max(fed)]);
            fed = cut.max(fed);
            loop {
                match scanner.scan(expect, &inbox) {
                    Scanned::Reply { len, is_error } => {
                        inbox.drain(..len);
                        let len = std::mem::take(&mut passed) + len;
                        found.push(format!("{len}{}", if is_error { "!" } else { "" }));
                    }
                    Scanned::Incomplete { need } => {
                        assert!(need > inbox.len(), "nothing is asked for that is here");
                        if passes {
                            passed += inbox.drain(..scanner.pass_over(&inbox)).len();
                        }
                        break;
                    }
                    Scanned::Broken => {
                        found.push("broken".into());
                        return found;
                    }
                }
            }
        }
        if !inbox.is_empty() || passed > 0 {
            found.push("incomplete".into());
        }
        found
    }

    fn check(expect: Expect, bytes: &str, found: &[&str]) {
        let bytes = bytes.replace('|', "\r\n").into_bytes();
        assert_eq!(scan_all(expect, &bytes, &[]), found, "{}", bytes.escape_ascii());
        let each: Vec<usize> = (1..bytes.len()).collect();
        assert_eq!(scan_all(expect, &bytes, &each), found, "{} byte by byte", bytes.escape_ascii());
    }

    #[test]
    fn lines() {
        check(Expect::Line, "STORED|NOT_STORED|", &["8", "12"]);
        check(Expect::Line, "EXISTS|NOT_FOUND|DELETED|TOUCHED|OK|", &["8", "11", "9", "9", "4"]);
        check(Expect::Line, "17|7  |VERSION 1.6.18|", &["4", "5", "16"]);
        check(Expect::Line, "ERROR|CLIENT_ERROR x|SERVER_ERROR out of memory|", &["7!", "16!", "28!"]);
        check(Expect::Line, "ERROR: shutdown not enabled|", &["29!"]);
        check(Expect::Line, "STOR", &["incomplete"]);
        check(Expect::Line, "END|", &["broken"]);
        check(Expect::Line, "VALUE a 0 1|x|END|", &["broken"]);
        check(Expect::Line, "17x|", &["broken"]);
        check(Expect::Line, "HD|", &["broken"]);
    }

    #[test]
    fn values() {
        check(Expect::Values, "END|END|", &["5", "5"]);
        check(Expect::Values, "VALUE a 0 3|abc|END|", &["23"]);
        check(Expect::Values, "VALUE a 0 3 99|abc|VALUE b 5 0||END|", &["41"]);
        check(Expect::Values, "VALUE a 0 6|END|!|END|", &["26"]);
        check(Expect::Values, "SERVER_ERROR x|END|", &["16!", "5"]);
        check(Expect::Values, "VALUE a 0 3|abcd|END|", &["broken"]);
        check(Expect::Values, "VALUE a 0 x|abc|END|", &["broken"]);
        check(Expect::Values, "VALUE a 0 99999999999|", &["broken"]);
        check(Expect::Values, "VALUE a 0|", &["broken"]);
        check(Expect::Values, "STORED|", &["broken"]);
        check(Expect::Values, "VALUE a 0 3|abc|", &["incomplete"]);
    }

    #[test]
    fn statistics() {
        check(Expect::Stats, "STAT pid 1|STAT uptime 2|END|", &["32"]);
        check(Expect::Stats, "END|RESET|OK|ERROR|", &["5", "7", "4", "7!"]);
        check(Expect::Stats, "ITEM a [1 b; 0 s]|END|", &["24"]);
        check(Expect::Stats, "STAT pid 1|OK|END|", &["21"]);
    }

    #[test]
    fn meta() {
        check(Expect::Meta, "HD|EN|NF|NS|EX|MN|", &["4", "4", "4", "4", "4", "4"]);
        check(Expect::Meta, "HD ka O1|ME a exp=-1|", &["10", "13"]);
        check(Expect::Meta, "VA 2|hi|VA 0 W||", &["10", "10"]);
        check(Expect::Meta, "VA 2 f1 ka|||END", &["16", "incomplete"]);
        check(Expect::Meta, "CLIENT_ERROR duplicate flag|", &["29!"]);
        check(Expect::Meta, "VA x|", &["broken"]);
        check(Expect::Meta, "VA 2|hix|", &["broken"]);
        check(Expect::Meta, "HDx|", &["broken"]);
        check(Expect::Meta, "END|", &["broken"]);
    }

    #[test]
    fn of_a_reply_that_is_passed_over_next_to_nothing_is_kept() {
        let mut scanner = ReplyScanner::default();
        let mut kept = b"VALUE a 0 100000\r\n".to_vec();
        for _ in 0..10 {
            kept.extend_from_slice(&[b'x'; 10_000]);
            assert!(matches!(scanner.scan(Expect::Values, &kept), Scanned::Incomplete { need } if need > kept.len()));
            kept.drain(..scanner.pass_over(&kept));
            assert!(kept.is_empty());
        }
        assert_eq!(scanner.scan(Expect::Values, b"\r\nEND\r\n"), Scanned::Reply { len: 7, is_error: false });
    }

    #[test]
    fn lines_without_end_are_not_kept() {
        let line = "x".repeat(LINE_BYTES_MAX + 2);
        check(Expect::Stats, &line, &["broken"]);
        check(Expect::Stats, &format!("{line}|END|"), &["broken"]);
    }

    #[test]
    fn equal_values_are_equal_whatever_a_replica_adds() {
        let essence_of = |expect, reply: &str| {
            let mut bytes = Vec::new();
            essence(expect, reply.replace('|', "\r\n").as_bytes(), |part| bytes.extend_from_slice(part));
            bytes
        };
        let check = |expect, one: &str, other: &str, equal: bool| {
            assert_eq!(essence_of(expect, one) == essence_of(expect, other), equal, "{one} {other}");
        };
        check(Expect::Values, "VALUE a 0 1 7|x|END|", "VALUE a 0 1 8|x|END|", true);
        check(Expect::Values, "VALUE a 0 1 7|x|END|", "VALUE a 0 1 7|y|END|", false);
        check(Expect::Values, "VALUE a 0 1 7|x|END|", "VALUE a 1 1 7|x|END|", false);
        check(Expect::Values, "VALUE a 0 1|x|VALUE b 0 1|y|END|", "VALUE a 0 1|x|END|", false);
        check(Expect::Meta, "VA 1 c5 t10 ka|x|", "VA 1 c6 t9 ka|x|", true);
        check(Expect::Meta, "VA 1 f5|x|", "VA 1 f6|x|", false);
        check(Expect::Meta, "VA 1|x|", "VA 1|X|", false);
        check(Expect::Meta, "HD|", "NF|", false);
        check(Expect::Line, "STORED|", "EXISTS|", false);
    }

    proptest! {
        #[test]
        fn any_cut_is_found_the_same(
            parts in prop::collection::vec(prop::sample::select(vec![
                "END\r\n", "VALUE a 0 3\r\nabc\r\n", "VALUE a 0 3", "\r\n", "VALUE b 0 0 7\r\n\r\n", "STORED\r\n", "HD\r\n",
                "VA 3\r\nabc\r\n", "VA 3\r\n", "abc", "EN\r\n", "ERROR\r\n", "STAT a b\r\n", "12\r\n", "\n", " ", "x",
            ]), 0..8),
            cuts in prop::collection::vec(0usize..120, 0..6),
            expect in prop::sample::select(vec![Expect::Line, Expect::Values, Expect::Stats, Expect::Meta]),
        ) {
            let bytes = parts.concat().into_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            let whole = scan_all(expect, &bytes, &[]);
            prop_assert_eq!(&scan_or_pass(expect, &bytes, &cuts, true), &whole);
            prop_assert_eq!(scan_all(expect, &bytes, &cuts), whole);
        }
    }
}
