//! The cluster as one value: datacenters → racks → nodes, and who owns a token in each rack.
//! Owns: an immutable snapshot, numbered by its epoch; a change makes another one, which shares what did not change.
//! Knows nothing of: links, who is alive, files, gossip. `snitch` says in which order owners are asked.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use dynomite_common::token::Token;

use super::PeerId;
use super::continuum::Continuum;

/// More nodes than anybody runs; bounds what gossip from outside can make us hold.
pub const NODES_MAX: usize = 10_000;
/// Ranges of one node. C nodes have one each; ours may have many.
pub const TOKENS_PER_NODE_MAX: usize = 1024;
/// A rack is a full copy of the data. A request may have to count a vote of each rack of each datacenter, and numbers
/// them in a byte.
pub const RACKS_PER_DATACENTER_MAX: usize = 16;
pub const DATACENTERS_MAX: usize = 15;

/// A member of the cluster, as it was configured or announced.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// What operators call it; the host for most.
    pub name: String,
    pub host: String,
    pub port: u16,
    pub datacenter: String,
    pub rack: String,
    /// The ends of its ranges. The first one is the only one that gossip and C nodes know of.
    pub tokens: Vec<Token>,
    /// Links from us to it are encrypted.
    pub secured: bool,
}

impl Node {
    fn shares_rack(&self, other: &Node) -> bool {
        self.datacenter == other.datacenter && self.rack == other.rack
    }
}

/// Why a set of nodes makes no topology. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    NoTokens {
        node: String,
    },
    NoDatacenterOrRack {
        node: String,
    },
    /// Two nodes of one rack claim the same token: which of them holds the data?
    TokenTwice {
        token: Token,
        rack: String,
        nodes: [String; 2],
    },
    /// Two nodes have the same host and port.
    AddressTwice {
        address: String,
    },
    TooMany {
        what: &'static str,
        limit: usize,
    },
    /// There is no such node, or it has left, or it is this one.
    NotAPeer,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::NoTokens { node } => write!(f, "node {node} has no tokens"),
            Problem::NoDatacenterOrRack { node } => write!(f, "node {node} has no datacenter or no rack"),
            Problem::TokenTwice { token, rack, nodes: [first, second] } => {
                write!(f, "token {} is claimed twice in rack {rack}: by {first} and by {second}", token.0)
            }
            Problem::AddressTwice { address } => write!(f, "two nodes have the address {address}"),
            Problem::TooMany { what, limit } => write!(f, "more than {limit} {what}"),
            Problem::NotAPeer => f.write_str("no such peer"),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Topology {
    epoch: u64,
    /// By `PeerId`. Nodes that left keep their place.
    members: Vec<Arc<Member>>,
    /// Our own first, the others in the order in which they were first heard of.
    datacenters: Vec<Datacenter>,
}

#[derive(Debug)]
struct Member {
    node: Node,
    /// In `Topology::datacenters`.
    datacenter: usize,
    left: bool,
}

#[derive(Clone, Debug)]
pub struct Datacenter {
    pub name: Arc<str>,
    /// Sorted by name.
    pub racks: Vec<Arc<Rack>>,
    /// The rack to begin with: ours in our own datacenter; elsewhere the one at our rack's place, so that the racks of
    /// one datacenter share the racks of another.
    pub nearest: usize,
}

#[derive(Debug)]
pub struct Rack {
    pub name: String,
    pub continuum: Continuum,
    pub nodes: Vec<PeerId>,
}

impl Topology {
    /// Of this node and the others, which get their ids in this order. A seed that has our own rack and one of our own
    /// tokens is this node, whatever it is called there: lists of seeds are often the same file on every node. A seed
    /// that is written twice is one node.
    pub fn build(own: Node, seeds: Vec<Node>) -> Result<Topology, Vec<Problem>> {
        let is_own = |seed: &Node| seed.shares_rack(&own) && seed.tokens.iter().any(|token| own.tokens.contains(token));
        let mut nodes = vec![own.clone()];
        let mut known = HashSet::new();
        nodes.extend(seeds.into_iter().filter(|seed| !is_own(seed) && known.insert(seed.clone())));
        let topology = Topology { epoch: 0, members: Vec::new(), datacenters: Vec::new() };
        topology.with_all(nodes)
    }

    /// The next snapshot, with a new node. Its id is the last one.
    pub fn with_added(&self, node: Node) -> Result<Topology, Vec<Problem>> {
        self.with_all(vec![node])
    }

    /// The next snapshot, in which `node` has the place of `old`: usually its tokens under another address. The new
    /// node gets an id of its own, so nothing on its way to the old one can be taken for the new one's.
    pub fn with_replaced(&self, old: PeerId, node: Node) -> Result<Topology, Vec<Problem>> {
        self.with_removed(old)?.with_all(vec![node]).map(|topology| Topology { epoch: self.epoch + 1, ..topology })
    }

    /// The next snapshot, without a node. Its ranges fall to the next tokens of its rack.
    pub fn with_removed(&self, old: PeerId) -> Result<Topology, Vec<Problem>> {
        let Some(member) = self.member(old).filter(|_| old != PeerId::SELF) else {
            return Err(vec![Problem::NotAPeer]);
        };
        let mut next = self.clone();
        next.epoch += 1;
        next.members[old.0 as usize] = Arc::new(Member { node: member.node.clone(), left: true, ..*member });
        next.rebuild_rack(member.datacenter, &member.node.rack);
        Ok(next)
    }

    fn with_all(&self, nodes: Vec<Node>) -> Result<Topology, Vec<Problem>> {
        let mut problems = self.problems_of(&nodes);
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut next = self.clone();
        next.epoch += 1;
        let mut touched: Vec<(usize, String)> = Vec::new();
        for node in nodes {
            let known = next.datacenters.iter().position(|known| *known.name == *node.datacenter);
            let datacenter = known.unwrap_or_else(|| {
                next.datacenters.push(Datacenter {
                    name: node.datacenter.as_str().into(),
                    racks: Vec::new(),
                    nearest: 0,
                });
                next.datacenters.len() - 1
            });
            if !touched.iter().any(|(at, rack)| *at == datacenter && *rack == node.rack) {
                touched.push((datacenter, node.rack.clone()));
            }
            next.members.push(Arc::new(Member { node, datacenter, left: false }));
        }
        for (datacenter, rack) in touched {
            next.rebuild_rack(datacenter, &rack);
        }
        if next.datacenters.len() > DATACENTERS_MAX {
            problems.push(Problem::TooMany { what: "datacenters", limit: DATACENTERS_MAX });
        }
        if next.datacenters.iter().any(|datacenter| datacenter.racks.len() > RACKS_PER_DATACENTER_MAX) {
            problems.push(Problem::TooMany { what: "racks in a datacenter", limit: RACKS_PER_DATACENTER_MAX });
        }
        if problems.is_empty() { Ok(next) } else { Err(problems) }
    }

    /// Everything that speaks against adding these. Looks at each new node and once at each old one.
    fn problems_of(&self, nodes: &[Node]) -> Vec<Problem> {
        if self.members.len() + nodes.len() > NODES_MAX {
            return vec![Problem::TooMany { what: "nodes", limit: NODES_MAX }];
        }
        let mut problems = Vec::new();
        let mut addresses: HashSet<(&str, u16)> = self.nodes().map(|(_, node)| (&*node.host, node.port)).collect();
        let mut claims: HashMap<(&str, &str, Token), &str> = HashMap::new();
        for node in nodes {
            if node.tokens.is_empty() {
                problems.push(Problem::NoTokens { node: node.name.clone() });
            }
            if node.tokens.len() > TOKENS_PER_NODE_MAX {
                problems.push(Problem::TooMany { what: "tokens of one node", limit: TOKENS_PER_NODE_MAX });
                continue;
            }
            if node.datacenter.is_empty() || node.rack.is_empty() {
                problems.push(Problem::NoDatacenterOrRack { node: node.name.clone() });
            }
            if !addresses.insert((&node.host, node.port)) {
                problems.push(Problem::AddressTwice { address: format!("{}:{}", node.host, node.port) });
            }
            for &token in &node.tokens {
                let among_new = claims.insert((&node.datacenter, &node.rack, token), &node.name);
                if let Some(first) = among_new.or_else(|| self.claimed(&node.datacenter, &node.rack, token)) {
                    let nodes = [first.to_owned(), node.name.clone()];
                    problems.push(Problem::TokenTwice { token, rack: node.rack.clone(), nodes });
                }
            }
        }
        problems
    }

    /// Who has exactly this token in a rack.
    fn claimed(&self, datacenter: &str, rack: &str, token: Token) -> Option<&str> {
        let datacenter = self.datacenters.iter().find(|known| *known.name == *datacenter)?;
        let rack = datacenter.racks.iter().find(|known| known.name == rack)?;
        let (_, end) = rack.continuum.range(token)?;
        if end == token { self.node(rack.continuum.owner(token)?).map(|node| node.name.as_str()) } else { None }
    }

    fn rebuild_rack(&mut self, datacenter: usize, name: &str) {
        let in_rack =
            |(_, member): &(PeerId, &Arc<Member>)| member.datacenter == datacenter && member.node.rack == name;
        let members: Vec<_> = self.present().filter(in_rack).collect();
        let entries = members.iter().flat_map(|(id, member)| member.node.tokens.iter().map(|token| (*token, *id)));
        let continuum = Continuum::new(entries.collect());
        let nodes: Vec<_> = members.iter().map(|(id, _)| *id).collect();

        let racks = &mut self.datacenters[datacenter].racks;
        match (racks.binary_search_by(|rack| rack.name.as_str().cmp(name)), nodes.is_empty()) {
            (Ok(at), true) => drop(racks.remove(at)),
            (Ok(at), false) => racks[at] = Arc::new(Rack { name: name.to_owned(), continuum, nodes }),
            (Err(_), true) => {}
            (Err(at), false) => racks.insert(at, Arc::new(Rack { name: name.to_owned(), continuum, nodes })),
        }
        let own_rack = &self.members[0].node.rack;
        let place = self.datacenters[0].racks.iter().position(|rack| rack.name == *own_rack).unwrap_or(0);
        for datacenter in &mut self.datacenters {
            datacenter.nearest = place % datacenter.racks.len().max(1);
        }
    }

    /// Grows by one or more with every change.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Every member that has not left, this node first.
    pub fn nodes(&self) -> impl Iterator<Item = (PeerId, &Node)> + '_ {
        self.present().map(|(id, member)| (id, &member.node))
    }

    /// How many ids were ever given: ids are below this.
    pub fn ids(&self) -> usize {
        self.members.len()
    }

    /// A member that has not left.
    pub fn node(&self, id: PeerId) -> Option<&Node> {
        self.member(id).map(|member| &member.node)
    }

    pub fn own(&self) -> &Node {
        &self.members[0].node
    }

    /// Our own datacenter first.
    pub fn datacenters(&self) -> &[Datacenter] {
        &self.datacenters
    }

    pub fn own_datacenter(&self) -> &Datacenter {
        &self.datacenters[0]
    }

    /// Is it in our own datacenter? This node is.
    pub fn is_near(&self, id: PeerId) -> bool {
        self.members.get(id.0 as usize).is_some_and(|member| member.datacenter == 0)
    }

    /// The only node there is.
    pub fn is_alone(&self) -> bool {
        self.present().nth(1).is_none()
    }

    /// The member with this address.
    pub fn find(&self, host: &str, port: u16) -> Option<PeerId> {
        self.nodes().find(|(_, node)| node.host == host && node.port == port).map(|(id, _)| id)
    }

    /// Who owns the token in each rack: our datacenter first, racks by name.
    pub fn owners(&self, token: Token) -> impl Iterator<Item = (&Datacenter, &Rack, PeerId)> + '_ {
        self.datacenters.iter().flat_map(move |datacenter| {
            datacenter.racks.iter().filter_map(move |rack| Some((datacenter, &**rack, rack.continuum.owner(token)?)))
        })
    }

    fn present(&self) -> impl Iterator<Item = (PeerId, &Arc<Member>)> + '_ {
        let members = self.members.iter().enumerate();
        members.filter(|(_, member)| !member.left).map(|(n, member)| (PeerId(n as u32), member))
    }

    fn member(&self, id: PeerId) -> Option<&Member> {
        self.members.get(id.0 as usize).map(|member| &**member).filter(|member| !member.left)
    }
}

impl Datacenter {
    /// The rack to begin with, then the others by name, around the end.
    #[inline]
    pub fn racks_from_nearest(&self) -> impl Iterator<Item = &Rack> + '_ {
        let (before, from) = self.racks.split_at(self.nearest);
        from.iter().chain(before).map(|rack| &**rack)
    }
}

/// A topology in a few words, for tests: this node first, as `datacenter/rack:token,token`; more tokens are vnodes. Node
/// n is called `n<n>` and lives at 127.0.0.<n+1>:8101.
#[cfg(test)]
pub(crate) fn sketch(text: &str) -> Topology {
    let mut nodes: Vec<_> = text.split_whitespace().enumerate().map(|(n, word)| sketch_node(n, word)).collect();
    let own = nodes.remove(0);
    Topology::build(own, nodes).unwrap()
}

#[cfg(test)]
pub(crate) fn sketch_node(n: usize, word: &str) -> Node {
    let (place, tokens) = word.split_once(':').unwrap();
    let (datacenter, rack) = place.split_once('/').unwrap();
    let tokens = tokens.split(',').filter(|text| !text.is_empty()).map(|token| Token(token.parse().unwrap())).collect();
    let host = format!("127.0.0.{}", n + 1);
    let (datacenter, rack) = (datacenter.to_owned(), rack.to_owned());
    Node { name: format!("n{n}"), host, port: 8101, datacenter, rack, tokens, secured: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the topology looks like: `datacenter/rack[ids]`, the nearest rack marked.
    fn shape(topology: &Topology) -> String {
        let rack = |datacenter: &Datacenter, at: usize| {
            let rack = &datacenter.racks[at];
            let ids: Vec<_> = rack.nodes.iter().map(|id| id.0.to_string()).collect();
            let nearest = if at == datacenter.nearest { "*" } else { "" };
            format!("{}/{}{nearest}[{}]", datacenter.name, rack.name, ids.join(" "))
        };
        let all = topology.datacenters.iter();
        all.flat_map(|dc| (0..dc.racks.len()).map(move |at| rack(dc, at))).collect::<Vec<_>>().join(" ")
    }

    fn check(text: &str, expected: &str) {
        assert_eq!(shape(&sketch(text)), expected, "{text}");
    }

    fn owners(topology: &Topology, token: u32) -> String {
        let owners = topology.owners(Token(token)).map(|(_, rack, id)| format!("{}={}", rack.name, id.0));
        owners.collect::<Vec<_>>().join(" ")
    }

    fn problems(text: &str) -> Vec<String> {
        let mut nodes: Vec<_> = text.split_whitespace().enumerate().map(|(n, word)| sketch_node(n, word)).collect();
        let own = nodes.remove(0);
        let problems = Topology::build(own, nodes).expect_err("no topology can be made of this");
        problems.iter().map(Problem::to_string).collect()
    }

    #[test]
    fn one_node() {
        check("dc/r:5", "dc/r*[0]");
        assert!(sketch("dc/r:5").is_alone());
        assert_eq!(owners(&sketch("dc/r:5"), 77), "r=0");
    }

    #[test]
    fn racks_are_sorted_and_datacenters_come_as_they_appear() {
        check("b/r2:1 a/x:1 b/r1:1 b/r10:1 a/w:1", "b/r1[2] b/r10[3] b/r2*[0] a/w*[4] a/x[1]");
    }

    #[test]
    fn the_rack_at_our_place_is_preselected_elsewhere() {
        check("a/r2:1 a/r1:1 a/r3:1 b/x:1 b/y:1 b/z:1", "a/r1[1] a/r2*[0] a/r3[2] b/x[3] b/y*[4] b/z[5]");
        check("a/r3:1 a/r1:1 a/r2:1 b/x:1 b/y:1", "a/r1[1] a/r2[2] a/r3*[0] b/x*[3] b/y[4]");
        check("a/r3:1 a/r1:1 a/r2:1 b/x:1", "a/r1[1] a/r2[2] a/r3*[0] b/x*[3]");
    }

    #[test]
    fn every_rack_has_an_owner() {
        let topology = sketch("a/r1:100 a/r1:200 a/r2:150 b/x:7,180");
        assert_eq!(owners(&topology, 100), "r1=0 r2=2 x=3");
        assert_eq!(owners(&topology, 101), "r1=1 r2=2 x=3");
        assert_eq!(owners(&topology, 201), "r1=0 r2=2 x=3");
        assert!(topology.is_near(PeerId(2)) && !topology.is_near(PeerId(3)) && !topology.is_near(PeerId(9)));
    }

    #[test]
    fn a_node_with_many_tokens_owns_many_ranges() {
        let topology = sketch("a/r1:100,300 a/r1:200,400");
        assert_eq!(
            [50, 150, 250, 350, 450].map(|token| owners(&topology, token)),
            ["r1=0", "r1=1", "r1=0", "r1=1", "r1=0"]
        );
    }

    #[test]
    fn the_list_of_seeds_may_name_us_and_repeat_itself() {
        check("a/r1:100 a/r1:100 a/r1:200", "a/r1*[0 1]");
        let node = |n| sketch_node(n, "a/r2:5");
        let topology = Topology::build(sketch_node(0, "a/r1:5"), vec![node(1), node(1)]).unwrap();
        assert_eq!(shape(&topology), "a/r1*[0] a/r2[1]");
    }

    #[test]
    fn every_problem_is_said() {
        assert_eq!(
            problems("a/r1: a/r2:7 a/r2:7 /r:1 a/r3:8,8"),
            [
                "node n0 has no tokens",
                "token 7 is claimed twice in rack r2: by n1 and by n2",
                "node n3 has no datacenter or no rack",
                "token 8 is claimed twice in rack r3: by n4 and by n4",
            ]
        );
        let racks: Vec<_> = (0..17).map(|n| format!("a/r{n}:1")).collect();
        assert_eq!(problems(&racks.join(" ")), ["more than 16 racks in a datacenter"]);
        let datacenters: Vec<_> = (0..16).map(|n| format!("d{n}/r:1")).collect();
        assert_eq!(problems(&datacenters.join(" ")), ["more than 15 datacenters"]);
        let same_address = Topology::build(sketch_node(0, "a/r1:1"), vec![sketch_node(0, "a/r2:1")]).unwrap_err();
        assert_eq!(same_address, [Problem::AddressTwice { address: "127.0.0.1:8101".to_owned() }]);
    }

    #[test]
    fn nodes_join() {
        let first = sketch("a/r1:100 a/r2:100");
        let second = first.with_added(sketch_node(2, "a/r1:200")).unwrap();
        assert_eq!(shape(&second), "a/r1*[0 2] a/r2[1]");
        assert_eq!(owners(&second, 150), "r1=2 r2=1");
        assert_eq!(owners(&first, 150), "r1=0 r2=1", "a snapshot does not change");
        assert!(second.epoch() > first.epoch());
        let third = second.with_added(sketch_node(3, "b/x:1")).unwrap().with_added(sketch_node(4, "a/r0:1")).unwrap();
        assert_eq!(shape(&third), "a/r0[4] a/r1*[0 2] a/r2[1] b/x*[3]");
        let taken = second.with_added(sketch_node(3, "a/r2:100")).unwrap_err();
        assert_eq!(taken[0].to_string(), "token 100 is claimed twice in rack r2: by n1 and by n3");
        assert!(second.with_added(sketch_node(1, "a/r2:101")).is_err(), "the address is taken");
    }

    #[test]
    fn nodes_are_replaced_and_leave() {
        let first = sketch("a/r1:100 a/r2:100 a/r2:200");
        let second = first.with_replaced(PeerId(1), sketch_node(7, "a/r2:100")).unwrap();
        assert_eq!(shape(&second), "a/r1*[0] a/r2[2 3]");
        assert_eq!(owners(&second, 100), "r1=0 r2=3");
        assert_eq!(second.epoch(), first.epoch() + 1);
        assert_eq!(second.node(PeerId(1)), None);
        assert_eq!(second.find("127.0.0.8", 8101), Some(PeerId(3)));
        assert_eq!(second.find("127.0.0.2", 8101), None);
        let third = second.with_removed(PeerId(2)).unwrap().with_removed(PeerId(3)).unwrap();
        assert_eq!(shape(&third), "a/r1*[0]");
        assert_eq!(third.ids(), 4);
        assert_eq!(third.with_removed(PeerId(3)).unwrap_err(), [Problem::NotAPeer]);
        assert_eq!(third.with_removed(PeerId::SELF).unwrap_err(), [Problem::NotAPeer]);
        assert!(third.with_added(sketch_node(1, "a/r2:100")).is_ok(), "the address is free again");
    }
}
