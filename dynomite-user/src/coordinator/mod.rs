//! One request, from plan to outcome. Pure: values in, values and effects out; no sockets, no clock.
//! Owns: who waits for what. The table of contents of a request's walk is `on_request`; of a reply's, `on_reply`.

pub mod clients;
pub mod consistency;
pub mod effects;
mod explain;
pub mod gather;
pub mod in_flight;
mod per_element;
pub mod route;

use std::sync::Arc;
use std::time::Duration;

use clients::{Order, Place, Spare};
pub use consistency::ConsistencyLevel;
pub use effects::{Ask, ClientId, Effects, Leg, Outgoing, SendError};
use in_flight::{InFlight, NO_DEADLINE, Ticket};

use crate::moment::Moment;
use crate::protocol::Protocol;
use crate::protocol::commands::{Kind, Routing};
use crate::protocol::reply::{Fault, Reply, write_error};
use crate::protocol::request::Request;
use crate::stats::{Histogram, Stat, Stats};

#[derive(Clone, Debug)]
pub struct Settings {
    pub protocol: Protocol,
    /// How long the datastore may take for one request.
    pub timeout: Duration,
    /// Requests of one worker that may be outstanding at one time; beyond it they are shed.
    pub outstanding_max: usize,
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
    /// The client is gone, or expects nothing.
    Nobody,
}

/// One ticket's state.
struct Entry {
    teller: Teller,
    kind: Kind,
    started: Moment,
}

struct Client {
    order: Order,
}

pub struct Coordinator {
    settings: Settings,
    stats: Arc<Stats>,
    clients: Vec<Option<Client>>,
    in_flight: InFlight<Entry>,
    spare: Spare,
    scratch: Vec<u8>,
}

/// Deadline classes of `InFlight`.
const CLASS_DATASTORE: u8 = 0;

impl Coordinator {
    pub fn new(settings: Settings, stats: Arc<Stats>) -> Coordinator {
        Coordinator {
            settings,
            stats,
            clients: Vec::new(),
            in_flight: InFlight::default(),
            spare: Spare::default(),
            scratch: Vec::new(),
        }
    }

    pub fn connect(&mut self, client: ClientId) {
        let index = client.0 as usize;
        if self.clients.len() <= index {
            self.clients.resize_with(index + 1, || None);
        }
        self.clients[index] = Some(Client { order: Order::default() });
    }

    /// The client is gone. What it asked goes on; the answers are dropped.
    pub fn disconnect(&mut self, client: ClientId) {
        let Some(mut gone) = self.clients.get_mut(client.0 as usize).and_then(Option::take) else { return };
        self.stats.add(Stat::client_dropped_requests, gone.order.len() as u64);
        for ticket in gone.order.abandon() {
            if let Some(entry) = self.in_flight.get_mut(ticket) {
                entry.teller = Teller::Nobody;
            }
        }
    }

    /// The client will ask no more; it is closed when everything asked is answered.
    pub fn finish(&mut self, client: ClientId, effects: &mut impl Effects) {
        if let Some(client_state) = client_mut(&mut self.clients, client) {
            client_state.order.close(client, effects);
        }
    }

    pub fn outstanding(&self, client: ClientId) -> usize {
        self.clients.get(client.0 as usize).and_then(Option::as_ref).map_or(0, |client| client.order.len())
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// An answer that the decoder itself gives: it waits for its turn like any other.
    pub fn on_refused(&mut self, client: ClientId, error: &[u8], effects: &mut impl Effects) {
        let Some(state) = client_mut(&mut self.clients, client) else { return };
        let place = state.order.take(client);
        state.order.settle(place, error, &mut self.spare, effects);
    }

    pub fn on_request(
        &mut self,
        client: ClientId,
        request: &Request<'_>,
        now: Moment,
        effects: &mut impl Effects,
    ) -> Taken {
        let Some(state) = client_mut(&mut self.clients, client) else { return Taken::Yes };
        let command = request.command;
        match command.kind {
            Kind::Read => self.stats.bump(Stat::client_read_requests),
            Kind::Write => {
                self.stats.bump(Stat::client_write_requests);
                self.stats.record(Histogram::payload_size, request.frame.len() as u64);
            }
        }
        if self.in_flight.len() >= self.settings.outstanding_max {
            self.stats.bump(Stat::client_shed);
            return self.answer_fault(client, Fault::Busy, effects);
        }
        match command.routing {
            Routing::Normal | Routing::OwnRack | Routing::Local | Routing::AllNodes | Routing::EveryOwner => {
                let place = state.order.take(client);
                let entry = Entry { teller: Teller::Client(place), kind: command.kind, started: now };
                let ticket = self.in_flight.open(entry, CLASS_DATASTORE, now + self.settings.timeout);
                state.order.set_ticket(place, ticket);
                let outgoing = Outgoing {
                    leg: ticket.leg(0),
                    frame: request.frame,
                    expect: crate::protocol::reply::Expect::Resp,
                    is_write: command.kind == Kind::Write,
                };
                if effects.to_datastore(client.0, outgoing).is_err() {
                    self.fail(ticket, Fault::DatastoreRefused, now, effects);
                }
                Taken::Yes
            }
            _ => Taken::Yes,
        }
    }

    /// The reply to a leg. A late one, whose ticket is closed, is dropped.
    pub fn on_reply(&mut self, leg: Leg, reply: Reply<'_>, now: Moment, effects: &mut impl Effects) {
        let (ticket, _replica) = Ticket::of_leg(leg);
        if self.in_flight.get(ticket).is_none() {
            self.stats.bump(Stat::late_replies);
            return;
        }
        self.tell(ticket, reply.frame, now, effects);
    }

    /// The leg will not be answered: its connection is gone.
    pub fn on_lost(&mut self, leg: Leg, now: Moment, effects: &mut impl Effects) {
        let (ticket, _replica) = Ticket::of_leg(leg);
        self.fail(ticket, Fault::DatastoreRefused, now, effects);
    }

    /// Time has passed: what is not answered by its deadline is answered with an error.
    pub fn on_wake(&mut self, now: Moment, effects: &mut impl Effects) {
        while let Some(ticket) = self.in_flight.expired(now) {
            self.stats.bump(Stat::datastore_timeouts);
            self.stats.bump(Stat::server_timedout_requests);
            self.fail(ticket, Fault::DatastoreRefused, now, effects);
        }
    }

    pub fn wakes_at(&self) -> Option<Moment> {
        self.in_flight.next_deadline()
    }

    fn answer_fault(&mut self, client: ClientId, fault: Fault, effects: &mut impl Effects) -> Taken {
        let mut text = std::mem::take(&mut self.scratch);
        text.clear();
        write_error(self.settings.protocol, fault.text(), &mut text);
        self.stats.bump(Stat::forward_error);
        self.on_refused(client, &text, effects);
        self.scratch = text;
        Taken::Yes
    }

    fn fail(&mut self, ticket: Ticket, fault: Fault, now: Moment, effects: &mut impl Effects) {
        let mut text = std::mem::take(&mut self.scratch);
        text.clear();
        write_error(self.settings.protocol, fault.text(), &mut text);
        self.stats.bump(Stat::forward_error);
        self.tell(ticket, &text, now, effects);
        self.scratch = text;
    }

    /// Closes the ticket and says its outcome to whoever waits for it.
    fn tell(&mut self, ticket: Ticket, reply: &[u8], now: Moment, effects: &mut impl Effects) {
        let Some(entry) = self.in_flight.close(ticket) else { return };
        match entry.teller {
            Teller::Nobody => {}
            Teller::Client(place) => {
                let Some(client) = client_mut(&mut self.clients, place.client) else { return };
                self.stats.record(
                    Histogram::latency,
                    u64::try_from(now.since(entry.started).as_micros()).unwrap_or(u64::MAX),
                );
                client.order.settle(place, reply, &mut self.spare, effects);
            }
        }
    }
}

fn client_mut(clients: &mut [Option<Client>], client: ClientId) -> Option<&mut Client> {
    clients.get_mut(client.0 as usize)?.as_mut()
}

#[expect(dead_code, reason = "blocking commands will use it")]
const BLOCKING: u8 = NO_DEADLINE;
