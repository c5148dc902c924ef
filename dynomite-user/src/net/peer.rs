//! Links to the other nodes, over which we ask: dialled from the start and for as long as the node runs.
//! Owns: what is asked on each link and not yet sent or answered. What the answers mean is `peer_out`'s business.
//!
//! A link works when the node at its other end has answered a greeting, a harmless request of the pool's own protocol: so
//! a node that accepts connections and does nothing else is not asked anything, and the answer tells whether it is one of
//! ours or a C node.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use mio::Registry;
use slab::Slab;

use super::buffer::Pool;
use super::datastore::micros;
use super::link::{self, Link};
use super::perform::{PING, Source};
use super::presence::{Board, Presence};
use super::throttle::Throttle;
use crate::control::PeerVerb;
use crate::coordinator::{Ask, Kin, Leg, Outgoing, SendError};
use crate::moment::Moment;
use crate::protocol::Protocol;
use crate::protocol::peer::{Asking, Message};
use crate::protocol::reply::{Expect, Fault, Reply};
use crate::ring::{PeerId, Topology};
use crate::stats::{Histogram, PeerStat, PeerStats, Stat, Stats};

#[derive(Clone, Debug)]
pub struct Settings {
    /// Admin mode makes no links at all.
    pub dials: bool,
    /// Links to each node of our datacenter, and of another.
    pub near_connections: usize,
    pub far_connections: usize,
    /// Address apart, which each link has of its own.
    pub link: link::Settings,
    /// Bytes queued on one link; beyond it requests are shed.
    pub queue_max: usize,
    /// Requests a second on a link to another datacenter; 0: no limit.
    pub far_messages_per_second: u32,
    /// How long a datastore may take.
    pub timeout: Duration,
}

/// One request that was queued and is not yet answered.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// `None`: our greeting.
    pub leg: Option<Leg>,
    /// The how-manieth on this connection.
    number: u64,
    bytes: u32,
    at: Moment,
}

/// One request that is not yet written.
#[derive(Clone, Copy, Debug)]
struct Queued {
    /// Where it ends, counted in bytes of this connection.
    end: u64,
    bytes: u32,
    at: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Not connected, or the greeting is not yet answered.
    Greeting,
    Up(Kin),
}

pub struct PeerLink {
    pub peer: PeerId,
    pub link: Link,
    pub asking: Asking<Sent>,
    /// How many bytes the reply at the head of the inbox needs before it can be whole.
    pub need: usize,
    pub dirty: bool,
    stage: Stage,
    is_near: bool,
    presence: Arc<Presence>,
    /// Its peer's, as this worker counts them.
    counts: Arc<PeerStats>,
    throttle: Option<Throttle>,
    /// Bytes queued on this connection so far, and how many of them may be written.
    pushed: u64,
    released: u64,
    queue: VecDeque<Queued>,
    /// Of these, whose bytes are released.
    queue_released: usize,
    /// Requests queued on this connection so far, and written so far.
    numbers: u64,
    written: u64,
    /// When the peer last said anything, or was first asked after a silence.
    heard_at: Moment,
    /// The alarm that was last looked into.
    alarms: u32,
}

/// Where the numbers of a link are booked.
struct Books {
    waiting: Stat,
    waiting_bytes: Stat,
    asked: Stat,
    asked_bytes: Stat,
    dropped: Stat,
    timed_out: Stat,
    round_trip: Histogram,
    queue_wait: Histogram,
    waiting_depth: Histogram,
    asked_depth: Histogram,
}

const NEAR: Books = Books {
    waiting: Stat::peer_in_queue,
    waiting_bytes: Stat::peer_in_queue_bytes,
    asked: Stat::peer_out_queue,
    asked_bytes: Stat::peer_out_queue_bytes,
    dropped: Stat::peer_dropped_requests,
    timed_out: Stat::peer_timedout,
    round_trip: Histogram::cross_zone_latency,
    queue_wait: Histogram::cross_zone_queue_wait,
    waiting_depth: Histogram::peer_in_queue,
    asked_depth: Histogram::peer_out_queue,
};

const FAR: Books = Books {
    waiting: Stat::remote_peer_in_queue,
    waiting_bytes: Stat::remote_peer_in_queue_bytes,
    asked: Stat::remote_peer_out_queue,
    asked_bytes: Stat::remote_peer_out_queue_bytes,
    dropped: Stat::remote_peer_dropped_requests,
    timed_out: Stat::remote_peer_timedout,
    round_trip: Histogram::cross_region_rtt,
    queue_wait: Histogram::cross_region_queue_wait,
    waiting_depth: Histogram::remote_peer_in_queue,
    asked_depth: Histogram::remote_peer_out_queue,
};

/// More than this outstanding on one link is refused: a C node closes the connection over not many more.
const ASKED_MAX: usize = 16_000;

impl PeerLink {
    fn books(&self) -> &'static Books {
        if self.is_near { &NEAR } else { &FAR }
    }

    fn send(&mut self, ask: Ask, outgoing: Outgoing<'_>, out: &mut Outlet<'_>) -> Result<(), SendError> {
        if self.stage == Stage::Greeting {
            return Err(SendError::Down);
        }
        if self.link.outbox.len() > out.settings.queue_max || self.asking.outstanding() >= ASKED_MAX {
            out.stats.bump(Stat::peer_shed);
            return Err(SendError::Full);
        }
        out.stats.bump(Stat::peer_requests);
        out.stats.add(Stat::peer_request_bytes, outgoing.frame.len() as u64);
        let message = match ask {
            Ask::Execute => Message::Execute,
            Ask::Forward => Message::Forward,
        };
        self.push(message, Some(outgoing.leg), outgoing.frame, outgoing.expect, out);
        Ok(())
    }

    fn push(&mut self, message: Message, leg: Option<Leg>, frame: &[u8], expect: Expect, out: &mut Outlet<'_>) {
        if self.asking.outstanding() == 0 {
            self.heard_at = out.now;
        }
        let bytes = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let sent = Sent { leg, number: self.numbers, bytes, at: out.now };
        out.head.clear();
        self.asking.ask(message, self.is_near, frame.len(), expect, sent, out.head);
        self.numbers += 1;
        self.pushed += (out.head.len() + frame.len()) as u64;
        if self.throttle.is_none() {
            self.link.push(out.head, out.pool);
            self.link.push(frame, out.pool);
        } else {
            self.link.outbox.push(out.head, out.pool);
            self.link.outbox.push(frame, out.pool);
        }
        self.queue.push_back(Queued { end: self.pushed, bytes, at: out.now });
        let books = self.books();
        self.counts.bump(PeerStat::in_queue);
        out.stats.bump(books.waiting);
        out.stats.add(books.waiting_bytes, bytes.into());
        out.stats.record(books.waiting_depth, self.queue.len() as u64);
    }

    /// Just connected: the first thing said. Nothing else is before it is answered.
    pub fn greet(&mut self, protocol: Protocol, out: &mut Outlet<'_>) {
        // Nobody has this key, and if somebody did, adding nothing to it would do no harm.
        let (frame, expect): (&[u8], _) = match protocol {
            Protocol::Resp => (PING, Expect::Resp),
            Protocol::Memcache => (b"incr dyn_o_mite:greeting 0\r\n", Expect::Line),
        };
        self.push(Message::Execute, None, frame, expect, out);
    }

    /// Writes what may be written. `Some`: the rest is to be written then.
    pub fn flush(&mut self, registry: &Registry, out: &mut Outlet<'_>) -> io::Result<Option<Moment>> {
        let mut again_at = None;
        match &mut self.throttle {
            None => self.released = self.pushed,
            Some(throttle) => {
                while let Some(next) = self.queue.get(self.queue_released) {
                    if !throttle.take(out.now) {
                        again_at = Some(throttle.ready_at(out.now));
                        break;
                    }
                    self.released = next.end;
                    self.queue_released += 1;
                }
            }
        }
        let limit = self.released - self.sent_bytes();
        let before = self.sent_bytes();
        let flushed = self.link.flush_part(usize::try_from(limit).unwrap_or(usize::MAX), registry, out.pool);
        out.stats.add(Stat::peer_bytes_out, self.sent_bytes() - before);
        self.book_written(out.now, out.stats);
        flushed.map(|()| again_at)
    }

    fn sent_bytes(&self) -> u64 {
        self.pushed - self.link.outbox.len() as u64
    }

    fn book_written(&mut self, now: Moment, stats: &Stats) {
        let (books, sent) = (self.books(), self.sent_bytes());
        while let Some(queued) = self.queue.front().copied().filter(|queued| queued.end <= sent) {
            self.queue.pop_front();
            self.queue_released = self.queue_released.saturating_sub(1);
            self.written += 1;
            self.counts.sub(PeerStat::in_queue, 1);
            self.counts.bump(PeerStat::out_queue);
            stats.sub(books.waiting, 1);
            stats.sub(books.waiting_bytes, queued.bytes.into());
            stats.bump(books.asked);
            stats.add(books.asked_bytes, queued.bytes.into());
            stats.record(books.queue_wait, micros(now.since(queued.at)));
            stats.record(books.asked_depth, (self.asking.outstanding() - self.queue.len()) as u64);
        }
    }

    /// A request is answered, or its answer was passed over.
    pub fn book_answered(&mut self, sent: Sent, reply: Option<Reply<'_>>, now: Moment, stats: &Stats) {
        let books = self.books();
        self.counts.sub(PeerStat::out_queue, 1);
        stats.sub(books.asked, 1);
        stats.sub(books.asked_bytes, sent.bytes.into());
        self.heard_at = now;
        if sent.leg.is_none() {
            return;
        }
        let is_answer = reply.is_some_and(|reply| Fault::of_reply(&reply).is_none());
        self.counts.bump(if is_answer { PeerStat::replies } else { PeerStat::errors });
        if let Some(reply) = reply {
            let round_trip = micros(now.since(sent.at));
            self.counts.record_latency(round_trip);
            stats.bump(Stat::peer_responses);
            stats.add(Stat::peer_response_bytes, reply.frame.len() as u64);
            stats.record(books.round_trip, round_trip);
        }
    }

    /// A reply tells who is at the other end. `true`: the link works from now on.
    pub fn heard_from(&mut self, is_ours: bool) -> bool {
        if self.stage != Stage::Greeting {
            return false;
        }
        self.stage = Stage::Up(if is_ours { Kin::Ours } else { Kin::C });
        self.presence.came_up(is_ours);
        true
    }

    pub fn is_up(&self) -> bool {
        self.stage != Stage::Greeting
    }

    /// The connection is gone. Who will not be answered, and whether the peer may have heard of it.
    pub fn lose(&mut self, board: &Board, registry: &Registry, now: Moment, stats: &Stats) -> Vec<(Leg, Fault)> {
        self.book_written(now, stats);
        if let Stage::Up(kin) = std::mem::replace(&mut self.stage, Stage::Greeting) {
            self.presence.went_down(kin == Kin::Ours);
        } else {
            board.doubt(&self.presence);
        }
        if self.link.is_up() {
            stats.sub(Stat::peer_connections, 1);
        }
        self.link.break_off(registry, now);
        let books = self.books();
        let written = self.written;
        let mut lost = Vec::new();
        for sent in self.asking.restart() {
            let is_written = sent.number < written;
            let (count, bytes) =
                if is_written { (books.asked, books.asked_bytes) } else { (books.waiting, books.waiting_bytes) };
            self.counts.sub(if is_written { PeerStat::out_queue } else { PeerStat::in_queue }, 1);
            stats.sub(count, 1);
            stats.sub(bytes, sent.bytes.into());
            stats.add(books.dropped, u64::from(!is_written));
            if sent.leg.is_some() {
                self.counts.bump(PeerStat::errors);
            }
            let fault = if is_written { Fault::PeerRefused } else { Fault::PeerNotConnected };
            lost.extend(sent.leg.map(|leg| (leg, fault)));
        }
        self.queue = VecDeque::new();
        (self.queue_released, self.need) = (0, 0);
        (self.pushed, self.released, self.numbers, self.written) = (0, 0, 0, 0);
        lost
    }

    /// Has it been silent for longer than a node that works could be?
    pub fn is_stuck(&self, timeout: Duration, now: Moment) -> bool {
        // Whatever is asked is answered within the other node's timeout, if only by an error.
        let way = if self.is_near { Duration::from_secs(1) } else { Duration::from_secs(6) };
        self.asking.outstanding() > 0 && self.heard_at + timeout + way <= now
    }

    pub fn book_stuck(&self, stats: &Stats) {
        stats.bump(self.books().timed_out);
        self.presence.alarm();
    }

    /// Somebody else's link to this peer was stuck. Is this one to be tried, since nothing is asked on it?
    fn wants_proof(&mut self) -> bool {
        let alarms = self.presence.alarms();
        let is_new = std::mem::replace(&mut self.alarms, alarms) != alarms;
        is_new && self.is_up() && self.asking.outstanding() == 0
    }

    /// Dials when it is time to.
    pub fn keep(&mut self, registry: &Registry, now: Moment) {
        if self.link.is_down() {
            if let Some(address) = self.presence.address() {
                self.link.point_at(address);
            }
            self.link.ready(registry, now);
        }
    }
}

/// What sending needs of its surroundings.
pub struct Outlet<'a> {
    pub settings: &'a Settings,
    pub now: Moment,
    pub pool: &'a mut Pool,
    pub head: &'a mut Vec<u8>,
    pub stats: &'a Stats,
}

struct Peer {
    /// Keys of `Peers::links`; a lane takes always the same one.
    links: Vec<usize>,
    /// An operator has said that it is down.
    is_barred: bool,
    names: [String; 3],
    presence: Arc<Presence>,
    counts: Arc<PeerStats>,
}

/// Every other node, and our links to it.
pub struct Peers {
    pub settings: Settings,
    pub links: Slab<PeerLink>,
    pub dirty: Vec<usize>,
    /// When links that had to wait may be written on.
    pub release_at: Option<Moment>,
    pub board: Arc<Board>,
    protocol: Protocol,
    by_id: Vec<Option<Peer>>,
    head: Vec<u8>,
}

impl Peers {
    pub fn new(settings: Settings, protocol: Protocol, board: Arc<Board>) -> Peers {
        let (links, dirty, by_id) = (Slab::new(), Vec::new(), Vec::new());
        Peers { settings, links, dirty, release_at: None, board, protocol, by_id, head: Vec::new() }
    }

    /// Makes links to nodes that are new. Those of nodes that have left are to be dropped by the caller.
    pub fn set_topology(&mut self, topology: &Topology, stats: &Stats) -> Vec<usize> {
        self.by_id.resize_with(topology.ids(), || None);
        let mut gone = Vec::new();
        for (number, place) in self.by_id.iter_mut().enumerate().skip(1) {
            let id = PeerId(number as u32);
            match (topology.node(id), &place) {
                (None, Some(peer)) => {
                    gone.extend_from_slice(&peer.links);
                    *place = None;
                }
                (Some(node), None) => {
                    let is_near = topology.is_near(id);
                    let presence = self.board.presence(node);
                    let counts = presence.open_counts(stats);
                    let names = [node.name.clone(), node.host.clone(), format!("{}:{}", node.host, node.port)];
                    let mut peer = Peer { links: Vec::new(), is_barred: false, names, presence, counts };
                    let count = match (self.settings.dials && !node.secured, is_near) {
                        (false, _) => 0,
                        (true, true) => self.settings.near_connections,
                        (true, false) => self.settings.far_connections,
                    };
                    let throttle = || Throttle::new(self.settings.far_messages_per_second).filter(|_| !is_near);
                    for _ in 0..count {
                        let entry = self.links.vacant_entry();
                        let token = Source::Peer(entry.key()).token();
                        peer.links.push(entry.key());
                        entry.insert(PeerLink {
                            peer: id,
                            link: Link::new(self.settings.link.clone(), token),
                            asking: Asking::new(self.protocol),
                            need: 0,
                            dirty: false,
                            stage: Stage::Greeting,
                            is_near,
                            presence: peer.presence.clone(),
                            counts: peer.counts.clone(),
                            throttle: throttle(),
                            pushed: 0,
                            released: 0,
                            queue: VecDeque::new(),
                            queue_released: 0,
                            numbers: 0,
                            written: 0,
                            heard_at: Moment(0),
                            alarms: 0,
                        });
                    }
                    *place = Some(peer);
                }
                _ => {}
            }
        }
        gone
    }

    pub fn send(
        &mut self,
        (peer, ask, lane): (PeerId, Ask, u32),
        outgoing: Outgoing<'_>,
        now: Moment,
        pool: &mut Pool,
        stats: &Stats,
    ) -> Result<(), SendError> {
        let sent = self.link_of(peer, lane).ok_or(SendError::Down).and_then(|index| {
            let mut out = Outlet { settings: &self.settings, now, pool, head: &mut self.head, stats };
            self.links[index].send(ask, outgoing, &mut out)?;
            self.mark(index);
            Ok(())
        });
        self.count(peer, PeerStat::requests);
        if sent.is_err() {
            self.count(peer, PeerStat::errors);
        }
        sent
    }

    pub fn count(&self, peer: PeerId, stat: PeerStat) {
        if let Some(peer) = self.peer(peer) {
            peer.counts.bump(stat);
        }
    }

    /// Greets again where there is doubt.
    pub fn prove(&mut self, index: usize, now: Moment, pool: &mut Pool, stats: &Stats) {
        if self.links[index].wants_proof() {
            self.greet(index, now, pool, stats);
        }
    }

    /// Just connected: see `PeerLink::greet`.
    pub fn greet(&mut self, index: usize, now: Moment, pool: &mut Pool, stats: &Stats) {
        let mut out = Outlet { settings: &self.settings, now, pool, head: &mut self.head, stats };
        self.links[index].greet(self.protocol, &mut out);
        self.mark(index);
    }

    /// Writes what is queued on one link.
    pub fn flush(
        &mut self,
        index: usize,
        registry: &Registry,
        now: Moment,
        pool: &mut Pool,
        stats: &Stats,
    ) -> io::Result<()> {
        let mut out = Outlet { settings: &self.settings, now, pool, head: &mut self.head, stats };
        let Some(link) = self.links.get_mut(index) else { return Ok(()) };
        link.dirty = false;
        if let Some(at) = link.flush(registry, &mut out)? {
            self.release_at = Some(self.release_at.map_or(at, |before| before.min(at)));
        }
        Ok(())
    }

    /// It is time to write on links that had to wait.
    pub fn release(&mut self, now: Moment) {
        if self.release_at.is_some_and(|at| at <= now) {
            self.release_at = None;
            let waiting: Vec<usize> = self
                .links
                .iter()
                .filter(|(_, link)| link.queue.len() > link.queue_released)
                .map(|(index, _)| index)
                .collect();
            waiting.into_iter().for_each(|index| self.mark(index));
        }
    }

    pub fn mark(&mut self, index: usize) {
        let Some(link) = self.links.get_mut(index) else { return };
        if !link.dirty {
            link.dirty = true;
            self.dirty.push(index);
        }
    }

    pub fn is_up(&self, peer: PeerId) -> bool {
        self.peer(peer).is_some_and(|peer| !peer.is_barred && peer.links.iter().any(|index| self.links[*index].is_up()))
    }

    pub fn kin(&self, peer: PeerId, lane: u32) -> Kin {
        match self.link_of(peer, lane).map(|index| self.links[index].stage) {
            Some(Stage::Up(kin)) => kin,
            Some(Stage::Greeting) | None => Kin::Ours,
        }
    }

    /// What an operator says of a peer, or of all. The links that are to be dropped, to be dialled again.
    pub fn command(&mut self, verb: PeerVerb, name: Option<&str>, now: Moment) -> Vec<usize> {
        let mut reset = Vec::new();
        let is_meant = |peer: &Peer| name.is_none_or(|name| peer.names.iter().any(|known| known == name));
        for peer in self.by_id.iter_mut().flatten().filter(|peer| is_meant(peer)) {
            match verb {
                PeerVerb::Down | PeerVerb::Up => {
                    peer.is_barred = verb == PeerVerb::Down;
                    peer.presence.bar(peer.is_barred);
                }
                PeerVerb::Reset => reset.extend_from_slice(&peer.links),
            }
            if verb == PeerVerb::Up {
                peer.links.iter().for_each(|index| self.links[*index].link.hurry(now));
            }
        }
        reset
    }

    fn peer(&self, peer: PeerId) -> Option<&Peer> {
        self.by_id.get(peer.0 as usize)?.as_ref()
    }

    fn link_of(&self, peer: PeerId, lane: u32) -> Option<usize> {
        let peer = self.peer(peer).filter(|peer| !peer.is_barred)?;
        match peer.links[..] {
            [index] => Some(index),
            ref links => links.get((lane as usize).checked_rem(links.len())?).copied(),
        }
    }
}
