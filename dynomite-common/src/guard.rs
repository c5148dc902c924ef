//! What the guard makes of a packet to one of our ports.
//! Owns: classes, rulings and the order of the rules. Knows nothing of: frames, maps, whether anything is dropped.

use crate::abi::MAPPED;
use crate::frame::{Seen, Segment, Unread};

/// Whose port a packet goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Class {
    Client = 0,
    Peer = 1,
    Stats = 2,
    /// It cannot be told: the packet's port could not be read.
    Unread = 3,
}

impl Class {
    pub const ALL: [Class; 4] = [Class::Client, Class::Peer, Class::Stats, Class::Unread];

    pub const fn name(self) -> &'static str {
        match self {
            Class::Client => "client",
            Class::Peer => "peer",
            Class::Stats => "stats",
            Class::Unread => "unread",
        }
    }
}

macro_rules! rulings {
    ($($name:ident = $number:literal, $text:literal, $help:literal;)*) => {
        /// Why a packet passes or does not. Every packet that is looked at gets one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum Ruling {
            $(#[doc = $help] $name = $number,)*
        }

        impl Ruling {
            pub const ALL: &'static [Ruling] = &[$(Ruling::$name),*];

            /// As in the statistics.
            pub const fn name(self) -> &'static str {
                match self { $(Ruling::$name => $text,)* }
            }
        }
    };
}

rulings! {
    Underway = 0, "underway", "part of a connection, whosever: the guard keeps no list of connections";
    Opens = 1, "opens", "a new connection";
    Spared = 2, "spared", "would be rejected, but comes from a member";
    Doubtful = 3, "doubtful", "a new connection to the peer port, while a member's name has no address yet";
    Fragment = 4, "fragment", "the rest of a packet whose ports were in its first fragment";
    Truncated = 5, "truncated", "a header that ends before it should";

    Tiny = 10, "tiny_fragment", "a fragment that hides TCP's flags, or could bring others";
    TooDeep = 11, "too_deep", "more tags or extension headers than are followed";
    Stranger = 12, "stranger", "a new connection to the peer port from no member's address";
    BadFlags = 13, "bad_flags", "a combination of flags that TCP does not know";
    TooMany = 14, "too_many", "more new connections from one address in a second than guard_syn_rate";
}

impl Ruling {
    /// Numbers are below this.
    pub const COUNT: u32 = 16;

    /// Such packets should not come in.
    pub const fn rejects(self) -> bool {
        self as u32 >= Ruling::Tiny as u32
    }

    const fn of_unread(why: Unread) -> Ruling {
        match why {
            Unread::Fragment => Ruling::Fragment,
            Unread::Truncated => Ruling::Truncated,
            Unread::TooDeep => Ruling::TooDeep,
            Unread::Tiny => Ruling::Tiny,
        }
    }

    /// Can a packet of this class get this ruling?
    pub const fn is_of(self, class: Class) -> bool {
        match self {
            Ruling::Fragment | Ruling::Truncated | Ruling::TooDeep => matches!(class, Class::Unread),
            Ruling::Doubtful | Ruling::Stranger => matches!(class, Class::Peer),
            Ruling::TooMany => matches!(class, Class::Client | Class::Stats),
            Ruling::Underway | Ruling::Opens | Ruling::BadFlags => !matches!(class, Class::Unread),
            Ruling::Spared | Ruling::Tiny => true,
        }
    }
}

/// A port of ours. Port zero: none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listener {
    /// As in `FlowKey`; zeros are every address, mapped zeros every IPv4 address.
    pub address: [u32; 4],
    pub port: u32,
}
const _: () = assert!(size_of::<Listener>() == 20);

impl Listener {
    #[inline(always)]
    fn hears(&self, segment: &Segment) -> bool {
        self.port == segment.destination_port && self.is_at(segment)
    }

    /// Whatever the port.
    #[inline(always)]
    fn is_at(&self, segment: &Segment) -> bool {
        let [first, second, third, last] = self.address;
        let [to_first, to_second, to_third, to_last] = segment.destination;
        let everywhere = first | second | last == 0 && (third == 0 || third == MAPPED && to_third == MAPPED);
        // Word by word: comparing arrays calls a function that is not there.
        everywhere || first == to_first && second == to_second && third == to_third && last == to_last
    }
}

/// The one element of the rules' map. Written by the daemon, read by the guard.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// A `Mode`.
    pub mode: u32,
    /// New connections a second from one address; 0: no limit.
    pub syn_rate: u32,
    /// 1: the addresses of all members are in their map.
    pub members_known: u32,
    /// By `Class`.
    pub listeners: [Listener; 3],
}
const _: () = assert!(size_of::<Rules>() == 12 + 3 * 20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Mode {
    /// Nothing is looked at.
    Off = 0,
    Observe = 1,
    /// What is rejected is dropped.
    Enforce = 2,
}

impl Rules {
    /// `is_member`: does the source belong to one? `is_within`: counts a new connection of the source; is it one of
    /// those that it may open in this second? Both are asked only when the answer matters. None: not for us.
    #[inline(always)]
    pub fn judge(
        &self,
        seen: &Seen,
        is_member: impl Fn(&Segment) -> bool,
        is_within: impl Fn(&Segment, u32) -> bool,
    ) -> Option<(Class, Ruling)> {
        match seen {
            Seen::Other => None,
            Seen::Tcp(segment) => {
                let class = self.class(segment)?;
                let ruling =
                    self.judge_segment(class, segment.flags, || is_member(segment), |rate| is_within(segment, rate));
                Some((class, ruling))
            }
            Seen::Unread(why, part) => {
                let ruling = Ruling::of_unread(*why);
                if !ruling.rejects() {
                    return Some((Class::Unread, ruling));
                }
                let class = if part.destination_port == 0 { self.class_unread(part)? } else { self.class(part)? };
                Some((class, if is_member(part) { Ruling::Spared } else { ruling }))
            }
        }
    }

    /// Of a packet whose port is not seen. None: it is to an address where none of ours is.
    #[inline(always)]
    fn class_unread(&self, part: &Segment) -> Option<Class> {
        let [first, second, third, last] = part.destination;
        let [client, peer, stats] = &self.listeners;
        let is_anywhere = first | second | third | last == 0;
        let is_ours = is_anywhere
            || client.port != 0 && client.is_at(part)
            || peer.port != 0 && peer.is_at(part)
            || stats.port != 0 && stats.is_at(part);
        if is_ours { Some(Class::Unread) } else { None }
    }

    /// None: not to a port of ours.
    #[inline(always)]
    fn class(&self, segment: &Segment) -> Option<Class> {
        if segment.destination_port == 0 {
            None
        } else if self.listeners[Class::Client as usize].hears(segment) {
            Some(Class::Client)
        } else if self.listeners[Class::Peer as usize].hears(segment) {
            Some(Class::Peer)
        } else if self.listeners[Class::Stats as usize].hears(segment) {
            Some(Class::Stats)
        } else {
            None
        }
    }

    #[inline(always)]
    fn judge_segment(
        &self,
        class: Class,
        flags: u8,
        is_member: impl Fn() -> bool,
        is_within: impl Fn(u32) -> bool,
    ) -> Ruling {
        if !is_possible(flags) {
            return if is_member() { Ruling::Spared } else { Ruling::BadFlags };
        }
        if !opens(flags) {
            return Ruling::Underway;
        }
        if let Class::Peer = class {
            return match () {
                () if is_member() => Ruling::Opens,
                () if self.members_known == 0 => Ruling::Doubtful,
                () => Ruling::Stranger,
            };
        }
        if self.syn_rate == 0 || is_within(self.syn_rate) {
            Ruling::Opens
        } else if is_member() {
            Ruling::Spared
        } else {
            Ruling::TooMany
        }
    }
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
const URG: u8 = 32;

/// Is there a segment with these flags? The same as in Linux' connection tracking: PSH and those for congestion go with
/// everything.
#[inline(always)]
fn is_possible(flags: u8) -> bool {
    const POSSIBLE: u64 = {
        let all = [SYN, SYN | URG, SYN | ACK, RST, RST | ACK, FIN | ACK, FIN | ACK | URG, ACK, ACK | URG];
        let mut set = 0;
        let mut index = 0;
        while index < all.len() {
            set |= 1 << all[index];
            index += 1;
        }
        set
    };
    POSSIBLE >> (flags & (FIN | SYN | RST | ACK | URG)) & 1 == 1
}

#[inline(always)]
fn opens(flags: u8) -> bool {
    flags & (SYN | ACK) == SYN
}

/// What is remembered of a source: when its second began, and how many connections it has opened in it. One word, so
/// that two processors at once can lose a count but never make one up.
#[inline(always)]
pub fn count_in_second(entry: u64, nanoseconds: u64, rate: u32) -> (u64, bool) {
    /// In units of 2²⁰ nanoseconds, a little more than milliseconds.
    const SECOND: u32 = 954;
    let now = (nanoseconds >> 20) as u32;
    let (began, count) = ((entry >> 32) as u32, entry as u32);
    let (began, count) = if count == 0 || now.wrapping_sub(began) >= SECOND { (now, 0) } else { (began, count) };
    if count >= rate {
        return (entry, false);
    }
    (u64::from(began) << 32 | u64::from(count + 1), true)
}

/// Packets are counted by this: the key of the guard's counters.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cell {
    pub interface: u32,
    pub class: u32,
    pub ruling: u32,
}
const _: () = assert!(size_of::<Cell>() == 12);

// SAFETY: repr(C) integers without padding (sizes asserted above); every bit pattern is a value.
#[cfg(feature = "user")]
mod pod {
    unsafe impl aya::Pod for super::Rules {}
    unsafe impl aya::Pod for super::Cell {}
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMBER: [u32; 4] = [0, 0, MAPPED, 1];
    const STRANGER: [u32; 4] = [0, 0, MAPPED, 2];
    const OURS: [u32; 4] = [0, 0, MAPPED, 9];

    fn rules() -> Rules {
        let listener = |port| Listener { address: OURS, port };
        Rules { mode: 2, syn_rate: 3, members_known: 1, listeners: [listener(8102), listener(8101), listener(22222)] }
    }

    fn ruling(rules: &Rules, source: [u32; 4], port: u32, flags: u8, within: bool) -> Option<(Class, Ruling)> {
        judged(rules, Seen::Tcp(Segment { source, destination: OURS, destination_port: port, flags }), within)
    }

    fn judged(rules: &Rules, seen: Seen, within: bool) -> Option<(Class, Ruling)> {
        let (class, ruling) = rules.judge(&seen, |segment| segment.source == MEMBER, |_, _| within)?;
        assert!(ruling.is_of(class), "{class:?} {ruling:?}");
        let (Seen::Tcp(segment) | Seen::Unread(_, segment)) = seen else { panic!("{seen:?}") };
        assert!(!(ruling.rejects() && segment.source == MEMBER), "a member is never rejected");
        Some((class, ruling))
    }

    #[track_caller]
    fn check(source: [u32; 4], port: u32, flags: u8, within: bool, expected: Option<(Class, Ruling)>) {
        assert_eq!(ruling(&rules(), source, port, flags, within), expected);
    }

    #[test]
    fn ports_have_classes_and_others_are_not_looked_at() {
        check(STRANGER, 8102, SYN, true, Some((Class::Client, Ruling::Opens)));
        check(STRANGER, 22222, ACK, true, Some((Class::Stats, Ruling::Underway)));
        check(STRANGER, 8103, SYN, true, None);
        check(STRANGER, 0, 0, true, None);
    }

    #[test]
    fn only_members_open_connections_to_the_peer_port() {
        check(MEMBER, 8101, SYN, false, Some((Class::Peer, Ruling::Opens)));
        check(STRANGER, 8101, SYN, true, Some((Class::Peer, Ruling::Stranger)));
        check(STRANGER, 8101, ACK, true, Some((Class::Peer, Ruling::Underway)));
        check(STRANGER, 8101, SYN | ACK, true, Some((Class::Peer, Ruling::Underway)));
        let unsure = Rules { members_known: 0, ..rules() };
        assert_eq!(ruling(&unsure, STRANGER, 8101, SYN, true), Some((Class::Peer, Ruling::Doubtful)));
        assert_eq!(ruling(&unsure, STRANGER, 8101, 0, true), Some((Class::Peer, Ruling::BadFlags)));
    }

    #[test]
    fn what_hides_its_flags_is_rejected_where_it_could_be_for_us() {
        let check = |why, source, destination, port, expected| {
            let part = Segment { source, destination, destination_port: port, flags: 0 };
            assert_eq!(judged(&rules(), Seen::Unread(why, part), true), expected, "{why:?} {part:?}");
        };
        let (elsewhere, unseen) = (STRANGER, [0; 4]);
        for (why, ruling) in [(Unread::Tiny, Ruling::Tiny), (Unread::TooDeep, Ruling::TooDeep)] {
            check(why, STRANGER, OURS, 0, Some((Class::Unread, ruling)));
            check(why, MEMBER, OURS, 0, Some((Class::Unread, Ruling::Spared)));
            check(why, STRANGER, elsewhere, 0, None);
            check(why, unseen, unseen, 0, Some((Class::Unread, ruling)));
        }
        check(Unread::Tiny, STRANGER, OURS, 8101, Some((Class::Peer, Ruling::Tiny)));
        check(Unread::Tiny, MEMBER, OURS, 8101, Some((Class::Peer, Ruling::Spared)));
        check(Unread::Tiny, STRANGER, OURS, 8103, None);
        check(Unread::Tiny, STRANGER, elsewhere, 8101, None);
        for (why, ruling) in [(Unread::Fragment, Ruling::Fragment), (Unread::Truncated, Ruling::Truncated)] {
            check(why, STRANGER, OURS, 0, Some((Class::Unread, ruling)));
            assert!(!ruling.rejects());
        }
        let nobody = Rules { listeners: [Listener::default(); 3], ..rules() };
        let part = Segment { source: STRANGER, destination: OURS, ..Segment::default() };
        assert_eq!(judged(&nobody, Seen::Unread(Unread::Tiny, part), true), None);
    }

    #[test]
    fn connections_are_counted_by_source() {
        check(STRANGER, 8102, SYN, false, Some((Class::Client, Ruling::TooMany)));
        check(MEMBER, 8102, SYN, false, Some((Class::Client, Ruling::Spared)));
        check(STRANGER, 22222, SYN, false, Some((Class::Stats, Ruling::TooMany)));
        let unlimited = Rules { syn_rate: 0, ..rules() };
        assert_eq!(ruling(&unlimited, STRANGER, 8102, SYN, false), Some((Class::Client, Ruling::Opens)));
    }

    #[test]
    fn flags_that_no_segment_has() {
        const PSH: u8 = 8;
        const CONGESTION: u8 = 0xc0;
        let bad = [0, FIN, SYN | FIN, SYN | RST, FIN | RST, FIN | URG | PSH, URG, PSH, 0xff, SYN | ACK | FIN];
        for flags in bad {
            check(STRANGER, 8102, flags, true, Some((Class::Client, Ruling::BadFlags)));
            check(MEMBER, 8101, flags, true, Some((Class::Peer, Ruling::Spared)));
        }
        for flags in [ACK, ACK | PSH, FIN | ACK, FIN | ACK | PSH, RST, RST | ACK, ACK | URG | PSH, SYN | ACK] {
            check(STRANGER, 8101, flags, true, Some((Class::Peer, Ruling::Underway)));
            check(STRANGER, 8101, flags | CONGESTION, true, Some((Class::Peer, Ruling::Underway)));
        }
        check(STRANGER, 8102, SYN | CONGESTION, true, Some((Class::Client, Ruling::Opens)));
    }

    #[test]
    fn whatever_comes_gets_a_ruling_that_its_class_knows() {
        for flags in 0..=255 {
            for port in [8101, 8102, 22222] {
                for (source, within) in [(MEMBER, true), (MEMBER, false), (STRANGER, true), (STRANGER, false)] {
                    assert!(ruling(&rules(), source, port, flags, within).is_some());
                }
            }
        }
    }

    #[test]
    fn a_listener_hears_what_is_sent_to_it() {
        let hears = |address, destination| {
            let segment = Segment { source: STRANGER, destination, destination_port: 1, flags: SYN };
            Listener { address, port: 1 }.hears(&segment)
        };
        let six = [1, 2, 3, 4];
        assert!(hears(OURS, OURS) && hears(six, six) && !hears(OURS, STRANGER) && !hears(six, OURS));
        assert!(hears([0; 4], OURS) && hears([0; 4], six));
        let any4 = [0, 0, MAPPED, 0];
        assert!(hears(any4, OURS) && !hears(any4, six));
    }

    #[test]
    fn a_second_has_so_many_connections_and_then_another_begins() {
        const MILLISECOND: u64 = 1_000_000;
        let mut entry = 0;
        let mut count = |at: u64, rate| {
            let (next, within) = count_in_second(entry, at * MILLISECOND, rate);
            entry = next;
            within
        };
        // The clock of a machine that has run for longer than 32 bits of it.
        let start = 5_000_000_000;
        assert!((0..3).all(|n| count(start + n, 3)));
        assert!((0..900).all(|n| !count(start + 10 + n, 3)));
        assert!(count(start + 1001, 3) && count(start + 1001, 3) && count(start + 1001, 3));
        assert!(!count(start + 1001, 3));
        assert!(count(start + 100_000, 1) && !count(start + 100_000, 1));
    }

    #[test]
    fn every_ruling_has_a_name_of_its_own_and_a_class() {
        let mut names: Vec<_> = Ruling::ALL.iter().map(|ruling| ruling.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Ruling::ALL.len());
        assert!(Ruling::ALL.iter().all(|&ruling| (ruling as u32) < Ruling::COUNT));
        assert!(Ruling::ALL.iter().all(|ruling| Class::ALL.iter().any(|&class| ruling.is_of(class))));
        let cells = Ruling::ALL.iter().map(|ruling| Class::ALL.iter().filter(|&&class| ruling.is_of(class)).count());
        assert!(cells.sum::<usize>() as u32 <= crate::limits::CELLS_MAX / crate::limits::INTERFACES_MAX);
    }
}
