//! A bounded look at an Ethernet frame: between whom a TCP segment goes, and with which flags.
//! Owns: the way through tags and headers. Knows nothing of: ports that are ours. What it cannot read, it says so of.

use crate::abi::FlowKey;

/// Bytes of a frame, whoever holds them. None: they are not all within it.
pub trait Frame {
    fn bytes<const N: usize>(&self, at: u32) -> Option<[u8; N]>;
}

impl Frame for [u8] {
    fn bytes<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        let rest = self.get(at as usize..)?;
        rest.get(..N)?.try_into().ok()
    }
}

/// What a frame turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    Tcp(Segment),
    /// Not TCP, so nobody's business here.
    Other,
    /// Perhaps TCP, but its flags are not to be had, and why. Zeros are what was not seen.
    Unread(Unread, Segment),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// The rest of a packet whose ports were in its first fragment: nothing comes of it without that one.
    Fragment,
    /// A header ends before it should, or its length cannot be: no connection comes of it.
    Truncated,
    /// More tags or headers than are followed.
    TooDeep,
    /// A first fragment that ends before the flags, or one that begins in front of them (RFC 1858, RFC 3128): put together
    /// with others it is a segment that nobody has looked at.
    Tiny,
}

/// Addresses as in `FlowKey`: IPv4 in six's clothes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    pub source: [u32; 4],
    pub destination: [u32; 4],
    pub destination_port: u32,
    /// FIN, SYN, RST, PSH, ACK, URG, ECE, CWR from the lowest bit.
    pub flags: u8,
}

/// A tag of the provider's, one of the customer's, and two more: Linux takes off any number of those without a VLAN.
pub const TAGS_MAX: u32 = 4;
/// Hop-by-hop, routing, fragment and destination options: who sends more of these means no good.
pub const EXTENSIONS_MAX: u32 = 4;
/// The last place where a header may begin: a verifier follows an index only so far.
pub const HEADER_AT_MAX: u32 = 1024 - 64;

const ETHERNET_TYPE_AT: u32 = 12;
const IP4: u16 = 0x0800;
const IP6: u16 = 0x86dd;
const TAGS: [u16; 3] = [0x8100, 0x88a8, 0x9100];

const TCP: u8 = 6;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

#[inline(always)]
pub fn look<F: Frame + ?Sized>(frame: &F) -> Seen {
    let mut at = ETHERNET_TYPE_AT;
    let mut tags = 0;
    loop {
        let Some(kind) = frame.bytes::<2>(at) else { return nothing(Unread::Truncated) };
        let kind = u16::from_be_bytes(kind);
        if kind == IP4 {
            return ip4(frame, at + 2);
        }
        if kind == IP6 {
            return ip6(frame, at + 2);
        }
        if kind != TAGS[0] && kind != TAGS[1] && kind != TAGS[2] {
            return Seen::Other;
        }
        if tags == TAGS_MAX {
            return nothing(Unread::TooDeep);
        }
        tags += 1;
        at += 4;
    }
}

/// Not even between whom it goes.
#[inline(always)]
fn nothing(why: Unread) -> Seen {
    Seen::Unread(why, Segment::default())
}

/// What of a packet is where. Its length is what IP says: bytes of the frame behind that are not looked at, since the
/// host cuts them off.
#[derive(Clone, Copy)]
struct Packet {
    segment: Segment,
    end: u32,
    /// The rest of it comes by itself.
    is_first: bool,
}

#[inline(always)]
fn ip4<F: Frame + ?Sized>(frame: &F, at: u32) -> Seen {
    let Some(head) = frame.bytes::<20>(at) else { return nothing(Unread::Truncated) };
    let words = u32::from(head[0] & 15);
    if head[0] >> 4 != 4 || words < 5 {
        return nothing(Unread::Truncated);
    }
    if head[9] != TCP {
        return Seen::Other;
    }
    let segment = Segment {
        source: FlowKey::mapped(word(head[12], head[13], head[14], head[15])),
        destination: FlowKey::mapped(word(head[16], head[17], head[18], head[19])),
        ..Segment::default()
    };
    let fragment = u16::from_be_bytes([head[6], head[7]]);
    if fragment & 0x1fff != 0 {
        return later(fragment & 0x1fff, segment);
    }
    let end = at + u32::from(u16::from_be_bytes([head[2], head[3]]));
    tcp(frame, at + 4 * words, Packet { segment, end, is_first: fragment & 0x2000 != 0 })
}

#[inline(always)]
fn ip6<F: Frame + ?Sized>(frame: &F, at: u32) -> Seen {
    let Some(head) = frame.bytes::<40>(at) else { return nothing(Unread::Truncated) };
    if head[0] >> 4 != 6 {
        return nothing(Unread::Truncated);
    }
    let address = |from: usize| {
        [
            word(head[from], head[from + 1], head[from + 2], head[from + 3]),
            word(head[from + 4], head[from + 5], head[from + 6], head[from + 7]),
            word(head[from + 8], head[from + 9], head[from + 10], head[from + 11]),
            word(head[from + 12], head[from + 13], head[from + 14], head[from + 15]),
        ]
    };
    let segment = Segment { source: address(8), destination: address(24), ..Segment::default() };
    let mut next = head[6];
    let mut at = at + 40;
    let length = u32::from(u16::from_be_bytes([head[4], head[5]]));
    // Without a length a hop-by-hop header may have it (RFC 2675); Linux cuts nothing off then.
    let end = if length == 0 && next == HOP_BY_HOP { u32::MAX } else { at + length };
    let mut packet = Packet { segment, end, is_first: false };
    let mut extensions = 0;
    while next != TCP {
        let is_extension = next == HOP_BY_HOP
            || next == ROUTING
            || next == FRAGMENT
            || next == AUTHENTICATION
            || next == DESTINATION_OPTIONS;
        if !is_extension {
            return Seen::Other;
        }
        if extensions == EXTENSIONS_MAX || at > HEADER_AT_MAX {
            return Seen::Unread(Unread::TooDeep, segment);
        }
        extensions += 1;
        let Some(head) = packet.bytes::<8, F>(frame, at) else { return packet.ended() };
        let units = u32::from(head[1]);
        at += match next {
            FRAGMENT => 8,
            AUTHENTICATION => 4 * (units + 2),
            _ => 8 * (units + 1),
        };
        if next == FRAGMENT {
            let fragment = u16::from_be_bytes([head[2], head[3]]);
            if fragment >> 3 != 0 {
                // What follows belongs to the middle of something.
                return if head[0] == TCP { later(fragment >> 3, segment) } else { Seen::Other };
            }
            packet.is_first |= fragment & 1 != 0;
        }
        next = head[0];
    }
    tcp(frame, at, packet)
}

/// A fragment that is not the first. With eight bytes in front of it, it could bring other flags than the first has.
#[inline(always)]
fn later(units: u16, segment: Segment) -> Seen {
    Seen::Unread(if units == 1 { Unread::Tiny } else { Unread::Fragment }, segment)
}

#[inline(always)]
fn tcp<F: Frame + ?Sized>(frame: &F, at: u32, mut packet: Packet) -> Seen {
    if at > HEADER_AT_MAX {
        return Seen::Unread(Unread::TooDeep, packet.segment);
    }
    if let Some(ports) = packet.bytes::<4, F>(frame, at) {
        packet.segment.destination_port = u32::from(u16::from_be_bytes([ports[2], ports[3]]));
    }
    let Some(head) = packet.bytes::<20, F>(frame, at) else { return packet.ended() };
    if head[12] >> 4 < 5 {
        return Seen::Unread(Unread::Truncated, packet.segment);
    }
    packet.segment.flags = head[13];
    Seen::Tcp(packet.segment)
}

impl Packet {
    #[inline(always)]
    fn bytes<const N: usize, F: Frame + ?Sized>(&self, frame: &F, at: u32) -> Option<[u8; N]> {
        if at + N as u32 > self.end { None } else { frame.bytes(at) }
    }

    /// Before its flags.
    #[inline(always)]
    fn ended(&self) -> Seen {
        Seen::Unread(if self.is_first { Unread::Tiny } else { Unread::Truncated }, self.segment)
    }
}

#[inline(always)]
fn word(a: u8, b: u8, c: u8, d: u8) -> u32 {
    u32::from_ne_bytes([a, b, c, d])
}

/// Frames for tests, made header by header.
#[cfg(any(test, feature = "user"))]
pub mod make {
    use core::net::IpAddr;

    use super::{AUTHENTICATION, FRAGMENT, IP4, IP6, TCP};

    #[derive(Clone, Debug)]
    pub struct Recipe<'a> {
        pub tags: &'a [u16],
        pub source: IpAddr,
        pub destination: IpAddr,
        /// Kinds of IPv6 extension headers and their bytes, a multiple of eight; or IPv4 options, a multiple of four.
        pub extensions: &'a [(u8, usize)],
        /// In units of eight bytes.
        pub fragment_at: u16,
        /// Another fragment follows it.
        pub more: bool,
        pub protocol: u8,
        pub port: u16,
        pub flags: u8,
        /// So much of the TCP header; the rest of the frame is padding.
        pub header_bytes: usize,
    }

    impl Recipe<'_> {
        pub fn new(source: IpAddr, destination: IpAddr, port: u16, flags: u8) -> Recipe<'static> {
            Recipe {
                tags: &[],
                source,
                destination,
                extensions: &[],
                fragment_at: 0,
                more: false,
                protocol: TCP,
                port,
                flags,
                header_bytes: 20,
            }
        }

        /// Writes the frame and says how long it is.
        pub fn write(&self, to: &mut [u8]) -> usize {
            let mut out = Out { to, len: 0 };
            out.put(&[2; 12]);
            for &tag in self.tags {
                out.put(&tag.to_be_bytes());
                out.put(&[0, 7]);
            }
            match (self.source, self.destination) {
                (IpAddr::V4(source), IpAddr::V4(destination)) => {
                    let options = self.extensions.iter().map(|(_, bytes)| bytes).sum::<usize>();
                    out.put(&IP4.to_be_bytes());
                    out.put(&[0x45 + (options / 4) as u8, 0]);
                    out.put(&((20 + options + self.header_bytes) as u16).to_be_bytes());
                    out.put(&[0, 0]);
                    out.put(&(u16::from(self.more) << 13 | self.fragment_at).to_be_bytes());
                    out.put(&[64, self.protocol, 0, 0]);
                    out.put(&source.octets());
                    out.put(&destination.octets());
                    out.fill(1, options);
                }
                (IpAddr::V6(source), IpAddr::V6(destination)) => {
                    out.put(&IP6.to_be_bytes());
                    out.put(&[0x60, 0, 0, 0]);
                    let length = self.header_bytes + self.extensions.iter().map(|(_, bytes)| bytes).sum::<usize>();
                    out.put(&(length as u16).to_be_bytes());
                    out.put(&[self.extensions.first().map_or(self.protocol, |(kind, _)| *kind), 64]);
                    out.put(&source.octets());
                    out.put(&destination.octets());
                    for (index, &(kind, bytes)) in self.extensions.iter().enumerate() {
                        let next = self.extensions.get(index + 1).map_or(self.protocol, |(kind, _)| *kind);
                        let units = if kind == AUTHENTICATION { bytes / 4 - 2 } else { bytes / 8 - 1 };
                        out.put(&[next, units as u8]);
                        let rest = if kind == FRAGMENT { self.fragment_at << 3 | u16::from(self.more) } else { 0 };
                        out.put(&rest.to_be_bytes());
                        out.fill(0, bytes - 4);
                    }
                }
                _ => panic!("two kinds of addresses"),
            }
            out.put(&[0x9c, 0x40]);
            out.put(&self.port.to_be_bytes());
            out.fill(0, 8);
            out.put(&[0x50, self.flags]);
            out.fill(0, 6);
            out.len
        }
    }

    struct Out<'a> {
        to: &'a mut [u8],
        len: usize,
    }

    impl Out<'_> {
        fn put(&mut self, bytes: &[u8]) {
            self.to[self.len..][..bytes.len()].copy_from_slice(bytes);
            self.len += bytes.len();
        }

        fn fill(&mut self, byte: u8, len: usize) {
            self.to[self.len..][..len].fill(byte);
            self.len += len;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::make::Recipe;
    use super::*;

    const SYN: u8 = 2;

    fn four() -> Recipe<'static> {
        Recipe::new("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap(), 8101, SYN)
    }

    fn six() -> Recipe<'static> {
        Recipe::new("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap(), 8101, SYN)
    }

    fn seen(recipe: &Recipe<'_>) -> Seen {
        let mut bytes = [0; 4096];
        let len = recipe.write(&mut bytes);
        look(&bytes[..len])
    }

    #[track_caller]
    fn is_ours(recipe: &Recipe<'_>) {
        let Seen::Tcp(segment) = seen(recipe) else { panic!("{:?}: {recipe:?}", seen(recipe)) };
        assert_eq!((segment.destination_port, segment.flags), (8101, SYN));
        let [_, _, kind, last] = segment.source;
        let [.., destination] = segment.destination;
        let expected = if recipe.source.is_ipv4() { [10, 0, 0, 1] } else { [0, 0, 0, 1] };
        assert_eq!((last.to_ne_bytes(), kind == crate::abi::MAPPED), (expected, recipe.source.is_ipv4()));
        assert_eq!(destination.to_ne_bytes()[3], 2);
    }

    #[track_caller]
    fn is_unread(recipe: &Recipe<'_>, why: Unread) {
        let Seen::Unread(because, _) = seen(recipe) else { panic!("{:?}: {recipe:?}", seen(recipe)) };
        assert_eq!(because, why, "{recipe:?}");
    }

    /// Between whom, and to which port.
    #[track_caller]
    fn part(recipe: &Recipe<'_>) -> (u8, u8, u32) {
        let Seen::Unread(_, part) = seen(recipe) else { panic!("{:?}: {recipe:?}", seen(recipe)) };
        let last = |address: [u32; 4]| address[3].to_ne_bytes()[3];
        (last(part.source), last(part.destination), part.destination_port)
    }

    #[test]
    fn tags_are_stepped_over() {
        for recipe in [four(), six()] {
            is_ours(&recipe);
            is_ours(&Recipe { tags: &[0x8100], ..recipe.clone() });
            is_ours(&Recipe { tags: &[0x88a8, 0x8100], ..recipe.clone() });
            is_ours(&Recipe { tags: &[0x8100; 4], ..recipe.clone() });
            is_unread(&Recipe { tags: &[0x8100; 5], ..recipe.clone() }, Unread::TooDeep);
            assert_eq!(part(&Recipe { tags: &[0x8100; 5], ..recipe }), (0, 0, 0));
        }
    }

    #[test]
    fn options_and_extensions_are_stepped_over() {
        is_ours(&Recipe { extensions: &[(0, 40)], ..four() });
        is_ours(&Recipe { extensions: &[(HOP_BY_HOP, 8), (ROUTING, 24), (DESTINATION_OPTIONS, 256)], ..six() });
        is_ours(&Recipe { extensions: &[(AUTHENTICATION, 24)], ..six() });
        is_unread(&Recipe { extensions: &[(DESTINATION_OPTIONS, 8); 5], ..six() }, Unread::TooDeep);
        is_unread(&Recipe { extensions: &[(DESTINATION_OPTIONS, 1024)], ..six() }, Unread::TooDeep);
        assert_eq!(seen(&Recipe { extensions: &[(59, 8)], ..six() }), Seen::Other);
    }

    #[test]
    fn what_follows_a_first_fragment_has_no_ports() {
        for recipe in [four(), Recipe { extensions: &[(FRAGMENT, 8)], ..six() }] {
            is_ours(&Recipe { more: true, ..recipe.clone() });
            for (fragment_at, more) in [(2, true), (3, false), (0x1fff, false)] {
                is_unread(&Recipe { fragment_at, more, ..recipe.clone() }, Unread::Fragment);
            }
        }
    }

    /// However much padding is behind them, with flags in it that look well.
    #[test]
    fn fragments_that_hide_flags_or_bring_others_are_tiny() {
        let more = Recipe { more: true, ..four() };
        let more6 = Recipe { more: true, extensions: &[(FRAGMENT, 8)], ..six() };
        for recipe in [more, Recipe { extensions: &[(FRAGMENT, 8), (DESTINATION_OPTIONS, 64)], ..more6.clone() }, more6]
        {
            for header_bytes in 0..20 {
                let recipe = Recipe { header_bytes, ..recipe.clone() };
                is_unread(&recipe, Unread::Tiny);
                assert_eq!(part(&recipe), (1, 2, if header_bytes < 4 { 0 } else { 8101 }));
                is_unread(&Recipe { more: false, ..recipe }, Unread::Truncated);
            }
            for more in [false, true] {
                let recipe = Recipe { fragment_at: 1, more, ..recipe.clone() };
                if recipe.extensions.len() < 2 {
                    is_unread(&recipe, Unread::Tiny);
                    assert_eq!(part(&recipe), (1, 2, 0));
                }
                assert_eq!(seen(&Recipe { protocol: 17, ..recipe }), Seen::Other);
            }
        }
        // A header chain that goes on in the next fragment, and a fragment within a fragment.
        let mut bytes = [0; 4096];
        let two = [(FRAGMENT, 8), (DESTINATION_OPTIONS, 64), (FRAGMENT, 8)];
        let len = Recipe { extensions: &two, more: true, ..six() }.write(&mut bytes);
        for payload in 8..80 + 20 {
            bytes[18..20].copy_from_slice(&u16::to_be_bytes(payload));
            assert!(matches!(look(&bytes[..len]), Seen::Unread(Unread::Tiny, _)), "{payload}");
        }
    }

    #[test]
    fn a_hop_by_hop_header_may_stand_for_the_length() {
        let mut bytes = [0; 4096];
        let len = Recipe { extensions: &[(HOP_BY_HOP, 8)], ..six() }.write(&mut bytes);
        bytes[18..20].fill(0);
        assert!(matches!(look(&bytes[..len]), Seen::Tcp(segment) if segment.flags == SYN));
        bytes[20] = DESTINATION_OPTIONS;
        assert!(matches!(look(&bytes[..len]), Seen::Unread(Unread::Truncated, _)));
    }

    #[test]
    fn others_are_left_alone() {
        for recipe in [four(), six()] {
            assert_eq!(seen(&Recipe { protocol: 17, ..recipe.clone() }), Seen::Other);
            assert_eq!(seen(&Recipe { tags: &[0x0806], ..recipe }), Seen::Other);
        }
        assert_eq!(seen(&Recipe { extensions: &[(FRAGMENT, 8)], fragment_at: 3, protocol: 17, ..six() }), Seen::Other);
    }

    /// A frame cut anywhere is unread, never something else than it was; and lengths that cannot be are not believed.
    #[test]
    fn what_is_cut_or_false_is_unread() {
        #[track_caller]
        fn is_truncated(bytes: &[u8]) {
            assert!(matches!(look(bytes), Seen::Unread(Unread::Truncated, _)), "{:?} of {bytes:x?}", look(bytes));
        }
        for recipe in [Recipe { tags: &[0x8100], ..four() }, Recipe { extensions: &[(ROUTING, 24)], ..six() }] {
            let mut bytes = [0; 4096];
            let len = recipe.write(&mut bytes);
            for cut in 0..len {
                is_truncated(&bytes[..cut]);
            }
        }
        let mut bytes = [0; 4096];
        let len = four().write(&mut bytes);
        for (at, value) in [(14, 0x44), (14, 0x65), (17, 39), (46, 0x40)] {
            let before = core::mem::replace(&mut bytes[at], value);
            is_truncated(&bytes[..len]);
            bytes[at] = before;
        }
    }

    /// Whatever the bytes: an answer, and the same from a frame with more behind it unless it was cut.
    #[test]
    fn any_bytes_are_answered() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for _ in 0..20_000 {
            let mut bytes = [0; 1500];
            let recipe = if random() & 1 == 0 { four() } else { six() };
            let len = recipe.write(&mut bytes);
            for _ in 0..random() % 6 {
                bytes[random() as usize % len] = random() as u8;
            }
            let cut = random() as usize % (len + 1);
            let short = look(&bytes[..cut]);
            let is_cut = matches!(short, Seen::Unread(Unread::Truncated | Unread::Tiny, _));
            assert!(is_cut || short == look(&bytes[..]), "{:x?}", &bytes[..cut]);
        }
    }
}
