//! A write to every node (FLUSHALL): its level is reached when it is reached for every set of owners, as if each key were
//! written by itself.
//! Owns: the votes of those sets. A node votes in each set that it belongs to.

use smallvec::SmallVec;

use super::gather::{Gather, Judge, Outcome};
use super::parts::{Join, join_mut};
use super::route::Need;
use super::*;

pub(super) struct Everywhere {
    sets: Vec<Gather>,
    /// Who is asked.
    parts: SmallVec<[route::Target; 8]>,
    /// For every part the sets in which it votes, and its place there.
    votes: Vec<SmallVec<[(u32, u8); 2]>>,
    /// Sets whose level is not reached yet.
    open: usize,
    /// The first whose level cannot be reached.
    lost: Option<usize>,
    /// Not every part was asked yet: who cannot be asked is known only then.
    is_asking: bool,
    /// An error, if one was agreed on somewhere; otherwise what was agreed on first.
    answer: Vec<u8>,
    is_error: bool,
    level: ConsistencyLevel,
}

impl Everywhere {
    /// `parts` are the nodes that are asked; each of the `plans` is a set of some of them.
    fn new(parts: SmallVec<[route::Target; 8]>, plans: Vec<route::Plan>, level: ConsistencyLevel) -> Everywhere {
        let mut votes = vec![SmallVec::new(); parts.len()];
        for (set, plan) in plans.iter().enumerate() {
            for (at, target) in plan.targets.iter().enumerate() {
                if let Some(part) = parts.iter().position(|part| part.peer == target.peer) {
                    votes[part].push((set as u32, at as u8));
                }
            }
        }
        let sets: Vec<Gather> = plans.into_iter().map(|plan| Gather::new(plan, Judge::Whole, Vec::new())).collect();
        let open = sets.len();
        Everywhere { sets, parts, votes, open, lost: None, is_asking: true, answer: Vec::new(), is_error: false, level }
    }

    fn on_reply(&mut self, part: u32, reply: Reply<'_>) {
        let votes = self.votes.get(part as usize).map_or(&[][..], |votes| votes);
        for &(set, at) in votes {
            let gather = &mut self.sets[set as usize];
            match gather.on_reply(at, reply) {
                Outcome::Won { .. } => {
                    let winner = gather.winner().unwrap_or(reply);
                    if self.answer.is_empty() || winner.is_error && !self.is_error {
                        self.answer.clear();
                        self.answer.extend_from_slice(winner.frame);
                        self.is_error = winner.is_error;
                    }
                    self.open -= 1;
                }
                Outcome::Lost => self.lost = self.lost.or(Some(set as usize)),
                Outcome::Pending | Outcome::Late { .. } | Outcome::Ask(_) => {}
            }
        }
    }

    fn is_decided(&self) -> bool {
        !self.is_asking && (self.open == 0 || self.lost.is_some())
    }

    /// This node misses the write.
    fn book_missed(&self, part: u32, stats: &Stats, effects: &mut impl Effects) {
        let Some(target) = self.parts.get(part as usize) else { return };
        stats.bump(Stat::writes_missed);
        effects.count(target.peer, PeerStat::missed_writes);
        // In another datacenter that does not vote nobody else hears of it.
        stats.add(Stat::remote_peer_dropped_requests, self.votes[part as usize].is_empty().into());
    }
}

impl Coordinator {
    pub(super) fn on_every_node(
        &mut self,
        client: ClientId,
        request: &Request<'_>,
        now: Moment,
        effects: &mut impl Effects,
    ) {
        let Some(state) = client_mut(&mut self.clients, client) else { return };
        let level = state.level_of(request.command.kind);
        let health = |peer| effects.is_up(peer) && (peer != PeerId::SELF || self.own.serves(request.command.kind));
        let plans = route::owner_sets(&self.topology, level, self.settings.route, &health);
        let mut all = route::every_node(&self.topology);
        if let Err(why) = self.suit(request, &mut all, client.0, effects) {
            self.refuse(client, request, &why, effects);
            return;
        }
        let join = Join::Everywhere(Box::new(Everywhere::new(all.targets.clone(), plans, level)));
        let parent = self.open_parts(client, request, join, 0, now);
        for (number, target) in all.targets.iter().enumerate() {
            let task = self.part_task(parent, number, client, level);
            self.dispatch(request, route::Plan::of(*target), None, task, now, effects);
        }
        let Some(parent) = parent else { return };
        if let Some(everywhere) = everywhere_mut(&mut self.in_flight, parent) {
            everywhere.is_asking = false;
        }
        self.end_everywhere(parent, now, effects);
    }

    /// A node has answered, or will not.
    pub(super) fn on_everywhere(
        &mut self,
        parent: Ticket,
        part: u32,
        reply: Reply<'_>,
        now: Moment,
        effects: &mut impl Effects,
    ) {
        let Some(everywhere) = everywhere_mut(&mut self.in_flight, parent) else { return };
        everywhere.on_reply(part, reply);
        if Fault::of_reply(&reply).is_some() {
            everywhere.book_missed(part, &self.stats, effects);
        }
        self.end_everywhere(parent, now, effects);
    }

    /// Tells the outcome, if it is there.
    fn end_everywhere(&mut self, parent: Ticket, now: Moment, effects: &mut impl Effects) {
        if !everywhere_mut(&mut self.in_flight, parent).is_some_and(|everywhere| everywhere.is_decided()) {
            return;
        }
        let Some(Entry { work: Work::Parts(parts), teller, finish, started, .. }) = self.in_flight.close(parent) else {
            return;
        };
        let Join::Everywhere(mut everywhere) = parts.join else { return };
        if let Some(set) = everywhere.lost {
            everywhere.answer.clear();
            everywhere.is_error = true;
            let (level, protocol) = (everywhere.level, self.settings.protocol);
            everywhere.sets[set].explain(level, &self.topology, protocol, &mut everywhere.answer);
            self.stats.bump(Stat::quorum_lost);
            self.stats.bump(Stat::forward_error);
        } else {
            let is_quorum = everywhere.sets.iter().any(|set| set.plan().need != Need::One);
            self.stats.add(Stat::quorum_agreed, u64::from(is_quorum));
        }
        let reply = Reply { frame: &everywhere.answer, is_error: everywhere.is_error };
        self.tell(teller, finish, started, reply, now, effects);
    }
}

fn everywhere_mut(in_flight: &mut InFlight<Entry>, parent: Ticket) -> Option<&mut Everywhere> {
    match join_mut(in_flight, parent)? {
        Join::Everywhere(everywhere) => Some(everywhere),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::testing::{Recorder, ask_in, coordinator};

    /// What a client of `flushall` is told when nodes answer one after the other: `0` well, `1!` not at all. Nodes in `down`
    /// cannot be asked.
    #[track_caller]
    fn check(topology: &str, level: &str, down: &[u32], answers: &str, told: &str) {
        let mut coordinator = coordinator(topology, RouteSettings::default());
        coordinator.control.set_write_consistency(level.parse().unwrap());
        coordinator.connect(ClientId(0), Asker::Client, Moment(0));
        let recorder = Recorder { down: down.to_vec(), ..Recorder::default() };
        let mut recorder = ask_in(&mut coordinator, recorder, "flushall", |coordinator, request, recorder| {
            coordinator.on_request(ClientId(0), request, Moment(0), recorder);
        });
        let is_told = |line: &String| line.starts_with('=');
        let asked: Vec<String> = recorder.said.iter().filter(|line| !is_told(line)).cloned().collect();
        let place = |number: &str| {
            let by_name =
                |line: &String| line.split(':').next().filter(|name| *name != "flushall").unwrap_or("0") == number;
            asked.iter().position(by_name).unwrap_or_else(|| panic!("{number} was not asked: {asked:?}"))
        };
        for answer in answers.split_whitespace() {
            let leg = recorder.legs[place(answer.trim_end_matches('!'))];
            match answer.ends_with('!') {
                true => coordinator.on_lost(leg, Fault::PeerRefused, Moment(0), &mut recorder),
                false => {
                    let reply = Reply { frame: b"+OK\r\n", is_error: false };
                    coordinator.on_reply(leg, reply, Moment(0), &mut recorder);
                }
            }
        }
        let said: Vec<&str> = recorder.said.iter().filter(|line| is_told(line)).map(|line| &line[1..]).collect();
        assert_eq!(said.join(" "), told, "{level} {answers}");
        coordinator.on_wake(Moment(0) + Duration::from_secs(60), &mut recorder);
        assert_eq!(coordinator.in_flight(), 0);
        assert_eq!(recorder.said.iter().filter(|line| is_told(line)).count(), 1);
    }

    const THREE_RACKS: &str = "a/r1:9 a/r1:99 a/r2:9 a/r2:99 a/r3:9 a/r3:99";
    const GONE: &str = "-ERR Peer: Peer Node refused connection";
    const AWAY: &str = "-ERR Peer: Peer Node is not connected";

    #[test]
    fn the_level_must_be_reached_for_every_set_of_owners() {
        check(THREE_RACKS, "dc_one", &[], "0", "");
        check(THREE_RACKS, "dc_one", &[], "2 3 0 1", "+OK");
        check(THREE_RACKS, "dc_one", &[], "0 3 1! 5", "+OK");
        check(THREE_RACKS, "dc_quorum", &[], "0 1 2", "");
        check(THREE_RACKS, "dc_quorum", &[], "0 1 2 3", "+OK");
        check(THREE_RACKS, "dc_quorum", &[], "0 1! 2 3 5", "+OK");
        check(
            THREE_RACKS,
            "dc_safe_quorum",
            &[],
            "0 1! 2 3! 5",
            &lost(GONE, "dc_safe_quorum", 0, "r1 127.0.0.2:8101, r2 127.0.0.4:8101"),
        );
        check(
            THREE_RACKS,
            "dc_quorum",
            &[],
            "0 1 2 3! 5!",
            &lost(GONE, "dc_quorum", 1, "r2 127.0.0.4:8101, r3 127.0.0.6:8101"),
        );
    }

    fn lost(words: &str, level: &str, answered: usize, missing: &str) -> String {
        let level = level.to_ascii_uppercase();
        // Who is left of three.
        let waiting = if answered == 0 { ", 1 not yet" } else { "" };
        format!("{words} ({level} needs 2 of 3 racks of a, {answered} answered{waiting}; missing: {missing})")
    }

    #[test]
    fn who_cannot_be_asked_is_missing() {
        check(THREE_RACKS, "dc_one", &[1, 3], "0 5", "+OK");
        check(
            THREE_RACKS,
            "dc_quorum",
            &[1, 3],
            "",
            &lost(AWAY, "dc_quorum", 0, "r1 127.0.0.2:8101, r2 127.0.0.4:8101"),
        );
        let none = "(DC_ONE needs 1 of 3 racks of a, 0 answered; missing: r1 127.0.0.2:8101, r2 127.0.0.4:8101, r3 127.0.0.6:8101)";
        check(THREE_RACKS, "dc_one", &[1, 3, 5], "", &format!("{AWAY} {none}"));
    }

    #[test]
    fn a_single_replica_has_a_name_too() {
        let missing = "(DC_ONE needs 1 of 1 racks of a, 0 answered; missing: r1 127.0.0.2:8101)";
        check("a/r1:9 a/r1:99", "dc_one", &[], "0 1!", &format!("{GONE} {missing}"));
    }

    #[test]
    fn racks_may_cut_the_ring_at_different_places() {
        let topology = "a/r1:9 a/r1:99 a/r2:50 a/r2:0 a/r3:7";
        // Between 9 and 50 lie the keys of 1, 2 and 4.
        check(topology, "dc_quorum", &[], "0 3 2 1", "+OK");
        check(topology, "dc_quorum", &[], "0 3 4", "");
        check(topology, "dc_quorum", &[], "0 3 4 2 1", "+OK");
    }

    #[test]
    fn other_datacenters_count_where_the_level_says_so() {
        let topology = "a/r1:9 a/r2:9 b/x:9 b/x:99 b/y:9";
        check(topology, "dc_quorum", &[2, 3, 4], "0 1", "+OK");
        check(topology, "dc_each_safe_quorum", &[], "0 1 2 3", "");
        check(topology, "dc_each_safe_quorum", &[], "0 1 2 3 4", "+OK");
        let missing = "(DC_EACH_SAFE_QUORUM needs 2 of 2 racks of b, 1 answered; missing: x 127.0.0.4:8101)";
        check(topology, "dc_each_safe_quorum", &[], "0 1 4 3!", &format!("{GONE} {missing}"));
    }
}
