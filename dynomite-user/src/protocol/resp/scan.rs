//! Where a reply ends.
//! Owns: the place in a reply that is still arriving. Knows nothing of: what was asked, and what the reply means.
//!
//! All of RESP2 and RESP3, nested to any depth: what is counted is how many elements are to come in all, so that depth
//! costs nothing. Every byte is looked at once at most, a bulk string's content not at all.

use super::head::{Head, number};
use crate::protocol::reply::Scanned;

/// The longest bulk string: above what Redis stores, with room for replies that modules build.
const BULK_BYTES_MAX: i64 = i32::MAX as i64;
/// Elements of one array. Redis' own replies are far below; more is a place lost.
const ELEMENTS_MAX: i64 = u32::MAX as i64;

#[derive(Debug, Default)]
pub struct ReplyScanner {
    /// How much of the reply is done with: it ends in front of an element. 0 between replies. Beyond what is here while a bulk
    /// string is passed over.
    at: usize,
    /// Bytes behind `at` in which there is no line end.
    looked: usize,
    /// Elements to come, the reply itself included.
    left: u64,
    /// The reply's own type has been seen: what comes is inside of it, not an attribute before it.
    entered: bool,
    is_error: bool,
}

/// One element, whatever it is.
enum Element {
    /// It ends before this byte.
    Ends(usize),
    /// Behind its head, before this byte, come so many elements.
    Opens {
        next: usize,
        elements: u64,
    },
    Incomplete(usize),
    Broken,
}

impl ReplyScanner {
    /// Looks for one reply at the head of `inbox`, which begins where the last one ended.
    #[inline]
    pub fn scan(&mut self, inbox: &[u8]) -> Scanned {
        // Nearly all replies are one bulk string that is all here.
        if self.at == 0
            && let [b'$', ..] = inbox
            && let Head::Number { value: value @ 0..=BULK_BYTES_MAX, next } = number(inbox, 1)
            && let Some(b"\r\n") = inbox.get(next + value as usize..next + value as usize + 2)
        {
            return Scanned::Reply { len: next + value as usize + 2, is_error: false };
        }
        self.walk(inbox)
    }

    fn walk(&mut self, inbox: &[u8]) -> Scanned {
        if self.at == 0 {
            (self.left, self.entered, self.is_error) = (1, false, false);
        }
        if self.at > inbox.len() {
            return Scanned::Incomplete { need: self.at };
        }
        while self.left > 0 {
            let Some(&kind) = inbox.get(self.at) else { return Scanned::Incomplete { need: self.at + 1 } };
            if kind != b'|' {
                if !self.entered && self.left == 1 {
                    self.entered = true;
                    self.is_error = matches!(kind, b'-' | b'!');
                }
                self.left -= 1;
            }
            match self.element(kind, inbox) {
                Element::Ends(end) => self.at = end,
                Element::Opens { next, elements } => {
                    self.at = next;
                    self.left += elements;
                }
                Element::Incomplete(need) => {
                    self.left += u64::from(kind != b'|');
                    return Scanned::Incomplete { need };
                }
                Element::Broken => return Scanned::Broken,
            }
            self.looked = 0;
        }
        Scanned::Reply { len: std::mem::take(&mut self.at), is_error: self.is_error }
    }

    /// What is here of a reply that is not whole will not be looked at: so many bytes at the head of `inbox` may go, and the
    /// next look begins behind them. Never all of it, so that what comes is known to go on with it.
    pub fn pass_over(&mut self, inbox: &[u8]) -> usize {
        if let Some(b'$' | b'=' | b'!') = inbox.get(self.at)
            && self.left > 0
            && let Head::Number { value: value @ 0..=BULK_BYTES_MAX, next } = number(inbox, self.at + 1)
        {
            self.at = next + value as usize + 2;
            self.left -= 1;
        }
        let passed = inbox.len().min(self.at.saturating_sub(1));
        self.at -= passed;
        passed
    }

    #[inline]
    fn element(&mut self, kind: u8, inbox: &[u8]) -> Element {
        match kind {
            b'$' | b'=' | b'!' => match number(inbox, self.at + 1) {
                Head::Number { value: value @ 0..=BULK_BYTES_MAX, next } => bulk(inbox, next + value as usize),
                Head::Number { value: -1, next } if kind == b'$' => Element::Ends(next),
                other => headless(other, inbox),
            },
            b'*' | b'~' | b'>' | b'%' | b'|' => match number(inbox, self.at + 1) {
                Head::Number { value: value @ 0..=ELEMENTS_MAX, next } => {
                    let each = if matches!(kind, b'%' | b'|') { 2 } else { 1 };
                    Element::Opens { next, elements: each * value as u64 }
                }
                Head::Number { value: -1, next } if kind == b'*' => Element::Ends(next),
                other => headless(other, inbox),
            },
            b':' => match number(inbox, self.at + 1) {
                Head::Number { next, .. } => Element::Ends(next),
                other => headless(other, inbox),
            },
            b'+' | b'-' | b',' | b'(' => self.line(inbox),
            b'_' => fixed(inbox, self.at, b"_\r\n"),
            b'#' if inbox.get(self.at + 1) == Some(&b'f') => fixed(inbox, self.at, b"#f\r\n"),
            b'#' => fixed(inbox, self.at, b"#t\r\n"),
            _ => Element::Broken,
        }
    }

    fn line(&mut self, inbox: &[u8]) -> Element {
        let from = self.at + self.looked;
        match memchr::memchr(b'\n', &inbox[from..]) {
            Some(len) if inbox[from + len - 1] == b'\r' => Element::Ends(from + len + 1),
            Some(_) => Element::Broken,
            None => {
                self.looked = inbox.len() - self.at;
                Element::Incomplete(inbox.len() + 1)
            }
        }
    }
}

#[inline]
fn bulk(inbox: &[u8], end: usize) -> Element {
    match inbox.get(end..end + 2) {
        Some(b"\r\n") => Element::Ends(end + 2),
        Some(_) => Element::Broken,
        None => Element::Incomplete(end + 2),
    }
}

fn headless(head: Head, inbox: &[u8]) -> Element {
    match head {
        Head::Incomplete => Element::Incomplete(inbox.len() + 1),
        _ => Element::Broken,
    }
}

fn fixed(inbox: &[u8], at: usize, expected: &[u8]) -> Element {
    let here = &inbox[at..inbox.len().min(at + expected.len())];
    if here == expected {
        Element::Ends(at + expected.len())
    } else if expected.starts_with(here) {
        Element::Incomplete(at + expected.len())
    } else {
        Element::Broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `input` in pieces that end at `cuts`; tells each reply's length, `!` behind errors, `broken` or `…`.
    fn told(input: &[u8], cuts: &[usize]) -> String {
        let (mut scanner, mut told, mut at) = (ReplyScanner::default(), Vec::new(), 0);
        for &held in cuts.iter().chain([&input.len()]) {
            while at < held {
                match scanner.scan(&input[at..held]) {
                    Scanned::Reply { len, is_error } => {
                        assert!(len > 0 && at + len <= held);
                        at += len;
                        told.push(format!("{len}{}", if is_error { "!" } else { "" }));
                    }
                    Scanned::Incomplete { need } => {
                        assert!(need > held - at);
                        break;
                    }
                    Scanned::Broken => {
                        told.push("broken".into());
                        return told.join(" ");
                    }
                }
            }
        }
        if at < input.len() {
            told.push("…".into());
        }
        told.join(" ")
    }

    #[track_caller]
    fn check(input: &str, expected: &str) {
        let input = input.as_bytes();
        assert_eq!(told(input, &[]), expected, "{}", input.escape_ascii());
        let everywhere: Vec<usize> = (0..input.len()).collect();
        assert_eq!(told(input, &everywhere), expected, "{} byte by byte", input.escape_ascii());
        for cut in everywhere {
            assert_eq!(told(input, &[cut]), expected, "{} cut at {cut}", input.escape_ascii());
        }
    }

    #[test]
    fn resp2() {
        check("+OK\r\n-ERR no\r\n:12\r\n:-3\r\n", "5 9! 5 5");
        check("$3\r\nfoo\r\n$0\r\n\r\n$-1\r\n*-1\r\n*0\r\n", "9 6 5 5 4");
        check("*2\r\n$1\r\na\r\n:1\r\n+OK\r\n", "15 5");
        check("*3\r\n*2\r\n:1\r\n*0\r\n$-1\r\n*1\r\n*1\r\n+a\r\n:9\r\n", "33 4");
        check("*2\r\n-ERR inside\r\n+OK\r\n+b\r\n", "22 4");
    }

    #[test]
    fn resp3() {
        check("_\r\n#t\r\n#f\r\n,1.5\r\n,inf\r\n(3492890328409238509\r\n", "3 4 4 6 6 22");
        check("%2\r\n+a\r\n:1\r\n+b\r\n%1\r\n_\r\n~0\r\n~2\r\n#t\r\n#f\r\n", "27 12");
        check("=8\r\ntxt:Some\r\n!5\r\nERR x\r\n>2\r\n+pubsub\r\n+m\r\n", "14 11! 17");
    }

    #[test]
    fn attributes_belong_to_the_reply_behind_them() {
        check("|1\r\n+ttl\r\n:3600\r\n-ERR no\r\n+OK\r\n", "26! 5");
        check("*2\r\n|1\r\n+k\r\n-v\r\n:1\r\n:2\r\n:3\r\n", "24 4");
        check("|0\r\n|1\r\n*1\r\n+a\r\n~0\r\n$1\r\nx\r\n", "27");
    }

    #[test]
    fn places_lost() {
        for broken in [
            "x\r\n",
            "\r\n",
            "$-2\r\n",
            "$x\r\n",
            "$3\r\nfooXY",
            "*-2\r\n",
            "~-1\r\n",
            "%-1\r\n",
            "=-1\r\n",
            "$?\r\n",
            "*?\r\n",
            "_x\r\n",
            "#x\r\n",
            "+a\n",
            "-\n",
            ":1x\r\n",
            ":\r\n",
            ":01\r\n",
            "*4294967296\r\n",
            "$2147483648\r\n",
            "*1\r\n\r\n",
        ] {
            assert!(told(broken.as_bytes(), &[]).contains("broken"), "{broken:?}");
        }
    }

    #[test]
    fn a_long_value_says_what_it_needs() {
        assert_eq!(
            ReplyScanner::default().scan(b"$536870912\r\nabc"),
            Scanned::Incomplete { need: 12 + (512 << 20) + 2 }
        );
    }

    /// Passes over the replies in `input`, which comes in pieces that end at `cuts`: their lengths.
    fn passed_over(input: &[u8], cuts: &[usize]) -> Vec<usize> {
        let (mut scanner, mut lengths, mut at, mut passed) = (ReplyScanner::default(), Vec::new(), 0, 0);
        for &held in cuts.iter().chain([&input.len()]) {
            while at < held {
                match scanner.scan(&input[at..held]) {
                    Scanned::Reply { len, .. } => {
                        lengths.push(std::mem::take(&mut passed) + len);
                        at += len;
                    }
                    Scanned::Incomplete { .. } => {
                        let more = scanner.pass_over(&input[at..held]);
                        assert_eq!(scanner.pass_over(&input[at + more..held]), 0);
                        (at, passed) = (at + more, passed + more);
                        break;
                    }
                    Scanned::Broken => panic!("place lost in {}", input.escape_ascii()),
                }
            }
        }
        lengths
    }

    #[test]
    fn of_a_reply_that_is_passed_over_next_to_nothing_is_kept() {
        let mut scanner = ReplyScanner::default();
        let head = b"*2\r\n$1000000\r\nabc";
        assert_eq!(scanner.scan(head), Scanned::Incomplete { need: 4 + 10 + 1_000_000 + 2 });
        assert_eq!(scanner.pass_over(head), head.len());
        let piece = [b'x'; 100_000];
        for _ in 0..9 {
            assert!(matches!(scanner.scan(&piece), Scanned::Incomplete { need } if need > piece.len()));
            assert_eq!(scanner.pass_over(&piece), piece.len());
        }
        let end = [&[b'x'; 99_997][..], b"\r\n:7\r\n+next\r\n"].concat();
        assert_eq!(scanner.scan(&end), Scanned::Reply { len: 99_997 + 6, is_error: false });
    }

    #[test]
    fn depth_costs_nothing() {
        let mut input = b"*1\r\n".repeat(1_000_000);
        input.extend_from_slice(b"+a\r\n");
        assert_eq!(ReplyScanner::default().scan(&input), Scanned::Reply { len: input.len(), is_error: false });
    }

    #[test]
    fn a_long_reply_in_pieces_is_walked_once() {
        let input = [&b"*300000\r\n"[..], &b"$5\r\nvalue\r\n".repeat(300_000)].concat();
        let mut scanner = ReplyScanner::default();
        for held in (0..input.len()).step_by(1000).skip(1) {
            assert!(matches!(scanner.scan(&input[..held]), Scanned::Incomplete { need } if need > held));
            assert!(scanner.at + 11 >= held, "{} of {held}", scanner.at);
        }
        assert_eq!(scanner.scan(&input), Scanned::Reply { len: input.len(), is_error: false });
        let line = [&b"+"[..], &b"x".repeat(100_000)].concat();
        for held in 1..line.len() {
            assert_eq!(scanner.scan(&line[..held]), Scanned::Incomplete { need: held + 1 });
            assert_eq!(scanner.looked, held);
        }
    }

    use proptest::prelude::*;

    /// A reply of any shape, written out.
    fn reply() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            "[a-z ]{0,9}".prop_map(|text| format!("+{text}\r\n")),
            "[A-Z ]{0,9}".prop_map(|text| format!("-{text}\r\n")),
            any::<i64>().prop_map(|number| format!(":{number}\r\n")),
            "\\PC{0,9}|\r\n|[$*]1\r\n".prop_map(|text| format!("${}\r\n{text}\r\n", text.len())),
            "[a-z]{0,5}".prop_map(|text| format!("={}\r\ntxt:{text}\r\n", text.len() + 4)),
            prop::sample::select(&["$-1\r\n", "*-1\r\n", "_\r\n", "#t\r\n", ",1e5\r\n", "(12\r\n"][..])
                .prop_map(str::to_string),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            (prop::sample::select(&b"*~>%|"[..]), prop::collection::vec(inner.clone(), 0..6), inner).prop_map(
                |(kind, elements, behind)| {
                    let (whole, count) = match kind {
                        b'%' | b'|' => (elements.len() & !1, elements.len() / 2),
                        _ => (elements.len(), elements.len()),
                    };
                    let behind = if kind == b'|' { &behind[..] } else { "" };
                    format!("{}{count}\r\n{}{behind}", kind as char, elements[..whole].concat())
                },
            )
        })
    }

    proptest! {
        #[test]
        fn any_cut_of_any_replies_finds_their_ends(
            replies in prop::collection::vec(reply(), 1..5),
            cuts in prop::collection::vec(0usize..1000, 0..6),
        ) {
            let input = replies.concat().into_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (input.len() + 1)).collect();
            cuts.sort_unstable();
            let found = told(&input, &cuts).replace('!', "");
            let lengths: Vec<_> = replies.iter().map(String::len).collect();
            prop_assert_eq!(found, lengths.iter().map(usize::to_string).collect::<Vec<_>>().join(" "));
            prop_assert_eq!(passed_over(&input, &cuts), lengths);
        }

        #[test]
        fn arbitrary_bytes_never_panic(input in prop::collection::vec(any::<u8>(), 0..100), kind in 0usize..14) {
            let input = [&b"$*+-:_#,(=!~%|"[kind..kind + 1], &input].concat();
            let everywhere: Vec<usize> = (0..input.len()).collect();
            prop_assert_eq!(told(&input, &everywhere), told(&input, &[]));
        }
    }
}
