//! What a peer asks of us: for our own datastore, or for our datacenter. And what an operator's admin mode asks.
//! Owns: which commands a peer may send.

use super::*;
use crate::protocol::resp::encode;

impl Coordinator {
    /// A request that came over a peer's connection; `origin` says for whom. Exactly one answer follows, in its turn.
    pub fn on_peer_request(
        &mut self,
        client: ClientId,
        request: &Request<'_>,
        origin: Origin,
        now: Moment,
        effects: &mut impl Effects,
    ) {
        if self.in_flight.len() >= self.settings.outstanding_max {
            self.stats.bump(Stat::client_shed);
            return self.refuse_peer(client, Fault::Busy.text(), effects);
        }
        match request.command.routing {
            Routing::Normal | Routing::OwnRack
                if origin == Origin::Forward && request.key.is_some() && !self.topology.is_alone() =>
            {
                self.on_routed(client, request, Origin::Forward, now, effects);
            }
            // The sender has routed it.
            Routing::Normal | Routing::OwnRack | Routing::Local | Routing::AllNodes | Routing::EveryOwner => {
                if scripts::concerns(request)
                    && self.topology.nodes().any(|(peer, _)| self.is_c(peer, client.0, effects))
                {
                    self.remember_script(request);
                }
                self.ask_datastore(client, request, now, effects);
            }
            // How peers greet each other: the node answers, not its datastore.
            Routing::Node if request.command.name == "ping" => {
                let mut pong = self.spare.empty();
                encode::status("PONG", &mut pong);
                self.answer(client, &pong, effects);
                self.spare.keep(pong);
            }
            Routing::Refused(why) => {
                self.refuse_peer(client, &format!("'{}' {why}", request.command.name), effects);
            }
            Routing::Node | Routing::Private(_) => {
                let text = format!("'{}' is for the node that a client is connected to", request.command.name);
                self.refuse_peer(client, &text, effects);
            }
        }
    }

    /// Does anybody wait for what comes to this leg?
    pub fn awaits(&self, leg: Leg) -> bool {
        self.in_flight.get(Ticket::of_leg(leg).0).is_some()
    }

    /// An error of ours for a peer, in its turn.
    pub fn refuse_peer(&mut self, client: ClientId, text: &str, effects: &mut impl Effects) {
        let mut error = self.spare.empty();
        write_error(self.settings.protocol, text, &mut error);
        self.stats.bump(Stat::peer_refused_requests);
        self.stats.bump(Stat::peer_forward_error);
        self.answer(client, &error, effects);
        self.spare.keep(error);
    }

    /// Admin mode: only what this node owns in its rack is deleted, and only here.
    pub(super) fn on_admin_delete(
        &mut self,
        client: ClientId,
        request: &Request<'_>,
        now: Moment,
        effects: &mut impl Effects,
    ) -> Taken {
        let owns = |key: &[u8]| {
            let token = self.settings.hash.token(HashTag::of(self.settings.hash_tag, key));
            let own = self.topology.own();
            self.topology
                .owners(token)
                .find(|(datacenter, rack, _)| *datacenter.name == *own.datacenter && rack.name == own.rack)
                .is_some_and(|(_, _, owner)| owner == PeerId::SELF)
        };
        if !request.keys().all(owns) {
            return self.refuse(client, request, Fault::AdminMode.text(), effects);
        }
        self.count(request);
        self.ask_datastore(client, request, now, effects);
        Taken::Yes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::testing::{ask, coordinator};

    const PEER: ClientId = ClientId(3);

    fn check(origin: Origin, line: &str, expected: &str) {
        let mut coordinator = coordinator("a/r1:2147483648 a/r1:4294967295 a/r2:0 b/x:0", RouteSettings::default());
        coordinator.connect(PEER, Asker::Peer, Moment(0));
        let said = ask(&mut coordinator, &[], line, |coordinator, request, recorder| {
            coordinator.on_peer_request(PEER, request, origin, Moment(0), recorder);
        });
        assert_eq!(said, expected, "{line}");
    }

    #[test]
    fn what_is_to_be_executed_is_executed_here_whoever_owns_it() {
        check(Origin::Execute, "set foo 1", "set foo 1");
        check(Origin::Execute, "get bar", "get bar");
        check(Origin::Execute, "mset foo 1 bar 2", "mset foo 1 bar 2");
        check(Origin::Execute, "flushall", "flushall");
        check(Origin::Execute, "script load x", "script load x");
        check(Origin::Execute, "info", "info");
    }

    #[test]
    fn what_is_for_our_datacenter_goes_to_its_owners() {
        check(Origin::Forward, "set foo 1", "1:set foo 1 | 2:set foo 1");
        check(Origin::Forward, "set bar 1", "set bar 1 | 2:set bar 1");
        check(Origin::Forward, "get foo", "1:get foo");
        check(Origin::Forward, "mset foo 1 bar 2", "1:mset foo 1 bar 2 | 2:mset foo 1 bar 2");
        check(Origin::Forward, "script load x", "script load x");
    }

    #[test]
    fn what_never_reaches_the_datastore() {
        for origin in [Origin::Execute, Origin::Forward] {
            check(origin, "ping", "=+PONG");
            check(origin, "quit", "=-ERR 'quit' is for the node that a client is connected to");
            check(
                origin,
                "dyno_config:conn_consistency dc_one",
                "=-ERR 'dyno_config:conn_consistency' is for the node that a client is connected to",
            );
            check(origin, "multi", "=-ERR 'multi' is for the node that a client is connected to");
        }
    }

    #[test]
    fn admin_mode_deletes_what_this_node_owns() {
        let route = RouteSettings { deletes_own_keys: true, ..RouteSettings::default() };
        let mut coordinator = coordinator("a/r1:2147483648 a/r1:4294967295 a/r2:0", route);
        let client = ClientId(0);
        coordinator.connect(client, Asker::Client, Moment(0));
        let mut check = |line, expected: &str| {
            let said = ask(&mut coordinator, &[], line, |coordinator, request, recorder| {
                coordinator.on_request(client, request, Moment(0), recorder);
            });
            assert_eq!(said, expected, "{line}");
        };
        check("del foo", "=-ERR Dynomite: Invalid request in Dynomite's admin mode");
        check("del bar foo", "=-ERR Dynomite: Invalid request in Dynomite's admin mode");
        check("del bar", "del bar");
        check("set bar 1", "set bar 1 | 2:set bar 1");
    }
}
