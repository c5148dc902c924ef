//! Gather: counts what the targets of one plan answer until its level is met or cannot be.
//! Owns: the votes of one ticket and the answers that may be needed again. Knows nothing of: sockets, time, repair.
//! Next on the walk: the client's reply; `repair` when votes differ.
//!
//! - Answers are compared byte for byte, within a datacenter; those that are sets, element for element. Each different one
//!   is kept once.
//! - An error of a datastore is an answer like any other: replicas that say the same have agreed. An error that a node
//!   made up because it had no answer (`Fault`) is a missing vote.
//! - A write that a replica skipped for a later one of the same asker (`on_overtaken`) is as good as done there. What it
//!   would have said is what others say.
//! - A quorum is more than half of a datacenter's racks, so one of one, and three of four.
//! - A read asks no more replicas than a quorum needs: the others (`Part::Spare`) when one of those fails, says something
//!   else, or is slow (`widen`).
//! - `Quorum` waits for a majority while one may still come, then takes the first answer that is not an error.
//!   `SafeQuorum` takes a majority or fails. Replies that are joined from elements (MGET) may find one for each element.

use smallvec::SmallVec;

use super::consistency::ConsistencyLevel;
use super::per_element;
use super::route::{Need, Part, Plan};
use crate::protocol::Protocol;
use crate::protocol::reply::{Fault, Reply};
use crate::ring::{PeerId, Topology};

/// What an event means for the client that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Pending,
    /// Send the request to this target too: the one before it failed. If that cannot be done, say `on_fault` for it.
    Ask(u8),
    /// The client's answer is there. `agreed` is false if `Quorum` had to choose among different ones.
    Won {
        answer: Answer,
        agreed: bool,
    },
    /// The level cannot be met; `explain` says why.
    Lost,
    /// The outcome was there before. Does this answer differ from what its datacenter agreed on?
    Late {
        differs: bool,
    },
}

/// Where the winning bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The reply that was just handed in.
    This,
    /// `Gather::winner`.
    Kept,
}

#[derive(Debug)]
pub struct Gather {
    plan: Plan,
    votes: SmallVec<[Vote; 8]>,
    /// Every different answer, in the order in which they came.
    kept: SmallVec<[Kept; 2]>,
    bytes: Vec<u8>,
    judge: Judge,
    decision: Decision,
}

/// How it is decided among answers that differ.
#[derive(Clone, Copy, Debug)]
pub enum Judge {
    /// Each answer as a whole: a majority decides.
    Whole,
    /// The same; or, where answers are arrays with an element for each key, element by element.
    PerElement,
    /// The same; but answers are sets, which replicas give in an order of their own.
    Unordered,
    /// As a whole; but where a majority cannot agree any more, numbers agree whatever they are: each says that it was done.
    Counts,
    /// Answers tell by themselves which of them is to be taken, as soon as a majority has answered, or with the `last` one.
    /// Where they do not, a majority decides.
    Theirs(fn(answers: &[&[u8]], quorum: usize, last: bool) -> Option<usize>),
}

/// How a target stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vote {
    /// A spare nobody needed yet.
    Unasked,
    Waiting,
    /// Place in `Gather::kept`.
    Answered(u8),
    /// It goes with the others; alone with its like it stands for what it said, in that place of `Gather::kept`.
    Overtaken(u8),
    /// Its answer does not count and was dropped.
    Dropped,
    Failed(Fault),
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    datacenter: u8,
    is_error: bool,
    /// In `Gather::bytes`.
    start: usize,
    end: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Open,
    /// Place in `Gather::kept`; `None` if the winning reply was passed on without being kept.
    Won(Option<u8>),
    Lost,
}

/// How one datacenter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Pending,
    Won {
        kept: u8,
        agreed: bool,
    },
    /// No majority of whole answers; one may be found among their elements.
    Split,
    Lost,
}

/// One datacenter's votes, counted.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    racks: usize,
    /// Answered, without an error.
    good: usize,
    /// They may yet answer; so many of them were not asked yet.
    pending: usize,
    unasked: usize,
    /// Votes for the answer that most gave, and its place in `Gather::kept`.
    most: usize,
    most_kept: u8,
    /// The same among errors only.
    most_errors: usize,
    /// Answered with a number, and the number that most gave.
    numbers: usize,
    most_numbers_kept: Option<u8>,
}

impl Count {
    fn quorum(&self) -> usize {
        self.racks / 2 + 1
    }
}

impl Gather {
    /// For a request that is about to be sent to the plan's targets. `bytes` is a buffer to use again; see
    /// `into_buffer`.
    pub fn new(plan: Plan, judge: Judge, mut bytes: Vec<u8>) -> Gather {
        bytes.clear();
        let vote = |part| if part == Part::Spare { Vote::Unasked } else { Vote::Waiting };
        let votes = plan.targets.iter().map(|target| vote(target.part)).collect();
        Gather { plan, votes, kept: SmallVec::new(), bytes, judge, decision: Decision::Open }
    }

    /// The same plan, with nobody asked yet.
    pub fn anew(&self, bytes: Vec<u8>) -> Gather {
        Gather::new(self.plan.clone(), self.judge, bytes)
    }

    pub fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// A target answered. Answers of targets that do not count, and of unknown ones, change nothing.
    pub fn on_reply(&mut self, index: u8, reply: Reply<'_>) -> Outcome {
        self.take(index, reply, Vote::Answered)
    }

    /// A target skipped a write, for a later one that came to it first.
    pub fn on_overtaken(&mut self, index: u8, reply: Reply<'_>) -> Outcome {
        self.take(index, reply, Vote::Overtaken)
    }

    fn take(&mut self, index: u8, reply: Reply<'_>, vote: fn(u8) -> Vote) -> Outcome {
        let at = usize::from(index);
        if !matches!(self.votes.get(at), Some(Vote::Waiting | Vote::Failed(_))) {
            return self.late(false);
        }
        if self.plan.part_of(at) == Part::Copy {
            self.votes[at] = Vote::Dropped;
            return self.late(false);
        }
        if let Some(fault) = Fault::of_reply(&reply) {
            return self.on_fault(index, fault);
        }
        let is_open = self.decision == Decision::Open;
        if self.plan.need == Need::One {
            if is_open && self.is_first(at) {
                self.votes[at] = Vote::Dropped;
                self.decision = Decision::Won(None);
                return Outcome::Won { answer: Answer::This, agreed: true };
            }
            if !is_open {
                self.votes[at] = Vote::Dropped;
                return Outcome::Late { differs: false };
            }
        }
        let datacenter = self.plan.targets[at].datacenter;
        let kept = self.keep(datacenter, reply);
        self.votes[at] = vote(kept);
        if is_open {
            return self.decide(Some(kept));
        }
        let differs = self.votes[at] == Vote::Answered(kept)
            && matches!(self.verdict(datacenter), Verdict::Won { kept: majority, .. } if majority != kept);
        Outcome::Late { differs }
    }

    /// A target will not answer, or could not be asked.
    pub fn on_fault(&mut self, index: u8, fault: Fault) -> Outcome {
        let at = usize::from(index);
        if self.votes.get(at) != Some(&Vote::Waiting) {
            return self.late(false);
        }
        self.votes[at] = Vote::Failed(fault);
        let is_open = self.decision == Decision::Open;
        // A copy is a write: another rack may have it only if this one surely has not.
        let may_ask = match self.plan.part_of(at) {
            Part::Copy => fault.is_unsent(),
            _ => is_open,
        };
        if let Some(spare) = self.plan.spare_of(at).filter(|spare| may_ask && self.votes[*spare] == Vote::Unasked) {
            self.votes[spare] = Vote::Waiting;
            return Outcome::Ask(spare as u8);
        }
        if is_open && self.plan.part_of(at) == Part::Vote { self.decide(None) } else { self.late(false) }
    }

    /// The same for one of several that fail together: the last one decides.
    pub fn note_fault(&mut self, index: u8, fault: Fault) {
        if let Some(vote @ Vote::Waiting) = self.votes.get_mut(usize::from(index)) {
            *vote = Vote::Failed(fault);
        }
    }

    /// Those who were asked are slow: who else is there to be asked? Who is to answer alone counts as failed then, until it
    /// answers after all.
    pub fn widen(&mut self) -> Outcome {
        if self.decision != Decision::Open {
            return Outcome::Pending;
        }
        if self.plan.need == Need::One {
            let slow = self.votes.iter().position(|vote| *vote == Vote::Waiting);
            let slow =
                slow.filter(|at| self.plan.spare_of(*at).is_some_and(|spare| self.votes[spare] == Vote::Unasked));
            return slow.map_or(Outcome::Pending, |at| self.on_fault(at as u8, self.silence_of(at)));
        }
        match self.votes.iter().position(|vote| *vote == Vote::Unasked) {
            Some(spare) => {
                self.votes[spare] = Vote::Waiting;
                Outcome::Ask(spare as u8)
            }
            None => Outcome::Pending,
        }
    }

    /// May somebody be asked for an answer that counts who was not yet?
    pub fn holds_back(&self) -> bool {
        let unasked = self.votes.iter().enumerate().filter(|(_, vote)| **vote == Vote::Unasked);
        unasked.into_iter().any(|(at, _)| self.plan.part_of(at) == Part::Vote)
    }

    /// What it means that a target has not answered.
    fn silence_of(&self, at: usize) -> Fault {
        let is_own = self.plan.targets[at].peer == PeerId::SELF;
        if is_own { Fault::DatastoreRefused } else { Fault::PeerRefused }
    }

    /// Those who were asked cannot make a quorum any more: who else is there to be asked?
    pub fn ask_on(&mut self) -> Outcome {
        let is_at_odds = self.kept.len() > 1 || self.votes.iter().any(|vote| matches!(vote, Vote::Failed(_)));
        if is_at_odds && self.plan.need != Need::One && self.holds_back() {
            let count = self.count(0);
            if count.most + count.pending - count.unasked < count.quorum() {
                return self.widen();
            }
        }
        Outcome::Pending
    }

    /// The deadline has passed: nobody who has not answered will be waited for. Never `Pending` or `Ask`.
    pub fn on_deadline(&mut self) -> Outcome {
        let is_quorum = self.plan.need != Need::One;
        for at in 0..self.votes.len() {
            if matches!(self.votes[at], Vote::Waiting) || is_quorum && matches!(self.votes[at], Vote::Unasked) {
                self.votes[at] = Vote::Failed(self.silence_of(at));
            }
        }
        if self.decision == Decision::Open { self.decide(None) } else { self.late(false) }
    }

    /// Who is asked and has neither answered nor failed.
    pub fn waiting(&self) -> impl Iterator<Item = u8> + '_ {
        let waiting = self.votes.iter().enumerate().filter(|(_, vote)| **vote == Vote::Waiting);
        waiting.filter_map(|(at, _)| u8::try_from(at).ok())
    }

    /// Is anybody asked who has neither answered nor failed?
    pub fn is_waiting(&self) -> bool {
        self.votes.contains(&Vote::Waiting)
    }

    /// The winning answer, after `Answer::Kept`.
    pub fn winner(&self) -> Option<Reply<'_>> {
        match self.decision {
            Decision::Won(Some(kept)) => Some(self.reply(kept)),
            _ => None,
        }
    }

    /// Every answer that counts and was kept, with its target's index.
    pub fn answers(&self) -> impl Iterator<Item = (u8, Reply<'_>)> + '_ {
        self.votes.iter().enumerate().filter_map(|(at, vote)| match vote {
            Vote::Answered(kept) => Some((at as u8, self.reply(*kept))),
            _ => None,
        })
    }

    /// Have all who answered so far said the same, datacenter by datacenter?
    pub fn is_unanimous(&self) -> bool {
        let answered = |kept: usize| self.votes.contains(&Vote::Answered(kept as u8));
        (0..self.kept.len()).filter(|kept| answered(*kept)).all(|kept| {
            (0..kept)
                .filter(|other| answered(*other))
                .all(|other| self.kept[other].datacenter != self.kept[kept].datacenter)
        })
    }

    /// Writes the error for a client whose request is lost. It begins with the words that C nodes have for it; then
    /// comes what was needed, what was got, and who is missing.
    pub fn explain(&self, level: ConsistencyLevel, topology: &Topology, protocol: Protocol, out: &mut Vec<u8>) {
        let is_lost = |datacenter: &u8| matches!(self.verdict(*datacenter), Verdict::Lost | Verdict::Split);
        let lost = self.datacenters().find(is_lost).unwrap_or(0);
        super::explain::write(self, lost, level, topology, protocol, out);
    }

    /// For `explain`: the racks that are needed and that there are, and how many answered, well or with an error.
    pub(super) fn tally(&self, datacenter: u8) -> Tally<'_> {
        let count = self.count(datacenter);
        let of_here = |kept: &&Kept| kept.datacenter == datacenter;
        let good = |kept: &&Kept| of_here(kept) && !kept.is_error;
        Tally {
            racks: count.racks,
            needed: if self.plan.need == Need::One { 1 } else { count.quorum() },
            good: count.good,
            waiting: count.pending - count.unasked,
            different: self.kept.iter().filter(good).count(),
            first_error: self
                .kept
                .iter()
                .position(|kept| of_here(&kept) && kept.is_error)
                .map(|at| self.reply(at as u8)),
            asked: self.votes.len(),
        }
    }

    /// For `explain`: who failed, nearest first. Who may yet answer is not missing.
    pub(super) fn missing(&self, datacenter: u8) -> impl Iterator<Item = (PeerId, Fault)> + '_ {
        let one = self.plan.need == Need::One;
        self.votes.iter().enumerate().filter_map(move |(at, vote)| {
            let target = self.plan.targets[at];
            let counts = (one || target.datacenter == datacenter) && self.plan.part_of(at) == Part::Vote;
            match vote {
                Vote::Failed(fault) if counts => Some((target.peer, *fault)),
                _ => None,
            }
        })
    }

    fn late(&self, differs: bool) -> Outcome {
        if self.decision == Decision::Open { Outcome::Pending } else { Outcome::Late { differs } }
    }

    /// Has everybody whose answer is preferred to this one's failed?
    fn is_first(&self, at: usize) -> bool {
        let before = self.votes[..at].iter().enumerate();
        let mut before = before.filter(|(index, _)| self.plan.part_of(*index) == Part::Vote);
        before.all(|(_, vote)| matches!(vote, Vote::Failed(_)))
    }

    /// Finds the answer among those kept, or keeps it.
    fn keep(&mut self, datacenter: u8, reply: Reply<'_>) -> u8 {
        let is_set = matches!(self.judge, Judge::Unordered);
        let same = |kept: &Kept| {
            let bytes = &self.bytes[kept.start..kept.end];
            kept.datacenter == datacenter
                && (bytes == reply.frame || is_set && per_element::same_elements(bytes, reply.frame))
        };
        if let Some(at) = self.kept.iter().position(same) {
            return at as u8;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(reply.frame);
        self.kept.push(Kept { datacenter, is_error: reply.is_error, start, end: self.bytes.len() });
        (self.kept.len() - 1) as u8
    }

    fn reply(&self, kept: u8) -> Reply<'_> {
        let Kept { start, end, is_error, .. } = self.kept[usize::from(kept)];
        Reply { frame: &self.bytes[start..end], is_error }
    }

    /// Is there an outcome now? `this` is the answer that the caller has at hand.
    fn decide(&mut self, this: Option<u8>) -> Outcome {
        let (winner, agreed) = match self.plan.need {
            Need::One => match self.first() {
                Verdict::Won { kept, agreed } => (kept, agreed),
                verdict => return self.end_without(verdict),
            },
            Need::Quorum | Need::SafeQuorum => {
                let (mut winner, mut all_agreed) = (None, true);
                let mut is_pending = false;
                for datacenter in self.datacenters().collect::<SmallVec<[u8; 8]>>() {
                    match self.settle(datacenter) {
                        Verdict::Won { kept, agreed } => {
                            let is_said = |kept: &u8| !self.votes.contains(&Vote::Overtaken(*kept));
                            winner = winner.filter(is_said).or(Some(kept));
                            all_agreed &= agreed;
                        }
                        Verdict::Lost => return self.end_without(Verdict::Lost),
                        Verdict::Pending | Verdict::Split => is_pending = true,
                    }
                }
                match winner {
                    Some(kept) if !is_pending => (kept, all_agreed),
                    _ => return self.ask_on(),
                }
            }
        };
        self.decision = Decision::Won(Some(winner));
        Outcome::Won { answer: if this == Some(winner) { Answer::This } else { Answer::Kept }, agreed }
    }

    fn end_without(&mut self, verdict: Verdict) -> Outcome {
        if verdict != Verdict::Lost {
            return Outcome::Pending;
        }
        self.decision = Decision::Lost;
        Outcome::Lost
    }

    /// `Need::One`: the first target that has not failed decides.
    fn first(&self) -> Verdict {
        let votes = self.votes.iter().enumerate().filter(|(at, _)| self.plan.part_of(*at) == Part::Vote);
        for (_, vote) in votes {
            match *vote {
                Vote::Answered(kept) | Vote::Overtaken(kept) => return Verdict::Won { kept, agreed: true },
                Vote::Waiting => return Verdict::Pending,
                Vote::Failed(_) | Vote::Unasked | Vote::Dropped => {}
            }
        }
        Verdict::Lost
    }

    /// A datacenter's verdict, joined from elements if that is what it takes.
    fn settle(&mut self, datacenter: u8) -> Verdict {
        let verdict = self.verdict(datacenter);
        if verdict != Verdict::Split {
            return verdict;
        }
        let quorum = self.count(datacenter).quorum();
        let safe = self.plan.need == Need::SafeQuorum;
        let joined = {
            let here = |at: u8| self.plan.targets[usize::from(at)].datacenter == datacenter;
            let good = self.answers().filter(|(at, reply)| here(*at) && !reply.is_error);
            let answers: SmallVec<[&[u8]; 8]> = good.map(|(_, reply)| reply.frame).collect();
            per_element::majority(&answers, quorum, safe)
        };
        let Some(joined) = joined else {
            return if safe { Verdict::Lost } else { self.first_good(datacenter) };
        };
        let kept = self.keep(datacenter, Reply { frame: &joined, is_error: false });
        Verdict::Won { kept, agreed: false }
    }

    fn verdict(&self, datacenter: u8) -> Verdict {
        let count = self.count(datacenter);
        let quorum = count.quorum();
        if let Judge::Theirs(newest) = self.judge
            && count.good >= quorum
            && let Some(kept) = self.judged(newest, datacenter, &count)
        {
            return Verdict::Won { kept, agreed: true };
        }
        if count.most >= quorum {
            return Verdict::Won { kept: count.most_kept, agreed: true };
        }
        let per_element = matches!(self.judge, Judge::PerElement);
        let can_agree = count.most + count.pending >= quorum;
        let can_answer = count.good + count.pending >= quorum;
        if let (Judge::Counts, Some(kept)) = (self.judge, count.most_numbers_kept)
            && count.numbers + count.pending >= quorum
            && !can_agree
        {
            let is_there = count.numbers >= quorum;
            return if is_there { Verdict::Won { kept, agreed: true } } else { Verdict::Pending };
        }
        match self.plan.need {
            // The replicas' own error is better than ours, while they may yet agree on one.
            _ if !can_answer && count.most_errors + count.pending < quorum => Verdict::Lost,
            _ if count.pending > 0 && (can_agree || per_element) => Verdict::Pending,
            Need::SafeQuorum if !can_answer || !per_element => Verdict::Lost,
            Need::SafeQuorum => Verdict::Split,
            _ if count.pending > 0 => Verdict::Pending,
            _ if per_element => Verdict::Split,
            _ => self.first_good(datacenter),
        }
    }

    /// What the good answers of a datacenter say about each other.
    fn judged(&self, newest: fn(&[&[u8]], usize, bool) -> Option<usize>, datacenter: u8, count: &Count) -> Option<u8> {
        let mut kept: SmallVec<[u8; 8]> = SmallVec::new();
        for (vote, target) in self.votes.iter().zip(&self.plan.targets) {
            match *vote {
                Vote::Answered(at) if target.datacenter == datacenter && !self.kept[usize::from(at)].is_error => {
                    kept.push(at);
                }
                _ => {}
            }
        }
        let frames: SmallVec<[&[u8]; 8]> = kept.iter().map(|at| self.reply(*at).frame).collect();
        // Safe is what a majority holds.
        let last = count.pending == 0 && self.plan.need == Need::Quorum;
        newest(&frames, count.quorum(), last).map(|at| kept[at])
    }

    fn first_good(&self, datacenter: u8) -> Verdict {
        let good = |(at, kept): &(u8, &Kept)| {
            kept.datacenter == datacenter && !kept.is_error && self.votes.contains(&Vote::Answered(*at))
        };
        match (0..).zip(&self.kept).find(good) {
            Some((kept, _)) => Verdict::Won { kept, agreed: false },
            None => Verdict::Lost,
        }
    }

    fn count(&self, datacenter: u8) -> Count {
        let mut count = Count::default();
        let mut votes: SmallVec<[usize; 8]> = smallvec::smallvec![0; self.kept.len()];
        let (mut overtaken, mut overtaken_kept) = (0, 0);
        for (at, target) in self.plan.targets.iter().enumerate() {
            let counts = if self.plan.need == Need::One { true } else { target.datacenter == datacenter };
            if !counts || self.plan.part_of(at) == Part::Copy {
                continue;
            }
            count.racks += 1;
            match self.votes[at] {
                Vote::Waiting => count.pending += 1,
                Vote::Unasked if self.plan.need != Need::One => {
                    count.pending += 1;
                    count.unasked += 1;
                }
                Vote::Answered(kept) => votes[usize::from(kept)] += 1,
                Vote::Overtaken(kept) => (overtaken, overtaken_kept) = (overtaken + 1, kept),
                Vote::Unasked | Vote::Dropped | Vote::Failed(_) => {}
            }
        }
        let is_number = |kept: &Kept| self.bytes[kept.start..kept.end].starts_with(b":");
        for (kept, &given) in votes.iter().enumerate().filter(|(kept, _)| is_number(&self.kept[*kept])) {
            count.numbers += given;
            if count.most_numbers_kept.is_none_or(|most| votes[usize::from(most)] < given) {
                count.most_numbers_kept = Some(kept as u8);
            }
        }
        for (kept, &given) in votes.iter().enumerate() {
            let is_error = self.kept[kept].is_error;
            if given > count.most {
                (count.most, count.most_kept) = (given, kept as u8);
            }
            if is_error {
                count.most_errors = count.most_errors.max(given);
            } else {
                count.good += given;
            }
        }
        match count {
            _ if overtaken == 0 => {}
            // Somebody may yet say what they go with.
            Count { most: 0, pending: 1.., .. } => count.pending += overtaken,
            Count { most: 0, .. } => {
                (count.good, count.most, count.most_kept) = (overtaken, overtaken, overtaken_kept);
            }
            Count { numbers, .. } => {
                count.good += overtaken;
                count.most += overtaken;
                count.numbers += if numbers > 0 { overtaken } else { 0 };
            }
        }
        count
    }

    /// Those that vote, ours first.
    fn datacenters(&self) -> impl Iterator<Item = u8> + '_ {
        let voters = self.plan.targets.iter().filter(|target| target.part == Part::Vote);
        let mut last = None;
        voters.map(|target| target.datacenter).filter(move |datacenter| last.replace(*datacenter) != Some(*datacenter))
    }
}

/// What `explain` says of one datacenter.
pub(super) struct Tally<'a> {
    pub racks: usize,
    pub needed: usize,
    pub good: usize,
    /// They were asked, and may yet answer.
    pub waiting: usize,
    pub different: usize,
    pub first_error: Option<Reply<'a>>,
    pub asked: usize,
}

#[cfg(test)]
mod tests;
