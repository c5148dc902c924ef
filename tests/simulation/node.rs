//! One node of the simulated cluster: the daemon's pure parts, with a shell that hands bytes to a simulated network.
//! Owns: what `net` owns in the daemon: connections, their buffers, when to dial again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use dynomite_user::control::{Control, NodeState};
use dynomite_user::coordinator::route::Origin;
use dynomite_user::coordinator::{
    Ask, Asker, ClientId, ConsistencyLevel, Coordinator, Effects, Leg, Outgoing, SendError, Settings, Taken,
};
use dynomite_user::moment::Moment;
use dynomite_user::protocol::Protocol;
use dynomite_user::protocol::codec::{Decoder, ReplyScanner};
use dynomite_user::protocol::peer::{Asking, Heard, Hearing, Message, Responder, Said};
use dynomite_user::protocol::reply::{Expect, Fault, Reply, Scanned};
use dynomite_user::protocol::request::{Decoded, Limits};
use dynomite_user::ring::{PeerId, Topology};
use dynomite_user::stats::{Stat, Stats};

use crate::network::{ConnId, Notice, Port};

/// What the node wants of the world.
#[derive(Debug)]
pub enum Wish {
    Dial(Target),
    Send(ConnId, Vec<u8>),
    Close(ConnId),
    /// Close it, and what was sent and did not get through is lost.
    Abort(ConnId),
}

/// Whom a node connects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    Datastore,
    Peer(PeerId),
}

/// A planted bug, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Canary {
    /// A peer's vote counts for another replica as well.
    DoubleVote,
    /// A reply that comes late is taken for the next one that is awaited.
    LateReply,
}

pub struct Node {
    /// Which of its lives this is. What belongs to an earlier one is nothing to this one.
    pub life: u32,
    pub coordinator: Coordinator,
    io: Io,
    next_tick: Moment,
}

struct Io {
    now: Moment,
    stats: Arc<Stats>,
    guests: Vec<Option<Guest>>,
    datastore: Link,
    sent: VecDeque<Sent>,
    scanner: ReplyScanner,
    /// By `PeerId`; the first one is never used.
    peers: Vec<PeerLink>,
    near: Vec<bool>,
    slots: BTreeMap<ConnId, Slot>,
    wishes: Vec<Wish>,
    resumed: Vec<usize>,
    timeout: Duration,
    /// Microseconds that its clock is ahead or behind.
    skew: i64,
}

#[derive(Clone, Copy)]
enum Slot {
    Guest(usize),
    Datastore,
    Peer(PeerId),
}

/// Somebody who connected to us.
struct Guest {
    conn: ConnId,
    role: Role,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    held: bool,
    deaf: bool,
    closing: bool,
}

enum Role {
    Client(Decoder),
    Peer { hearing: Box<Hearing>, responder: Responder },
}

#[derive(Clone, Copy)]
struct Sent {
    leg: Leg,
    expect: Expect,
}

struct Link {
    target: Target,
    state: LinkState,
    failures: u32,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    heard_at: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LinkState {
    Down { retry_at: Moment },
    Dialing { conn: Option<ConnId>, give_up_at: Moment },
    Up { conn: ConnId },
}

struct PeerLink {
    link: Link,
    /// `None`: our greeting. A link works when that is answered.
    asking: Asking<Option<Leg>>,
    greeted: bool,
    /// For `Canary::LateReply`: a reply that came late.
    late: Option<(Vec<u8>, bool)>,
}

const GREETING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
const TICK: Duration = Duration::from_millis(100);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Pauses between attempts: 1, 2, 4, 8, 10 seconds.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// When virtual time begins.
const EPOCH_MICROS: u64 = 1_700_000_000_000_000;
/// Nothing that a few clients do can fill a buffer beyond this.
pub const BUFFER_BYTES_MAX: usize = 8 << 20;

/// What all nodes of a cluster have in common.
#[derive(Clone, Copy, Debug)]
pub struct Levels {
    pub read: ConsistencyLevel,
    pub write: ConsistencyLevel,
    pub repairs: bool,
}

impl Node {
    pub fn start(life: u32, skew: i64, topology: Topology, settings: Settings, levels: Levels, now: Moment) -> Node {
        let stats = Stats::alone();
        let control = Arc::new(Control::new(levels.read, levels.write, levels.repairs, NodeState::Normal));
        let peers = (0..topology.ids()).map(|id| PeerLink {
            link: Link::new(Target::Peer(PeerId(id as u32)), now),
            asking: Asking::new(Protocol::Resp),
            greeted: false,
            late: None,
        });
        let io = Io {
            now,
            stats: stats.clone(),
            guests: Vec::new(),
            datastore: Link::new(Target::Datastore, now),
            sent: VecDeque::new(),
            scanner: ReplyScanner::new(Protocol::Resp),
            peers: peers.collect(),
            near: (0..topology.ids()).map(|id| topology.is_near(PeerId(id as u32))).collect(),
            slots: BTreeMap::new(),
            wishes: Vec::new(),
            resumed: Vec::new(),
            timeout: settings.timeout,
            skew,
        };
        let coordinator = Coordinator::new(settings, Arc::new(topology), control, stats);
        Node { life, coordinator, io, next_tick: now }
    }

    /// When it wants to be woken though nothing arrives.
    pub fn wakes_at(&self) -> Moment {
        self.coordinator.wakes_at().map_or(self.next_tick, |at| at.min(self.next_tick))
    }

    pub fn wake(&mut self, now: Moment) -> Vec<Wish> {
        self.io.now = now;
        if self.next_tick <= now {
            self.next_tick = now + TICK;
            self.tick();
        }
        self.coordinator.on_wake(now, &mut self.io);
        self.finish()
    }

    /// A connection that `Wish::Dial` asked for is on its way.
    pub fn dialled(&mut self, target: Target, conn: ConnId) {
        self.io.slots.insert(conn, target.into());
        if let LinkState::Dialing { conn: number, .. } = &mut self.io.link_mut(target).state {
            *number = Some(conn);
        }
    }

    pub fn accept(&mut self, conn: ConnId, port: Port) {
        let (role, asker) = match port {
            Port::Peers(_) => (Role::Peer { hearing: new_hearing(), responder: Responder::default() }, Asker::Peer),
            _ => (Role::Client(Decoder::new(Protocol::Resp)), Asker::Client),
        };
        let free = self.io.guests.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.io.guests.push(None);
            self.io.guests.len() - 1
        });
        let (inbox, outbox) = (Vec::new(), Vec::new());
        self.io.guests[index] = Some(Guest { conn, role, inbox, outbox, held: false, deaf: false, closing: false });
        self.io.slots.insert(conn, Slot::Guest(index));
        self.coordinator.connect(ClientId(index as u32), asker, self.io.now);
    }

    pub fn on_notice(&mut self, conn: ConnId, notice: Notice, canary: Option<Canary>, now: Moment) -> Vec<Wish> {
        self.io.now = now;
        let Some(slot) = self.io.slots.get(&conn).copied() else { return Vec::new() };
        match (slot, notice) {
            (Slot::Guest(index), Notice::Bytes(bytes)) => {
                if let Some(guest) = &mut self.io.guests[index] {
                    guest.inbox.extend_from_slice(&bytes);
                }
                self.serve(index);
            }
            (Slot::Guest(index), _) => self.drop_guest(index),
            (Slot::Datastore, Notice::Bytes(bytes)) => {
                self.io.datastore.inbox.extend_from_slice(&bytes);
                self.hear_datastore();
            }
            (Slot::Peer(peer), Notice::Bytes(bytes)) => {
                self.io.peers[peer.0 as usize].link.inbox.extend_from_slice(&bytes);
                self.hear_peer(peer, canary);
            }
            (slot, Notice::Connected) => {
                let link = self.io.link_mut(slot.target());
                link.state = LinkState::Up { conn };
                link.heard_at = now;
                if let Slot::Peer(peer) = slot {
                    let near = self.io.near[peer.0 as usize];
                    let PeerLink { link, asking, .. } = &mut self.io.peers[peer.0 as usize];
                    asking.ask(Message::Execute, near, GREETING.len(), Expect::Resp, None, &mut link.outbox);
                    link.outbox.extend_from_slice(GREETING);
                }
            }
            (slot, _) => self.lose(slot.target()),
        }
        self.finish()
    }

    /// Links that should be up and are not, and those that have been silent too long.
    fn tick(&mut self) {
        // As in the daemon: what a node answers within its timeout takes so much longer on its way.
        let patience = |io: &Io, target: Target| match target {
            Target::Datastore => io.timeout * 4 + Duration::from_secs(1),
            Target::Peer(peer) => io.timeout + Duration::from_secs(if io.near[peer.0 as usize] { 1 } else { 6 }),
        };
        let targets = (1..self.io.peers.len()).map(|id| Target::Peer(PeerId(id as u32)));
        for target in std::iter::once(Target::Datastore).chain(targets) {
            let (now, patience) = (self.io.now, patience(&self.io, target));
            let asked = match target {
                Target::Datastore => self.io.sent.len(),
                Target::Peer(peer) => self.io.peers[peer.0 as usize].asking.outstanding(),
            };
            let link = self.io.link_mut(target);
            match link.state {
                LinkState::Down { .. } => _ = self.io.ready(target),
                LinkState::Dialing { give_up_at, .. } if give_up_at <= now => self.lose(target),
                LinkState::Up { .. } if asked > 0 && link.heard_at + patience <= now => self.lose(target),
                _ => {}
            }
        }
    }

    fn serve(&mut self, index: usize) {
        let Some(guest) = &mut self.io.guests[index] else { return };
        if guest.held || guest.deaf {
            return;
        }
        let mut inbox = std::mem::take(&mut guest.inbox);
        let done = if matches!(guest.role, Role::Client(_)) {
            self.serve_client(index, &inbox)
        } else {
            self.serve_peer(index, &inbox)
        };
        inbox.drain(..done);
        if let Some(guest) = &mut self.io.guests[index] {
            guest.inbox = inbox;
        }
    }

    fn serve_client(&mut self, index: usize, bytes: &[u8]) -> usize {
        let id = ClientId(index as u32);
        let Some(Guest { role: Role::Client(decoder), .. }) = &mut self.io.guests[index] else { return bytes.len() };
        let mut decoder = std::mem::replace(decoder, Decoder::new(Protocol::Resp));
        let mut done = 0;
        while done < bytes.len() {
            match decoder.decode(&bytes[done..], &Limits::default()) {
                Decoded::Request { consumed, request } => {
                    let taken = self.coordinator.on_request(id, &request, self.io.now, &mut self.io);
                    done += if taken == Taken::NotYet { 0 } else { consumed };
                    if taken != Taken::Yes {
                        self.hold(index);
                        break;
                    }
                }
                Decoded::Refused { consumed, error } => {
                    self.coordinator.answer(id, &error, &mut self.io);
                    done += consumed;
                }
                Decoded::Skip { consumed } => done += consumed,
                Decoded::Incomplete { .. } => break,
                Decoded::Broken { error } => {
                    self.coordinator.answer(id, &error, &mut self.io);
                    self.coordinator.finish(id, &mut self.io);
                    done = bytes.len();
                }
            }
        }
        if let Some(Guest { role: Role::Client(place), .. }) = &mut self.io.guests[index] {
            *place = decoder;
        }
        done
    }

    fn serve_peer(&mut self, index: usize, bytes: &[u8]) -> usize {
        let id = ClientId(index as u32);
        let Some(Guest { role: Role::Peer { hearing, .. }, .. }) = &mut self.io.guests[index] else {
            return bytes.len();
        };
        let mut hearing = std::mem::replace(hearing, new_hearing());
        let mut done = 0;
        while done < bytes.len() {
            match hearing.hear(&bytes[done..], &Limits::default()) {
                Heard::Request { consumed, question, message, request } => {
                    self.io.asked(index, question);
                    let origin = if message == Message::Forward { Origin::Forward } else { Origin::Execute };
                    self.coordinator.on_peer_request(id, &request, origin, self.io.now, &mut self.io);
                    done += consumed;
                }
                Heard::Refused { consumed, question, error } => {
                    self.io.asked(index, question);
                    self.coordinator.answer(id, &error, &mut self.io);
                    done += consumed;
                }
                Heard::Gossip { consumed, .. } | Heard::Garbage { consumed } => done += consumed,
                Heard::Incomplete { .. } => break,
                Heard::Broken { question, error } => {
                    self.io.asked(index, question);
                    self.coordinator.answer(id, &error, &mut self.io);
                    self.coordinator.finish(id, &mut self.io);
                    return bytes.len();
                }
                Heard::Encrypted => {
                    self.drop_guest(index);
                    return bytes.len();
                }
            }
        }
        if let Some(Guest { role: Role::Peer { hearing: place, .. }, .. }) = &mut self.io.guests[index] {
            *place = hearing;
        }
        done
    }

    fn hold(&mut self, index: usize) {
        if let Some(guest) = &mut self.io.guests[index] {
            guest.held = true;
        }
    }

    fn drop_guest(&mut self, index: usize) {
        if let Some(guest) = self.io.guests[index].take() {
            self.io.slots.remove(&guest.conn);
            self.io.wishes.push(Wish::Close(guest.conn));
            self.coordinator.disconnect(ClientId(index as u32));
        }
    }

    fn hear_datastore(&mut self) {
        let mut inbox = std::mem::take(&mut self.io.datastore.inbox);
        let mut done = 0;
        while done < inbox.len() {
            let expect = self.io.sent.front().map_or(Expect::Resp, |sent| sent.expect);
            match self.io.scanner.scan(expect, &inbox[done..]) {
                Scanned::Reply { len, is_error } => {
                    let frame = &inbox[done..done + len];
                    done += len;
                    self.io.datastore.proved(self.io.now);
                    let sent = self.io.sent.pop_front().expect("a datastore says nothing on its own");
                    self.coordinator.on_reply(sent.leg, Reply { frame, is_error }, self.io.now, &mut self.io);
                }
                Scanned::Incomplete { .. } => break,
                Scanned::Broken => panic!("the datastore's reply is none: {}", inbox[done..].escape_ascii()),
            }
        }
        inbox.drain(..done);
        self.io.datastore.inbox = inbox;
    }

    fn hear_peer(&mut self, peer: PeerId, canary: Option<Canary>) {
        let number = peer.0 as usize;
        let mut inbox = std::mem::take(&mut self.io.peers[number].link.inbox);
        let mut done = 0;
        while done < inbox.len() {
            let mut lost = Vec::new();
            let said = self.io.peers[number].asking.hear(&inbox[done..], |leg| lost.push(leg));
            match said {
                Said::Reply { consumed, value: leg, reply, .. } => {
                    done += consumed;
                    self.io.peers[number].link.proved(self.io.now);
                    self.io.peers[number].greeted = true;
                    if let Some(leg) = leg {
                        self.on_reply(number, leg, reply, canary);
                    }
                }
                Said::Garbage { consumed } => done += consumed,
                Said::Incomplete { .. } => break,
                Said::Broken => panic!("a peer's reply is none: {}", inbox[done..].escape_ascii()),
            }
            for leg in lost.into_iter().flatten() {
                self.coordinator.on_lost(leg, Fault::PeerRefused, self.io.now, &mut self.io);
            }
        }
        inbox.drain(..done);
        self.io.peers[number].link.inbox = inbox;
    }

    fn on_reply(&mut self, number: usize, leg: Leg, reply: Reply<'_>, canary: Option<Canary>) {
        let late_before = self.io.stats.get(Stat::late_replies);
        let late = self.io.peers[number].late.take();
        let taken = match &late {
            Some((frame, is_error)) => Reply { frame, is_error: *is_error },
            None => reply,
        };
        self.coordinator.on_reply(leg, taken, self.io.now, &mut self.io);
        if canary == Some(Canary::DoubleVote) {
            // The replica is the leg's last byte.
            let next = Leg((leg.0 & !0xff) | ((leg.0 & 0xff) + 1));
            self.coordinator.on_reply(next, reply, self.io.now, &mut self.io);
        }
        if canary == Some(Canary::LateReply) && self.io.stats.get(Stat::late_replies) > late_before {
            self.io.peers[number].late = Some((reply.frame.to_vec(), reply.is_error));
        }
    }

    /// A link is gone: whoever was asked on it will not answer.
    fn lose(&mut self, target: Target) {
        let now = self.io.now;
        if let Some(conn) = self.io.link_mut(target).lose(now) {
            self.io.slots.remove(&conn);
            self.io.wishes.push(Wish::Abort(conn));
        }
        match target {
            Target::Datastore => {
                self.io.scanner = ReplyScanner::new(Protocol::Resp);
                for sent in std::mem::take(&mut self.io.sent) {
                    self.coordinator.on_lost(sent.leg, Fault::DatastoreRefused, now, &mut self.io);
                }
            }
            Target::Peer(peer) => {
                let link = &mut self.io.peers[peer.0 as usize];
                link.greeted = false;
                for leg in link.asking.restart().flatten() {
                    self.coordinator.on_lost(leg, Fault::PeerRefused, now, &mut self.io);
                }
            }
        }
    }

    /// Serves who was held, then hands out what was queued.
    fn finish(&mut self) -> Vec<Wish> {
        while let Some(index) = self.io.resumed.pop() {
            self.serve(index);
        }
        let links = std::iter::once(&mut self.io.datastore).chain(self.io.peers.iter_mut().map(|peer| &mut peer.link));
        for link in links {
            assert!(link.outbox.len() < BUFFER_BYTES_MAX, "{:?} has {} bytes queued", link.target, link.outbox.len());
            if let LinkState::Up { conn } = link.state
                && !link.outbox.is_empty()
            {
                self.io.wishes.push(Wish::Send(conn, std::mem::take(&mut link.outbox)));
            }
        }
        for index in 0..self.io.guests.len() {
            let Some(guest) = &mut self.io.guests[index] else { continue };
            if !guest.outbox.is_empty() {
                self.io.wishes.push(Wish::Send(guest.conn, std::mem::take(&mut guest.outbox)));
            }
            if guest.closing {
                self.drop_guest(index);
            }
        }
        std::mem::take(&mut self.io.wishes)
    }

    /// What a quiet node must not have: requests that nobody will answer.
    pub fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        if self.coordinator.in_flight() > 0 {
            left.push(format!("{} tickets", self.coordinator.in_flight()));
        }
        if !self.io.sent.is_empty() {
            left.push(format!("{} requests to the datastore", self.io.sent.len()));
        }
        for peer in self.io.peers.iter().filter(|peer| peer.asking.outstanding() > 0) {
            left.push(format!("{} requests to {:?}", peer.asking.outstanding(), peer.link.target));
        }
        for (index, guest) in self.io.guests.iter().enumerate() {
            let Some(guest) = guest else { continue };
            let asked = self.coordinator.outstanding(ClientId(index as u32));
            if asked > 0 || guest.held {
                left.push(format!("{asked} requests of guest {index}"));
            }
        }
        left
    }

    /// Its clock is set.
    pub fn skew(&mut self, skew: i64) {
        self.io.skew = skew;
    }

    pub fn is_connected(&self) -> bool {
        let up = |link: &Link| matches!(link.state, LinkState::Up { .. });
        up(&self.io.datastore) && self.io.peers[1..].iter().all(|peer| peer.greeted)
    }
}

impl Io {
    fn link_mut(&mut self, target: Target) -> &mut Link {
        match target {
            Target::Datastore => &mut self.datastore,
            Target::Peer(peer) => &mut self.peers[peer.0 as usize].link,
        }
    }

    /// May bytes be queued for it? Dials if it is time to.
    fn ready(&mut self, target: Target) -> bool {
        let now = self.now;
        let link = self.link_mut(target);
        if let LinkState::Down { retry_at } = link.state {
            if retry_at > now {
                return false;
            }
            link.state = LinkState::Dialing { conn: None, give_up_at: now + CONNECT_TIMEOUT };
            self.wishes.push(Wish::Dial(target));
        }
        true
    }

    fn asked(&mut self, index: usize, question: dynomite_user::protocol::peer::Question) {
        if let Some(Guest { role: Role::Peer { responder, .. }, .. }) = &mut self.guests[index] {
            responder.asked(question);
        }
    }
}

impl Effects for Io {
    fn to_datastore(&mut self, _lane: u32, outgoing: Outgoing<'_>) -> Result<(), SendError> {
        if !self.ready(Target::Datastore) {
            return Err(SendError::Down);
        }
        if self.sent.is_empty() {
            self.datastore.heard_at = self.now;
        }
        self.datastore.outbox.extend_from_slice(outgoing.frame);
        self.sent.push_back(Sent { leg: outgoing.leg, expect: outgoing.expect });
        Ok(())
    }

    fn to_peer(&mut self, peer: PeerId, ask: Ask, _lane: u32, outgoing: Outgoing<'_>) -> Result<(), SendError> {
        let now = self.now;
        let number = peer.0 as usize;
        let near = self.near[number];
        let PeerLink { link, asking, greeted: true, .. } = &mut self.peers[number] else {
            return Err(SendError::Down);
        };
        if asking.outstanding() == 0 {
            link.heard_at = now;
        }
        let message = match ask {
            Ask::Execute => Message::Execute,
            Ask::Forward => Message::Forward,
        };
        asking.ask(message, near, outgoing.frame.len(), outgoing.expect, Some(outgoing.leg), &mut link.outbox);
        link.outbox.extend_from_slice(outgoing.frame);
        Ok(())
    }

    /// Commands that leave state on a connection are no business of a cluster.
    fn to_private(&mut self, _: ClientId, _: bool, _: Option<Leg>, _: &[u8]) -> Result<(), SendError> {
        Err(SendError::Down)
    }

    fn drop_private(&mut self, _: ClientId) {}

    fn to_client(&mut self, client: ClientId, reply: &[u8]) {
        let Some(Some(guest)) = self.guests.get_mut(client.0 as usize) else { return };
        match &mut guest.role {
            Role::Client(_) => guest.outbox.extend_from_slice(reply),
            Role::Peer { responder, .. } => responder.answer(reply, &mut guest.outbox),
        }
        assert!(guest.outbox.len() < BUFFER_BYTES_MAX);
    }

    fn close(&mut self, client: ClientId) {
        if let Some(Some(guest)) = self.guests.get_mut(client.0 as usize) {
            guest.closing = true;
            guest.deaf = true;
        }
    }

    fn resume(&mut self, client: ClientId) {
        if let Some(Some(guest)) = self.guests.get_mut(client.0 as usize) {
            guest.held = false;
            self.resumed.push(client.0 as usize);
        }
    }

    fn is_up(&self, peer: PeerId) -> bool {
        match peer {
            PeerId::SELF => !matches!(self.datastore.state, LinkState::Down { .. }),
            PeerId(number) => self.peers[number as usize].greeted,
        }
    }

    fn addresses(&self, _: ClientId) -> (String, String) {
        Default::default()
    }

    fn epoch_micros(&self) -> u64 {
        (EPOCH_MICROS + self.now.0 / 1000).saturating_add_signed(self.skew)
    }
}

impl Link {
    fn new(target: Target, now: Moment) -> Link {
        let state = LinkState::Down { retry_at: now };
        Link { target, state, failures: 0, inbox: Vec::new(), outbox: Vec::new(), heard_at: now }
    }

    fn proved(&mut self, now: Moment) {
        self.failures = 0;
        self.heard_at = now;
    }

    fn lose(&mut self, now: Moment) -> Option<ConnId> {
        let pause = Duration::from_secs(1 << self.failures.min(6)).min(PAUSE_MAX);
        self.failures += 1;
        self.inbox.clear();
        self.outbox.clear();
        match std::mem::replace(&mut self.state, LinkState::Down { retry_at: now + pause }) {
            LinkState::Dialing { conn, .. } => conn,
            LinkState::Up { conn } => Some(conn),
            LinkState::Down { .. } => None,
        }
    }
}

impl From<Target> for Slot {
    fn from(target: Target) -> Slot {
        match target {
            Target::Datastore => Slot::Datastore,
            Target::Peer(peer) => Slot::Peer(peer),
        }
    }
}

impl Slot {
    fn target(self) -> Target {
        match self {
            Slot::Datastore => Target::Datastore,
            Slot::Peer(peer) => Target::Peer(peer),
            Slot::Guest(_) => unreachable!("guests are not dialled"),
        }
    }
}

fn new_hearing() -> Box<Hearing> {
    Box::new(Hearing::new(Protocol::Resp))
}
