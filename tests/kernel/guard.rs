//! The guard on cables of our own between network namespaces: what it counts, what it drops, whom it never drops, when it
//! attaches and that it goes when its process does.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use dynomite_common::frame::make::Recipe;
use dynomite_common::frame::{self, Segment};
use dynomite_common::guard::{Class, Listener, Mode, Rules, Ruling};
use dynomite_tests::address::{CLIENT_PORT, PEER_PORT, STATS_PORT};
use dynomite_tests::need::skip;
use dynomite_tests::until::{TIMEOUT, holds_within};
use dynomite_tests::{Host, Kind, Netns, Node, Random, Settings, random, until};
use dynomite_user::kernel::guard::{Guard, NotAttached, Place, Verdict};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use socket2::{Domain, Socket, Type};

const NODE: [&str; 2] = ["10.78.0.1", "fd78::1"];
const MEMBER: [&str; 2] = ["10.78.0.2", "fd78::2"];
const STRANGER: [&str; 2] = ["10.78.0.3", "fd78::3"];

const SYN: u8 = 2;
const ACK: u8 = 16;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Two machines and the cable between them: `near` has the node's addresses on its `eth0`, `far` the others' on its own.
struct Cable {
    near: Arc<Netns>,
    far: Netns,
}

const LAY: &str = "link add eth0 type veth peer name cable";

impl Cable {
    /// `None`: it cannot be had here; said aloud.
    fn new() -> Option<Cable> {
        crate::cgroup()?;
        let cable = Cable { near: Arc::new(Netns::new()?), far: Netns::new()? };
        if let Err(error) = cable.near.try_ip(LAY) {
            skip(&format!("no veth interfaces here: {}", error.trim()));
            return None;
        }
        cable.connect_ends();
        Some(cable)
    }

    /// Anew, where there is none.
    fn lay(&self) {
        self.near.ip(LAY);
        self.connect_ends();
    }

    fn connect_ends(&self) {
        self.near.ip(&format!("link set cable netns {} name eth0", self.far.pid()));
        for (machine, all) in [(&*self.near, &[NODE][..]), (&self.far, &[MEMBER, STRANGER])] {
            for [four, six] in all {
                machine.ip(&format!("address add {four}/24 dev eth0"));
                machine.ip(&format!("address add {six}/64 dev eth0 nodad"));
            }
            machine.ip("link set eth0 up");
        }
    }

    /// Frames, as they are, from the far end.
    fn send(&self, frames: &[Recipe<'_>]) {
        self.send_bytes(frames.iter().map(|recipe| {
            let mut bytes = [0; 512];
            let len = recipe.write(&mut bytes);
            bytes[..len].to_vec()
        }));
    }

    fn send_bytes(&self, frames: impl Iterator<Item = Vec<u8>> + Send) {
        self.far.within(|| {
            let eth0 = link_address();
            let raw = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None).expect("a raw socket");
            for bytes in frames {
                sendto(raw.as_raw_fd(), &bytes, &eth0, MsgFlags::empty()).expect("sent");
            }
        });
    }

    /// Connects from one address of the far end to one of the near end.
    fn connect(&self, from: &str, to: SocketAddr, patience: Duration) -> std::io::Result<TcpStream> {
        self.far.within(|| {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
            socket.bind(&SocketAddr::new(ip(from), 0).into())?;
            socket.connect_timeout(&to.into(), patience)?;
            Ok(socket.into())
        })
    }

    fn attach(&self, guard: &Guard, place: Option<Place>) -> Result<Place, NotAttached> {
        self.near.within(|| guard.attach("eth0", place))
    }
}

/// Of `eth0` where we are.
fn link_address() -> LinkAddr {
    let mut own = getifaddrs().expect("interfaces").filter(|one| one.interface_name == "eth0");
    own.find_map(|one| one.address?.as_link_addr().copied()).expect("eth0")
}

fn hardware_address(machine: &Netns) -> Vec<u8> {
    machine.within(|| link_address().addr().expect("Ethernet").to_vec())
}

/// Loaded, with everybody's ports and the members above.
fn guard(mode: Mode, syn_rate: u32) -> Guard {
    let guard = Guard::load().unwrap_or_else(|error| panic!("{error}"));
    let listeners = [CLIENT_PORT, PEER_PORT, STATS_PORT].map(|port| Some(SocketAddr::new(ip("::"), port)));
    guard.set_rules(listeners, syn_rate).expect("rules");
    guard.set_members(&MEMBER.map(ip).into(), true).expect("members");
    guard.set_mode(mode).expect("a mode");
    guard
}

fn packets(guard: &Guard, class: Class, ruling: Ruling) -> (u64, u64) {
    let counts = guard.counts();
    let count = counts.iter().find(|count| (count.class, count.ruling) == (class, ruling)).expect("it is counted");
    (count.tally.times, count.tally.bytes)
}

fn check_counts(place: Option<Place>) {
    let Some(cable) = Cable::new() else { return };
    let guard = guard(Mode::Observe, 0);
    cable.attach(&guard, place).unwrap_or_else(|error| panic!("{error}"));
    let mut expected: Vec<(Class, Ruling, (u64, u64))> = Vec::new();
    let mut frames = Vec::new();
    let mut send = |times: u64, recipe: Recipe<'static>, counted: Option<(Class, Ruling)>| {
        let len = recipe.write(&mut [0; 512]) as u64;
        frames.extend((0..times).map(|_| recipe.clone()));
        let Some((class, ruling)) = counted else { return };
        let at = expected.iter().position(|(its, what, _)| (*its, *what) == (class, ruling)).unwrap_or_else(|| {
            expected.push((class, ruling, (0, 0)));
            expected.len() - 1
        });
        expected[at].2.0 += times;
        expected[at].2.1 += times * len;
    };
    for tags in [&[][..], &[0x8100], &[0x88a8, 0x8100], &[0x8100; 4]] {
        for family in 0..2 {
            let from = |source: [&str; 2], port, flags| Recipe {
                tags,
                ..Recipe::new(ip(source[family]), ip(NODE[family]), port, flags)
            };
            send(3, from(STRANGER, CLIENT_PORT, SYN), Some((Class::Client, Ruling::Opens)));
            send(5, from(STRANGER, CLIENT_PORT, ACK), Some((Class::Client, Ruling::Underway)));
            send(2, from(MEMBER, PEER_PORT, SYN), Some((Class::Peer, Ruling::Opens)));
            send(4, from(STRANGER, PEER_PORT, SYN), Some((Class::Peer, Ruling::Stranger)));
            send(1, from(STRANGER, STATS_PORT, 0), Some((Class::Stats, Ruling::BadFlags)));
            send(1, from(MEMBER, STATS_PORT, 0xff), Some((Class::Stats, Ruling::Spared)));
            send(7, from(STRANGER, 22, 0), None);
            send(7, Recipe { protocol: 17, ..from(STRANGER, PEER_PORT, SYN) }, None);
        }
    }
    let four = Recipe::new(ip(STRANGER[0]), ip(NODE[0]), PEER_PORT, SYN);
    send(6, Recipe { fragment_at: 7, ..four.clone() }, Some((Class::Unread, Ruling::Fragment)));
    send(2, Recipe { tags: &[0x8100; 5], ..four.clone() }, Some((Class::Unread, Ruling::TooDeep)));
    let tiny = Recipe { more: true, header_bytes: 8, ..four };
    send(3, tiny.clone(), Some((Class::Peer, Ruling::Tiny)));
    send(4, Recipe { source: ip(MEMBER[0]), ..tiny.clone() }, Some((Class::Peer, Ruling::Spared)));
    send(2, Recipe { fragment_at: 1, ..tiny.clone() }, Some((Class::Unread, Ruling::Tiny)));
    send(2, Recipe { port: 22, ..tiny }, None);
    cable.send(&frames);
    until("everything is counted", || {
        expected.iter().map(|(.., counted)| counted.0).sum::<u64>()
            <= guard.counts().iter().map(|count| count.tally.times).sum()
    });
    for (class, ruling, counted) in &expected {
        assert_eq!(packets(&guard, *class, *ruling), *counted, "{class:?} {ruling:?}");
    }
    let all: u64 = guard.counts().iter().map(|count| count.tally.times).sum();
    assert_eq!(all, expected.iter().map(|(.., counted)| counted.0).sum::<u64>(), "{:#?}", guard.counts());
}

#[test]
fn packets_are_counted_natively() {
    check_counts(Some(Place::Native));
}

#[test]
fn packets_are_counted_generically() {
    check_counts(Some(Place::Generic));
}

/// The program and the code that is tested here agree about any frame.
#[test]
fn the_program_decides_as_it_does_here() {
    if crate::cgroup().is_none() {
        return;
    }
    let guard = guard(Mode::Enforce, 0);
    let listener = |port: u16| Listener { address: [0; 4], port: port.into() };
    let rules = Rules {
        mode: Mode::Enforce as u32,
        syn_rate: 0,
        members_known: 1,
        listeners: [CLIENT_PORT, PEER_PORT, STATS_PORT].map(listener),
    };
    let mut random = Random::from_seed(random::seed());
    let extensions: [&[(u8, usize)]; 6] =
        [&[], &[(44, 8)], &[(0, 8)], &[(43, 24), (44, 8)], &[(51, 24)], &[(60, 8), (60, 8), (60, 8), (60, 8), (60, 8)]];
    for _ in 0..5_000 {
        let family = random.below(2);
        let source = [NODE, MEMBER, STRANGER][random.below(3)][family];
        let recipe = Recipe {
            tags: &[0x8100, 0x88a8, 0x8100, 0x8100, 0x8100][random.below(6)..],
            extensions: if family == 0 { &[] } else { extensions[random.below(extensions.len())] },
            fragment_at: [0, 0, 0, 0, 0, 0, 1, 3][random.below(8)],
            more: random.below(4) == 0,
            header_bytes: if random.below(4) == 0 { random.below(20) } else { 20 },
            protocol: if random.below(8) == 0 { 17 } else { 6 },
            ..Recipe::new(
                ip(source),
                ip(NODE[family]),
                [CLIENT_PORT, PEER_PORT, STATS_PORT, 22][random.below(4)],
                random.below(256) as u8,
            )
        };
        let mut bytes = [0; 512];
        let mut len = recipe.write(&mut bytes);
        for _ in 0..random.below(3) {
            bytes[random.below(len)] = random.below(256) as u8;
        }
        if random.below(4) == 0 {
            len = 14 + random.below(len - 13);
        }
        let frame = &bytes[..len];
        let is_member = |segment: &Segment| {
            let words = segment.source.map(u32::to_ne_bytes).concat();
            let address = IpAddr::from(<[u8; 16]>::try_from(words).expect("sixteen")).to_canonical();
            MEMBER.map(ip).contains(&address)
        };
        let ruled = rules.judge(&frame::look(frame), is_member, |_, _| true);
        let rejects = ruled.is_some_and(|(_, ruling)| ruling.rejects());
        let expected = if rejects { Verdict::Drop } else { Verdict::Pass };
        let (verdict, _) = guard.try_frame(frame, 1).expect("tried");
        assert_eq!(verdict, expected, "{recipe:?} {frame:x?}");
    }
}

/// Short, since it is waited out whenever a packet is dropped as it should be.
const DROPPED: Duration = Duration::from_millis(700);

fn check_enforce(place: Place) {
    let Some(cable) = Cable::new() else { return };
    let guard = guard(Mode::Enforce, 5);
    cable.attach(&guard, Some(place)).unwrap_or_else(|error| panic!("{error}"));
    for family in 0..2 {
        let listeners = cable.near.within(|| {
            [CLIENT_PORT, PEER_PORT, 4444].map(|port| TcpListener::bind((ip(NODE[family]), port)).expect("a port"))
        });
        let [client_port, peer_port, other] = listeners.each_ref().map(|one| one.local_addr().expect("bound"));
        let stranger = |to| cable.connect(STRANGER[family], to, DROPPED);
        let refused = stranger(peer_port).expect_err("a stranger came through");
        assert!(matches!(refused.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock), "{refused}");
        assert!(packets(&guard, Class::Peer, Ruling::Stranger).0 > 0);
        for _ in 0..20 {
            // More than guard_syn_rate of both, to ports where it does not hold.
            cable.connect(MEMBER[family], peer_port, TIMEOUT).expect("a member is let in");
            cable.connect(STRANGER[family], other, TIMEOUT).expect("other ports are open");
            cable.connect(MEMBER[family], client_port, TIMEOUT).expect("members are never too many");
        }
        assert!((0..100).any(|_| stranger(client_port).is_err()), "no limit");
        until("another second begins", || stranger(client_port).is_ok());
    }
    assert!(packets(&guard, Class::Client, Ruling::TooMany).0 > 0);
    // Off: as if it were not there. The last stranger becomes a member.
    guard.set_mode(Mode::Off).expect("off");
    let peer_port = SocketAddr::new(ip(NODE[0]), PEER_PORT);
    let _listener = cable.near.within(|| TcpListener::bind(peer_port).expect("a port"));
    cable.connect(STRANGER[0], peer_port, TIMEOUT).expect("it is off");
    guard.set_mode(Mode::Enforce).expect("on");
    cable.connect(STRANGER[0], peer_port, DROPPED).expect_err("it is on");
    guard.set_members(&BTreeSet::from([ip(STRANGER[0])]), true).expect("members");
    cable.connect(STRANGER[0], peer_port, TIMEOUT).expect("it is a member now");
    cable.connect(MEMBER[0], peer_port, DROPPED).expect_err("it has left");
}

#[test]
fn strangers_are_dropped_natively() {
    check_enforce(Place::Native);
}

#[test]
fn strangers_are_dropped_generically() {
    check_enforce(Place::Generic);
}

#[test]
fn somebody_elses_program_stays() {
    let Some(cable) = Cable::new() else { return };
    let (first, second) = (guard(Mode::Observe, 0), guard(Mode::Observe, 0));
    for place in [Place::Native, Place::Generic] {
        cable.attach(&first, Some(place)).unwrap_or_else(|error| panic!("{error}"));
        for other in [None, Some(Place::Native), Some(Place::Generic)] {
            let refused = cable.attach(&second, other);
            assert!(matches!(refused, Err(NotAttached::Taken)), "{place:?} {other:?}: {refused:?}");
        }
        first.detach();
    }
    assert_eq!(cable.attach(&second, None).ok(), Some(Place::Native), "veth can");
    assert!(matches!(cable.near.within(|| second.attach("eth7", None)), Err(NotAttached::Missing)));
    let loopback = cable.near.within(|| second.attach("lo", Some(Place::Native)));
    assert!(matches!(loopback, Err(NotAttached::Refused(Place::Native, _))), "{loopback:?}");
    assert_eq!(cable.near.within(|| second.attach("lo", None)).ok(), Some(Place::Generic), "what the driver cannot");
}

/// A SYN to the peer port, as packets that Linux puts together again, with every sum in them right.
struct Syn<'a> {
    from: &'a str,
    port: u16,
}

impl Syn<'_> {
    fn ends(&self) -> (IpAddr, IpAddr) {
        (ip(self.from), ip(if self.from.contains(':') { NODE[1] } else { NODE[0] }))
    }

    fn header(&self) -> Vec<u8> {
        let mut header = Vec::new();
        for half in [self.port, PEER_PORT, 0, 1000, 0, 0, 0x5000 | u16::from(SYN), 1000, 0, 0] {
            header.extend(half.to_be_bytes());
        }
        let mut pseudo = match self.ends() {
            (IpAddr::V4(from), IpAddr::V4(to)) => [from.octets(), to.octets()].concat(),
            (IpAddr::V6(from), IpAddr::V6(to)) => [from.octets(), to.octets()].concat(),
            _ => unreachable!("of one kind"),
        };
        pseudo.extend([0, 6, 0, 20]);
        pseudo.extend(&header);
        header[16..18].copy_from_slice(&sum(&pseudo));
        header
    }

    /// One IPv4 packet of these bytes, at so many units of eight.
    fn four(&self, bytes: &[u8], at: u16, more: bool) -> Vec<u8> {
        let (IpAddr::V4(from), IpAddr::V4(to)) = self.ends() else { unreachable!("of IPv4") };
        let mut packet = vec![0x45, 0];
        for half in [20 + bytes.len() as u16, self.port, u16::from(more) << 13 | at, 64 << 8 | 6, 0] {
            packet.extend(half.to_be_bytes());
        }
        packet.extend([from.octets(), to.octets()].concat());
        let right = sum(&packet);
        packet[10..12].copy_from_slice(&right);
        packet.extend(bytes);
        [&[8, 0], &packet[..]].concat()
    }

    /// One IPv6 packet, with these headers in front, each told its own kind.
    fn six(&self, headers: &[(u8, &[u8])], bytes: &[u8]) -> Vec<u8> {
        let (IpAddr::V6(from), IpAddr::V6(to)) = self.ends() else { unreachable!("of IPv6") };
        let mut payload = Vec::new();
        for (index, (_, rest)) in headers.iter().enumerate() {
            payload.push(headers.get(index + 1).map_or(6, |next| next.0));
            payload.extend(*rest);
        }
        payload.extend(bytes);
        let mut packet = vec![0x86, 0xdd, 0x60, 0, 0, 0];
        packet.extend((payload.len() as u16).to_be_bytes());
        packet.extend([headers.first().map_or(6, |first| first.0), 64]);
        packet.extend([from.octets(), to.octets()].concat());
        packet.extend(payload);
        packet
    }
}

/// The internet's checksum.
fn sum(bytes: &[u8]) -> [u8; 2] {
    let halves = bytes.chunks(2).map(|half| u32::from(half[0]) << 8 | u32::from(*half.get(1).unwrap_or(&0)));
    let sum: u32 = halves.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    (!(sum + (sum >> 16)) as u16).to_be_bytes()
}

/// Everything that the far end hears.
struct Ear(OwnedFd);

impl Ear {
    fn new(cable: &Cable) -> Ear {
        let open = || socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), SockProtocol::EthAll);
        let ear = cable.far.within(open).expect("a raw socket");
        setsockopt(&ear, ReceiveTimeout, &TimeVal::seconds(TIMEOUT.as_secs() as i64)).expect("a timeout");
        Ear(ear)
    }

    /// Waits until who comes from the one port is let in; is who came from the other before?
    fn hears(&self, awaited: u16, other: u16) -> bool {
        let (mut heard, mut bytes) = (false, [0; 2048]);
        loop {
            let len = recv(self.0.as_raw_fd(), &mut bytes, MsgFlags::empty()).expect("the node's end answers");
            let at = match bytes[12..14] {
                [0x08, 0x00] => 34,
                [0x86, 0xdd] => 54,
                _ => continue,
            };
            let half = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
            if at + 20 <= len && half(at) == PEER_PORT && bytes[at + 13] == SYN | ACK {
                heard |= half(at + 2) == other;
                if half(at + 2) == awaited {
                    return heard;
                }
            }
        }
    }
}

/// A way for a SYN to go.
struct Way {
    name: &'static str,
    family: usize,
    /// So many of its packets are rejected.
    rejected: u64,
    /// Does every kernel make a connection of it?
    is_taken: bool,
    packets: fn(&Syn<'_>, &[u8]) -> Vec<Vec<u8>>,
}

impl Way {
    const fn new(
        family: usize,
        name: &'static str,
        rejected: u64,
        packets: fn(&Syn<'_>, &[u8]) -> Vec<Vec<u8>>,
    ) -> Way {
        Way { name, family, rejected, is_taken: true, packets }
    }
}

/// By itself, then as firewalls have been got past. The plain ones come first, in the order of their families.
const WAYS: [Way; 10] = [
    Way::new(0, "plain", 1, |syn, header| vec![syn.four(header, 0, false)]),
    Way::new(1, "plain", 1, |syn, header| vec![syn.six(&[], header)]),
    Way::new(0, "eight bytes first", 2, |syn, header| {
        vec![syn.four(&header[..8], 0, true), syn.four(&header[8..], 1, false)]
    }),
    Way::new(0, "eight bytes last", 2, |syn, header| {
        vec![syn.four(&header[8..], 1, false), syn.four(&header[..8], 0, true)]
    }),
    Way::new(0, "sixteen bytes first", 1, |syn, header| {
        vec![syn.four(&header[..16], 0, true), syn.four(&header[16..], 2, false)]
    }),
    Way::new(0, "eight bytes and other flags in the padding", 2, |syn, header| {
        let mut first = syn.four(&header[..8], 0, true);
        first.extend([0, 0, 0, 0, 0x50, ACK, 3, 0xe8, 0, 0, 0, 0]);
        vec![first, syn.four(&header[8..], 1, false)]
    }),
    Way::new(0, NO_VLAN, 1, |syn, header| vec![[&[0x81, 0, 0, 0].repeat(5), &syn.four(header, 0, false)[..]].concat()]),
    Way::new(1, "nine headers", 1, |syn, header| vec![syn.six(&[(60, OPTIONS); 9], header)]),
    Way {
        is_taken: false,
        ..Way::new(1, "eight bytes first", 2, |syn, header| {
            let fragment = |at, bytes| syn.six(&[(44, &[0, 0, at, 0, 0, 0, 7])], bytes);
            vec![fragment(1, &header[..8]), fragment(8, &header[8..])]
        })
    },
    Way {
        is_taken: false,
        ..Way::new(1, "headers first", 1, |syn, header| {
            let first = syn.six(&[(44, &[0, 0, 1, 0, 0, 0, 9]), (60, OPTIONS)], &[]);
            let mut second = syn.six(&[(44, &[0, 0, 8, 0, 0, 0, 9])], header);
            second[42] = 60;
            vec![first, second]
        })
    },
];

/// Linux takes them off, however many; whose the packet is stands behind more of them than are followed.
const NO_VLAN: &str = "five tags of no VLAN";

/// A header of destination options, eight bytes, without the first.
const OPTIONS: &[u8] = &[0, 1, 4, 0, 0, 0, 0];

/// However Linux is made to take a SYN: a stranger's is rejected, a member's is not.
#[test]
fn strangers_do_not_come_in_pieces() {
    let Some(cable) = Cable::new() else { return };
    let guard = guard(Mode::Observe, 0);
    cable.attach(&guard, None).unwrap_or_else(|error| panic!("{error}"));
    let listeners = cable.near.within(|| NODE.map(|node| TcpListener::bind((ip(node), PEER_PORT)).expect("a port")));
    for who in [MEMBER, STRANGER] {
        for (from, listener) in who.into_iter().zip(&listeners) {
            let to = listener.local_addr().expect("bound");
            cable.connect(from, to, TIMEOUT).expect("while it observes; and everybody knows where everybody is");
        }
    }
    let ear = Ear::new(&cable);
    let rejected = || -> u64 {
        let counts = guard.counts();
        counts.iter().filter(|count| count.ruling.rejects()).map(|count| count.tally.times).sum()
    };
    let ends = [hardware_address(&cable.near), hardware_address(&cable.far)].concat();
    let mut port = 20_000;
    for (mode, who) in [(Mode::Observe, STRANGER), (Mode::Enforce, STRANGER), (Mode::Enforce, MEMBER)] {
        guard.set_mode(mode).expect("a mode");
        for way in WAYS.iter().filter(|way| who == STRANGER || way.name != NO_VLAN) {
            let what = format!("{}, IPv{}, {mode:?}", way.name, [4, 6][way.family]);
            port += 2;
            let syn = Syn { from: who[way.family], port };
            let after = Syn { from: MEMBER[way.family], port: port + 1 };
            let before = rejected();
            let mut packets = (way.packets)(&syn, &syn.header());
            packets.extend((WAYS[way.family].packets)(&after, &after.header()));
            cable.send_bytes(packets.iter().map(|packet| [&ends, &packet[..]].concat()));
            if who == STRANGER && mode == Mode::Enforce {
                assert!(!ear.hears(after.port, syn.port), "let in: {what}");
            } else if way.is_taken {
                ear.hears(syn.port, after.port);
            }
            let expected = if who == STRANGER { way.rejected } else { 0 };
            until(&format!("{expected} are rejected: {what}"), || rejected() - before == expected);
        }
    }
}

/// A node on the near end, whose peer is the member.
fn node(cable: &Cable, kernel: &str) -> Settings {
    let four = |text: &str| text.parse::<Ipv4Addr>().expect("an address");
    let host = Host(four(NODE[0]));
    let mut settings = Settings::embedded(Kind::Redis)
        .line(&format!("dyn_seeds:\n  - {}:{PEER_PORT}:localrack2:localdc:0", MEMBER[0]))
        .line(&format!("kernel: {{{kernel}}}"));
    (settings.host, settings.server) = (host, format!("{}:1:1", host.0));
    settings.netns = Some(cable.near.clone());
    settings
}

fn is_taken(cable: &Cable) -> bool {
    let other = guard(Mode::Observe, 0);
    matches!(cable.attach(&other, None), Err(NotAttached::Taken))
}

#[test]
fn a_node_guards_and_lets_go_when_it_ends() {
    let Some(cable) = Cable::new() else { return };
    for ends in [|node: &mut Node| assert_eq!(node.stop(), Some(0)), |node: &mut Node| node.kill()] {
        let mut node = Node::start(node(&cable, "mode: auto, interface: [eth0, eth7], guard: enforce"));
        assert!(is_taken(&cable));
        let peer_port = node.peer_address();
        cable.connect(MEMBER[0], peer_port, TIMEOUT).expect("a member is let in");
        cable.connect(STRANGER[0], peer_port, DROPPED).expect_err("a stranger is not");
        cable.connect(STRANGER[0], node.address(), TIMEOUT).expect("a client is");
        let metrics = node.get("/metrics");
        let count = |labels: &str| {
            let name = format!(
                "dynomite_kernel_guard_packets_total{{pool=\"dyn_o_mite\",datacenter=\"localdc\",rack=\"localrack\",interface=\"eth0\",{labels}}} "
            );
            let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
            line.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse::<u64>().expect("a number")
        };
        assert!(count("class=\"peer\",verdict=\"drop\",reason=\"stranger\"") > 0);
        assert!(count("class=\"peer\",verdict=\"pass\",reason=\"opens\"") > 0);
        assert!(count("class=\"client\",verdict=\"pass\",reason=\"opens\"") > 0);
        assert!(node.get("/info").contains("\"guard_packets_eth0_peer_drop_stranger\":"));
        let about = node.get("/kernel");
        for part in ["\"xdp\": \"native\"", "there is no such interface", "\"10.78.0.2\""] {
            assert!(about.contains(part), "no {part} in {about}");
        }
        assert!(node.log().contains("guard: not at eth7: there is no such interface"), "{}", node.log());
        let said = format!("kernel: guard: {} is no member, and connects to the peer port", STRANGER[0]);
        until("the program's words are in the log", || node.log().contains(&said));
        assert!(node.get("/kernel/off").starts_with("OK"));
        cable.connect(STRANGER[0], peer_port, DROPPED).expect_err("it stays, whatever is switched off");
        ends(&mut node);
        assert!(holds_within(TIMEOUT, || !is_taken(&cable)), "the program is still there");
    }
}

/// The guard is where its interface is, and the node never says otherwise.
#[test]
fn a_guard_comes_back_with_its_interface() {
    let Some(cable) = Cable::new() else { return };
    // Whatever becomes of its interface, it has its address.
    cable.near.ip(&format!("address add {}/32 dev lo", NODE[0]));
    let node = Node::start(node(&cable, "mode: auto, interface: eth0, guard: enforce"));
    let peer_port = node.peer_address();
    let is = |text: &str| node.get("/kernel").contains(text);
    cable.connect(STRANGER[0], peer_port, DROPPED).expect_err("a stranger");
    cable.near.ip("link set eth0 down");
    cable.near.ip("link set eth0 name eth1");
    cable.near.ip("link set eth1 up");
    cable.connect(STRANGER[0], peer_port, DROPPED).expect_err("by another name, it is the same");
    cable.near.ip("link delete eth1");
    until("it says that it is gone", || is("there is no such interface") && is("\"on\": false"));
    assert!(node.get("/metrics").contains("guard_on{") && node.get("/info").contains("\"guard_on_eth0\":0"));
    assert!(node.log().contains("guard: lost eth0: there is no such interface"), "{}", node.log());
    cable.lay();
    until("it is there again", || is("\"on\": true") && is("\"xdp\": \"native\""));
    assert!(node.log().contains("guard: enforces at eth0, native"));
    cable.connect(STRANGER[0], peer_port, DROPPED).expect_err("a stranger");
    cable.connect(MEMBER[0], peer_port, TIMEOUT).expect("a member");
    let counted = |reason: &str| {
        let info = node.get("/info");
        let at = info.find(&format!("\"guard_packets_eth0_peer_{reason}\":")).expect("it is counted");
        info[at..].split([':', ',', '}']).nth(1).and_then(|text| text.trim().parse::<u64>().ok()).expect("a number")
    };
    assert!(counted("drop_stranger") >= 3, "with those of before");
}

#[test]
fn a_node_that_requires_a_guard_does_not_start_without() {
    let Some(cable) = Cable::new() else { return };
    let first = guard(Mode::Observe, 0);
    cable.attach(&first, None).unwrap_or_else(|error| panic!("{error}"));
    for (interface, words) in [("eth0", "another XDP program"), ("eth7", "there is no such interface")] {
        let settings = node(&cable, &format!("mode: required, interface: [{interface}]"));
        let mut node = Node::start_unchecked(settings);
        assert_eq!(node.ended(), Some(1));
        let log = node.log();
        assert!(log.contains(&format!("the guard cannot be had: {interface}: ")) && log.contains(words), "{log}");
    }
}
