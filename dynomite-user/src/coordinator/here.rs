//! What this node answers itself: greetings, questions about the connection, its end.
//! Owns: what a session's answers change in a client's standing. The words are `protocol::resp::session`'s.

use super::private::Mode;
use super::*;
use crate::protocol::codec::is_of_a_limit;
use crate::protocol::resp::encode;
use crate::protocol::resp::session::{Answer, ClientFacts, Listing, NodeFacts};

/// What one worker tells the others of a client.
#[derive(Debug)]
pub struct Card {
    session: Session,
    address: String,
    local_address: String,
    since: Moment,
    asked_at: Moment,
    is_subscribed: bool,
    is_in_transaction: bool,
}

impl Card {
    fn describe(&self, now: Moment, text: &mut Vec<u8>) {
        let facts = ClientFacts {
            address: &self.address,
            local_address: &self.local_address,
            age_seconds: now.since(self.since).as_secs(),
            idle_seconds: now.since(self.asked_at).as_secs(),
            is_subscribed: self.is_subscribed,
            is_in_transaction: self.is_in_transaction,
        };
        self.session.describe(&facts, text);
    }
}

impl Client {
    fn card(&self, address: String, local_address: String) -> Card {
        Card {
            session: self.session.clone(),
            address,
            local_address,
            since: self.since,
            asked_at: self.asked_at,
            is_subscribed: self.mode == Mode::Subscribed,
            is_in_transaction: self.mode == Mode::Own,
        }
    }
}

impl Coordinator {
    /// A command of `Routing::Node`.
    pub(super) fn on_own(
        &mut self,
        client: ClientId,
        request: &Request<'_>,
        now: Moment,
        effects: &mut impl Effects,
    ) -> Taken {
        if request.protocol == Protocol::Memcache {
            return self.on_own_memcache(client, request, effects);
        }
        let Some(state) = client_mut(&mut self.clients, client) else { return Taken::Yes };
        let name = request.command.name;
        // These change the client's own connection: only when nothing is on its way there.
        let changes = matches!(name, "hello" | "reset");
        if changes && !state.order.is_empty() && state.mode != Mode::Subscribed {
            state.resume_when_quiet = true;
            return Taken::NotYet;
        }
        let facts =
            NodeFacts { requirepass: self.settings.requirepass.as_deref(), epoch_micros: effects.epoch_micros() };
        let mut reply = self.spare.empty();
        let version = state.session.version();
        let answer = state.session.answer(request, &facts, &mut reply);
        if state.session.version() != version && state.mode == Mode::Shared {
            effects.drop_private(client);
        }
        match answer {
            Answer::Said => {
                if matches!(name, "hello" | "auth" | "client setname" | "client setinfo") {
                    self.enroll(client, effects);
                }
                self.answer(client, &reply, effects);
            }
            Answer::Close => {
                self.answer(client, &reply, effects);
                self.finish(client, effects);
            }
            Answer::Reset => {
                state.mode = Mode::Shared;
                state.read_level = self.control.read_consistency();
                state.write_level = self.control.write_consistency();
                effects.drop_private(client);
                self.answer(client, &reply, effects);
            }
            Answer::Level(text) => {
                match std::str::from_utf8(text).ok().and_then(|text| text.parse::<ConsistencyLevel>().ok()) {
                    Some(level) => {
                        (state.read_level, state.write_level) = (level, level);
                        encode::status("OK", &mut reply);
                    }
                    None => {
                        let names = ConsistencyLevel::ALL.map(ConsistencyLevel::name).join(", ");
                        encode::error(
                            &format!("ERR Dynomite: the consistency level must be one of {names}"),
                            &mut reply,
                        );
                    }
                }
                self.answer(client, &reply, effects);
            }
            Answer::Clients(listing) => {
                self.list(client, &listing, now, effects, &mut reply);
                self.answer(client, &reply, effects);
            }
        }
        self.spare.keep(reply);
        Taken::Yes
    }

    /// Tells the node's other workers of a client, or of what it said about itself.
    pub fn enroll(&self, client: ClientId, effects: &impl Effects) {
        let Some(Some(state)) = self.clients.get(client.0 as usize) else { return };
        if state.asker == Asker::Client && self.settings.protocol == Protocol::Resp {
            let (address, local_address) = effects.addresses(client);
            self.control.roster().insert(state.session.id(), state.card(address, local_address));
        }
    }

    /// Writes a line for every client that the listing wants, as the asking client's version says text. How long those
    /// of other workers are idle is only known since they last said something about themselves.
    fn list(&self, client: ClientId, listing: &Listing<'_>, now: Moment, effects: &impl Effects, reply: &mut Vec<u8>) {
        self.enroll(client, effects);
        let mut roster = self.control.roster();
        for (index, state) in self.clients.iter().enumerate() {
            if let Some(state) = state
                && let Some(card) = roster.get_mut(&state.session.id())
            {
                let (address, local_address) = effects.addresses(ClientId(index as u32));
                *card = state.card(address, local_address);
            }
        }
        let Some(Some(asking)) = self.clients.get(client.0 as usize) else { return };
        let mut text = Vec::new();
        for (id, card) in roster.iter() {
            if listing.wants(asking.session.id(), *id, card.is_subscribed) {
                card.describe(now, &mut text);
            }
        }
        asking.session.tell(&text, reply);
    }

    fn on_own_memcache(&mut self, client: ClientId, request: &Request<'_>, effects: &mut impl Effects) -> Taken {
        match request.command.name {
            "quit" => self.finish(client, effects),
            "mn" => self.answer(client, b"MN\r\n", effects),
            name => {
                debug_assert!(false, "no answer for {name}");
                self.answer(client, b"ERROR\r\n", effects);
            }
        }
        Taken::Yes
    }

    /// The decoder's answer to what it cannot make a request of: it waits for its turn like any other.
    pub fn on_refused(&mut self, client: ClientId, error: &[u8], now: Moment, effects: &mut impl Effects) {
        let Some(state) = client_mut(&mut self.clients, client) else { return };
        if state.order.is_closing() {
            self.stats.bump(Stat::client_dropped_requests);
            return;
        }
        self.stats.add(Stat::request_too_large, is_of_a_limit(error).into());
        if self.settings.protocol == Protocol::Resp && !state.session.is_authenticated() {
            let mut reply = self.spare.empty();
            crate::protocol::resp::session::Session::no_auth(&mut reply);
            self.answer(client, &reply, effects);
            return self.spare.keep(reply);
        }
        if state.mode == Mode::Own {
            self.spoil(client, now, effects);
        }
        self.answer(client, error, effects);
    }
}
