//! One worker: read what is there, decide every complete request in it, append to the outgoing buffers, flush each once.
//! Owns: the loop and the order of things within a wake-up. The connections are `perform::Io`'s.

mod accept;
mod fast;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Poll, Waker};

use super::client::{Client, Read};
use super::listener::Listener;
use super::notices::Notices;
use super::peer_in::Role;
use super::perform::{Io, Source};
use super::presence::Board;
use super::stream::Stream;
use crate::control::{Control, PeerVerb};
use crate::coordinator::{Asker, ClientId, Coordinator, Taken};
use crate::kernel::{FastPath, Hand};
use crate::moment::{Clock, Moment};
use crate::protocol::Protocol;
use crate::protocol::codec::Decoder;
use crate::protocol::reply::{Fault, write_error};
use crate::protocol::request::{Decoded, Limits};
use crate::ring::Topology;
use crate::stats::{Histogram, Stat, Stats};
use fast::Fast;
pub use fast::Kernel;

#[derive(Clone, Debug)]
pub struct Settings {
    pub protocol: Protocol,
    pub io: super::perform::Settings,
    pub coordinator: crate::coordinator::Settings,
    pub limits: Limits,
    /// Bytes of one reply; who asked for a longer one is told so.
    pub reply_bytes_max: usize,
    /// Clients of all workers; 0: no limit.
    pub clients_max: usize,
    /// Requests of one client that may be outstanding; it is not read meanwhile.
    pub client_outstanding_max: usize,
    /// Connections of peers to this worker.
    pub peers_in_max: usize,
    /// Dial the datastore at the start, not at the first request.
    pub preconnect: bool,
    pub timeout: Duration,
}

/// What the control thread tells a worker.
#[derive(Debug)]
pub enum Order {
    /// Take no more clients, finish what is asked, then stop; at the latest after this long.
    Drain(Duration),
    /// The node's state has changed: what waited for that goes on.
    State,
    /// What an operator says of a peer; `None`: of all.
    Peer { verb: PeerVerb, name: Option<String> },
    /// Another topology.
    Topology(Arc<Topology>),
    /// A fast path that was not to be had at the start.
    Kernel(Hand),
}

/// Where a worker is told things, from any thread.
#[derive(Clone)]
pub struct Mailbox {
    orders: Sender<Order>,
    waker: Arc<Waker>,
}

impl Mailbox {
    pub fn order(&self, order: Order) {
        if self.orders.send(order).is_ok() {
            let _ = self.waker.wake();
        }
    }
}

impl Mailbox {
    /// From now on this worker has a hand on the fast path.
    pub fn join(&self, path: &Arc<FastPath>) {
        self.order(Order::Kernel(hand(path, &self.waker)));
    }
}

fn hand(path: &Arc<FastPath>, waker: &Arc<Waker>) -> Hand {
    let waker = Arc::clone(waker);
    path.join(Box::new(move || _ = waker.wake()))
}

/// The control thread's end of a worker.
pub struct Handle {
    pub mailbox: Mailbox,
    thread: std::thread::JoinHandle<()>,
}

impl Handle {
    pub fn join(self) -> std::thread::Result<()> {
        self.thread.join()
    }
}

/// What all workers have in common.
#[derive(Clone)]
pub struct Shared {
    pub clock: Clock,
    pub control: Arc<Control>,
    pub topology: Arc<Topology>,
    pub board: Arc<Board>,
    pub notices: Arc<Notices>,
    /// The fast path, if there is one.
    pub kernel: Option<Arc<FastPath>>,
}

/// Where a worker is connected to.
pub struct Listeners {
    pub clients: Vec<Listener>,
    pub peers: Vec<Listener>,
}

/// Starts worker `number` on a thread of its own.
pub fn spawn(
    number: usize,
    settings: Settings,
    listeners: Listeners,
    shared: Shared,
    stats: Arc<Stats>,
) -> io::Result<Handle> {
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), Source::Waker.token())?);
    let (orders, receiver) = std::sync::mpsc::channel();
    let hand = shared.kernel.as_ref().map(|path| hand(path, &waker));
    let mut worker = Worker::new(settings, poll, listeners, receiver, shared, stats)?;
    if let Some(hand) = hand {
        worker.take_hand(hand);
    }
    let thread = std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || worker.run())?;
    Ok(Handle { mailbox: Mailbox { orders, waker }, thread })
}

pub struct Worker {
    pub(super) settings: Settings,
    poll: Poll,
    listeners: Listeners,
    orders: Receiver<Order>,
    clock: Clock,
    pub(super) control: Arc<Control>,
    pub(super) stats: Arc<Stats>,
    pub(super) coordinator: Coordinator,
    pub(super) io: Io,
    fast: Option<Fast>,
    /// Connections of peers among the clients.
    pub(super) peers_in: usize,
    /// What a client says is read here first; only what is incomplete gets a buffer of the client's own.
    scratch: Vec<u8>,
    /// A listener could not accept for want of descriptors: tried again then.
    accept_at: Option<Moment>,
    drain_until: Option<Moment>,
}

const EVENTS: usize = 1024;
const SCRATCH_BYTES: usize = 128 << 10;
/// One client's share of a wake-up.
const READS_PER_WAKEUP: usize = 4;
/// With this much queued to it, a client is not read.
const OUTPUT_HIGH_WATER: usize = 1 << 20;
/// Requests of one peer's connection, which stands for all the clients of a worker there.
const PEER_OUTSTANDING_MAX: usize = 16 << 10;
/// How often links and stuck connections are looked after.
const HOUSEKEEPING: Duration = Duration::from_millis(100);

impl Worker {
    fn new(
        settings: Settings,
        poll: Poll,
        mut listeners: Listeners,
        orders: Receiver<Order>,
        shared: Shared,
        stats: Arc<Stats>,
    ) -> io::Result<Worker> {
        for (index, listener) in listeners.clients.iter_mut().enumerate() {
            listener.register(poll.registry(), Source::Listener(index).token())?;
        }
        for (index, listener) in listeners.peers.iter_mut().enumerate() {
            listener.register(poll.registry(), Source::PeerListener(index).token())?;
        }
        let registry = poll.registry().try_clone()?;
        let mut io = Io::new(settings.io.clone(), shared.board, shared.notices, registry, stats.clone());
        io.peers.set_topology(&shared.topology, &stats);
        let control = shared.control.clone();
        let coordinator =
            Coordinator::new(settings.coordinator.clone(), shared.topology, shared.control, stats.clone());
        Ok(Worker {
            settings,
            poll,
            listeners,
            orders,
            clock: shared.clock,
            control,
            stats,
            coordinator,
            io,
            fast: None,
            peers_in: 0,
            scratch: vec![0; SCRATCH_BYTES],
            accept_at: None,
            drain_until: None,
        })
    }

    fn run(&mut self) {
        let mut events = Events::with_capacity(EVENTS);
        let mut housekeeping_at = Moment(0);
        loop {
            let now = self.clock.now();
            self.io.now = now;
            if housekeeping_at <= now {
                self.housekeeping();
                housekeeping_at = now + HOUSEKEEPING;
                self.flush();
            }
            if self.is_drained(now) {
                return;
            }
            let timeout = match self.io.queued_clients.is_empty() {
                true => Some(self.sleep(now, housekeeping_at)),
                false => Some(Duration::ZERO),
            };
            if let Err(error) = self.poll.poll(&mut events, timeout) {
                if error.kind() != io::ErrorKind::Interrupted {
                    tracing::error!(%error, "poll failed");
                    return;
                }
                continue;
            }
            self.io.now = self.clock.now();
            self.stats.bump(Stat::client_wakeups);
            for event in &events {
                self.on_event(event);
            }
            self.look_again();
            if let Some(fast) = &mut self.fast {
                fast.crowd.settle();
            }
            self.io.peers.release(self.io.now);
            if self.coordinator.wakes_at().is_some_and(|deadline| deadline <= self.io.now) {
                self.coordinator.on_wake(self.io.now, &mut self.io);
            }
            self.flush();
            self.stats.set(Stat::alloc_msgs, self.coordinator.in_flight() as u64);
        }
    }

    /// Until something is due. An idle worker sleeps long.
    fn sleep(&self, now: Moment, housekeeping_at: Moment) -> Duration {
        const IDLE: Duration = Duration::from_secs(1);
        let mut until = now + IDLE;
        if let Some(deadline) = self.coordinator.wakes_at() {
            until = until.min(deadline);
        }
        if let Some(release) = self.io.peers.release_at {
            until = until.min(release);
        }
        if self.needs_housekeeping() {
            until = until.min(housekeeping_at);
        }
        // epoll counts milliseconds: rounded up, so that what is due is due when we wake.
        until.since(now) + Duration::from_micros(999)
    }

    fn needs_housekeeping(&self) -> bool {
        self.drain_until.is_some()
            || self.fast.as_ref().is_some_and(Fast::has_flows)
            || self.accept_at.is_some()
            || self.coordinator.is_parking()
            || !self.io.peers.links.is_empty()
            || self
                .io
                .datastores
                .iter()
                .any(|(_, datastore)| datastore.link.wakes_at().is_some() || !datastore.sent.is_empty())
    }

    fn on_event(&mut self, event: &Event) {
        match Source::of(event.token()) {
            Source::Waker => {
                self.take_orders();
                self.take_kernel_events();
                self.io.look_at_shortcuts();
            }
            Source::Listener(index) => self.accept(index),
            Source::PeerListener(index) => self.accept_peers(index),
            Source::Peer(index) => self.on_peer(index, event),
            Source::Client(index) => {
                let Some(client) = self.io.clients.get_mut(index) else { return };
                // mio takes the end alone, without readable bytes, for nothing at all; a poll that does not ask for bytes tells of
                // nothing else.
                let is_end = client.minds_kernel() && !event.is_writable();
                if event.is_read_closed() || event.is_error() || is_end {
                    client.read_closed = true;
                    // Who hangs up while it waits for others (BLPOP) will not be answered: nothing must be taken for it.
                    if client.held && self.coordinator.is_blocked(ClientId(index as u32)) {
                        return self.drop_client(index, Stat::client_eof);
                    }
                }
                if event.is_readable() || client.read_closed {
                    client.readable = true;
                    self.serve(index);
                }
                if event.is_writable() {
                    self.io.mark_client(index);
                }
            }
            Source::Datastore(index) => self.on_datastore(index, event),
            Source::Kernel(index) => self.on_flow(index),
        }
    }

    fn take_orders(&mut self) {
        loop {
            match self.orders.try_recv() {
                Ok(Order::Drain(patience)) => {
                    self.listeners.clients.clear();
                    self.listeners.peers.clear();
                    self.drain_until = Some(self.io.now + patience);
                    for (_, client) in &mut self.io.clients {
                        client.deaf = true;
                    }
                }
                Ok(Order::State) => self.coordinator.on_state(&mut self.io),
                Ok(Order::Peer { verb, name }) => {
                    let reset = self.io.peers.command(verb, name.as_deref(), self.io.now);
                    self.drop_peer_links(reset, false);
                }
                Ok(Order::Topology(topology)) => {
                    let gone = self.io.peers.set_topology(&topology, &self.stats);
                    self.coordinator.set_topology(topology);
                    self.drop_peer_links(gone, true);
                }
                Ok(Order::Kernel(hand)) => self.take_hand(hand),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    self.drain_until.get_or_insert(self.io.now);
                    return;
                }
            }
        }
    }

    fn is_drained(&self, now: Moment) -> bool {
        let Some(until) = self.drain_until else { return false };
        let is_quiet =
            self.coordinator.in_flight() == 0 && self.io.clients.iter().all(|(_, client)| client.outbox.is_empty());
        let is_quiet = is_quiet && self.flows_are_quiet();
        is_quiet || until <= now
    }

    // Clients ----------------------------------------------------------------------------------------------------

    /// Reads a client and handles every complete request, within its share of a wake-up.
    fn serve(&mut self, index: usize) {
        let Some(client) = self.io.clients.get_mut(index) else { return };
        if client.kernel.is_adopted() {
            return self.serve_adopted(index);
        }
        // What was left over comes first: it may have been held.
        if !client.inbox.is_empty() && !client.held {
            self.handle_inbox(index);
        }
        for read in 0..READS_PER_WAKEUP {
            let may_read = self.may_read(index);
            let Some(client) = self.io.clients.get_mut(index) else { return };
            if !client.readable || !may_read {
                return;
            }
            // After a read that filled its room there is more.
            match client.read(&mut self.scratch, read > 0, &mut self.io.pool) {
                Ok(Read { count: 0, .. }) => {
                    client.readable = false;
                    client.deaf = true;
                    self.coordinator.finish(ClientId(index as u32), &mut self.io);
                    return;
                }
                Ok(Read { count, filled, in_scratch }) => {
                    // A short read means an empty socket, unless its end is near: then read on to see it.
                    client.readable = filled || client.read_closed;
                    client.received += count as u64;
                    self.stats.add(client.role.bytes_in(), count as u64);
                    match in_scratch {
                        Some(len) => self.handle_scratch(index, len),
                        None => self.handle_inbox(index),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    (client.readable, client.read_closed) = (false, false);
                    return;
                }
                Err(error) => {
                    tracing::debug!(%error, "client lost");
                    self.drop_client(index, Stat::client_err);
                    return;
                }
            }
        }
        self.io.queue_client(index);
    }

    /// May this client be read? Otherwise it is paused, to be looked at again when its outbox or its requests shrink.
    fn may_read(&mut self, index: usize) -> bool {
        let Some(client) = self.io.clients.get_mut(index) else { return false };
        if client.deaf || client.held {
            return false;
        }
        let outstanding_max = match client.role {
            Role::Client => self.settings.client_outstanding_max,
            Role::Peer(_) => PEER_OUTSTANDING_MAX,
        };
        client.paused = client.outbox.len() > OUTPUT_HIGH_WATER
            || self.coordinator.outstanding(ClientId(index as u32)) >= outstanding_max;
        !client.paused
    }

    fn handle_scratch(&mut self, index: usize, count: usize) {
        let scratch = std::mem::take(&mut self.scratch);
        let done = self.handle(index, &scratch[..count]);
        if let Some(client) = self.io.clients.get_mut(index) {
            match done < count {
                true => client.inbox.push(&scratch[done..count], &mut self.io.pool),
                false => client.inbox.settle(&mut self.io.pool),
            }
        }
        self.scratch = scratch;
    }

    fn handle_inbox(&mut self, index: usize) {
        let Some(client) = self.io.clients.get_mut(index) else { return };
        let mut inbox = std::mem::take(&mut client.inbox);
        if inbox.len() >= client.need {
            let done = self.handle(index, inbox.bytes());
            inbox.advance(done);
        }
        inbox.settle(&mut self.io.pool);
        if let Some(client) = self.io.clients.get_mut(index) {
            client.inbox = inbox;
        }
    }

    /// Handles every complete request in `bytes`; returns how many bytes that were.
    fn handle(&mut self, index: usize, bytes: &[u8]) -> usize {
        let Some(client) = self.io.clients.get_mut(index) else { return 0 };
        if let Role::Peer(_) = client.role {
            return self.handle_peer(index, bytes);
        }
        let id = ClientId(index as u32);
        let Some(mut decoder) = client.decoder.take() else { return 0 };
        let outstanding = self.coordinator.outstanding(id);
        let (mut requests, mut command) = (0, None);
        let mut done = 0;
        let mut need = 0;
        while done < bytes.len() {
            match decoder.decode(&bytes[done..], self.limits_of(id)) {
                Decoded::Request { consumed, request } => {
                    (requests, command) = (requests + 1, Some(request.command));
                    let taken = self.coordinator.on_request(id, &request, self.io.now, &mut self.io);
                    self.stats.add(Stat::client_requests, u64::from(taken != Taken::NotYet));
                    match taken {
                        Taken::Yes => done += consumed,
                        Taken::Hold => {
                            done += consumed;
                            // Answered at once, it was resumed before it was held.
                            if self.coordinator.outstanding(id) > 0 {
                                self.hold(index);
                                break;
                            }
                        }
                        Taken::NotYet => {
                            self.hold(index);
                            break;
                        }
                    }
                }
                Decoded::Refused { consumed, error } => {
                    self.stats.bump(Stat::client_requests);
                    self.stats.bump(Stat::client_refused_commands);
                    self.coordinator.on_refused(id, &error, self.io.now, &mut self.io);
                    done += consumed;
                }
                Decoded::Skip { consumed } => done += consumed,
                Decoded::Incomplete { need: bytes_needed } => {
                    need = bytes_needed;
                    break;
                }
                Decoded::Broken { error } => {
                    self.stats.bump(Stat::client_requests);
                    self.stats.bump(Stat::client_protocol_errors);
                    self.coordinator.on_refused(id, &error, self.io.now, &mut self.io);
                    self.coordinator.finish(id, &mut self.io);
                    if let Some(client) = self.io.clients.get_mut(index) {
                        client.broken = true;
                    }
                    done = bytes.len();
                }
            }
            // Closed by QUIT, or dropped for its overflow: what follows is not heard.
            if self.io.clients.get(index).is_none_or(|client| client.deaf) {
                done = bytes.len();
            }
        }
        if let Some(client) = self.io.clients.get_mut(index) {
            client.decoder = Some(decoder);
            client.need = need;
        }
        self.stats.record(Histogram::client_out_queue, self.coordinator.outstanding(id) as u64);
        self.note_read(index, outstanding + requests, command, done == bytes.len(), bytes.len());
        done
    }

    /// Whoever has yet to say the password gets little room.
    fn limits_of(&self, client: ClientId) -> &Limits {
        const STRANGER: Limits = Limits::STRANGER;
        match self.settings.coordinator.requirepass {
            Some(_) if self.coordinator.is_stranger(client) => &STRANGER,
            _ => &self.settings.limits,
        }
    }

    fn hold(&mut self, index: usize) {
        if let Some(client) = self.io.clients.get_mut(index) {
            client.held = true;
        }
    }

    /// Clients that were held, paused, or had more to read than their share.
    fn look_again(&mut self) {
        let queued = std::mem::take(&mut self.io.queued_clients);
        for &index in &queued {
            if let Some(client) = self.io.clients.get_mut(index) {
                client.queued = false;
                self.serve(index);
            }
        }
        // New entries may have come meanwhile: they wait for the next round.
        let mut queued = queued;
        queued.clear();
        queued.append(&mut self.io.queued_clients);
        self.io.queued_clients = queued;
    }

    fn drop_client(&mut self, index: usize, why: Stat) {
        self.part(index);
        let unanswered = self.io.close_private(index);
        let Some(mut client) = self.io.clients.try_remove(index) else { return };
        let _ = self.io.registry.deregister(&mut client.stream);
        client.outbox.clear(&mut self.io.pool);
        client.inbox.clear();
        client.inbox.settle(&mut self.io.pool);
        self.coordinator.disconnect(ClientId(index as u32));
        self.fail_all(unanswered);
        match client.role {
            Role::Client => {
                self.control.let_out();
                self.stats.bump(why);
                self.stats.sub(Stat::client_connections, 1);
            }
            Role::Peer(peer) => self.part_from_peer(*peer, why),
        }
    }

    // The end of a wake-up ---------------------------------------------------------------------------------------

    /// Writes what was queued: first what asks, then what answers. Losses may queue more, so until nothing is queued.
    fn flush(&mut self) {
        loop {
            while let Some(index) = self.io.dirty_datastores.pop() {
                let Some(datastore) = self.io.datastores.get_mut(index) else { continue };
                datastore.dirty = false;
                if let Err(error) = datastore.flush(&self.io.registry, self.io.now, &mut self.io.pool, &self.stats) {
                    self.io.miss_datastore(index, &error);
                    self.lose_datastore(index, Stat::server_err);
                }
            }
            if self.flush_peers() {
                continue;
            }
            while let Some(index) = self.io.dirty_clients.pop() {
                self.flush_client(index);
            }
            while let Some(index) = self.io.overflowed.pop() {
                self.stats.bump(Stat::client_output_overflow);
                self.io.notices.client_overflowed(self.io.now);
                self.drop_client(index, Stat::client_err);
            }
            let io = &self.io;
            if io.dirty_datastores.is_empty() && io.peers.dirty.is_empty() && io.dirty_clients.is_empty() {
                return;
            }
        }
    }

    fn flush_client(&mut self, index: usize) {
        let Some(client) = self.io.clients.get_mut(index) else { return };
        client.dirty = false;
        self.stats.bump(Stat::client_flushes);
        let is_kernels = client.kernel.has_leg() && self.before_flush(index);
        let Some(client) = self.io.clients.get_mut(index) else { return };
        let queued = client.outbox.len();
        let flushed = match is_kernels {
            true => client.flush_held(&self.io.registry, &mut self.io.pool),
            false => client.flush(&self.io.registry, &mut self.io.pool),
        };
        let written = queued - client.outbox.len();
        self.stats.add(client.role.bytes_out(), client.outbox.take_written());
        self.note_written(index, written);
        let Some(client) = self.io.clients.get_mut(index) else { return };
        match flushed {
            Ok(true) if client.closing => {
                let _ = client.stream.shutdown_write();
                let why = if client.broken { Stat::client_err } else { Stat::client_eof };
                self.drop_client(index, why);
            }
            Ok(all) => {
                let was_paused = client.paused;
                if all && is_kernels {
                    self.tell_kernel(index);
                } else if all && client.kernel.has_leg() {
                    self.after_flush(index);
                }
                if was_paused && self.may_read(index) {
                    self.io.queue_client(index);
                }
            }
            Err(error) => {
                tracing::debug!(%error, "client lost");
                self.drop_client(index, Stat::client_err);
            }
        }
    }

    fn housekeeping(&mut self) {
        if self.accept_at.is_some_and(|at| at <= self.io.now) {
            self.accept_at = None;
            (0..self.listeners.clients.len()).for_each(|index| self.accept(index));
            (0..self.listeners.peers.len()).for_each(|index| self.accept_peers(index));
        }
        if self.settings.preconnect {
            self.io.dial_datastores();
        }
        if self.coordinator.is_parking() {
            self.coordinator.on_state(&mut self.io);
        }
        self.look_after_peers();
        self.watch_flows();
        self.look_after_datastores();
    }
}
