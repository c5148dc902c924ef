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
            return Some(self.refuse(client, request, &needs::one_datastore(request.command.name), effects));
        }
        let is_shared = state.mode == Mode::Shared;
        if is_shared && !(self.own.serves(Kind::Read) && self.own.serves(Kind::Write)) {
            self.stats.bump(Stat::state_refused);
            return Some(self.refuse(client, request, Fault::State.text(), effects));
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
            return Some(self.refuse(client, request, &text, effects));
        }
        let is_resp3 = state.session.version() == Version::Resp3;
        let (mode, taken) = match (state.mode, private) {
            (Mode::Subscribed, _) => (Mode::Subscribed, Taken::Yes),
            // Until the first answer: then it is known whether there is anything to listen to.
            (_, Some(Private::Subscribe)) => (Mode::Subscribed, Taken::Hold),
            (_, Some(Private::Open)) => (Mode::Own, Taken::Yes),
            (_, Some(Private::End)) => (Mode::Leaving, Taken::Hold),
            // Inside a transaction nothing blocks.
            (Mode::Own, _) => (Mode::Own, Taken::Yes),
            (_, _) => (Mode::Leaving, Taken::Hold),
        };
        state.mode = mode;
        state.resume_when_quiet = taken == Taken::Hold;
        state.is_blocked = taken == Taken::Hold && private == Some(Private::Blocking);
        if mode == Mode::Subscribed && !is_shared {
            if effects.to_private(client, is_resp3, None, request.frame).is_err() {
                effects.close(client);
            }
            // Its answers come as pushes.
            self.stats.bump(Stat::client_replies);
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
        // What a subscription answers comes unasked.
        let leg = (mode != Mode::Subscribed).then(|| ticket.leg(0));
        state.subscribing = leg.is_none().then_some(ticket);
        if let Err(error) = effects.to_private(client, is_resp3, leg, request.frame) {
            if state.subscribing.take().is_some() {
                state.mode = Mode::Shared;
            }
            self.fail(ticket, fault_of(error, PeerId::SELF), now, effects);
            self.on_private_lost(client, now, effects);
        }
        Some(taken)
    }

    /// What ran on the client's own connection was not answered in time. A subscription is given up: the client would take it
    /// for the answer to something else.
    pub(super) fn on_private_deadline(&mut self, ticket: Ticket, now: Moment, effects: &mut impl Effects) {
        if let Some(Entry { teller: Teller::Client(place), .. }) = self.in_flight.get(ticket)
            && let Some(state) = client_mut(&mut self.clients, place.client)
            && state.subscribing == Some(ticket)
        {
            (state.subscribing, state.mode) = (None, Mode::Shared);
            effects.drop_private(place.client);
        }
        self.fail(ticket, Fault::DatastoreRefused, now, effects);
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
    pub fn on_push(&mut self, client: ClientId, frame: &[u8], now: Moment, effects: &mut impl Effects) {
        let Some(state) = client_mut(&mut self.clients, client) else { return };
        if state.mode != Mode::Subscribed {
            return;
        }
        match state.subscribing.take() {
            Some(ticket) => self.close(ticket, Reply { frame, is_error: false }, now, effects),
            None => effects.push(client, frame),
        }
        let Some(state) = client_mut(&mut self.clients, client) else { return };
        // The last subscription is gone: from here on the client is like any other.
        if state.session.version() == Version::Resp2 && is_last_unsubscription(frame) {
            state.mode = Mode::Shared;
        }
    }

    /// The client's own connection is gone, and the state on it: the client must not believe otherwise.
    pub fn on_private_lost(&mut self, client: ClientId, now: Moment, effects: &mut impl Effects) {
        let Some(state) = client_mut(&mut self.clients, client) else { return };
        if let Some(ticket) = state.subscribing.take() {
            // Nothing was subscribed yet.
            state.mode = Mode::Shared;
            self.fail(ticket, Fault::DatastoreRefused, now, effects);
        } else if matches!(state.mode, Mode::Own | Mode::Subscribed) {
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

#[cfg(test)]
mod tests {
    use super::super::testing::{Recorder, ask_in, coordinator};
    use super::*;

    const CLIENT: ClientId = ClientId(0);
    const GONE: &str = "=-ERR Storage: Datastore refused connection";

    fn connected() -> Coordinator {
        let mut coordinator = coordinator("a/r1:0", RouteSettings::default());
        coordinator.connect(CLIENT, Asker::Client, Moment(0));
        coordinator
    }

    /// What becomes of `line`, and what `then` makes of it.
    #[track_caller]
    fn check(
        coordinator: &mut Coordinator,
        datastore_is_down: bool,
        line: &str,
        then: impl FnOnce(&mut Coordinator, &mut Recorder),
        said: &[&str],
    ) {
        let recorder = Recorder { datastore_is_down, ..Recorder::default() };
        let recorder = ask_in(coordinator, recorder, line, |coordinator, request, recorder| {
            coordinator.on_request(CLIENT, request, Moment(0), recorder);
            then(coordinator, recorder);
        });
        assert_eq!(recorder.said, said, "{line}");
        assert_eq!(coordinator.in_flight(), 0, "{line}");
    }

    #[test]
    fn a_subscription_that_cannot_be_made_is_an_error_and_no_more() {
        for line in ["SUBSCRIBE a", "PSUBSCRIBE a*", "SSUBSCRIBE a"] {
            let (mut coordinator, asked) = (connected(), format!("private {line}"));
            check(&mut coordinator, true, line, |_, _| (), &[GONE]);
            let lost = |c: &mut Coordinator, r: &mut Recorder| c.on_private_lost(CLIENT, Moment(1), r);
            check(&mut coordinator, false, line, lost, &[&asked, GONE]);
            let late = |c: &mut Coordinator, r: &mut Recorder| {
                c.on_wake(Moment(0) + Duration::from_secs(2), r);
                c.on_push(CLIENT, b"+late\r\n", Moment(1), r);
            };
            check(&mut coordinator, false, line, late, &[&asked, GONE]);
            // It is a client like any other.
            assert_eq!(coordinator.clients[0].as_ref().map(|state| state.mode), Some(Mode::Shared));
            let made = |c: &mut Coordinator, r: &mut Recorder| {
                c.on_push(CLIENT, b"+subscribed\r\n", Moment(1), r);
                c.on_push(CLIENT, b"+message\r\n", Moment(1), r);
                c.on_private_lost(CLIENT, Moment(1), r);
            };
            check(&mut coordinator, false, line, made, &[&asked, "=+subscribed", "=+message", "close"]);
        }
    }

    #[test]
    fn a_transaction_that_cannot_be_begun_ends_the_connection() {
        // What follows in the same breath must not be executed by itself.
        for line in ["MULTI", "WATCH a"] {
            check(&mut connected(), true, line, |_, _| (), &[GONE, "close"]);
        }
    }
}
