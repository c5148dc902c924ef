//! Fan-out: a plan's targets are asked, those that fail are stood in for, and what comes back goes to `gather`.
//! Owns: the request's bytes for as long as another replica may have to be asked.

use std::time::Duration;

use super::gather::{Answer, Gather, Outcome};
use super::kin::ForC;
use super::route::{self, Part};
use super::*;
use crate::protocol::commands::Across;

/// A request to several replicas.
pub(super) struct Fan {
    pub gather: Gather,
    frame: Vec<u8>,
    for_c: ForC,
    expect: Expect,
    lane: u32,
    level: ConsistencyLevel,
}

impl Fan {
    /// A target will not answer. A write that nobody in another datacenter takes is lost there.
    pub fn on_fault(&mut self, number: u8, fault: Fault, stats: &Stats) -> Outcome {
        let outcome = self.gather.on_fault(number, fault);
        let plan = self.gather.plan();
        let is_far = plan.targets.get(usize::from(number)).is_some_and(|target| target.datacenter != 0);
        if is_far && !matches!(outcome, Outcome::Ask(_)) && plan.part_of(usize::from(number)) == Part::Copy {
            stats.bump(Stat::remote_peer_dropped_requests);
        }
        outcome
    }
}

/// Plans number the targets that count; a copy beyond these needs no number.
const NOBODY: u8 = u8::MAX;

/// What a request is sent for: who is told, and how.
#[derive(Clone, Copy)]
pub(super) struct Task {
    pub teller: Teller,
    pub finish: Finish,
    pub lane: u32,
    pub level: ConsistencyLevel,
}

impl Coordinator {
    /// A client's request, or a peer's for our datacenter: to the owners of its keys.
    pub(super) fn on_routed(
        &mut self,
        client: ClientId,
        request: &Request<'_>,
        origin: Origin,
        now: Moment,
        effects: &mut impl Effects,
    ) {
        if origin == Origin::Client && request.has_many_keys() && self.on_many_keys(client, request, now, effects) {
            return;
        }
        let Some(state) = client_mut(&mut self.clients, client) else { return };
        let level = state.level_of(request.command.kind);
        let mut plan = self.plan(request, level, origin, effects);
        if let Err(why) = self.suit(request, &mut plan, client.0, effects) {
            match origin {
                Origin::Client => _ = self.refuse(client, &why, effects),
                Origin::Execute | Origin::Forward => self.refuse_peer(client, &why, effects),
            }
            return;
        }
        let Some(state) = client_mut(&mut self.clients, client) else { return };
        let place = state.order.take(client);
        let finish = finish_of(request, &state.session);
        let task = Task { teller: Teller::Client(place), finish, lane: client.0, level };
        self.dispatch(request, plan, task, now, effects);
    }

    pub(super) fn plan(
        &self,
        request: &Request<'_>,
        level: ConsistencyLevel,
        origin: Origin,
        effects: &impl Effects,
    ) -> route::Plan {
        let command = request.command;
        let token = request.key.map(|key| self.settings.hash.token(HashTag::of(self.settings.hash_tag, key)));
        let asked = Asked { kind: command.kind, routing: command.routing, token };
        let health = |peer| effects.is_up(peer) && (peer != PeerId::SELF || self.own.serves(command.kind));
        let plan = route::plan(asked, &self.topology, level, origin, self.settings.route, &health);
        self.stats.add(Stat::remote_peer_failover_requests, u64::from(plan.remote_failovers));
        plan
    }

    /// Opens a ticket and asks everybody in the plan.
    pub(super) fn dispatch(
        &mut self,
        request: &Request<'_>,
        plan: route::Plan,
        task: Task,
        now: Moment,
        effects: &mut impl Effects,
    ) {
        let kind = request.command.kind;
        let (class, timeout) = self.patience(kind, &plan);
        let single = match plan.targets[..] {
            [target] => Some(target),
            _ => None,
        };
        let work = match single {
            Some(target) => Work::Single(target.peer),
            None => Work::Fan(Box::new(Fan {
                gather: Gather::new(plan, request.command.across == Across::Array, self.spare.empty()),
                frame: with_frame(&mut self.scratch, request, |frame| self.spare.copy_of(frame)),
                for_c: ForC::Unknown,
                expect: request.expect(),
                lane: task.lane,
                level: task.level,
            })),
        };
        let entry = Entry { teller: task.teller, finish: task.finish, kind, started: now, work };
        let ticket = self.in_flight.open(entry, class, now + timeout);
        if let Teller::Client(place) = task.teller
            && let Some(state) = client_mut(&mut self.clients, place.client)
        {
            state.order.set_ticket(place, ticket);
        }
        let Some(target) = single else { return self.ask_all(ticket, now, effects) };
        let sent = with_frame(&mut self.scratch, request, |frame| {
            let is_write = kind == Kind::Write;
            let outgoing = Outgoing { leg: ticket.leg(0), frame, expect: request.expect(), is_write };
            let mut for_c = ForC::Unknown;
            send(effects, &mut self.own, target, task.lane, outgoing, &mut for_c, request.protocol)
        });
        if let Err(error) = sent {
            self.fail(ticket, fault_of(error, target.peer), now, effects);
        }
    }

    /// How long the farthest of those whose answer counts may take.
    fn patience(&self, kind: Kind, plan: &route::Plan) -> (u8, Duration) {
        let voters = || plan.targets.iter().filter(|target| target.part != Part::Copy);
        let factor = u32::from(self.control.timeout_factor());
        let timeout = self.settings.timeout;
        let (class, timeout) = if voters().any(|target| target.datacenter != 0) {
            (if kind == Kind::Read { CLASS_FAR_READ } else { CLASS_FAR_WRITE }, timeout + Duration::from_secs(5))
        } else if plan.targets.iter().any(|target| target.peer != PeerId::SELF) {
            (if kind == Kind::Read { CLASS_NEAR_READ } else { CLASS_NEAR_WRITE }, timeout + Duration::from_millis(200))
        } else {
            (CLASS_DATASTORE, timeout)
        };
        (class, timeout * factor)
    }

    /// Asks everybody who is not a spare.
    fn ask_all(&mut self, ticket: Ticket, now: Moment, effects: &mut impl Effects) {
        let mut at = 0;
        while let Some(Entry { work: Work::Fan(fan), kind, .. }) = self.in_flight.get_mut(ticket) {
            let Some(target) = fan.gather.plan().targets.get(at).copied() else { break };
            if target.part != Part::Spare {
                let number = u8::try_from(at).unwrap_or(NOBODY);
                let outgoing = Outgoing {
                    leg: ticket.leg(number),
                    frame: &fan.frame,
                    expect: fan.expect,
                    is_write: *kind == Kind::Write,
                };
                let protocol = self.settings.protocol;
                let sent = send(effects, &mut self.own, target, fan.lane, outgoing, &mut fan.for_c, protocol);
                if let Err(error) = sent {
                    let outcome = fan.on_fault(number, fault_of(error, target.peer), &self.stats);
                    self.on_outcome(ticket, outcome, None, now, effects);
                }
            }
            at += 1;
        }
    }

    /// Acts on what an event meant: asks a stand-in, tells the client, or goes on waiting.
    pub(super) fn on_outcome(
        &mut self,
        ticket: Ticket,
        outcome: Outcome,
        this: Option<Reply<'_>>,
        now: Moment,
        effects: &mut impl Effects,
    ) {
        let mut outcome = outcome;
        while let Outcome::Ask(number) = outcome {
            let Some(Entry { work: Work::Fan(fan), kind, .. }) = self.in_flight.get_mut(ticket) else { return };
            let target = fan.gather.plan().targets[usize::from(number)];
            match fan.gather.plan().part_of(usize::from(number)) {
                Part::Copy => self.stats.bump(Stat::remote_peer_failover_requests),
                _ if target.datacenter != 0 => {
                    self.stats.bump(Stat::reads_failed_over);
                    self.stats.bump(Stat::reads_failed_over_dc);
                }
                _ => self.stats.bump(Stat::reads_failed_over),
            }
            let outgoing = Outgoing {
                leg: ticket.leg(number),
                frame: &fan.frame,
                expect: fan.expect,
                is_write: *kind == Kind::Write,
            };
            let protocol = self.settings.protocol;
            let sent = send(effects, &mut self.own, target, fan.lane, outgoing, &mut fan.for_c, protocol);
            outcome = match sent {
                Ok(()) => return,
                Err(error) => fan.on_fault(number, fault_of(error, target.peer), &self.stats),
            };
        }
        match outcome {
            Outcome::Pending | Outcome::Ask(_) => return,
            Outcome::Won { answer, agreed } => self.win(ticket, answer, agreed, this, now, effects),
            Outcome::Lost => self.lose(ticket, now, effects),
            Outcome::Late { differs } => {
                self.stats.bump(Stat::stragglers);
                if differs {
                    self.stats.bump(Stat::quorum_mismatches);
                }
            }
        }
        self.end_if_quiet(ticket);
    }

    fn win(
        &mut self,
        ticket: Ticket,
        answer: Answer,
        agreed: bool,
        this: Option<Reply<'_>>,
        now: Moment,
        effects: &mut impl Effects,
    ) {
        let Some(entry) = self.in_flight.get_mut(ticket) else { return };
        if !agreed {
            self.stats.bump(Stat::quorum_mismatches);
            self.stats.bump(match entry.kind {
                Kind::Read => Stat::client_non_quorum_r_responses,
                Kind::Write => Stat::client_non_quorum_w_responses,
            });
        }
        let teller = std::mem::replace(&mut entry.teller, Teller::Nobody);
        let (finish, started) = (entry.finish, entry.started);
        match (answer, this) {
            (Answer::This, Some(reply)) => self.tell(teller, finish, started, reply, now, effects),
            _ => {
                // The answer lies among those that were kept: taken out, so that the coordinator is free to act.
                let Work::Fan(fan) = &entry.work else { return };
                let Some(reply) = fan.gather.winner() else { return };
                let (frame, is_error) = (self.spare.copy_of(reply.frame), reply.is_error);
                self.tell(teller, finish, started, Reply { frame: &frame, is_error }, now, effects);
                self.spare.keep(frame);
            }
        }
    }

    fn lose(&mut self, ticket: Ticket, now: Moment, effects: &mut impl Effects) {
        let Some(entry) = self.in_flight.get_mut(ticket) else { return };
        let Work::Fan(fan) = &entry.work else { return };
        let mut error = std::mem::take(&mut self.scratch);
        error.clear();
        fan.gather.explain(fan.level, &self.topology, self.settings.protocol, &mut error);
        self.stats.bump(Stat::quorum_lost);
        self.stats.bump(Stat::forward_error);
        let teller = std::mem::replace(&mut entry.teller, Teller::Nobody);
        let (finish, started) = (entry.finish, entry.started);
        self.tell(teller, finish, started, Reply { frame: &error, is_error: true }, now, effects);
        self.scratch = error;
    }

    /// Nobody is waited for any more: the ticket is closed.
    fn end_if_quiet(&mut self, ticket: Ticket) {
        let Some(Entry { work: Work::Fan(fan), .. }) = self.in_flight.get_mut(ticket) else { return };
        if !fan.gather.is_waiting() {
            self.drop_fan(ticket);
        }
    }

    pub(super) fn drop_fan(&mut self, ticket: Ticket) {
        if let Some(Entry { work: Work::Fan(fan), .. }) = self.in_flight.close(ticket) {
            self.spare.keep(fan.gather.into_buffer());
            self.spare.keep(fan.frame);
        }
    }
}

/// Asks one target. `for_c` is what a C node gets instead.
fn send(
    effects: &mut impl Effects,
    own: &mut Own,
    target: route::Target,
    lane: u32,
    outgoing: Outgoing<'_>,
    for_c: &mut ForC,
    protocol: Protocol,
) -> Result<(), SendError> {
    match target.peer {
        PeerId::SELF => own.ask(lane, outgoing, effects),
        peer => match effects.kin(peer, lane) {
            Kin::Ours => effects.to_peer(peer, target.ask, lane, outgoing),
            Kin::C => {
                let frame = for_c.frame(outgoing.frame, protocol)?;
                effects.to_peer(peer, target.ask, lane, Outgoing { frame, ..outgoing })
            }
        },
    }
}
