//! Commands that leave state on a connection (transactions, blocking pops, subscriptions) run on a datastore connection of
//! the client's own. Owns: when a client is on it, and that nothing overtakes anything on the way there and back.

use super::in_flight::NO_DEADLINE;
use super::*;
use crate::protocol::commands::Private;
use crate::protocol::resp::encode::Version;

/// On which connection a client's requests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// The shared ones, in the way of its key's owners.
    Shared,
    /// Its own, in a transaction or with a watch.
    Own,
    /// Its own; replies come unasked as well.
    Subscribed,
    /// Its own, waiting for the last answer there before it changes back.
    Leaving,
}

impl Coordinator {
    /// Takes what belongs on the client's own connection. `None`: it does not.
    pub(super) fn on_private(
        &mut self,
        client: ClientId,
        request: &Request<'_>,
        now: Moment,
        effects: &mut impl Effects,
    ) -> Option<Taken> {
        let state = client_mut(&mut self.clients, client)?;
        let private = match request.command.routing {
            Routing::Private(private) => Some(private),
            _ => None,
        };
        match (state.mode, private) {
            (Mode::Shared, None) => return None,
            (Mode::Leaving, _) => {
                state.resume_when_quiet = true;
                return Some(Taken::NotYet);
            }
            _ => {}
        }
        // These end or change what is on the connection, whatever it is.
        if matches!(request.command.name, "hello" | "auth" | "quit" | "reset" | "dyno_config:conn_consistency") {
            return None;
        }
        if !self.topology.is_alone() {
            self.stats.bump(Stat::client_refused_commands);
            let name = request.command.name;
            let text = format!("Dynomite: '{name}' needs one datastore, and this cluster has several");
            return Some(self.refuse(client, &text, effects));
        }
        let is_shared = state.mode == Mode::Shared;
        if is_shared && !(self.own.serves(Kind::Read) && self.own.serves(Kind::Write)) {
            self.stats.bump(Stat::state_refused);
            return Some(self.refuse(client, Fault::State.text(), effects));
        }
        if state.mode == Mode::Shared && !state.order.is_empty() {
            state.resume_when_quiet = true;
            return Some(Taken::NotYet);
        }
        if (state.mode, private) == (Mode::Own, Some(Private::Subscribe)) {
            // Subscribed, it could not be told any more what belongs to the transaction.
            self.stats.bump(Stat::client_refused_commands);
            let text = format!("Dynomite: '{}' is not served between MULTI or WATCH and EXEC", request.command.name);
            self.spoil(client, now, effects);
            return Some(self.refuse(client, &text, effects));
        }
        let is_resp3 = state.session.version() == Version::Resp3;
        let (mode, taken) = match (state.mode, private) {
            (Mode::Subscribed, _) => (Mode::Subscribed, Taken::Yes),
            (_, Some(Private::Subscribe)) => (Mode::Subscribed, Taken::Yes),
            (_, Some(Private::Open)) => (Mode::Own, Taken::Yes),
            (_, Some(Private::End)) => (Mode::Leaving, Taken::Hold),
            // Inside a transaction nothing blocks.
            (Mode::Own, _) => (Mode::Own, Taken::Yes),
            (_, _) => (Mode::Leaving, Taken::Hold),
        };
        state.mode = mode;
        state.resume_when_quiet = taken == Taken::Hold;
        state.is_blocked = taken == Taken::Hold && private == Some(Private::Blocking);
        if mode == Mode::Subscribed {
            if effects.to_private(client, is_resp3, None, request.frame).is_err() {
                effects.close(client);
            }
            return Some(Taken::Yes);
        }
        let place = state.order.take(client);
        let entry = Entry {
            teller: Teller::Client(place),
            finish: Finish::AsIs,
            kind: request.command.kind,
            started: now,
            work: Work::Private,
        };
        let timeout = self.settings.timeout * u32::from(self.control.timeout_factor());
        let class = if private == Some(Private::Blocking) { NO_DEADLINE } else { CLASS_DATASTORE };
        let ticket = self.in_flight.open(entry, class, now + timeout);
        state.order.set_ticket(place, ticket);
        if let Err(error) = effects.to_private(client, is_resp3, Some(ticket.leg(0)), request.frame) {
            self.fail(ticket, fault_of(error, PeerId::SELF), now, effects);
        }
        Some(taken)
    }

    /// A command that could not even be sent belongs to a transaction, which must not be executed without it. The
    /// datastore is told of one that it cannot know either.
    pub(super) fn spoil(&mut self, client: ClientId, now: Moment, effects: &mut impl Effects) {
        let Some(state) = client_mut(&mut self.clients, client) else { return };
        let is_resp3 = state.session.version() == Version::Resp3;
        let entry =
            Entry { teller: Teller::Nobody, finish: Finish::AsIs, kind: Kind::Read, started: now, work: Work::Private };
        let ticket = self.in_flight.open(entry, CLASS_DATASTORE, now + self.settings.timeout);
        if effects.to_private(client, is_resp3, Some(ticket.leg(0)), b"*1\r\n$1\r\n?\r\n").is_err() {
            self.in_flight.close(ticket);
        }
    }

    /// Something came on the client's own connection that no request waits for.
    pub fn on_push(&mut self, client: ClientId, frame: &[u8], effects: &mut impl Effects) {
        let Some(state) = client_mut(&mut self.clients, client) else { return };
        if state.mode != Mode::Subscribed {
            return;
        }
        effects.to_client(client, frame);
        // The last subscription is gone: from here on the client is like any other.
        if state.session.version() == Version::Resp2 && is_last_unsubscription(frame) {
            state.mode = Mode::Shared;
        }
    }

    /// The client's own connection is gone, and the state on it: the client must not believe otherwise.
    pub fn on_private_lost(&mut self, client: ClientId, effects: &mut impl Effects) {
        let Some(state) = client_mut(&mut self.clients, client) else { return };
        if matches!(state.mode, Mode::Own | Mode::Subscribed) {
            state.mode = Mode::Shared;
            state.order.close(client, effects);
        }
    }
}

/// Is it the answer to an UNSUBSCRIBE of any kind that leaves no subscription?
fn is_last_unsubscription(frame: &[u8]) -> bool {
    let word =
        |words: &[u8]| frame.get(..40.min(frame.len())).is_some_and(|head| memchr::memmem::find(head, words).is_some());
    frame.ends_with(b"\r\n:0\r\n") && word(b"unsubscribe\r\n")
}
