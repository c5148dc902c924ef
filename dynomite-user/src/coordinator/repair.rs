//! Read repair: requests are asked in a form that leaves times behind, answers are judged by their times, and replicas
//! that are behind get what they missed.
//! Owns: what is asked on our own account. Knows nothing of: scripts, sockets.
//!
//! - A read takes the newest of the answers that its level needs. Stragglers are judged too. A replica that is behind is
//!   sent what the newest one holds, asked for once more with its time to live, under the newest one's time.
//! - Not at once, if a command that builds on what it finds (INCR) made it: on its way to that replica it would find its own
//!   result there. Nor if replicas differ under the same time: that may be such a command under way. These are looked at
//!   again when everything under way has arrived or was given up.
//! - A write that a replica skipped for a later one of ours is as good as done there: the later one overwrites it. It may
//!   come first, if somebody else's read repair brings it along.
//! - A write that most replicas skipped, because another clock was ahead of ours, is sent again with a later time. So is a
//!   later write of the same key that is under way by then, and would be overwritten. If that one must not be executed
//!   twice, or was acknowledged already, the earlier one is lost instead.
//! - A removal that every replica confirmed is forgotten by all of them, once no older write can be under way any more.

mod times;

use std::collections::BTreeSet;

use smallvec::SmallVec;

use super::fan_out::Fan;
use super::gather::{Gather, Outcome};
use super::route::Part;
use super::*;
use crate::protocol::resp::repair::{self as wire, Call, Held, Rewrite, Script, Status};
use times::{Times, Writing};

/// How a rewritten request stands; beside its `Fan`.
pub(super) struct Repair {
    pub rewrite: Rewrite,
    spelled: Spelled,
    tokens: Tokens,
    /// The time that a write was given first.
    first: u64,
    tries: u8,
    /// Nobody asked for it but we.
    is_look: bool,
    /// Replicas, by their numbers, that were sent what is of this time.
    mended: SmallVec<[(u8, u64); 4]>,
}

/// Of the keys; what is asked of several has a time in common.
type Tokens = SmallVec<[u32; 2]>;

/// A call in both of its spellings.
struct Spelled {
    call: Call,
    text: Vec<u8>,
    /// Numbers of those that did not know the digest.
    strangers: SmallVec<[u8; 4]>,
}

/// A write that came too late is tried so often; each time another writer was ahead.
const TRIES_MAX: u8 = 4;

/// What is asked on our own account: nobody waits for it.
pub(super) struct Aside {
    spelled: Spelled,
    purpose: Purpose,
    targets: SmallVec<[(PeerId, Ask); 4]>,
    lane: u32,
    missing: usize,
}

enum Purpose {
    /// Times behind a request, or their removal: whoever misses it is found out by reads.
    Note,
    /// Brings its targets up to date.
    Mend,
    /// Asks the newest replica what these are to get; if it is too early, the look is for later.
    Fetch { behind: SmallVec<[PeerId; 4]>, look: Box<Fan> },
}

/// Repairs under way at one time; what is beyond is found again by the next read.
const ASIDES_MAX: usize = 4096;
/// What waits for its time: removals to be forgotten (the datastores find the others by themselves, after a day), and reads
/// to be looked at again.
const LATER_MAX: usize = 8192;

#[derive(Default)]
pub(super) struct Mending {
    pub known: Known,
    times: Times,
    writing: Writing,
    /// The next one first.
    later: VecDeque<(Moment, Later)>,
    /// Keys, by their tokens, that will be looked at again.
    looks: BTreeSet<u32>,
    asides: usize,
}

/// Which scripts whose datastore has. One that was not seen to run there is sent as text: requests that go by digest and
/// come back would be overtaken by those behind them.
#[derive(Default)]
pub(super) struct Known {
    /// By the peer's number, a bit a script.
    scripts: Vec<u16>,
}

impl Known {
    fn has(&self, peer: PeerId, script: Script) -> bool {
        self.scripts.get(peer.0 as usize).is_some_and(|scripts| scripts & (1 << script as u8) != 0)
    }

    fn learn(&mut self, peer: PeerId, script: Script) {
        let index = peer.0 as usize;
        if self.scripts.len() <= index {
            self.scripts.resize(index + 1, 0);
        }
        self.scripts[index] |= 1 << script as u8;
    }

    /// It forgot one: then all of them.
    fn forget(&mut self, peer: PeerId) {
        if let Some(scripts) = self.scripts.get_mut(peer.0 as usize) {
            *scripts = 0;
        }
    }
}

enum Later {
    Clean(Aside),
    Look(Box<Fan>),
}

impl Mending {
    pub fn wakes_at(&self) -> Option<Moment> {
        self.later.front().map(|(at, _)| *at)
    }

    /// A client was told that its write is done.
    pub fn told(&mut self, repair: &Repair) {
        self.writing.tell(repair);
    }

    fn look_later(&mut self, at: Moment, look: Box<Fan>) {
        let Some(token) = look.repair.as_ref().and_then(|repair| repair.tokens.first().copied()) else { return };
        if self.later.len() < LATER_MAX && self.looks.insert(token) {
            self.later.push_back((at, Later::Look(look)));
        }
    }
}

impl Spelled {
    fn new(call: Call) -> Spelled {
        Spelled { call, text: Vec::new(), strangers: SmallVec::new() }
    }

    /// What target `number` is sent. Whoever hands it on to others gets the text, lest we do not hear that one of those
    /// does not know the digest.
    fn frame(&mut self, number: u8, peer: PeerId, kin: Kin, ask: Ask, known: &Known) -> &[u8] {
        let is_known = known.has(peer, self.call.script) && !self.strangers.contains(&number);
        if is_known && kin == Kin::Ours && ask == Ask::Execute {
            return self.call.frame();
        }
        if self.text.is_empty() {
            self.call.write_text(&mut self.text);
        }
        &self.text
    }

    /// Does the reply say that it must be asked by the text?
    fn is_stranger(&mut self, number: u8, peer: PeerId, reply: Reply<'_>, known: &mut Known) -> bool {
        if !reply.is_error {
            known.learn(peer, self.call.script);
            return false;
        }
        let is_new = wire::is_unknown_script(reply.frame) && !self.strangers.contains(&number);
        if is_new {
            known.forget(peer);
            self.strangers.push(number);
        }
        is_new
    }
}

impl Repair {
    pub fn frame(&mut self, number: u8, target: route::Target, kin: Kin, known: &Known) -> &[u8] {
        self.spelled.frame(number, target.peer, kin, target.ask, known)
    }

    pub fn is_stranger(&mut self, number: u8, target: route::Target, reply: Reply<'_>, known: &mut Known) -> bool {
        // Who hands it on to others answers for none of their datastores.
        target.ask == Ask::Execute && self.spelled.is_stranger(number, target.peer, reply, known)
    }

    /// A target answered; with it the reply as it counts.
    pub fn on_reply<'a>(fan: &mut Fan, number: u8, reply: Reply<'a>, mending: &Mending) -> (Outcome, Reply<'a>) {
        let overtaken = fan.repair.as_ref().filter(|repair| mending.writing.is_overtaken_at(repair, reply));
        match overtaken {
            None => (fan.gather.on_reply(number, reply), reply),
            Some(repair) if repair.rewrite.says_ok => {
                let done = Reply { frame: b"+OK\r\n", is_error: false };
                (fan.gather.on_reply(number, done), done)
            }
            Some(_) => (fan.gather.on_overtaken(number, reply), reply),
        }
    }

    /// The reply as the request itself would have had it.
    pub fn plain<'a>(&self, reply: &'a [u8], scratch: &'a mut Vec<u8>) -> &'a [u8] {
        wire::plain(self.rewrite, reply, scratch)
    }

    pub fn into_buffer(self) -> Vec<u8> {
        self.spelled.call.into_buffer()
    }
}

/// For `Gather`: which of different answers to a read is to be taken. `None` if their times do not say, or not before
/// more of them are there; with the `last` one there it is said for good.
pub(super) fn newest(answers: &[&[u8]], quorum: usize, last: bool) -> Option<usize> {
    let known: SmallVec<[(usize, Held<'_>); 8]> = answers
        .iter()
        .enumerate()
        .filter_map(|(at, answer)| Some((at, Held::of(answer).filter(|held| held.status != Status::Unknown)?)))
        .collect();
    let count = |at: usize| answers.iter().filter(|answer| **answer == answers[at]).count();
    let (first, _) = known.first()?;
    if known.iter().all(|(at, _)| answers[*at] == answers[*first]) {
        // Nobody contradicts it. Replicas that know nothing do not, unless they are the majority.
        let is_outvoted = (0..answers.len()).any(|at| count(at) >= quorum);
        return (last && !is_outvoted).then_some(*first);
    }
    let time = known.iter().map(|(_, held)| held.time).max()?;
    // Farthest first: of several alike the last one is taken, which then is the nearest.
    let at_that_time = || known.iter().rev().filter(|(_, held)| held.time == time).map(|(at, _)| *at);
    // Of one time: what a majority holds may have been acknowledged; without one, everybody must choose alike.
    let best = at_that_time().max_by_key(|at| (count(*at), answers[*at]))?;
    let is_clear = at_that_time().all(|at| answers[at] == answers[best]) || count(best) >= quorum;
    (is_clear || last).then_some(best)
}

impl Coordinator {
    /// What a request is asked as, where read repair is on and there are replicas to repair.
    pub(super) fn rewrite(
        &mut self,
        request: &Request<'_>,
        plan: &route::Plan,
        level: ConsistencyLevel,
        effects: &impl Effects,
    ) -> Option<Box<Repair>> {
        if !self.control.repairs_reads() || plan.targets.len() < 2 {
            return None;
        }
        let rewrite = Rewrite::of(request)?;
        // One answer has no other to be compared with.
        if rewrite.is_read() && level == ConsistencyLevel::DcOne {
            return None;
        }
        let clock = effects.epoch_micros() / 1000;
        let settings = &self.settings;
        let token = |key| settings.hash.token(HashTag::of(settings.hash_tag, key)).0;
        let tokens: Tokens = request.keys().map(token).collect();
        let time = if rewrite.is_read() { clock } else { self.mending.times.next(&tokens, clock) };
        let call = rewrite.call(request, time, self.spare.empty());
        Some(Box::new(Repair {
            rewrite,
            spelled: Spelled::new(call),
            tokens,
            first: time,
            tries: 1,
            is_look: false,
            mended: SmallVec::new(),
        }))
    }

    /// The notes of a request that was sent as it is: right behind it, to the same targets.
    pub(super) fn note(
        &mut self,
        repair: Repair,
        plan: &route::Plan,
        lane: u32,
        now: Moment,
        effects: &mut impl Effects,
    ) {
        let asked = plan.targets.iter().filter(|target| target.part != Part::Spare);
        let targets = asked.map(|target| (target.peer, target.ask)).collect();
        self.ask_aside(
            Aside { spelled: repair.spelled, purpose: Purpose::Note, targets, lane, missing: 0 },
            now,
            effects,
        );
    }

    /// A write that was skipped for being too late is sent once more, with a later time; `true` then. A read's times are
    /// only taken notice of.
    pub(super) fn ask_later(
        &mut self,
        ticket: Ticket,
        outcome: Outcome,
        this: Option<Reply<'_>>,
        now: Moment,
        effects: &mut impl Effects,
    ) -> bool {
        let Some(entry) = self.in_flight.get_mut(ticket) else { return false };
        let Work::Fan(fan) = &mut entry.work else { return false };
        let Some(repair) = &mut fan.repair else { return false };
        let clock = effects.epoch_micros() / 1000;
        let winner = fan.gather.winner().or(this).map(|reply| reply.frame);
        let answers = || fan.gather.answers().map(|(_, reply)| reply.frame).chain(winner);
        if repair.rewrite.is_read() {
            let times = answers().filter_map(|frame| Some(Held::of(frame)?.time));
            // Times behind our clock are nothing to remember.
            if let Some(time) = times.max().filter(|time| *time >= clock) {
                self.mending.times.see(&repair.tokens, time);
            }
            return false;
        }
        let late = |frame| repair.rewrite.too_late(frame);
        let passed_by = self.mending.writing.passed_by(repair);
        let Some(newer) = answers().filter_map(late).chain(passed_by).max() else { return false };
        self.mending.times.see(&repair.tokens, newer);
        let is_agreed = matches!(outcome, Outcome::Won { agreed: true, .. });
        let is_done = is_agreed && passed_by.is_none() && winner.is_some_and(|frame| late(frame).is_none());
        if is_done || matches!(entry.teller, Teller::Nobody) {
            return false;
        }
        let teller = std::mem::replace(&mut entry.teller, Teller::Nobody);
        let (finish, kind, started) = (entry.finish, entry.kind, entry.started);
        if repair.tries == TRIES_MAX || !self.mending.writing.may_come_again(repair) {
            let mut error = self.spare.empty();
            write_error(Protocol::Resp, &format!("{}: newer writes of the key", Fault::NoQuorum.text()), &mut error);
            self.stats.bump(Stat::quorum_lost);
            self.stats.bump(Stat::forward_error);
            self.tell(teller, finish, started, Reply { frame: &error, is_error: true }, now, effects);
            self.spare.keep(error);
            return true;
        }
        let mut call = repair.spelled.call.clone();
        call.set_time(self.mending.times.next(&repair.tokens, clock).max(newer + 1));
        let again = Repair {
            rewrite: repair.rewrite,
            spelled: Spelled::new(call),
            tokens: repair.tokens.clone(),
            first: repair.first,
            tries: repair.tries + 1,
            is_look: false,
            mended: SmallVec::new(),
        };
        let fan = fan.again(again, self.spare.empty());
        self.stats.bump(Stat::write_retries);
        self.open_fan(fan, teller, finish, kind, started, now, effects);
        true
    }

    /// Sends replicas that are behind what the newest answer says.
    pub(super) fn mend(&mut self, ticket: Ticket, now: Moment, effects: &mut impl Effects) {
        let Some(Entry { work: Work::Fan(fan), .. }) = self.in_flight.get_mut(ticket) else { return };
        match mending(fan) {
            Some(Mend::Now(aside)) => self.ask_aside(aside, now, effects),
            Some(Mend::Later(look)) => self.mending.look_later(now + self.settled_after(), look),
            None => {}
        }
    }

    /// By then everything that is under way has arrived, or was given up.
    fn settled_after(&self) -> Duration {
        self.settings.timeout * u32::from(self.control.timeout_factor()) + Duration::from_secs(1)
    }

    /// A rewritten request is about to be sent.
    pub(super) fn begin_rewritten(&mut self, fan: &Fan) {
        if let Some(repair) = fan.repair.as_ref().filter(|repair| !repair.rewrite.is_read()) {
            self.mending.writing.begin(repair);
        }
    }

    /// Everybody asked has answered or failed: a removal that all have confirmed may be forgotten, by and by.
    pub(super) fn end_rewritten(&mut self, fan: &Fan, now: Moment) {
        let Some(repair) = &fan.repair else { return };
        if !repair.rewrite.is_read() {
            self.mending.writing.end(repair);
            debug_assert!(!self.in_flight.is_empty() || self.mending.writing.keys.is_empty(), "nobody writes any more");
        }
        if !repair.rewrite.is_removal() || self.mending.later.len() >= LATER_MAX {
            return;
        }
        let voters = fan.gather.plan().targets.iter().filter(|target| target.part == Part::Vote);
        let confirmed = |reply: &Reply<'_>| !reply.is_error && repair.rewrite.too_late(reply.frame).is_none();
        if fan.gather.answers().filter(|(_, reply)| confirmed(reply)).count() < voters.clone().count() {
            return;
        }
        let spelled = Spelled::new(repair.spelled.call.cleanup());
        let targets = voters.map(|target| (target.peer, target.ask)).collect();
        let aside = Aside { spelled, purpose: Purpose::Note, targets, lane: fan.lane, missing: 0 };
        // An older write that comes behind its removal must still find it noted.
        self.mending.later.push_back((now + self.settled_after(), Later::Clean(aside)));
    }

    /// What waited for its time.
    pub(super) fn catch_up(&mut self, now: Moment, effects: &mut impl Effects) {
        while self.mending.wakes_at().is_some_and(|at| at <= now) {
            match self.mending.later.pop_front() {
                Some((_, Later::Clean(aside))) => self.ask_aside(aside, now, effects),
                Some((_, Later::Look(look))) => {
                    if let Some(token) = look.repair.as_ref().and_then(|repair| repair.tokens.first()) {
                        self.mending.looks.remove(token);
                    }
                    self.open_fan(*look, Teller::Nobody, Finish::AsIs, Kind::Read, now, now, effects);
                }
                None => return,
            }
        }
    }

    fn ask_aside(&mut self, mut aside: Aside, now: Moment, effects: &mut impl Effects) {
        if self.mending.asides >= ASIDES_MAX && !matches!(aside.purpose, Purpose::Note) {
            self.stats.add(Stat::read_repairs_failed, aside.replicas() as u64);
            return;
        }
        aside.missing = aside.targets.len();
        let is_far = aside.targets.iter().any(|(peer, _)| *peer != PeerId::SELF && !self.topology.is_near(*peer));
        let (class, patience) = self.patience_with(Kind::Write, is_far, true);
        let count = aside.targets.len();
        let entry = Entry {
            teller: Teller::Nobody,
            finish: Finish::AsIs,
            kind: Kind::Write,
            started: now,
            work: Work::Aside(Box::new(aside)),
        };
        let ticket = self.in_flight.open(entry, class, now + patience);
        self.mending.asides += 1;
        for number in 0..count {
            self.send_aside(ticket, number as u8, now, effects);
        }
    }

    fn send_aside(&mut self, ticket: Ticket, number: u8, now: Moment, effects: &mut impl Effects) {
        let Some(Entry { work: Work::Aside(aside), .. }) = self.in_flight.get_mut(ticket) else { return };
        let Some((peer, ask)) = aside.targets.get(usize::from(number)).copied() else { return };
        let kin = if peer == PeerId::SELF { Kin::Ours } else { effects.kin(peer, aside.lane) };
        let is_write = !matches!(aside.purpose, Purpose::Fetch { .. });
        let lane = aside.lane;
        let frame = aside.spelled.frame(number, peer, kin, ask, &self.mending.known);
        let outgoing = Outgoing { leg: ticket.leg(number), frame, expect: Expect::Resp, is_write };
        let sent = match peer {
            PeerId::SELF => self.own.ask(lane, outgoing, effects),
            peer => effects.to_peer(peer, ask, lane, outgoing),
        };
        if sent.is_err() {
            self.on_aside(ticket, number, None, now, effects);
        }
    }

    /// A reply to what was asked on our own account, or none.
    pub(super) fn on_aside(
        &mut self,
        ticket: Ticket,
        number: u8,
        reply: Option<Reply<'_>>,
        now: Moment,
        effects: &mut impl Effects,
    ) {
        let Some(Entry { work: Work::Aside(aside), .. }) = self.in_flight.get_mut(ticket) else { return };
        if let (Some(reply), Some((peer, Ask::Execute))) = (reply, aside.targets.get(usize::from(number)).copied())
            && aside.spelled.is_stranger(number, peer, reply, &mut self.mending.known)
        {
            return self.send_aside(ticket, number, now, effects);
        }
        aside.missing = aside.missing.saturating_sub(1);
        let good = reply.filter(|reply| !reply.is_error);
        match &mut aside.purpose {
            Purpose::Note => {}
            Purpose::Mend => match good {
                // It has something newer than what we had for it.
                Some(reply) if wire::too_late(reply.frame).is_some() => {}
                Some(_) => self.stats.bump(Stat::read_repairs),
                None => self.stats.bump(Stat::read_repairs_failed),
            },
            Purpose::Fetch { .. } => {
                let lane = aside.lane;
                let held = good.and_then(|reply| Held::of(reply.frame));
                // Gone meanwhile: then there is nothing to bring anybody up to.
                let call = held.and_then(|held| aside.spelled.call.mend(&held));
                let Some(Purpose::Fetch { behind, look }) = self.end_aside(ticket) else { return };
                let settled = u64::try_from(self.settled_after().as_millis()).unwrap_or(u64::MAX);
                let clock = effects.epoch_micros() / 1000;
                let is_early =
                    |held: Held<'_>| held.changed >= held.time && held.changed.saturating_add(settled) > clock;
                match call {
                    Some(_) if held.is_some_and(is_early) => {
                        self.mending.look_later(now + self.settled_after(), look);
                    }
                    Some(call) => self.ask_aside(Aside::mend(call, behind, lane), now, effects),
                    None if good.is_some() => {}
                    None => self.stats.add(Stat::read_repairs_failed, behind.len() as u64),
                }
                return;
            }
        }
        if aside.missing == 0 {
            self.end_aside(ticket);
        }
    }

    /// Nobody else will answer.
    pub(super) fn on_aside_deadline(&mut self, ticket: Ticket) {
        let Some(Entry { work: Work::Aside(aside), .. }) = self.in_flight.get_mut(ticket) else { return };
        let failed = match &aside.purpose {
            Purpose::Note => 0,
            Purpose::Mend => aside.missing,
            Purpose::Fetch { behind, .. } => behind.len(),
        };
        self.stats.add(Stat::read_repairs_failed, failed as u64);
        self.end_aside(ticket);
    }

    fn end_aside(&mut self, ticket: Ticket) -> Option<Purpose> {
        let Some(Entry { work: Work::Aside(aside), .. }) = self.in_flight.close(ticket) else { return None };
        self.mending.asides -= 1;
        self.spare.keep(aside.spelled.call.into_buffer());
        Some(aside.purpose)
    }
}

enum Mend {
    Now(Aside),
    Later(Box<Fan>),
}

/// What brings those up to date that are behind, if anybody is who was not seen to before.
fn mending(fan: &mut Fan) -> Option<Mend> {
    let Behind { source, behind, is_tie } = behind(&fan.gather, fan.repair.as_mut()?)?;
    let repair = fan.repair.as_ref()?;
    let again = Repair {
        rewrite: repair.rewrite,
        spelled: Spelled::new(repair.spelled.call.clone()),
        tokens: repair.tokens.clone(),
        first: repair.first,
        tries: 1,
        is_look: true,
        mended: SmallVec::new(),
    };
    let look = Box::new(fan.again(again, Vec::new()));
    if is_tie && !repair.is_look {
        return Some(Mend::Later(look));
    }
    let spelled = Spelled::new(repair.spelled.call.with_more());
    let targets = SmallVec::from_slice(&[(source, Ask::Execute)]);
    Some(Mend::Now(Aside { spelled, purpose: Purpose::Fetch { behind, look }, targets, lane: fan.lane, missing: 0 }))
}

struct Behind {
    /// Who has what the others are to get.
    source: PeerId,
    behind: SmallVec<[PeerId; 4]>,
    /// Some of them have the same time.
    is_tie: bool,
}

fn behind(gather: &Gather, repair: &mut Repair) -> Option<Behind> {
    if !repair.rewrite.is_read() || gather.is_unanimous() {
        return None;
    }
    let good = gather.answers().filter(|(_, reply)| !reply.is_error);
    let (numbers, frames): (SmallVec<[u8; 8]>, SmallVec<[&[u8]; 8]>) =
        good.map(|(number, reply)| (number, reply.frame)).unzip();
    let targets = &gather.plan().targets;
    let voters = || targets.iter().filter(|target| target.part == Part::Vote);
    let quorum = voters().count() / 2 + 1;
    let place_of = |at: usize| targets[usize::from(numbers[at])].datacenter;
    let held = |at: usize| Held::of(frames[at]).filter(|held| held.status != Status::Unknown);
    // In one datacenter: what is removed in another one is forgotten there.
    let is_held_by_most = |at: usize, datacenter: u8| {
        let alike = (0..frames.len()).filter(|other| place_of(*other) == datacenter && frames[*other] == frames[at]);
        alike.count() > voters().filter(|target| target.datacenter == datacenter).count() / 2
    };
    let source = newest(&frames, quorum, !gather.is_waiting())
        .or_else(|| (0..frames.len()).find(|at| is_held_by_most(*at, place_of(*at)) && held(*at).is_some()))?;
    let newest = held(source)?;
    let peer_of = |number: u8| targets[usize::from(number)].peer;
    let (mut behind, mut is_tie) = (SmallVec::new(), false);
    for (at, number) in numbers.iter().enumerate() {
        let is_behind = match held(at) {
            Some(_) => frames[at] != frames[source],
            // Who knows nothing may have missed it all; or everybody else forgot a removal that the source missed. What
            // most replicas hold was not removed. Of a removal nobody need be told who has nothing.
            None => {
                is_held_by_most(source, place_of(at))
                    && Held::of(frames[at]).is_some_and(|other| other.value != newest.value)
            }
        };
        if is_behind && !repair.mended.contains(&(*number, newest.time)) {
            repair.mended.push((*number, newest.time));
            is_tie |= held(at).is_some_and(|other| other.time == newest.time);
            behind.push(peer_of(*number));
        }
    }
    (!behind.is_empty()).then(|| Behind { source: peer_of(numbers[source]), behind, is_tie })
}

impl Aside {
    fn mend(call: Call, behind: SmallVec<[PeerId; 4]>, lane: u32) -> Aside {
        let targets = behind.into_iter().map(|peer| (peer, Ask::Execute)).collect();
        Aside { spelled: Spelled::new(call), purpose: Purpose::Mend, targets, lane, missing: 0 }
    }

    /// How many are to be repaired.
    fn replicas(&self) -> usize {
        match &self.purpose {
            Purpose::Fetch { behind, .. } => behind.len(),
            _ => self.targets.len(),
        }
    }
}

#[cfg(test)]
mod tests;
