//! The coordinator's effects, for real: bytes into the buffers of connections, flushed once at the end of a wake-up.
//! Owns: every connection of one worker. Decides nothing about requests.

use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use mio::{Registry, Token};
use slab::Slab;

use super::buffer::Pool;
use super::client::Client;
use super::datastore::{Datastore, Sent};
use super::link::{self, Link};
use super::notices::Notices;
use super::peer::{self, Peers};
use super::peer_in::Role;
use super::presence::Board;
use super::stream::Address;
use crate::coordinator::{Ask, ClientId, Effects, Kin, Leg, Outgoing, SendError};
use crate::kernel::FastPath;
use crate::moment::Moment;
use crate::protocol::Protocol;
use crate::protocol::codec::ReplyScanner;
use crate::protocol::reply::Expect;
use crate::ring::PeerId;
use crate::stats::{PeerStat, Stat, Stats};

/// What a mio token stands for: a kind and an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Waker,
    Listener(usize),
    PeerListener(usize),
    Client(usize),
    Datastore(usize),
    Peer(usize),
    Kernel(usize),
}

const KIND_SHIFT: u32 = 56;
pub const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
const VERSION: &[u8] = b"version\r\n";
pub const HELLO_3: &[u8] = b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n";

impl Source {
    pub fn token(self) -> Token {
        let (kind, index) = match self {
            Source::Waker => (0, 0),
            Source::Listener(index) => (1, index),
            Source::PeerListener(index) => (2, index),
            Source::Client(index) => (3, index),
            Source::Datastore(index) => (4, index),
            Source::Peer(index) => (5, index),
            Source::Kernel(index) => (6, index),
        };
        Token((kind << KIND_SHIFT) | index)
    }

    pub fn of(token: Token) -> Source {
        let index = token.0 & ((1 << KIND_SHIFT) - 1);
        match token.0 >> KIND_SHIFT {
            0 => Source::Waker,
            1 => Source::Listener(index),
            2 => Source::PeerListener(index),
            3 => Source::Client(index),
            4 => Source::Datastore(index),
            5 => Source::Peer(index),
            _ => Source::Kernel(index),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Settings {
    pub protocol: Protocol,
    pub datastore: link::Settings,
    /// Shared connections to the datastore.
    pub datastore_connections: usize,
    /// What every new connection to the datastore begins with (AUTH); each frame is answered once.
    pub greeting: Vec<Vec<u8>>,
    /// What it hears next on shared connections; it may refuse that (SCRIPT LOAD).
    pub offers: Vec<Vec<u8>>,
    /// Connections of single clients for commands with state, at one time.
    pub private_max: usize,
    /// Bytes queued to one client; a client beyond it is dropped.
    pub client_output_max: usize,
    /// Bytes queued to the datastore on one connection; beyond it requests are shed.
    pub datastore_queue_max: usize,
    pub peers: peer::Settings,
}

pub struct Io {
    pub settings: Settings,
    pub registry: Registry,
    pub stats: Arc<Stats>,
    pub notices: Arc<Notices>,
    pub pool: Pool,
    pub now: Moment,
    pub clients: Slab<Client>,
    /// Shared connections first, `settings.datastore_connections` of them; then clients' own.
    pub datastores: Slab<Datastore>,
    pub peers: Peers,
    /// For shared datastore connections; `None`: they are ordinary ones.
    pub kernel: Option<Arc<FastPath>>,
    pub dirty_clients: Vec<usize>,
    pub dirty_datastores: Vec<usize>,
    /// Clients to be looked at again though no event will come for them.
    pub queued_clients: Vec<usize>,
    /// Clients to be dropped: they do not read what they asked for.
    pub overflowed: Vec<usize>,
    privates: usize,
    /// The head of a reply to a peer, while it is written.
    head: Vec<u8>,
}

impl Io {
    pub fn new(
        settings: Settings,
        board: Arc<Board>,
        notices: Arc<Notices>,
        registry: Registry,
        stats: Arc<Stats>,
    ) -> Io {
        let mut io = Io {
            peers: Peers::new(settings.peers.clone(), settings.protocol, board),
            settings,
            registry,
            stats,
            notices,
            pool: Pool::default(),
            now: Moment(0),
            kernel: None,
            clients: Slab::new(),
            datastores: Slab::new(),
            dirty_clients: Vec::new(),
            dirty_datastores: Vec::new(),
            queued_clients: Vec::new(),
            overflowed: Vec::new(),
            privates: 0,
            head: Vec::new(),
        };
        for _ in 0..io.settings.datastore_connections.max(1) {
            io.add_datastore(None);
        }
        io
    }

    fn add_datastore(&mut self, owner: Option<ClientId>) -> usize {
        let scanner = self.scanner();
        let entry = self.datastores.vacant_entry();
        let index = entry.key();
        let link = Link::new(self.settings.datastore.clone(), Source::Datastore(index).token());
        entry.insert(Datastore::new(link, scanner, owner));
        index
    }

    pub fn scanner(&self) -> ReplyScanner {
        ReplyScanner::new(self.settings.protocol)
    }

    pub fn shared_datastores(&self) -> usize {
        self.settings.datastore_connections.max(1)
    }

    /// Dials the shared connections whose time has come.
    pub fn dial_datastores(&mut self) {
        for index in 0..self.shared_datastores() {
            self.ready_datastore(index);
        }
    }

    /// Their switch may have been moved.
    pub fn look_at_shortcuts(&mut self) {
        let shared = self.shared_datastores();
        for index in 0..shared {
            if self.datastores[index].look() {
                self.mark_datastore(index);
            }
        }
    }

    /// Makes sure that frames may be queued, behind what a new connection begins with.
    fn ready_datastore(&mut self, index: usize) -> bool {
        let datastore = &mut self.datastores[index];
        let was_down = datastore.link.is_down();
        let (registry, greeting) = (&self.registry, &self.settings.greeting);
        if !datastore.ready(registry, greeting, self.kernel.as_ref(), self.now, &mut self.pool) {
            self.note_failure(index);
            return false;
        }
        if was_down && datastore.owner.is_none() {
            let offers = &self.settings.offers;
            offers.iter().for_each(|frame| datastore.offer(frame, Expect::Resp, self.now, &mut self.pool));
            // Whether it is back is asked, also if nobody else asks anything: a connection may come up where nobody answers.
            if self.notices.is_missed() {
                let (frame, expect) = match self.settings.protocol {
                    Protocol::Resp => (PING, Expect::Resp),
                    Protocol::Memcache => (VERSION, Expect::Line),
                };
                datastore.offer(frame, expect, self.now, &mut self.pool);
            }
        }
        true
    }

    /// Counts and says that a connection did not come about, if it was tried.
    pub fn note_failure(&mut self, index: usize) {
        if let Some(error) = self.datastores.get_mut(index).and_then(|datastore| datastore.link.take_failure()) {
            self.stats.bump(Stat::datastore_connects_failed);
            self.miss_datastore(index, &error);
        }
    }

    /// Says why a shared connection is lost, or did not come about; `find_datastore` when one is back.
    pub fn miss_datastore(&self, index: usize, why: &dyn Display) {
        if let Some((address, datastore)) = self.shared(index) {
            self.notices.lost(address, datastore.proven, why);
        }
    }

    /// The first good answer on a connection.
    pub fn find_datastore(&self, index: usize) {
        if let Some((address, _)) = self.shared(index) {
            self.notices.found(address);
        }
    }

    /// What happens to a client's own connection tells little of the datastore.
    fn shared(&self, index: usize) -> Option<(&Address, &Datastore)> {
        let datastore = self.datastores.get(index).filter(|datastore| datastore.owner.is_none())?;
        Some((self.settings.datastore.address.as_ref()?, datastore))
    }

    pub fn queue_client(&mut self, index: usize) {
        if let Some(client) = self.clients.get_mut(index)
            && !client.queued
        {
            client.queued = true;
            self.queued_clients.push(index);
        }
    }

    pub fn mark_client(&mut self, index: usize) {
        if let Some(client) = self.clients.get_mut(index)
            && !client.dirty
        {
            client.dirty = true;
            self.dirty_clients.push(index);
        }
    }

    fn ask_datastore(&mut self, index: usize, outgoing: Outgoing<'_>) -> Result<(), SendError> {
        if !self.ready_datastore(index) {
            self.stats.bump(Stat::datastore_shed);
            return Err(SendError::Down);
        }
        let datastore = &mut self.datastores[index];
        if datastore.link.outbox.len() > self.settings.datastore_queue_max {
            self.stats.bump(Stat::datastore_shed);
            return Err(SendError::Full);
        }
        datastore.send(outgoing, self.now, &mut self.pool, &self.stats)?;
        self.mark_datastore(index);
        Ok(())
    }

    pub fn mark_datastore(&mut self, index: usize) {
        let datastore = &mut self.datastores[index];
        if !datastore.dirty {
            datastore.dirty = true;
            self.dirty_datastores.push(index);
        }
    }

    /// The client's own datastore connection, made if there is none.
    fn private_of(&mut self, client: ClientId) -> Result<usize, SendError> {
        let number = client.0 as usize;
        if let Some(index) = self.clients.get(number).ok_or(SendError::Down)?.private {
            return Ok(index);
        }
        if self.privates >= self.settings.private_max {
            return Err(SendError::Full);
        }
        let index = self.add_datastore(Some(client));
        self.clients[number].private = Some(index);
        self.privates += 1;
        self.stats.bump(Stat::datastore_own_connections);
        Ok(index)
    }

    /// Closes a client's own datastore connection, if it has one; what was asked on it and will not be answered.
    #[must_use]
    pub fn close_private(&mut self, client: usize) -> VecDeque<Sent> {
        let Some(index) = self.clients.get_mut(client).and_then(|client| client.private.take()) else {
            return VecDeque::new();
        };
        let mut datastore = self.datastores.remove(index);
        if datastore.link.is_up() {
            self.stats.sub(Stat::datastore_connections, 1);
        }
        datastore.link.lose(&self.registry, self.now);
        self.privates -= 1;
        self.stats.sub(Stat::datastore_own_connections, 1);
        datastore.forget(self.scanner(), &self.stats)
    }

    /// Queues what a client is told, counted as what it is.
    fn say(&mut self, client: ClientId, reply: &[u8], stat: Stat) {
        let number = client.0 as usize;
        let Some(connection) = self.clients.get_mut(number) else { return };
        // What is queued may exceed the limit only by a single reply: otherwise a reply of the limit's size
        // could never be delivered.
        let output_max = match connection.role {
            Role::Client => self.settings.client_output_max,
            Role::Peer(_) => self.settings.peers.queue_max,
        };
        let is_full = connection.outbox.len() > output_max;
        if is_full {
            if let (Role::Client, Stat::client_replies) = (&connection.role, stat) {
                self.stats.bump(Stat::client_dropped_requests);
            }
            if !connection.deaf {
                connection.deaf = true;
                self.overflowed.push(number);
            }
            return;
        }
        if let Role::Peer(peer) = &mut connection.role {
            if !peer.answer(reply, &mut self.head, &self.stats) {
                return;
            }
            connection.push(&self.head, &mut self.pool);
        } else {
            self.stats.bump(stat);
        }
        connection.push(reply, &mut self.pool);
        if !connection.dirty {
            connection.dirty = true;
            self.dirty_clients.push(number);
        }
    }
}

impl Effects for Io {
    fn to_datastore(&mut self, lane: u32, outgoing: Outgoing<'_>) -> Result<(), SendError> {
        let index = match self.settings.datastore_connections {
            0 | 1 => 0,
            connections => lane as usize % connections,
        };
        self.ask_datastore(index, outgoing)
    }

    fn to_peer(&mut self, peer: PeerId, ask: Ask, lane: u32, outgoing: Outgoing<'_>) -> Result<(), SendError> {
        self.peers.send((peer, ask, lane), outgoing, self.now, &mut self.pool, &self.stats)
    }

    fn to_private(
        &mut self,
        client: ClientId,
        is_resp3: bool,
        leg: Option<Leg>,
        frame: &[u8],
    ) -> Result<(), SendError> {
        let index = self.private_of(client)?;
        let datastore = &mut self.datastores[index];
        let was_down = datastore.link.is_down();
        if !datastore.ready(&self.registry, &self.settings.greeting, None, self.now, &mut self.pool) {
            self.drop_private(client);
            return Err(SendError::Down);
        }
        if was_down && is_resp3 {
            datastore.greet(HELLO_3, self.now, &mut self.pool);
        }
        match leg {
            Some(leg) => self.ask_datastore(index, Outgoing { leg, frame, expect: Expect::Resp, is_write: true }),
            None => {
                datastore.link.push(frame, &mut self.pool);
                self.mark_datastore(index);
                Ok(())
            }
        }
    }

    fn drop_private(&mut self, client: ClientId) {
        // The coordinator asks for it when nothing is outstanding there.
        let unanswered = self.close_private(client.0 as usize);
        debug_assert!(unanswered.iter().all(|sent| sent.leg.is_none()));
    }

    fn to_client(&mut self, client: ClientId, reply: &[u8]) {
        self.say(client, reply, Stat::client_replies);
    }

    fn push(&mut self, client: ClientId, frame: &[u8]) {
        self.say(client, frame, Stat::client_pushes);
    }

    fn close(&mut self, client: ClientId) {
        let number = client.0 as usize;
        if let Some(connection) = self.clients.get_mut(number) {
            connection.closing = true;
            connection.deaf = true;
        }
        self.mark_client(number);
    }

    fn resume(&mut self, client: ClientId) {
        let number = client.0 as usize;
        if let Some(connection) = self.clients.get_mut(number) {
            connection.held = false;
        }
        self.queue_client(number);
    }

    fn addresses(&self, client: ClientId) -> (String, String) {
        match self.clients.get(client.0 as usize) {
            Some(client) => (client.stream.peer_name(), client.stream.local_name()),
            None => Default::default(),
        }
    }

    fn epoch_micros(&self) -> u64 {
        crate::moment::epoch_micros()
    }

    fn is_up(&self, peer: PeerId) -> bool {
        match peer {
            PeerId::SELF => {
                self.datastores.iter().take(self.shared_datastores()).any(|(_, own)| own.link.may_be_tried(self.now))
            }
            peer => self.peers.is_up(peer),
        }
    }

    fn kin(&self, peer: PeerId, lane: u32) -> Kin {
        self.peers.kin(peer, lane)
    }

    fn count(&mut self, peer: PeerId, stat: PeerStat) {
        self.peers.count(peer, stat);
    }
}

/// How long a connection with requests may be silent before it is taken for dead.
pub fn patience(timeout: Duration) -> Duration {
    timeout * 4 + Duration::from_secs(1)
}
