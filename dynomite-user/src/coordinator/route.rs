//! Who is asked, and whose answers count: a command's facts, its key's token, the topology and a level → `Plan`.
//! Owns: the table of who is asked. Knows nothing of: sending, replies, time.
//! Next on the walk: `fan_out` sends to the plan's targets, `gather` counts what they answer.

use std::collections::HashSet;

use dynomite_common::token::Token;
use smallvec::SmallVec;

use super::consistency::ConsistencyLevel;
use super::effects::Ask;
use crate::protocol::commands::{Kind, Routing};
use crate::ring::{PeerId, Topology, snitch};

/// What routing wants to know of a request.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub kind: Kind,
    pub routing: Routing,
    /// Of its first key. A request without a key is for this node alone, unless `routing` says otherwise.
    pub token: Option<Token>,
}

/// On whose behalf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Client,
    /// A peer's REQ: our own datastore, whoever owns the key.
    Execute,
    /// REQ_FORWARD from another datacenter: all of ours, one answer, nobody else's.
    Forward,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// `PeerId::SELF` is our own datastore.
    pub peer: PeerId,
    pub ask: Ask,
    /// Place among `Topology::datacenters`; 0 is ours. Votes are counted for each datacenter by itself.
    pub datacenter: u8,
    pub part: Part,
    /// Another rack is preselected to hand a write on in its datacenter; this one does it in its stead.
    pub stands_in: bool,
}

impl Target {
    /// Executes, and its answer counts.
    pub fn vote(peer: PeerId, datacenter: usize) -> Target {
        Target { peer, ask: Ask::Execute, datacenter: datacenter as u8, part: Part::Vote, stands_in: false }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Asked at once; its answer counts.
    Vote,
    /// Asked at once; its answer is dropped.
    Copy,
    /// Asked only when the target before it in the list fails; then it takes over that one's part. Where a quorum is needed:
    /// when those that were asked are not enough.
    Spare,
}

/// Which answers make an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// One: the first in the list of targets, among those that do not fail.
    One,
    /// More than half of the racks answer; the first answer if no majority agrees.
    Quorum,
    /// More than half of the racks agree, in each datacenter that votes.
    SafeQuorum,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Nearest first. Eight are held without allocation: two datacenters of three racks, and then some. Those with a vote
    /// or a spare are at most 240 and come first, so a byte numbers them; further copies need no number.
    pub targets: SmallVec<[Target; 8]>,
    pub need: Need,
}

/// Settings of the whole pool.
#[derive(Clone, Copy, Debug, Default)]
pub struct RouteSettings {
    /// A read that one owner is to answer is asked of the one in our rack, and of nobody else.
    pub reads_stay: bool,
    /// A read that nobody in our datacenter can answer is asked in others.
    pub remote_reads: bool,
    /// Admin mode: a key is deleted by its owner in our rack alone, and nowhere else.
    pub deletes_own_keys: bool,
}

/// Plans a request. `health` says who is likely to answer: where one answer is enough, those are asked first.
pub fn plan(
    asked: Asked,
    topology: &Topology,
    level: ConsistencyLevel,
    origin: Origin,
    settings: RouteSettings,
    health: &dyn Fn(PeerId) -> bool,
) -> Plan {
    let mut plan = Plan { targets: SmallVec::new(), need: Need::One };
    match (origin, asked.routing, asked.token) {
        (Origin::Client, Routing::AllNodes, _) => plan.everybody(topology),
        (Origin::Client | Origin::Forward, Routing::Normal | Routing::OwnRack, Some(token)) => {
            let single = asked.routing == Routing::OwnRack || origin == Origin::Forward;
            let level = if single { ConsistencyLevel::DcOne } else { level };
            plan.need = match level {
                ConsistencyLevel::DcOne => Need::One,
                ConsistencyLevel::DcQuorum => Need::Quorum,
                ConsistencyLevel::DcSafeQuorum | ConsistencyLevel::DcEachSafeQuorum => Need::SafeQuorum,
            };
            let one_read = asked.kind == Kind::Read && plan.need == Need::One;
            let near = if one_read && settings.reads_stay { 1 } else { usize::MAX };
            plan.near(topology, token, near, one_read, health);
            if level == ConsistencyLevel::DcEachSafeQuorum {
                plan.far_votes(topology, token);
            } else if origin == Origin::Client && one_read && settings.remote_reads {
                plan.far_spares(topology, token);
            } else if origin == Origin::Client && asked.kind == Kind::Write {
                plan.far_copies(topology, token, health);
            }
        }
        _ => plan.push(PeerId::SELF, Ask::Execute, 0, Part::Vote),
    }
    plan
}

/// Every node there is, our own rack's first.
pub fn every_node(topology: &Topology) -> Plan {
    let mut plan = Plan { targets: SmallVec::new(), need: Need::Quorum };
    for (datacenter, racks) in topology.datacenters().iter().enumerate() {
        let nodes = racks.racks_from_nearest().flat_map(|rack| rack.nodes.iter());
        nodes.for_each(|peer| plan.push(*peer, Ask::Execute, datacenter, Part::Vote));
    }
    plan
}

/// How a write of each key would be planned: a plan for each set of owners, as far as their answers count.
pub fn owner_sets(
    topology: &Topology,
    level: ConsistencyLevel,
    settings: RouteSettings,
    health: &dyn Fn(PeerId) -> bool,
) -> Vec<Plan> {
    // Owners change from rack to rack at their tokens only.
    let racks = topology.datacenters().iter().flat_map(|datacenter| &datacenter.racks);
    let mut tokens: Vec<Token> = racks.flat_map(|rack| rack.continuum.entries().map(|(token, _)| token)).collect();
    tokens.sort_unstable();
    tokens.dedup();
    let mut known = HashSet::new();
    let mut sets = Vec::new();
    for token in tokens {
        let asked = Asked { kind: Kind::Write, routing: Routing::Normal, token: Some(token) };
        let mut plan = plan(asked, topology, level, Origin::Client, settings, health);
        plan.targets.retain(|target| target.part == Part::Vote);
        if known.insert(plan.targets.iter().map(|target| target.peer).collect::<SmallVec<[PeerId; 8]>>()) {
            sets.push(plan);
        }
    }
    sets
}

impl Plan {
    /// One target alone, whatever it owns.
    pub fn of(target: Target) -> Plan {
        Plan { targets: SmallVec::from_slice(&[target]), need: Need::One }
    }

    /// A read asks as many replicas as must agree, and the others when that is not enough: those that are likely to answer
    /// first, our own rack before others.
    pub fn hold_back(&mut self, health: &dyn Fn(PeerId) -> bool) {
        let enough = self.targets.len() / 2 + 1;
        if self.need == Need::One || self.targets.iter().any(|target| target.datacenter != 0) {
            return;
        }
        self.targets.sort_by_key(|target| !health(target.peer));
        self.targets.iter_mut().skip(enough).for_each(|target| target.part = Part::Spare);
    }

    /// Whose part a target has: its own, or for a spare that of the target it stands in for.
    pub fn part_of(&self, index: usize) -> Part {
        let before = self.targets[..=index].iter().rev().map(|target| target.part);
        before.into_iter().find(|part| *part != Part::Spare).unwrap_or(Part::Vote)
    }

    /// Who is asked when the target at `index` fails.
    pub fn spare_of(&self, index: usize) -> Option<usize> {
        self.targets.get(index + 1).filter(|next| next.part == Part::Spare).map(|_| index + 1)
    }

    fn push(&mut self, peer: PeerId, ask: Ask, datacenter: usize, part: Part) {
        self.targets.push(Target { ask, part, ..Target::vote(peer, datacenter) });
    }

    /// So many of our own datacenter's owners, those that are likely to answer first where one answer will do.
    fn near(
        &mut self,
        topology: &Topology,
        token: Token,
        at_most: usize,
        one_read: bool,
        health: &dyn Fn(PeerId) -> bool,
    ) {
        for peer in snitch::near(topology, token).take(at_most) {
            self.push(peer, Ask::Execute, 0, Part::Vote);
        }
        if self.need == Need::One {
            self.targets.sort_by_key(|target| !health(target.peer));
        }
        if one_read {
            self.targets.iter_mut().skip(1).for_each(|target| target.part = Part::Spare);
        }
    }

    /// Every rack of every other datacenter votes. Each is asked to execute, not to forward: a forward would be executed
    /// as many times as its datacenter has racks.
    fn far_votes(&mut self, topology: &Topology, token: Token) {
        for (n, owners) in snitch::far(topology, token).enumerate() {
            owners.for_each(|peer| self.push(peer, Ask::Execute, n + 1, Part::Vote));
        }
    }

    /// Where to read when nobody near can answer.
    fn far_spares(&mut self, topology: &Topology, token: Token) {
        for (n, owners) in snitch::far(topology, token).enumerate() {
            owners.for_each(|peer| self.push(peer, Ask::Execute, n + 1, Part::Spare));
        }
    }

    /// One rack of every other datacenter gets the write and hands it on there.
    fn far_copies(&mut self, topology: &Topology, token: Token, health: &dyn Fn(PeerId) -> bool) {
        for (n, owners) in snitch::far(topology, token).enumerate() {
            let start = self.targets.len();
            owners.for_each(|peer| self.push(peer, Ask::Forward, n + 1, Part::Spare));
            let owners = &mut self.targets[start..];
            owners.iter_mut().skip(1).for_each(|target| target.stands_in = true);
            owners.sort_by_key(|target| !health(target.peer));
            if let Some(first) = owners.first_mut() {
                first.part = Part::Copy;
            }
        }
    }

    /// Every node there is; the answer is our own datastore's.
    fn everybody(&mut self, topology: &Topology) {
        self.push(PeerId::SELF, Ask::Execute, 0, Part::Vote);
        for rack in topology.own_datacenter().racks_from_nearest() {
            for &peer in rack.nodes.iter().filter(|peer| **peer != PeerId::SELF) {
                self.push(peer, Ask::Execute, 0, Part::Copy);
            }
        }
        self.far_nodes(topology);
    }

    fn far_nodes(&mut self, topology: &Topology) {
        for (n, datacenter) in topology.datacenters().iter().enumerate().skip(1) {
            let nodes = datacenter.racks_from_nearest().flat_map(|rack| rack.nodes.iter());
            nodes.for_each(|peer| self.push(*peer, Ask::Execute, n, Part::Copy));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::topology::sketch;

    /// Targets in order: `3` votes, `+3` gets a copy, `(3)` is a spare, `>` asks to forward, `~`: a copy for another rack
    /// than the preselected one; `/` between datacenters.
    fn render(plan: &Plan) -> String {
        let mut text = format!("{:?}:", plan.need).to_lowercase();
        let mut datacenter = 0;
        for target in &plan.targets {
            if target.datacenter != datacenter {
                text.push_str(" /");
                datacenter = target.datacenter;
            }
            let ask = if target.ask == Ask::Forward { ">" } else { "" };
            let id = target.peer.0;
            text.push_str(&match target.part {
                Part::Vote => format!(" {ask}{id}"),
                Part::Copy => format!(" +{ask}{id}{}", if target.stands_in { "~" } else { "" }),
                Part::Spare => format!(" ({ask}{id})"),
            });
        }
        text
    }

    /// `request` is `[execute|forward] read|write [level] [routing] [reads_stay] [remote_reads] [keyless] [down=1,2] [holding_back]`.
    fn check(topology: &str, request: &str, expected: &str) {
        let topology = sketch(topology);
        let (mut kind, mut routing, mut origin) = (Kind::Read, Routing::Normal, Origin::Client);
        let (mut level, mut token) = (ConsistencyLevel::DcOne, Some(Token(50)));
        let mut settings = RouteSettings::default();
        let mut down: Vec<u32> = Vec::new();
        let mut holds_back = false;
        for word in request.split_whitespace() {
            match word {
                "read" => kind = Kind::Read,
                "write" => kind = Kind::Write,
                "execute" => origin = Origin::Execute,
                "forward" => origin = Origin::Forward,
                "own_rack" => routing = Routing::OwnRack,
                "local" => routing = Routing::Local,
                "all_nodes" => routing = Routing::AllNodes,
                "keyless" => token = None,
                "holding_back" => holds_back = true,
                "reads_stay" => settings.reads_stay = true,
                "remote_reads" => settings.remote_reads = true,
                word if word.starts_with("down=") => {
                    down = word[5..].split(',').map(|id| id.parse().unwrap()).collect();
                }
                word => level = word.parse().unwrap(),
            }
        }
        let health = |peer: PeerId| !down.contains(&peer.0);
        let mut plan = plan(Asked { kind, routing, token }, &topology, level, origin, settings, &health);
        if holds_back {
            plan.hold_back(&health);
        }
        assert_eq!(render(&plan), expected, "{request}");
        assert!(!plan.targets.spilled() || plan.targets.len() > 8);
    }

    const ONE: &str = "a/r1:9";
    const TWO_NODES: &str = "a/r1:9 a/r1:99";
    const THREE_RACKS: &str = "a/r2:99 a/r1:99 a/r3:99";
    const TWO_DATACENTERS: &str = "a/r1:99 a/r2:99 b/x:99 b/y:99";
    const THREE_DATACENTERS: &str = "a/r2:99 a/r1:99 a/r3:99 b/x:99 b/y:99 b/z:99 c/w:99";

    #[test]
    fn one_node_is_asked_alone() {
        for level in ["dc_one", "dc_quorum", "dc_safe_quorum", "dc_each_safe_quorum"] {
            let need = match level {
                "dc_one" => "one: 0",
                "dc_quorum" => "quorum: 0",
                _ => "safequorum: 0",
            };
            check(ONE, &format!("read {level}"), need);
            check(ONE, &format!("write {level}"), need);
        }
        check(TWO_NODES, "read", "one: 1");
        check(TWO_NODES, "write dc_quorum", "quorum: 1");
    }

    #[test]
    fn reads() {
        check(THREE_DATACENTERS, "read dc_one", "one: 0 (2) (1)");
        check(THREE_DATACENTERS, "read dc_quorum", "quorum: 0 2 1");
        check(THREE_DATACENTERS, "read dc_safe_quorum", "safequorum: 0 2 1");
        check(THREE_DATACENTERS, "read dc_each_safe_quorum", "safequorum: 0 2 1 / 4 5 3 / 6");
    }

    #[test]
    fn reads_that_stay() {
        check(THREE_DATACENTERS, "read dc_one reads_stay", "one: 0");
        check(THREE_DATACENTERS, "read dc_one reads_stay down=0", "one: 0");
        check(THREE_DATACENTERS, "read dc_quorum reads_stay", "quorum: 0 2 1");
        check(THREE_RACKS, "write dc_one reads_stay", "one: 0 2 1");
    }

    #[test]
    fn quorum_reads_ask_no_more_than_a_quorum() {
        check(THREE_DATACENTERS, "read dc_quorum holding_back", "quorum: 0 2 (1)");
        check(THREE_DATACENTERS, "read dc_safe_quorum holding_back", "safequorum: 0 2 (1)");
        check(THREE_DATACENTERS, "read dc_quorum down=2 holding_back", "quorum: 0 1 (2)");
        check(THREE_DATACENTERS, "read dc_quorum down=0,2 holding_back", "quorum: 1 0 (2)");
        check(THREE_DATACENTERS, "read dc_one holding_back", "one: 0 (2) (1)");
        check(THREE_DATACENTERS, "read dc_each_safe_quorum holding_back", "safequorum: 0 2 1 / 4 5 3 / 6");
        check(TWO_DATACENTERS, "read dc_quorum holding_back", "quorum: 0 1");
        check("a/r1:99 a/r2:99 a/r3:99 a/r4:99 a/r5:99", "read dc_quorum holding_back", "quorum: 0 1 2 (3) (4)");
    }

    #[test]
    fn writes() {
        check(THREE_DATACENTERS, "write dc_one", "one: 0 2 1 / +>4 (>5) (>3) / +>6");
        check(THREE_DATACENTERS, "write dc_quorum", "quorum: 0 2 1 / +>4 (>5) (>3) / +>6");
        check(THREE_DATACENTERS, "write dc_safe_quorum", "safequorum: 0 2 1 / +>4 (>5) (>3) / +>6");
        check(THREE_DATACENTERS, "write dc_each_safe_quorum", "safequorum: 0 2 1 / 4 5 3 / 6");
        check(THREE_RACKS, "write", "one: 0 2 1");
    }

    #[test]
    fn more_than_three_racks() {
        let five = "a/r1:99 a/r2:99 a/r3:99 a/r4:99 a/r5:99";
        check(five, "read dc_safe_quorum", "safequorum: 0 1 2 3 4");
        check(five, "write dc_quorum", "quorum: 0 1 2 3 4");
    }

    #[test]
    fn owners_may_differ_from_rack_to_rack() {
        check("a/r1:40 a/r1:99 a/r2:99 a/r2:60 a/r3:7", "write dc_quorum", "quorum: 1 3 4");
    }

    #[test]
    fn a_read_goes_where_it_is_likely_to_be_answered() {
        check(THREE_RACKS, "read down=0", "one: 2 (1) (0)");
        check(THREE_RACKS, "read down=0,2", "one: 1 (0) (2)");
        check(THREE_RACKS, "read down=0,1,2", "one: 0 (2) (1)");
        check(TWO_DATACENTERS, "read remote_reads", "one: 0 (1) / (2) (3)");
        check(TWO_DATACENTERS, "read remote_reads down=0,1", "one: 0 (1) / (2) (3)");
        check(TWO_DATACENTERS, "read remote_reads dc_quorum", "quorum: 0 1");
        check(THREE_RACKS, "read dc_quorum down=0", "quorum: 0 2 1");
    }

    #[test]
    fn a_write_at_dc_one_waits_for_who_is_likely_to_answer() {
        check(THREE_RACKS, "write down=0", "one: 2 1 0");
    }

    #[test]
    fn writes_for_another_datacenter_pass_over_what_is_down() {
        check(THREE_DATACENTERS, "write down=4", "one: 0 2 1 / +>5~ (>3) (>4) / +>6");
        check(THREE_DATACENTERS, "write down=4,5", "one: 0 2 1 / +>3~ (>4) (>5) / +>6");
        check(THREE_DATACENTERS, "write down=3,4,5,6", "one: 0 2 1 / +>4 (>5) (>3) / +>6");
    }

    #[test]
    fn commands_with_a_route_of_their_own() {
        check(THREE_DATACENTERS, "read own_rack dc_quorum", "one: 0 (2) (1)");
        check(THREE_DATACENTERS, "write local dc_quorum", "one: 0");
        check(TWO_DATACENTERS, "write all_nodes dc_quorum keyless", "one: 0 +1 / +2 +3");
        check(TWO_NODES, "read keyless dc_quorum", "one: 0");
    }

    #[test]
    fn peers_requests_stay_here_or_in_our_datacenter() {
        check(TWO_NODES, "execute write dc_quorum", "one: 0");
        check(TWO_NODES, "execute write all_nodes keyless", "one: 0");
        check(TWO_DATACENTERS, "forward write dc_quorum", "one: 0 1");
        check(TWO_DATACENTERS, "forward write dc_each_safe_quorum", "one: 0 1");
        check(TWO_DATACENTERS, "forward read remote_reads", "one: 0 (1)");
        check("a/r1:9 a/r1:99 a/r2:99", "forward write", "one: 1 2");
        check(TWO_DATACENTERS, "forward write keyless", "one: 0");
        check(TWO_DATACENTERS, "forward write all_nodes keyless", "one: 0");
    }

    #[test]
    fn spares_take_over_a_part() {
        let topology = sketch(TWO_DATACENTERS);
        let asked = Asked { kind: Kind::Write, routing: Routing::Normal, token: Some(Token(5)) };
        let one = ConsistencyLevel::DcOne;
        let plan = plan(asked, &topology, one, Origin::Client, RouteSettings::default(), &|_| true);
        assert_eq!(render(&plan), "one: 0 1 / +>2 (>3)");
        assert_eq!([0, 1, 2, 3].map(|index| plan.spare_of(index)), [None, None, Some(3), None]);
        assert_eq!([0, 1, 2, 3].map(|index| plan.part_of(index)), [Part::Vote, Part::Vote, Part::Copy, Part::Copy]);
    }

    #[test]
    fn every_node_is_asked() {
        assert_eq!(render(&every_node(&sketch("a/r1:40 a/r1:99 a/r2:60 b/x:1"))), "quorum: 0 1 2 / 3");
    }

    #[test]
    fn a_set_of_owners_for_every_way_in_which_racks_share_keys() {
        let check = |topology: &str, level: ConsistencyLevel, expected: &[&str]| {
            let sets = owner_sets(&sketch(topology), level, RouteSettings::default(), &|_| true);
            assert_eq!(sets.iter().map(render).collect::<Vec<_>>(), expected, "{topology}");
        };
        let (one, each) = (ConsistencyLevel::DcOne, ConsistencyLevel::DcEachSafeQuorum);
        check("a/r1:40 a/r1:99 a/r2:40 a/r2:99 b/x:1", one, &["one: 0 2", "one: 1 3"]);
        check("a/r1:40 a/r1:99 a/r2:60 a/r2:99", one, &["one: 0 2", "one: 1 2", "one: 1 3"]);
        check("a/r1:9,50 a/r1:30,99", one, &["one: 0", "one: 1"]);
        check("a/r1:40 b/x:10 b/x:99", each, &["safequorum: 0 / 1", "safequorum: 0 / 2"]);
    }
}
