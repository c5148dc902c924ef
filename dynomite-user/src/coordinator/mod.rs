//! One request, from plan to outcome. Pure: values in, values and effects out; no sockets, no clock.
//! Owns: who waits for what. The table of contents of a request's walk is `on_request`; of a reply's, `on_reply`.

pub mod clients;
pub mod consistency;
pub mod effects;
mod everywhere;
mod explain;
mod fan_out;
pub mod gather;
pub mod here;
pub mod in_flight;
mod kin;
mod needs;
mod own;
mod parts;
mod peers;
mod per_element;
mod private;
mod repair;
pub mod route;
pub mod scripts;
#[cfg(test)]
mod testing;
mod walk;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use clients::{Order, Place, Spare};
pub use consistency::ConsistencyLevel;
pub use effects::{Ask, ClientId, Effects, Kin, Leg, Outgoing, SendError};
use fan_out::Fan;
use in_flight::{InFlight, Ticket};
use own::Own;
use parts::Parts;
use private::Mode;
use repair::{Aside, Mending, Repair};
use route::{Asked, Origin, RouteSettings};

use crate::control::Control;
use crate::moment::Moment;
use crate::protocol::Protocol;
use crate::protocol::commands::{Kind, Routing, Tally};
use crate::protocol::memcache::{self, Silence};
use crate::protocol::reply::{Expect, Fault, Reply, write_error};
use crate::protocol::request::Request;
use crate::protocol::resp::encode::Version;
use crate::protocol::resp::resp3::{self, Shape};
use crate::protocol::resp::session::Session;
use crate::ring::hash::{HashKind, HashTag};
use crate::ring::{PeerId, Topology};
use crate::stats::{Histogram, PeerStat, Stat, Stats};

#[derive(Clone, Debug)]
pub struct Settings {
    pub protocol: Protocol,
    pub hash: HashKind,
    pub hash_tag: Option<HashTag>,
    /// How long the datastore may take for one request.
    pub timeout: Duration,
    /// Requests of one worker that may be outstanding at one time; beyond it they are shed.
    pub outstanding_max: usize,
    pub route: RouteSettings,
    /// What clients must say before they are served, and we to the datastore.
    pub requirepass: Option<String>,
}

/// What became of a request that was handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    Yes,
    /// It was taken; no further one until `Effects::resume`.
    Hold,
    /// It was not taken: hand it in again after `Effects::resume`.
    NotYet,
}

/// Who is told the outcome.
#[derive(Clone, Copy, Debug)]
enum Teller {
    Client(Place),
    /// A request of several parts.
    Part {
        parent: Ticket,
        number: u32,
    },
    /// The client is gone, or was told already.
    Nobody,
}

/// What the reply must become before its client hears it.
#[derive(Clone, Copy, Debug)]
enum Finish {
    AsIs,
    Resp3(Shape),
    Silence(Silence),
}

/// One ticket's state.
struct Entry {
    teller: Teller,
    finish: Finish,
    kind: Kind,
    started: Moment,
    work: Work,
}

enum Work {
    /// One leg, whose reply is the answer.
    Single(PeerId),
    /// Several legs, or one that others may stand in for.
    Fan(Box<Fan>),
    /// No leg of its own: its parts have tickets.
    Parts(Box<Parts>),
    /// One leg on the client's own datastore connection.
    Private,
    /// Asked on our own account.
    Aside(Box<Aside>),
}

/// Who asks over a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    Client,
    Peer,
}

struct Client {
    order: Order,
    asker: Asker,
    read_level: ConsistencyLevel,
    write_level: ConsistencyLevel,
    session: Session,
    mode: Mode,
    /// Its first subscription, until that is answered.
    subscribing: Option<Ticket>,
    /// It is held: to be resumed when everything asked is answered.
    resume_when_quiet: bool,
    /// It waits for what others do (BLPOP and its kind).
    is_blocked: bool,
    since: Moment,
    asked_at: Moment,
}

impl Client {
    fn level_of(&self, kind: Kind) -> ConsistencyLevel {
        match kind {
            Kind::Read => self.read_level,
            Kind::Write => self.write_level,
        }
    }
}

pub struct Coordinator {
    settings: Settings,
    control: Arc<Control>,
    topology: Arc<Topology>,
    stats: Arc<Stats>,
    clients: Vec<Option<Client>>,
    in_flight: InFlight<Entry>,
    own: Own,
    mending: Mending,
    spare: Spare,
    scratch: Vec<u8>,
}

/// Deadline classes of `InFlight`: how long the farthest replica may take.
const CLASS_DATASTORE: u8 = 0;
const CLASS_NEAR_READ: u8 = 1;
const CLASS_NEAR_WRITE: u8 = 2;
const CLASS_FAR_READ: u8 = 3;
const CLASS_FAR_WRITE: u8 = 4;
/// Until those who were held back are asked.
const CLASS_HELD_BACK: u8 = 5;
const CLASS_STOOD_IN_FOR: u8 = 6;

impl Coordinator {
    pub fn new(settings: Settings, topology: Arc<Topology>, control: Arc<Control>, stats: Arc<Stats>) -> Coordinator {
        Coordinator {
            settings,
            own: Own::new(control.clone(), stats.clone()),
            control,
            topology,
            stats,
            clients: Vec::new(),
            in_flight: InFlight::default(),
            mending: Mending::default(),
            spare: Spare::default(),
            scratch: Vec::new(),
        }
    }

    pub fn connect(&mut self, client: ClientId, asker: Asker, now: Moment) {
        let index = client.0 as usize;
        if self.clients.len() <= index {
            self.clients.resize_with(index + 1, || None);
        }
        self.clients[index] = Some(Client {
            order: Order::default(),
            asker,
            read_level: self.control.read_consistency(),
            write_level: self.control.write_consistency(),
            session: Session::new(self.control.next_client_id(), self.settings.requirepass.as_deref()),
            mode: Mode::Shared,
            subscribing: None,
            resume_when_quiet: false,
            is_blocked: false,
            since: now,
            asked_at: now,
        });
    }

    /// The client is gone. What it asked goes on; the answers are dropped.
    pub fn disconnect(&mut self, client: ClientId) {
        let Some(mut gone) = self.clients.get_mut(client.0 as usize).and_then(Option::take) else { return };
        if gone.asker == Asker::Client {
            self.control.roster().remove(&gone.session.id());
            self.stats.add(Stat::client_dropped_requests, gone.order.len() as u64);
        }
        for ticket in gone.order.abandon() {
            if let Some(entry) = self.in_flight.get_mut(ticket) {
                entry.teller = Teller::Nobody;
            }
        }
    }

    /// The client will ask no more; it is closed when everything asked is answered.
    pub fn finish(&mut self, client: ClientId, effects: &mut impl Effects) {
        if let Some(state) = client_mut(&mut self.clients, client) {
            state.order.close(client, effects);
        }
    }

    pub fn outstanding(&self, client: ClientId) -> usize {
        self.clients.get(client.0 as usize).and_then(Option::as_ref).map_or(0, |client| client.order.len())
    }

    /// Has this client yet to say the password?
    pub fn is_stranger(&self, client: ClientId) -> bool {
        let state = self.clients.get(client.0 as usize).and_then(Option::as_ref);
        self.settings.protocol == Protocol::Resp
            && state.is_some_and(|state| state.asker == Asker::Client && !state.session.is_authenticated())
    }

    /// May the kernel answer this client's plain reads of its node's own keys, and in which version of the protocol? Not
    /// if its requests need more than one replica, or more than a datastore.
    pub fn kernel_may_answer(&self, client: ClientId) -> Option<Version> {
        let state = self.clients.get(client.0 as usize)?.as_ref()?;
        let is_plain = state.asker == Asker::Client && state.mode == Mode::Shared && !self.is_stranger(client);
        let one_is_enough = self.topology.is_alone() || state.read_level == ConsistencyLevel::DcOne;
        (is_plain && one_is_enough).then(|| state.session.version())
    }

    /// Does this client wait for what others do, for as long as that takes?
    pub fn is_blocked(&self, client: ClientId) -> bool {
        self.clients.get(client.0 as usize).and_then(Option::as_ref).is_some_and(|state| state.is_blocked)
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub fn topology(&self) -> &Arc<Topology> {
        &self.topology
    }

    /// Takes another topology into use. Requests under way keep the plan they have.
    pub fn set_topology(&mut self, topology: Arc<Topology>) {
        self.topology = topology;
        self.stats.bump(Stat::topology_changes);
    }

    /// An answer that is there at once: it waits for its turn like any other.
    pub fn answer(&mut self, client: ClientId, reply: &[u8], effects: &mut impl Effects) {
        let Some(state) = client_mut(&mut self.clients, client) else { return };
        let place = state.order.take(client);
        state.order.settle(place, reply, &mut self.spare, effects);
    }

    pub fn on_request(
        &mut self,
        client: ClientId,
        request: &Request<'_>,
        now: Moment,
        effects: &mut impl Effects,
    ) -> Taken {
        let Some(state) = client_mut(&mut self.clients, client) else { return Taken::Yes };
        // Behind its end (QUIT) a client is not heard.
        if state.order.is_closing() {
            self.stats.bump(Stat::client_dropped_requests);
            return Taken::Yes;
        }
        state.asked_at = now;
        if state.asker == Asker::Client && !state.session.admits(request.command) && request.protocol == Protocol::Resp
        {
            self.on_refused(client, b"", now, effects);
            return Taken::Yes;
        }
        if (state.mode != Mode::Shared || matches!(request.command.routing, Routing::Private(_)))
            && let Some(taken) = self.on_private(client, request, now, effects)
        {
            return taken;
        }
        if self.in_flight.len() >= self.settings.outstanding_max {
            self.stats.bump(Stat::client_shed);
            return self.refuse(client, request, Fault::Busy.text(), effects);
        }
        if self.settings.route.deletes_own_keys && request.command.tally == Tally::Del {
            return self.on_admin_delete(client, request, now, effects);
        }
        if let Some(why) = self.is_lacking(request) {
            self.stats.bump(Stat::client_refused_commands);
            return self.refuse(client, request, &why, effects);
        }
        match request.command.routing {
            Routing::Normal | Routing::OwnRack | Routing::AllNodes if !self.topology.is_alone() => {
                self.count(request);
                self.on_routed(client, request, Origin::Client, now, effects);
                Taken::Yes
            }
            Routing::EveryOwner if !self.topology.is_alone() => {
                self.count(request);
                match request.command.kind {
                    Kind::Read => self.on_walk(client, request, now, effects),
                    Kind::Write => self.on_every_node(client, request, now, effects),
                }
                Taken::Yes
            }
            Routing::Normal | Routing::OwnRack | Routing::Local | Routing::AllNodes | Routing::EveryOwner => {
                self.count(request);
                self.ask_datastore(client, request, now, effects);
                Taken::Yes
            }
            Routing::Node => self.on_own(client, request, now, effects),
            Routing::Refused(why) => {
                self.stats.bump(Stat::client_refused_commands);
                let text = format!("'{}' {why}", request.command.name);
                self.refuse(client, request, &text, effects)
            }
            Routing::Private(_) => unreachable!("on_private takes or answers every such command"),
        }
    }

    /// The reply to a leg. A late one, whose ticket is closed, is dropped.
    pub fn on_reply(&mut self, leg: Leg, reply: Reply<'_>, now: Moment, effects: &mut impl Effects) {
        let (ticket, replica) = Ticket::of_leg(leg);
        let entry = self.in_flight.get_mut(ticket).map(|entry| (&mut entry.work, entry.kind));
        match entry {
            None | Some((Work::Parts(_), _)) => self.stats.bump(Stat::late_replies),
            Some((Work::Single(_) | Work::Private, _)) => self.close(ticket, reply, now, effects),
            Some((Work::Aside(_), _)) => self.on_aside(ticket, replica, Some(reply), now, effects),
            Some((Work::Fan(fan), kind)) => {
                let reply = fan.unveil(replica, reply);
                if fan.is_stranger(replica, reply, &mut self.mending.known) {
                    return self.ask_by_text(ticket, replica, now, effects);
                }
                if kind == Kind::Write && Fault::of_reply(&reply).is_some() {
                    fan.book_missed(replica, &self.stats, effects);
                }
                let (outcome, reply) = Repair::on_reply(fan, replica, reply, &self.mending);
                self.on_outcome(ticket, outcome, Some(reply), now, effects);
            }
        }
    }

    /// The leg will not be answered.
    pub fn on_lost(&mut self, leg: Leg, fault: Fault, now: Moment, effects: &mut impl Effects) {
        let (ticket, replica) = Ticket::of_leg(leg);
        let entry = self.in_flight.get_mut(ticket).map(|entry| (&mut entry.work, entry.kind));
        match entry {
            None | Some((Work::Parts(_), _)) => {}
            Some((Work::Single(_) | Work::Private, _)) => self.fail(ticket, fault, now, effects),
            Some((Work::Aside(_), _)) => self.on_aside(ticket, replica, None, now, effects),
            Some((Work::Fan(fan), kind)) => {
                let outcome = fan.on_fault(replica, fault, kind, &self.stats, effects);
                self.on_outcome(ticket, outcome, None, now, effects);
            }
        }
    }

    /// Time has passed: what is not answered by its deadline is answered with an error.
    pub fn on_wake(&mut self, now: Moment, effects: &mut impl Effects) {
        self.catch_up(now, effects);
        while let Some(ticket) = self.in_flight.expired(now) {
            if self.widen(ticket, now, effects) {
                continue;
            }
            let Some(entry) = self.in_flight.get_mut(ticket) else { return };
            match &mut entry.work {
                Work::Single(peer) => {
                    let peer = *peer;
                    let fault = self.book_timeout(peer, effects);
                    self.fail(ticket, fault, now, effects);
                }
                Work::Aside(_) => self.on_aside_deadline(ticket),
                Work::Private => self.on_private_deadline(ticket, now, effects),
                Work::Parts(_) => self.fail(ticket, Fault::DatastoreRefused, now, effects),
                Work::Fan(_) => self.on_fan_deadline(ticket, now, effects),
            }
        }
    }

    pub fn wakes_at(&self) -> Option<Moment> {
        self.in_flight.next_deadline().into_iter().chain(self.mending.wakes_at()).min()
    }

    fn book_timeout(&self, peer: PeerId, effects: &mut impl Effects) -> Fault {
        if peer == PeerId::SELF {
            self.stats.bump(Stat::datastore_timeouts);
            self.stats.bump(Stat::server_timedout_requests);
            return Fault::DatastoreRefused;
        }
        effects.count(peer, PeerStat::timeouts);
        match self.topology.is_near(peer) {
            true => self.stats.bump(Stat::peer_timedout_requests),
            false => self.stats.bump(Stat::remote_peer_timedout_requests),
        }
        Fault::PeerRefused
    }

    fn count(&self, request: &Request<'_>) {
        if request.protocol == Protocol::Resp {
            self.stats.bump(request.command.tally.stat());
        }
        match request.command.kind {
            Kind::Read => self.stats.bump(Stat::client_read_requests),
            Kind::Write => {
                self.stats.bump(Stat::client_write_requests);
                self.stats.record(Histogram::payload_size, request.frame.len() as u64);
            }
        }
    }

    /// One leg, to our own datastore.
    fn ask_datastore(&mut self, client: ClientId, request: &Request<'_>, now: Moment, effects: &mut impl Effects) {
        let Some(state) = client_mut(&mut self.clients, client) else { return };
        let place = state.order.take(client);
        let entry = Entry {
            teller: Teller::Client(place),
            finish: finish_of(request, &state.session),
            kind: request.command.kind,
            started: now,
            work: Work::Single(PeerId::SELF),
        };
        let timeout = self.settings.timeout * u32::from(self.control.timeout_factor());
        let ticket = self.in_flight.open(entry, CLASS_DATASTORE, now + timeout);
        state.order.set_ticket(place, ticket);
        let sent = with_frame(&mut self.scratch, request, |frame| {
            let outgoing = Outgoing {
                leg: ticket.leg(0),
                frame,
                expect: request.expect(),
                is_write: request.command.kind == Kind::Write,
            };
            self.own.ask(client.0, outgoing, effects)
        });
        if let Err(error) = sent {
            self.fail(ticket, fault_of(error, PeerId::SELF), now, effects);
        }
    }

    /// Says why the request is not served, unless it is one that wants no answer.
    fn refuse(&mut self, client: ClientId, request: &Request<'_>, text: &str, effects: &mut impl Effects) -> Taken {
        let mut error = std::mem::take(&mut self.scratch);
        error.clear();
        write_error(self.settings.protocol, text, &mut error);
        if request.quiet && Silence::of(request).hides(&error) {
            error.clear();
        }
        self.stats.bump(Stat::forward_error);
        self.answer(client, &error, effects);
        self.scratch = error;
        Taken::Yes
    }

    fn fail(&mut self, ticket: Ticket, fault: Fault, now: Moment, effects: &mut impl Effects) {
        let mut error = std::mem::take(&mut self.scratch);
        error.clear();
        write_error(self.settings.protocol, fault.text(), &mut error);
        self.stats.bump(Stat::forward_error);
        self.close(ticket, Reply { frame: &error, is_error: true }, now, effects);
        self.scratch = error;
    }

    /// Closes the ticket and says its outcome to whoever waits for it.
    fn close(&mut self, ticket: Ticket, reply: Reply<'_>, now: Moment, effects: &mut impl Effects) {
        if let Some(entry) = self.in_flight.close(ticket) {
            self.tell(entry.teller, entry.finish, entry.started, reply, now, effects);
        }
    }

    fn tell(
        &mut self,
        teller: Teller,
        finish: Finish,
        started: Moment,
        reply: Reply<'_>,
        now: Moment,
        effects: &mut impl Effects,
    ) {
        let place = match teller {
            Teller::Client(place) => place,
            Teller::Part { parent, number } => return self.on_part(parent, number, reply, now, effects),
            Teller::Nobody => return,
        };
        let Some(client) = client_mut(&mut self.clients, place.client) else { return };
        match client.asker {
            Asker::Client => {
                let micros = u64::try_from(now.since(started).as_micros()).unwrap_or(u64::MAX);
                self.stats.record(Histogram::latency, micros);
            }
            Asker::Peer => self.stats.add(Stat::peer_forward_error, u64::from(reply.is_error)),
        }
        match finish {
            Finish::AsIs => client.order.settle(place, reply.frame, &mut self.spare, effects),
            Finish::Silence(silence) if silence.hides(reply.frame) => {
                client.order.settle(place, b"", &mut self.spare, effects);
            }
            Finish::Silence(_) => client.order.settle(place, reply.frame, &mut self.spare, effects),
            Finish::Resp3(shape) => {
                let mut converted = self.spare.empty();
                resp3::convert(shape, reply.frame, &mut converted);
                client.order.settle(place, &converted, &mut self.spare, effects);
                self.spare.keep(converted);
            }
        }
        if client.order.is_empty() && client.resume_when_quiet {
            client.resume_when_quiet = false;
            client.is_blocked = false;
            if client.mode == Mode::Leaving {
                client.mode = Mode::Shared;
            }
            effects.resume(place.client);
        }
    }
}

fn client_mut(clients: &mut [Option<Client>], client: ClientId) -> Option<&mut Client> {
    clients.get_mut(client.0 as usize)?.as_mut()
}

fn finish_of(request: &Request<'_>, session: &Session) -> Finish {
    match request.protocol {
        Protocol::Memcache if request.quiet => Finish::Silence(Silence::of(request)),
        Protocol::Resp if session.version() == Version::Resp3 => Finish::Resp3(resp3::shape_of(request)),
        _ => Finish::AsIs,
    }
}

fn fault_of(error: SendError, peer: PeerId) -> Fault {
    match error {
        SendError::Full => Fault::Busy,
        SendError::Forbidden => Fault::State,
        SendError::Down if peer == PeerId::SELF => Fault::DatastoreRefused,
        SendError::Down => Fault::PeerNotConnected,
    }
}

/// What is sent for a request: its frame, or what the protocol says instead.
fn with_frame<R>(scratch: &mut Vec<u8>, request: &Request<'_>, act: impl FnOnce(&[u8]) -> R) -> R {
    if request.verbatim {
        return act(request.frame);
    }
    scratch.clear();
    memcache::rewrite::rewrite(request, scratch);
    act(scratch)
}
