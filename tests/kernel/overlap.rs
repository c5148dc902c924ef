//! A segment that carries bytes the node has seen and bytes it has not, as a retransmission sometimes does. The kernel hands
//! it over whole; the connection must be reset, and nothing from the overlap on may have been executed.
//!
//! The client is an ordinary connection; the one segment is forged on a raw socket, which also shows what is on the wire:
//! the client's own TCP will not take replies to bytes that it never sent.

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use dynomite_tests::{Client, Datastore, Kind, Node, until};
use nix::libc::{BPF_ABS, BPF_H, BPF_JEQ, BPF_JMP, BPF_LD, BPF_RET};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::{adopted_by, count, node_before, verdicts};

/// Both directions of one connection, seen and forged.
struct Wire {
    socket: Socket,
    client: SocketAddrV4,
    node: SocketAddrV4,
    /// Sequence number of the client's next byte, and the last acknowledgement it sent.
    next: u32,
    acknowledged: u32,
    /// What the node sent, in the order of the wire; every byte once.
    said: Vec<u8>,
    said_to: Option<u32>,
    /// Did the node reset the connection?
    is_reset: bool,
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH_ACK: u8 = 8 | 16;
const IP_BYTES: usize = 20;
const TCP_BYTES: usize = 20;

impl Wire {
    fn tap(client: SocketAddr, node: SocketAddr) -> Wire {
        let (SocketAddr::V4(client), SocketAddr::V4(node)) = (client, node) else { panic!("IPv4 only") };
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP)).expect("a raw socket");
        // Other connections of this machine are not to fill the buffer: the client's port at either end.
        let port = u32::from(client.port());
        let load = |place| SockFilter::new((BPF_LD | BPF_H | BPF_ABS) as u16, 0, 0, place);
        let equal = |yes, no| SockFilter::new((BPF_JMP | BPF_JEQ) as u16, yes, no, port);
        let end = |verdict| SockFilter::new(BPF_RET as u16, 0, 0, verdict);
        let (source, destination) = (IP_BYTES as u32, IP_BYTES as u32 + 2);
        let filter = [load(source), equal(2, 0), load(destination), equal(0, 1), end(u32::MAX), end(0)];
        socket.attach_filter(&filter).expect("a filter");
        socket.set_header_included_v4(true).expect("headers of our own");
        socket.set_recv_buffer_size(4 << 20).expect("a buffer");
        socket.set_nonblocking(true).expect("nonblocking");
        Wire { socket, client, node, next: 0, acknowledged: 0, said: Vec::new(), said_to: None, is_reset: false }
    }

    /// Everything that went over the wire since the last look.
    fn look(&mut self) {
        let mut packet = vec![0; 1 << 16];
        loop {
            match (&self.socket).read(&mut packet) {
                Ok(len) => self.note(&packet[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn note(&mut self, packet: &[u8]) {
        let tcp = &packet[usize::from(packet[0] & 15) * 4..];
        let number = |at: usize| u32::from_be_bytes(tcp[at..at + 4].try_into().expect("four bytes"));
        let port = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
        let (sequence, acknowledged, flags) = (number(4), number(8), tcp[13]);
        let payload = &tcp[usize::from(tcp[12] >> 4) * 4..];
        let end = sequence.wrapping_add(payload.len() as u32 + u32::from(flags & (SYN | FIN) != 0));
        if (port(0), port(2)) == (self.client.port(), self.node.port()) {
            self.next = end;
            self.acknowledged = acknowledged;
            return;
        }
        if (port(0), port(2)) != (self.node.port(), self.client.port()) {
            // Of another connection, from before there was a filter.
            return;
        }
        self.is_reset |= flags & RST != 0;
        if flags & RST == 0 {
            let from = self.said_to.unwrap_or(sequence);
            let known = from.wrapping_sub(sequence) as usize;
            self.said.extend_from_slice(payload.get(known..).unwrap_or_default());
            self.said_to = Some(if payload.len() > known { end } else { from });
        }
    }

    /// Sends `bytes` as the client, beginning `back` bytes before the place where it goes on.
    fn forge(&self, back: i32, bytes: &str) {
        let sequence = self.next.wrapping_sub(back.cast_unsigned());
        let mut packet = vec![0; IP_BYTES + TCP_BYTES];
        packet[0] = 0x45;
        packet[8] = 64;
        packet[9] = 6;
        packet[12..16].copy_from_slice(&self.client.ip().octets());
        packet[16..20].copy_from_slice(&self.node.ip().octets());
        let tcp = &mut packet[IP_BYTES..];
        tcp[0..2].copy_from_slice(&self.client.port().to_be_bytes());
        tcp[2..4].copy_from_slice(&self.node.port().to_be_bytes());
        tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
        tcp[8..12].copy_from_slice(&self.acknowledged.to_be_bytes());
        tcp[12] = (TCP_BYTES as u8 / 4) << 4;
        tcp[13] = PSH_ACK;
        tcp[14..16].copy_from_slice(&512_u16.to_be_bytes());
        packet.extend_from_slice(bytes.as_bytes());
        let sum = checksum(*self.client.ip(), *self.node.ip(), &packet[IP_BYTES..]);
        packet[IP_BYTES + 16..IP_BYTES + 18].copy_from_slice(&sum.to_be_bytes());
        self.socket.send_to(&packet, &SocketAddr::V4(self.node).into()).expect("the forged segment is sent");
    }
}

fn checksum(from: Ipv4Addr, to: Ipv4Addr, segment: &[u8]) -> u16 {
    let mut words: Vec<u8> = [from.octets(), to.octets()].concat();
    words.extend([0, 6]);
    words.extend((segment.len() as u16).to_be_bytes());
    words.extend_from_slice(segment);
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| u32::from(low));
    let sum: u64 = words.chunks(2).map(|pair| u64::from(word(pair))).sum();
    let folded = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

/// A datastore, a node, an adopted client, and what goes over its wire from now on.
struct Scene {
    datastore: Datastore,
    node: Node,
    client: Client,
    wire: Wire,
}

/// Answered with so many bytes, which is all that an adopted client has to know here.
const MISS: &str = "get nothing\r\n";
const GET: &str = "*2\r\n$3\r\nGET\r\n$7\r\nnothing\r\n";
/// What the forged bytes want to be done, and must not be.
const VICTIM: &str = "*3\r\n$3\r\nSET\r\n$6\r\nvictim\r\n$1\r\n1\r\n";

impl Scene {
    fn new(kind: Kind) -> Option<Scene> {
        let (datastore, node) = node_before(Datastore::start(kind), &[])?;
        let client = match kind {
            Kind::Redis => adopted_by(&node, GET, "$-1\r\n"),
            Kind::Memcached => adopted_by(&node, MISS, "END\r\n"),
        };
        let address = client.stream().local_addr().expect("it is connected");
        let mut scene = Scene { wire: Wire::tap(address, node.address()), datastore, node, client };
        let (ask, answer) = if kind == Kind::Redis { (GET, "$-1\r\n") } else { (MISS, "END\r\n") };
        scene.client.send(ask.as_bytes());
        assert_eq!(scene.client.bytes(answer.len()), answer.as_bytes());
        scene.wire.look();
        scene.wire.said.clear();
        Some(scene)
    }

    /// The client sends this, and the kernel hands it to the daemon.
    fn passes(&mut self, bytes: &str, reason: &str) {
        let before = verdicts(&self.node, reason);
        self.client.send(bytes.as_bytes());
        until("it is passed", || verdicts(&self.node, reason) > before);
        self.wire.look();
    }

    /// The node says this and resets the connection. Nothing of the victim was done.
    fn expect_reset_after(mut self, said: &str) {
        // Both, in whatever order: the wire is seen from several processors.
        let is_over = dynomite_tests::until::holds_within(dynomite_tests::TIMEOUT, || {
            self.wire.look();
            self.wire.is_reset && self.wire.said.len() >= said.len()
        });
        assert_eq!(String::from_utf8_lossy(&self.wire.said), said);
        assert!(is_over, "the node does not reset the connection");
        if said.is_empty() {
            // Else the client's own TCP is no judge: it drops what acknowledges bytes that it never sent, and then the reset
            // is not where it expects one.
            assert!(self.client.rest().is_empty());
        }
        assert_eq!(count(&self.node, "flows_broken"), 1);
        assert!(verdicts(&self.node, "overlap") > 0);
        self.holds("victim", false);
        self.holds("upload", false);
    }

    fn holds(&self, key: &str, expected: bool) {
        let mut direct = self.datastore.client();
        let is_there = match self.datastore.kind {
            Kind::Redis => direct.ask(&format!("EXISTS {key}")) == dynomite_tests::Value::Integer(1),
            Kind::Memcached => {
                direct.send(format!("get {key}\r\n").as_bytes());
                direct.line() != "END"
            }
        };
        assert_eq!(is_there, expected, "{key} at the datastore");
    }
}

fn end_of(text: &str, len: usize) -> &str {
    &text[text.len() - len..]
}

#[test]
fn forged_segments_in_sequence_are_the_clients() {
    let _alone = crate::alone();
    let Some(scene) = Scene::new(Kind::Redis) else { return };
    scene.wire.forge(GET.len() as i32, GET);
    scene.wire.forge(0, VICTIM);
    until("it is done", || scene.datastore.client().ask("EXISTS victim") == dynomite_tests::Value::Integer(1));
    assert_eq!((count(&scene.node, "flows_broken"), verdicts(&scene.node, "overlap")), (0, 0));
}

#[test]
fn an_overlap_when_nothing_is_outstanding() {
    let _alone = crate::alone();
    let Some(scene) = Scene::new(Kind::Redis) else { return };
    scene.wire.forge(9, &format!("{}{VICTIM}", end_of(GET, 9)));
    scene.expect_reset_after("");
}

#[test]
fn an_overlap_in_the_middle_of_an_upload() {
    let _alone = crate::alone();
    let Some(mut scene) = Scene::new(Kind::Redis) else { return };
    let value = "v".repeat(1000);
    let begin = format!("*3\r\n$3\r\nSET\r\n$6\r\nupload\r\n$1000\r\n{}", &value[..400]);
    scene.passes(&begin, "incomplete");
    scene.wire.forge(100, &format!("{}\r\n{VICTIM}", &value[300..]));
    scene.expect_reset_after("");
}

#[test]
fn an_overlap_while_the_daemon_owes_answers() {
    let _alone = crate::alone();
    let Some(mut scene) = Scene::new(Kind::Redis) else { return };
    scene.datastore.pause();
    let two = "*3\r\n$3\r\nSET\r\n$5\r\nfirst\r\n$1\r\n1\r\n*2\r\n$4\r\nMGET\r\n$5\r\nfirst\r\n";
    scene.passes(two, "several");
    scene.wire.forge(4, &format!("{}{VICTIM}", end_of(two, 4)));
    until("it has come", || verdicts(&scene.node, "overlap") > 0);
    scene.datastore.resume();
    scene.expect_reset_after("+OK\r\n*1\r\n$1\r\n1\r\n");
}

#[test]
fn an_overlap_while_the_datastore_owes_an_answer() {
    let _alone = crate::alone();
    let Some(mut scene) = Scene::new(Kind::Redis) else { return };
    scene.datastore.pause();
    scene.passes(GET, "routed");
    scene.wire.forge(4, &format!("{}{VICTIM}", end_of(GET, 4)));
    until("it has come", || verdicts(&scene.node, "overlap") > 0);
    scene.datastore.resume();
    scene.expect_reset_after("$-1\r\n");
}

#[test]
fn an_overlap_of_segments_that_came_out_of_order() {
    let _alone = crate::alone();
    let Some(scene) = Scene::new(Kind::Redis) else { return };
    scene.wire.forge(-10, &VICTIM[10..]);
    scene.wire.forge(0, &VICTIM[..25]);
    scene.expect_reset_after("");
}

#[test]
fn an_overlap_in_an_upload_to_memcached() {
    let _alone = crate::alone();
    let Some(mut scene) = Scene::new(Kind::Memcached) else { return };
    let value = "v".repeat(1000);
    scene.passes(&format!("set upload 0 0 1000\r\n{}", &value[..400]), "unsure");
    scene.wire.forge(100, &format!("{}\r\nset victim 0 0 1\r\n1\r\n", &value[300..]));
    scene.expect_reset_after("");
}
