//! From a name as a client spells it to its row.
//! Owns: the index, made by the compiler. One multiplication and, nearly always, one comparison of 64 bits find a row.

use super::commands::{COMMANDS, ROWS};
use crate::protocol::commands::Command;

/// Names that say nothing without a second word. `command` alone is a row as well.
pub const CONTAINERS: &[&str] = &[
    "acl", "client", "cluster", "command", "config", "function", "latency", "memory", "module", "object", "pubsub",
    "script", "slowlog", "xgroup", "xinfo",
];

/// The row of a name in any letter case; two words with a blank or, as Redis writes it, a bar between them.
pub fn find(name: &[u8]) -> Option<&'static Command> {
    let bar = |byte: &u8| if *byte == b'|' { b' ' } else { *byte };
    match lookup(name) {
        Some(Found::Row(row)) => Some(row),
        Some(Found::Container(at)) => row(CONTAINERS[at]),
        None => row(std::str::from_utf8(&name.iter().map(bar).collect::<Vec<u8>>()).ok()?),
    }
}

/// What a request's first word is.
pub(super) enum Found {
    Row(&'static Command),
    /// An index into `CONTAINERS`: the second word decides.
    Container(usize),
}

#[inline]
pub(super) fn lookup(name: &[u8]) -> Option<Found> {
    let (slot, word) = place(name);
    let mut at = slot;
    loop {
        let entry = &INDEX[at];
        if entry.len == 0 {
            return None;
        }
        if entry.len as usize == name.len() && entry.word == word {
            let spelled = match entry.what {
                CONTAINER.. => CONTAINERS[(entry.what - CONTAINER) as usize],
                row => COMMANDS[row as usize].name,
            };
            if name.len() <= 8 || spelled.as_bytes().eq_ignore_ascii_case(name) {
                return Some(match entry.what {
                    CONTAINER.. => Found::Container((entry.what - CONTAINER) as usize),
                    row => Found::Row(&COMMANDS[row as usize]),
                });
            }
        }
        at = (at + 1) % SLOTS;
    }
}

/// The row of two words; for the second words of containers, which are no hot path.
pub(super) fn lookup_second(container: usize, second: &[u8]) -> Option<&'static Command> {
    let first = CONTAINERS[container];
    COMMANDS.iter().find(|row| {
        row.name.len() == first.len() + 1 + second.len()
            && row.name.starts_with(first)
            && row.name.as_bytes()[first.len()] == b' '
            && row.name.as_bytes()[first.len() + 1..].eq_ignore_ascii_case(second)
    })
}

fn row(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|row| row.name.eq_ignore_ascii_case(name))
}

/// Four times the names of one word: a lookup that finds nothing ends at once.
const SLOTS: usize = 1024;
const CONTAINER: u16 = 1 << 15;

#[derive(Clone, Copy)]
struct Entry {
    /// The first eight bytes, lower case, the first byte lowest; shorter names end in zeros.
    word: u64,
    /// Of the name; 0 marks a free slot.
    len: u8,
    /// A row, or `CONTAINER` and a container.
    what: u16,
}

static INDEX: [Entry; SLOTS] = index();

const fn index() -> [Entry; SLOTS] {
    let mut index = [Entry { word: 0, len: 0, what: 0 }; SLOTS];
    let mut at = 0;
    while at < ROWS.len() + CONTAINERS.len() {
        let (name, what) = match at < ROWS.len() {
            true => (ROWS[at].name.as_bytes(), at as u16),
            false => (CONTAINERS[at - ROWS.len()].as_bytes(), CONTAINER + (at - ROWS.len()) as u16),
        };
        at += 1;
        if (what < CONTAINER && is_container(name)) || has_blank(name) {
            continue;
        }
        let (mut slot, word) = place(name);
        while index[slot].len != 0 {
            slot = (slot + 1) % SLOTS;
        }
        index[slot] = Entry { word, len: name.len() as u8, what };
    }
    index
}

const fn has_blank(name: &[u8]) -> bool {
    let mut at = 0;
    while at < name.len() {
        if name[at] == b' ' {
            return true;
        }
        at += 1;
    }
    false
}

const fn is_container(name: &[u8]) -> bool {
    let mut at = 0;
    while at < CONTAINERS.len() {
        let container = CONTAINERS[at].as_bytes();
        let mut same = 0;
        while same < name.len() && same < container.len() && name[same] == container[same] {
            same += 1;
        }
        if same == name.len() && same == container.len() {
            return true;
        }
        at += 1;
    }
    false
}

/// The first slot to look at, and the name's first eight bytes in lower case.
#[inline(always)]
const fn place(name: &[u8]) -> (usize, u64) {
    let first = lower(word(name, 0));
    let last = if name.len() > 8 { lower(word(name, name.len() - 8)) } else { 0 };
    let mixed = (first ^ last.rotate_left(29) ^ name.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed >> 54) as usize, first)
}

/// Up to eight bytes from `at` on, the first one lowest.
#[inline(always)]
const fn word(name: &[u8], at: usize) -> u64 {
    // Written out for the compiler: a loop over at most eight bytes costs more than the rest of the lookup.
    let (_, rest) = name.split_at(at);
    if let Some(bytes) = rest.first_chunk::<8>() {
        return u64::from_le_bytes(*bytes);
    }
    if let (Some(head), Some(tail)) = (rest.first_chunk::<4>(), rest.last_chunk::<4>()) {
        let shift = 8 * (rest.len() - 4) as u32;
        return u32::from_le_bytes(*head) as u64 | (u32::from_le_bytes(*tail) as u64) << shift;
    }
    match rest {
        [a] => *a as u64,
        [a, b] => *a as u64 | (*b as u64) << 8,
        [a, b, c] => *a as u64 | (*b as u64) << 8 | (*c as u64) << 16,
        _ => 0,
    }
}

/// ASCII capitals to small letters in all eight bytes at once; every other byte stays what it is.
#[inline(always)]
const fn lower(word: u64) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let seven = word & (ONES * 0x7f);
    let from_a = seven + ONES * (0x80 - b'A' as u64);
    let above_z = seven + ONES * (0x7f - b'Z' as u64);
    let capital = (from_a ^ above_z) & !word & (ONES * 0x80);
    word | (capital >> 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_by_its_name_in_any_case() {
        for row in &COMMANDS {
            for name in [row.name.to_string(), row.name.to_uppercase(), row.name.replace(' ', "|")] {
                assert_eq!(find(name.as_bytes()).map(|found| found.verb), Some(row.verb), "{name}");
            }
            let (first, second) = row.name.split_once(' ').unwrap_or((row.name, ""));
            match lookup(first.to_uppercase().as_bytes()) {
                Some(Found::Row(found)) => assert_eq!(found.name, first),
                Some(Found::Container(at)) if !second.is_empty() => {
                    let found = lookup_second(at, second.to_uppercase().as_bytes());
                    assert_eq!(found.map(|found| found.verb), Some(row.verb));
                }
                Some(Found::Container(_)) => assert_eq!(row.name, "command"),
                None => panic!("{} is not in the index", row.name),
            }
        }
    }

    #[test]
    fn nothing_else_is_found() {
        let strange: [&[u8]; 9] =
            [b"", b"ge", b"gett", b"get\0", b"config", b"GE\xd4", b"G\x05T", b"json\x0eget", b"zremrangebyscorf"];
        for name in strange {
            assert!(find(name).is_none(), "{name:?}");
        }
        assert!(lookup(b"config get").is_none(), "two words in one argument are no command");
        assert!(lookup(b"sort store").is_none(), "what an option makes of a command has no name of its own");
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = COMMANDS.iter().map(|row| row.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), COMMANDS.len());
    }
}
