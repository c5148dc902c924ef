//! Fan-out: a plan's targets are asked, those that fail are stood in for, and what comes back goes to `gather`.
//! Owns: the request's bytes for as long as another replica may have to be asked.

use std::time::Duration;

use smallvec::SmallVec;

use super::gather::{Answer, Gather, Judge, Outcome};
use super::kin::ForC;
use super::repair::Known;
use super::route::{self, Part};
use super::*;
use crate::protocol::c_peer;
use crate::protocol::commands::Across;
use crate::protocol::resp::resp3::Shape;

/// A request to several replicas.
pub(super) struct Fan {
    pub gather: Gather,
    frame: Vec<u8>,
    for_c: ForC,
    /// Targets, by their numbers, whose replies come in envelopes.
    enveloped: SmallVec<[u8; 4]>,
    expect: Expect,
    pub lane: u32,
    level: ConsistencyLevel,
    /// While replicas are held back: the deadline, and its class.
    until: Option<(u8, Moment)>,
    /// It is asked in another form, which stands there instead of in `frame`.
    pub repair: Option<Box<Repair>>,
}

impl Fan {
    /// The same for the same targets, in a new form, with nobody asked yet.
    pub fn again(&self, repair: Repair, buffer: Vec<u8>) -> Fan {
        Fan {
            gather: self.gather.anew(buffer),
            frame: Vec::new(),
            for_c: ForC::Unknown,
            enveloped: SmallVec::new(),
            until: None,
            repair: Some(Box::new(repair)),
            ..*self
        }
    }

    /// A target's reply, out of its envelope.
    pub fn unveil<'a>(&self, number: u8, reply: Reply<'a>) -> Reply<'a> {
        if !self.enveloped.contains(&number) {
            return reply;
        }
        let frame = c_peer::unveil(reply.frame);
        Reply { frame, is_error: frame.starts_with(b"-") }
    }

    /// Does a target say that it does not know the script by its digest?
    pub fn is_stranger(&mut self, number: u8, reply: Reply<'_>, known: &mut Known) -> bool {
        let Some(repair) = &mut self.repair else { return false };
        let target = self.gather.plan().targets.get(usize::from(number));
        target.is_some_and(|target| repair.is_stranger(number, *target, reply, known))
    }

    /// Asks one target, in the form that it understands.
    fn send(
        &mut self,
        target: route::Target,
        leg: Leg,
        kind: Kind,
        own: &mut Own,
        known: &Known,
        effects: &mut impl Effects,
    ) -> Result<(), SendError> {
        let protocol = if self.expect == Expect::Resp { Protocol::Resp } else { Protocol::Memcache };
        let kin = if target.peer == PeerId::SELF { Kin::Ours } else { effects.kin(target.peer, self.lane) };
        let frame = match (&mut self.repair, kin) {
            (Some(repair), kin) => repair.frame(Ticket::of_leg(leg).1, target, kin, known),
            (None, Kin::Ours) => &self.frame,
            (None, Kin::C) => self.for_c.frame(&self.frame, protocol)?,
        };
        let outgoing = Outgoing { leg, frame, expect: self.expect, is_write: kind == Kind::Write };
        match target.peer {
            PeerId::SELF => own.ask(self.lane, outgoing, effects)?,
            peer => effects.to_peer(peer, target.ask, self.lane, outgoing)?,
        }
        if kin == Kin::C && self.for_c.is_enveloped() {
            self.enveloped.push(Ticket::of_leg(leg).1);
        }
        Ok(())
    }

    /// The newest of all answers to a read, those of other datacenters as well; otherwise the winner.
    fn newest<'a>(&'a self, winner: Reply<'a>) -> &'a [u8] {
        let is_read = self.repair.as_ref().is_some_and(|repair| repair.rewrite.is_read());
        if !is_read || winner.is_error {
            return winner.frame;
        }
        let good = self.gather.answers().filter(|(_, reply)| !reply.is_error);
        let frames: SmallVec<[&[u8]; 8]> = good.map(|(_, reply)| reply.frame).collect();
        repair::newest(&frames, frames.len(), false).map_or(winner.frame, |at| frames[at])
    }
}

impl Fan {
    /// A target will not answer. A write that nobody in another datacenter takes is lost there.
    pub fn on_fault(
        &mut self,
        number: u8,
        fault: Fault,
        kind: Kind,
        stats: &Stats,
        effects: &mut impl Effects,
    ) -> Outcome {
        if kind == Kind::Write {
            self.book_missed(number, stats, effects);
        }
        let outcome = self.gather.on_fault(number, fault);
        let plan = self.gather.plan();
        let is_far = plan.targets.get(usize::from(number)).is_some_and(|target| target.datacenter != 0);
        if is_far && !matches!(outcome, Outcome::Ask(_)) && plan.part_of(usize::from(number)) == Part::Copy {
            stats.bump(Stat::remote_peer_dropped_requests);
        }
        outcome
    }

    /// The same for one of several that fail together: the last one decides. Nobody stands in for it, and its answer counts.
    fn note_fault(&mut self, number: u8, fault: Fault, kind: Kind, stats: &Stats, effects: &mut impl Effects) {
        if kind == Kind::Write {
            self.book_missed(number, stats, effects);
        }
        self.gather.note_fault(number, fault);
    }

    /// A replica does not confirm a write. Who is to hand it on in its datacenter is not the only one there to do that.
    pub fn book_missed(&self, number: u8, stats: &Stats, effects: &mut impl Effects) {
        let target = self.gather.plan().targets.get(usize::from(number));
        if let Some(target) = target.filter(|target| target.ask == Ask::Execute) {
            stats.bump(Stat::writes_missed);
            effects.count(target.peer, PeerStat::missed_writes);
        }
    }
}

/// Replicas that a quorum's read did not ask at first are asked when it is not answered after so long. (Who stands in for
/// the one that is to answer alone is asked after half of the timeout: a slow command would be as slow elsewhere.)
const HEDGE_AFTER: Duration = Duration::from_millis(20);

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
        if scripts::concerns(request) && self.on_script(client, request, &plan, origin, now, effects) {
            return;
        }
        let repair = match origin {
            Origin::Client => self.rewrite(request, &plan, level, effects),
            Origin::Execute | Origin::Forward => None,
        };
        if let Err(why) = self.suit_rewritten(request, repair.as_deref(), &mut plan, client.0, effects) {
            match origin {
                Origin::Client => _ = self.refuse(client, request, &why, effects),
                Origin::Execute | Origin::Forward => self.refuse_peer(client, &why, effects),
            }
            return;
        }
        let Some(state) = client_mut(&mut self.clients, client) else { return };
        let place = state.order.take(client);
        let finish = finish_of(request, &state.session);
        let task = Task { teller: Teller::Client(place), finish, lane: client.0, level };
        self.dispatch(request, plan, repair, task, now, effects);
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
        let mut plan = route::plan(asked, &self.topology, level, origin, self.settings.route, &health);
        // To mend replicas, all of them must be heard.
        if command.kind == Kind::Read && !self.control.repairs_reads() {
            plan.hold_back(&health);
        }
        plan
    }

    /// Opens a ticket and asks everybody in the plan, in the form that `repair` has for it, if any.
    pub(super) fn dispatch(
        &mut self,
        request: &Request<'_>,
        plan: route::Plan,
        mut repair: Option<Box<Repair>>,
        task: Task,
        now: Moment,
        effects: &mut impl Effects,
    ) {
        let kind = request.command.kind;
        let Task { teller, finish, .. } = task;
        if let ([target], None) = (&plan.targets[..], &repair)
            && !(request.command.name == "eval" && self.is_c(target.peer, task.lane, effects))
        {
            return self.ask_one(request, *target, task, now, effects);
        }
        let note = repair.take_if(|repair| repair.rewrite.follows()).map(|repair| (repair, plan.clone()));
        let judge = match &repair {
            Some(repair) if repair.rewrite.is_read() => Judge::Theirs(repair::newest),
            Some(repair) if repair.rewrite.counts() => Judge::Counts,
            _ if request.command.across == Across::Array => Judge::PerElement,
            _ if matches!(request.command.shape, Shape::Set) => Judge::Unordered,
            _ => Judge::Whole,
        };
        let frame = match &repair {
            Some(_) => Vec::new(),
            None => with_frame(&mut self.scratch, request, |frame| self.spare.copy_of(frame)),
        };
        let fan = Fan {
            gather: Gather::new(plan, judge, self.spare.empty()),
            frame,
            for_c: ForC::Unknown,
            enveloped: SmallVec::new(),
            expect: request.expect(),
            lane: task.lane,
            level: task.level,
            until: None,
            repair,
        };
        self.open_fan(fan, teller, finish, kind, now, now, effects);
        if let Some((repair, plan)) = note {
            self.note(*repair, &plan, task.lane, now, effects);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what an entry is made of")]
    pub(super) fn open_fan(
        &mut self,
        mut fan: Fan,
        teller: Teller,
        finish: Finish,
        kind: Kind,
        started: Moment,
        now: Moment,
        effects: &mut impl Effects,
    ) {
        let (mut class, mut timeout) = self.patience(kind, fan.gather.plan());
        if fan.gather.holds_back() {
            fan.until = Some((class, now + timeout));
            (class, timeout) = match fan.gather.plan().need {
                route::Need::One => (CLASS_STOOD_IN_FOR, timeout / 2),
                _ => (CLASS_HELD_BACK, HEDGE_AFTER.min(timeout)),
            };
        }
        self.begin_rewritten(&fan);
        let entry = Entry { teller, finish, kind, started, work: Work::Fan(Box::new(fan)) };
        let ticket = self.open(entry, class, now + timeout);
        self.ask_all(ticket, now, effects);
    }

    /// Opens a ticket that answers for its client's place, if it is a client that waits.
    fn open(&mut self, entry: Entry, class: u8, deadline: Moment) -> Ticket {
        let teller = entry.teller;
        let ticket = self.in_flight.open(entry, class, deadline);
        if let Teller::Client(place) = teller
            && let Some(state) = client_mut(&mut self.clients, place.client)
        {
            state.order.set_ticket(place, ticket);
        }
        ticket
    }

    /// A plan of one target, whom nobody stands in for.
    fn ask_one(
        &mut self,
        request: &Request<'_>,
        target: route::Target,
        task: Task,
        now: Moment,
        effects: &mut impl Effects,
    ) {
        let kind = request.command.kind;
        let (class, timeout) = self.patience_with(kind, target.datacenter != 0, target.peer != PeerId::SELF);
        let work = Work::Single(target.peer);
        let entry = Entry { teller: task.teller, finish: task.finish, kind, started: now, work };
        let ticket = self.open(entry, class, now + timeout);
        let sent = with_frame(&mut self.scratch, request, |frame| {
            let is_write = kind == Kind::Write;
            let outgoing = Outgoing { leg: ticket.leg(0), frame, expect: request.expect(), is_write };
            match target.peer {
                PeerId::SELF => self.own.ask(task.lane, outgoing, effects),
                peer => {
                    let mut for_c = ForC::Unknown;
                    let frame = match effects.kin(peer, task.lane) {
                        Kin::Ours => frame,
                        Kin::C => for_c.frame(frame, request.protocol)?,
                    };
                    effects.to_peer(peer, target.ask, task.lane, Outgoing { frame, ..outgoing })
                }
            }
        });
        if let Err(error) = sent {
            self.fail(ticket, fault_of(error, target.peer), now, effects);
        }
    }

    /// How long the farthest of those whose answer counts may take.
    fn patience(&self, kind: Kind, plan: &route::Plan) -> (u8, Duration) {
        let mut voters = plan.targets.iter().filter(|target| target.part == Part::Vote);
        let is_far = voters.any(|target| target.datacenter != 0);
        let is_near = plan.targets.iter().any(|target| target.peer != PeerId::SELF);
        self.patience_with(kind, is_far, is_near)
    }

    /// The same of who is asked: somebody in another datacenter, or a peer in ours, or our own datastore alone.
    pub(super) fn patience_with(&self, kind: Kind, is_far: bool, is_near: bool) -> (u8, Duration) {
        let factor = u32::from(self.control.timeout_factor());
        let timeout = self.settings.timeout;
        let (class, timeout) = if is_far {
            (if kind == Kind::Read { CLASS_FAR_READ } else { CLASS_FAR_WRITE }, timeout + Duration::from_secs(5))
        } else if is_near {
            (if kind == Kind::Read { CLASS_NEAR_READ } else { CLASS_NEAR_WRITE }, timeout + Duration::from_millis(200))
        } else {
            (CLASS_DATASTORE, timeout)
        };
        (class, timeout * factor)
    }

    /// Asks everybody who is not a spare. What it means that some cannot be asked is decided when all of these are known.
    fn ask_all(&mut self, ticket: Ticket, now: Moment, effects: &mut impl Effects) {
        let Some(Entry { work: Work::Fan(fan), kind, .. }) = self.in_flight.get_mut(ticket) else { return };
        let kind = *kind;
        let mut failed: SmallVec<[(bool, u8, Fault); 4]> = SmallVec::new();
        for at in 0..fan.gather.plan().targets.len() {
            let target = fan.gather.plan().targets[at];
            if target.part == Part::Spare {
                continue;
            }
            let number = u8::try_from(at).unwrap_or(NOBODY);
            let sent = fan.send(target, ticket.leg(number), kind, &mut self.own, &self.mending.known, effects);
            match sent {
                Ok(()) => self.stats.add(Stat::remote_peer_failover_requests, target.stands_in.into()),
                Err(error) => {
                    let stands_alone = target.part == Part::Vote && fan.gather.plan().spare_of(at).is_none();
                    failed.push((stands_alone, number, fault_of(error, target.peer)));
                }
            }
        }
        failed.sort_by_key(|(stands_alone, ..)| *stands_alone);
        for (n, (stands_alone, number, fault)) in failed.iter().enumerate() {
            let Some(Entry { work: Work::Fan(fan), .. }) = self.in_flight.get_mut(ticket) else { return };
            if *stands_alone && n + 1 < failed.len() {
                fan.note_fault(*number, *fault, kind, &self.stats, effects);
                continue;
            }
            let outcome = fan.on_fault(*number, *fault, kind, &self.stats, effects);
            self.on_outcome(ticket, outcome, None, now, effects);
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
            let part = fan.gather.plan().part_of(usize::from(number));
            outcome = match fan.send(target, ticket.leg(number), *kind, &mut self.own, &self.mending.known, effects) {
                Ok(()) => fan.gather.ask_on(),
                Err(error) => {
                    outcome = fan.on_fault(number, fault_of(error, target.peer), *kind, &self.stats, effects);
                    continue;
                }
            };
            match part {
                Part::Copy => self.stats.add(Stat::remote_peer_failover_requests, target.stands_in.into()),
                _ if target.datacenter != 0 => {
                    self.stats.bump(Stat::reads_failed_over);
                    self.stats.bump(Stat::reads_failed_over_dc);
                }
                _ if fan.gather.plan().need != route::Need::One => self.stats.bump(Stat::quorum_reads_widened),
                _ => self.stats.bump(Stat::reads_failed_over),
            }
        }
        match outcome {
            Outcome::Pending | Outcome::Ask(_) => return,
            Outcome::Won { .. } | Outcome::Lost if self.ask_later(ticket, outcome, this, now, effects) => {}
            Outcome::Won { answer, agreed } => self.win(ticket, answer, agreed, this, now, effects),
            Outcome::Lost => self.lose(ticket, now, effects),
            Outcome::Late { differs } => {
                self.stats.bump(Stat::stragglers);
                if differs {
                    self.stats.bump(Stat::quorum_mismatches);
                }
            }
        }
        self.mend(ticket, now, effects);
        self.end_if_quiet(ticket, now);
    }

    /// Time has passed: replicas that were held back are asked. `false`: there are none, its deadline has passed.
    pub(super) fn widen(&mut self, ticket: Ticket, now: Moment, effects: &mut impl Effects) -> bool {
        let Some(Entry { work: Work::Fan(fan), .. }) = self.in_flight.get_mut(ticket) else { return false };
        let Some((class, deadline)) = fan.until.take() else { return false };
        self.in_flight.postpone(ticket, class, deadline);
        while let Some(Entry { work: Work::Fan(fan), .. }) = self.in_flight.get_mut(ticket) {
            let is_one = fan.gather.plan().need == route::Need::One;
            match fan.gather.widen() {
                outcome @ Outcome::Ask(spare) => {
                    if is_one {
                        // It counts as failed from now on, so its deadline is now.
                        effects.count(fan.gather.plan().targets[usize::from(spare) - 1].peer, PeerStat::timeouts);
                    }
                    self.on_outcome(ticket, outcome, None, now, effects);
                }
                _ => break,
            }
            if is_one {
                break;
            }
        }
        true
    }

    /// Who has not answered by now is late.
    pub(super) fn on_fan_deadline(&mut self, ticket: Ticket, now: Moment, effects: &mut impl Effects) {
        let Some(Entry { work: Work::Fan(fan), kind, .. }) = self.in_flight.get_mut(ticket) else { return };
        let late = fan.gather.waiting().map(|number| (number, fan.gather.plan().targets[usize::from(number)].peer));
        let late: SmallVec<[(u8, PeerId); 8]> = late.collect();
        if *kind == Kind::Write {
            late.iter().for_each(|(number, _)| fan.book_missed(*number, &self.stats, effects));
        }
        let outcome = fan.gather.on_deadline();
        late.iter().for_each(|(_, peer)| _ = self.book_timeout(*peer, effects));
        self.on_outcome(ticket, outcome, None, now, effects);
        self.drop_fan(ticket, now);
    }

    /// A replica does not have the script that it was asked to run.
    pub(super) fn ask_by_text(&mut self, ticket: Ticket, number: u8, now: Moment, effects: &mut impl Effects) {
        let Some(Entry { work: Work::Fan(fan), kind, .. }) = self.in_flight.get_mut(ticket) else { return };
        let Some(target) = fan.gather.plan().targets.get(usize::from(number)).copied() else { return };
        if let Err(error) = fan.send(target, ticket.leg(number), *kind, &mut self.own, &self.mending.known, effects) {
            let outcome = fan.on_fault(number, fault_of(error, target.peer), *kind, &self.stats, effects);
            self.on_outcome(ticket, outcome, None, now, effects);
        }
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
        if agreed {
            let Work::Fan(fan) = &entry.work else { return };
            self.stats.add(Stat::quorum_agreed, u64::from(fan.gather.plan().need != route::Need::One));
        } else {
            self.stats.bump(Stat::quorum_mismatches);
            self.stats.bump(match entry.kind {
                Kind::Read => Stat::client_non_quorum_r_responses,
                Kind::Write => Stat::client_non_quorum_w_responses,
            });
        }
        let teller = std::mem::replace(&mut entry.teller, Teller::Nobody);
        let (finish, started) = (entry.finish, entry.started);
        let Work::Fan(fan) = &entry.work else { return };
        if let Some(repair) = fan.repair.as_ref().filter(|_| entry.kind == Kind::Write) {
            self.mending.told(repair);
        }
        match (answer, this) {
            (Answer::This, Some(reply)) if fan.repair.is_none() => {
                self.tell(teller, finish, started, reply, now, effects);
            }
            _ => {
                // The answer lies among those that were kept: taken out, so that the coordinator is free to act.
                let Some(reply) = fan.gather.winner().or(this) else { return };
                let (mut scratch, is_error) = (self.spare.empty(), reply.is_error);
                let frame = match &fan.repair {
                    Some(repair) => self.spare.copy_of(repair.plain(fan.newest(reply), &mut scratch)),
                    None => self.spare.copy_of(reply.frame),
                };
                self.spare.keep(scratch);
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
    fn end_if_quiet(&mut self, ticket: Ticket, now: Moment) {
        let Some(Entry { work: Work::Fan(fan), .. }) = self.in_flight.get_mut(ticket) else { return };
        if !fan.gather.is_waiting() {
            self.drop_fan(ticket, now);
        }
    }

    pub(super) fn drop_fan(&mut self, ticket: Ticket, now: Moment) {
        if let Some(Entry { work: Work::Fan(fan), .. }) = self.in_flight.close(ticket) {
            self.end_rewritten(&fan, now);
            self.spare.keep(fan.gather.into_buffer());
            self.spare.keep(fan.frame);
            if let Some(repair) = fan.repair {
                self.spare.keep(repair.into_buffer());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::testing::{Recorder, ask_in, coordinator};

    fn asked(level: ConsistencyLevel, line: &str, down: &[u32]) -> (Coordinator, Recorder) {
        let mut coordinator = coordinator("a/r1:0 a/r2:0 a/r3:0 b/x:0 b/y:0", RouteSettings::default());
        coordinator.control.set_read_consistency(level);
        coordinator.connect(ClientId(0), Asker::Client, Moment(0));
        let recorder = Recorder { down: down.to_vec(), ..Recorder::default() };
        let recorder = ask_in(&mut coordinator, recorder, line, |coordinator, request, recorder| {
            coordinator.on_request(ClientId(0), request, Moment(0), recorder);
        });
        (coordinator, recorder)
    }

    fn said(recorder: &mut Recorder) -> String {
        std::mem::take(&mut recorder.said).join(" | ")
    }

    /// Who is asked for `get k` at DC_QUORUM, who after the hedge, and what is told after answers to legs of these numbers.
    fn check(down: &[u32], first: &str, hedged: &str, answers: &[(usize, &str)], told: &str) {
        let (mut coordinator, mut recorder) = asked(ConsistencyLevel::DcQuorum, "get k", down);
        assert_eq!(said(&mut recorder), first);
        let hedge = Moment(0) + HEDGE_AFTER;
        assert_eq!(coordinator.wakes_at(), Some(hedge));
        coordinator.on_wake(hedge, &mut recorder);
        assert_eq!(said(&mut recorder), hedged);
        for (number, answer) in answers {
            let (frame, leg) = (format!("+{answer}\r\n"), recorder.legs[*number]);
            coordinator.on_reply(leg, Reply { frame: frame.as_bytes(), is_error: false }, hedge, &mut recorder);
        }
        coordinator.on_wake(Moment(0) + Duration::from_secs(9), &mut recorder);
        assert_eq!((said(&mut recorder).as_str(), coordinator.in_flight()), (told, 0));
    }

    #[test]
    fn a_replica_beyond_the_quorum_is_asked_when_one_is_slow() {
        check(&[], "get k | 1:get k", "2:get k", &[(0, "A"), (2, "A")], "=+A");
        check(&[], "get k | 1:get k", "2:get k", &[(0, "A"), (1, "B"), (2, "B")], "=+B");
        let error = "=-ERR Peer: Peer Node refused connection (DC_QUORUM needs 2 of 3 racks of a, 1 answered; missing: \
                     r2 127.0.0.2:8101, r3 127.0.0.3:8101)";
        check(&[], "get k | 1:get k", "2:get k", &[(0, "A")], error);
    }

    #[test]
    fn an_error_says_who_may_yet_answer_and_everybody_who_is_missing() {
        let level = ConsistencyLevel::DcQuorum;
        let told = |topology: &str, down: &[u32]| {
            let mut coordinator = coordinator(topology, RouteSettings::default());
            coordinator.control.set_write_consistency(level);
            coordinator.connect(ClientId(0), Asker::Client, Moment(0));
            let recorder = Recorder { down: down.to_vec(), ..Recorder::default() };
            let mut recorder = ask_in(&mut coordinator, recorder, "set k v", |coordinator, request, recorder| {
                coordinator.on_request(ClientId(0), request, Moment(0), recorder);
            });
            recorder.said.pop().unwrap_or_default()
        };
        let words = "=-ERR Peer: Peer Node is not connected (DC_QUORUM needs";
        assert_eq!(
            told("a/r1:0 a/r2:0 a/r3:0", &[1, 2]),
            format!("{words} 2 of 3 racks of a, 0 answered, 1 not yet; missing: r2 127.0.0.2:8101, r3 127.0.0.3:8101)")
        );
        assert_eq!(
            told("a/r1:0 a/r2:0 a/r3:0 a/r4:0 a/r5:0", &[1, 2, 3, 4]),
            format!(
                "{words} 3 of 5 racks of a, 0 answered, 1 not yet; missing: r2 127.0.0.2:8101, r3 127.0.0.3:8101, \
                 r4 127.0.0.4:8101, r5 127.0.0.5:8101)"
            )
        );
    }

    #[test]
    fn a_replica_that_is_down_is_not_among_those_asked_first() {
        check(&[1], "get k | 2:get k", "", &[(0, "A"), (1, "A")], "=+A");
    }

    #[test]
    fn another_rack_is_asked_when_one_replica_hangs() {
        let (mut coordinator, mut recorder) = asked(ConsistencyLevel::DcOne, "get k", &[]);
        assert_eq!(said(&mut recorder), "get k");
        let half = coordinator.wakes_at().expect("a deadline");
        assert_eq!(half, Moment(0) + Duration::from_millis(1200) / 2);
        coordinator.on_wake(half, &mut recorder);
        assert_eq!(said(&mut recorder), "1:get k");
        coordinator.on_reply(recorder.legs[1], Reply { frame: b"+A\r\n", is_error: false }, half, &mut recorder);
        assert_eq!(said(&mut recorder), "=+A");
    }

    /// Writes to racks of ours are told apart by who missed them; in other datacenters others hand them on.
    #[test]
    fn who_misses_a_write_is_counted() {
        let (mut coordinator, mut recorder) = asked(ConsistencyLevel::DcOne, "set k v", &[1, 3]);
        assert_eq!(said(&mut recorder), "set k v | 2:set k v | 4>set k v");
        let refused = Reply { frame: b"-ERR Storage: Datastore refused connection\r\n", is_error: true };
        coordinator.on_reply(recorder.legs[0], refused, Moment(0), &mut recorder);
        assert_eq!(recorder.counted, ["1 missed_writes", "0 missed_writes"]);
        coordinator.on_wake(Moment(0) + Duration::from_millis(1200), &mut recorder);
        assert_eq!(recorder.counted[2..], ["2 missed_writes", "2 timeouts", "4 timeouts"]);
        let stat = |stat| coordinator.stats.get(stat);
        assert_eq!(stat(Stat::writes_missed), 3);
        assert_eq!((stat(Stat::peer_timedout_requests), stat(Stat::remote_peer_timedout_requests)), (1, 1));
    }

    /// Stood in for is who could not be asked; nobody is when nobody can be, or when who stands in is the preselected one.
    #[test]
    fn a_write_that_another_rack_hands_on_is_a_failover() {
        for (down, expected) in [(&[][..], 0), (&[3], 1), (&[4], 0), (&[3, 4], 0)] {
            let (coordinator, recorder) = asked(ConsistencyLevel::DcOne, "set k v", down);
            let stat = |stat| coordinator.stats.get(stat);
            let dropped = u64::from(down.len() == 2);
            let counts = (stat(Stat::remote_peer_failover_requests), stat(Stat::remote_peer_dropped_requests));
            assert_eq!(counts, (expected, dropped), "{down:?}: {:?}", recorder.said);
        }
    }

    #[test]
    fn who_is_stood_in_for_is_late() {
        let (mut coordinator, mut recorder) = asked(ConsistencyLevel::DcOne, "get k", &[]);
        coordinator.on_wake(Moment(0) + Duration::from_millis(600), &mut recorder);
        coordinator.on_wake(Moment(0) + Duration::from_millis(1200), &mut recorder);
        assert_eq!(recorder.counted, ["0 timeouts", "1 timeouts"]);
    }

    /// A copy for another datacenter is not waited for, nor is who may have to take it instead.
    #[test]
    fn a_write_that_only_we_answer_waits_no_longer_than_we_may_take() {
        let (mut coordinator, mut recorder) = asked(ConsistencyLevel::DcOne, "set k v", &[]);
        assert_eq!(said(&mut recorder), "set k v | 1:set k v | 2:set k v | 3>set k v");
        assert_eq!(coordinator.wakes_at(), Some(Moment(0) + Duration::from_millis(1200)));
        let answer = Reply { frame: b"+OK\r\n", is_error: false };
        coordinator.on_reply(recorder.legs[1], answer, Moment(0), &mut recorder);
        coordinator.on_wake(Moment(0) + Duration::from_millis(1200), &mut recorder);
        assert_eq!(said(&mut recorder), "=+OK");
    }
}
