//! The guard on cables of our own between network namespaces: what it counts, what it drops, whom it never drops, when it
//! attaches and that it goes when its process does.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use dynomite_common::frame::make::Recipe;
use dynomite_common::frame::{self, Seen};
use dynomite_common::guard::{Class, Listener, Mode, Rules, Ruling};
use dynomite_tests::address::{CLIENT_PORT, PEER_PORT, STATS_PORT};
use dynomite_tests::need::skip;
use dynomite_tests::until::{TIMEOUT, holds_within};
use dynomite_tests::{Host, Kind, Netns, Node, Random, Settings, random, until};
use dynomite_user::kernel::guard::{Guard, NotAttached, Place, Verdict};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, sendto, socket};
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
        self.far.within(|| {
            let mut own = getifaddrs().expect("interfaces").filter(|one| one.interface_name == "eth0");
            let eth0 = own.find_map(|one| one.address?.as_link_addr().copied()).expect("eth0");
            let raw = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None).expect("a raw socket");
            for recipe in frames {
                let mut bytes = [0; 512];
                let len = recipe.write(&mut bytes);
                sendto(raw.as_raw_fd(), &bytes[..len], &eth0, MsgFlags::empty()).expect("sent");
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
    for tags in [&[][..], &[0x8100], &[0x88a8, 0x8100]] {
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
    send(2, Recipe { tags: &[0x8100; 3], ..four }, Some((Class::Unread, Ruling::TooDeep)));
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
        [&[], &[], &[(0, 8)], &[(43, 24), (44, 8)], &[(51, 24)], &[(60, 8), (60, 8), (60, 8), (60, 8), (60, 8)]];
    for _ in 0..5_000 {
        let family = random.below(2);
        let source = [NODE, MEMBER, STRANGER][random.below(3)][family];
        let recipe = Recipe {
            tags: &[0x8100, 0x88a8, 0x8100][random.below(4).min(3)..],
            extensions: if family == 0 { &[] } else { extensions[random.below(extensions.len())] },
            fragment_at: if random.below(4) == 0 { 3 } else { 0 },
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
        let rejects = match frame::look(frame) {
            Seen::Tcp(segment) => rules.class(&segment).is_some_and(|class| {
                let is_member = || {
                    let words = segment.source.map(u32::to_ne_bytes).concat();
                    let address = IpAddr::from(<[u8; 16]>::try_from(words).expect("sixteen")).to_canonical();
                    MEMBER.map(ip).contains(&address)
                };
                rules.judge(class, segment.flags, is_member, |_| true).rejects()
            }),
            _ => false,
        };
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
