//! Several nodes of one ring: datacenters of racks of nodes, each with a datastore of its own.

use dynomite_user::ring::hash::HashKind;

use crate::address::{Host, PEER_PORT};
use crate::client::Client;
use crate::datastore::{Datastore, Kind};
use crate::netns::Lan;
use crate::node::{Node, Settings};
use crate::until::until;

/// What is to be started. Every rack has a full copy of the data, cut into equal ranges.
#[derive(Clone, Debug)]
pub struct Shape {
    pub datacenters: usize,
    pub racks: usize,
    /// Nodes of a rack.
    pub nodes: usize,
    pub kind: Kind,
    pub embedded: bool,
    /// Further lines of every node's pool.
    pub lines: Vec<String>,
}

impl Shape {
    /// With the nodes' own datastores.
    pub fn embedded(datacenters: usize, racks: usize, nodes: usize) -> Shape {
        Shape { datacenters, racks, nodes, kind: Kind::Redis, embedded: true, lines: Vec::new() }
    }

    pub fn redis(datacenters: usize, racks: usize, nodes: usize) -> Shape {
        Shape { embedded: false, ..Shape::embedded(datacenters, racks, nodes) }
    }

    pub fn memcached(datacenters: usize, racks: usize, nodes: usize) -> Shape {
        Shape { kind: Kind::Memcached, ..Shape::redis(datacenters, racks, nodes) }
    }

    #[must_use]
    pub fn line(mut self, line: &str) -> Shape {
        self.lines.push(line.to_owned());
        self
    }
}

/// Where a node stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub host: Host,
    pub datacenter: usize,
    pub rack: usize,
    pub token: u32,
}

impl Place {
    /// How other nodes' files name it.
    pub fn seed(&self) -> String {
        format!("{}:{PEER_PORT}:rack{}:dc{}:{}", self.host.0, self.rack, self.datacenter, self.token)
    }
}

pub struct Member {
    pub place: Place,
    pub node: Node,
    pub datastore: Option<Datastore>,
}

pub struct Cluster {
    pub shape: Shape,
    /// Datacenter by datacenter, rack by rack, by token.
    pub members: Vec<Member>,
}

impl Cluster {
    /// Starts everything and waits until everybody is connected. `None`: there is no such datastore; said aloud.
    pub fn start(shape: Shape) -> Option<Cluster> {
        let places = places(&shape);
        Cluster::start_at(shape, places, None)
    }

    /// The same with a machine for every node and its datastore.
    pub fn start_on(shape: Shape, lan: &Lan) -> Option<Cluster> {
        let mut places = places(&shape);
        for (place, (host, _)) in places.iter_mut().zip(lan.machines()) {
            place.host = *host;
        }
        Cluster::start_at(shape, places, Some(lan))
    }

    fn start_at(shape: Shape, places: Vec<Place>, lan: Option<&Lan>) -> Option<Cluster> {
        let mut members = Vec::new();
        for (number, place) in places.iter().enumerate() {
            let machine = lan.map(|lan| lan.machines()[number].clone());
            let datastore = match (shape.embedded, &machine) {
                (true, _) => None,
                (false, None) => Some(Datastore::start(shape.kind)?),
                (false, Some((host, netns))) => Some(Datastore::start_at(shape.kind, &[], *host, Some(netns.clone()))?),
            };
            let mut settings = settings(&shape, place, &places, datastore.as_ref());
            settings.netns = machine.map(|(_, netns)| netns);
            // A node alone answers for what it owns only, so nobody is waited for before all are there.
            members.push(Member { place: place.clone(), node: Node::start_unchecked(settings), datastore });
        }
        let cluster = Cluster { shape, members };
        cluster.until_connected();
        Some(cluster)
    }

    /// Waits until every node has a link to every other one.
    #[track_caller]
    pub fn until_connected(&self) {
        for member in &self.members {
            until("a node is connected to all others", || {
                let others = self.members.len() as u64 - 1;
                member.node.try_stat("peers_up").is_some_and(|up| up == others)
            });
            // Up is a peer with one link; a worker whose own is still being dialled would refuse what it is asked.
            let yaml = member.node.settings.yaml();
            let given = |key| yaml.lines().find_map(|line| line.trim().strip_prefix(key)?.trim().parse::<u64>().ok());
            let each = |key| given(key).unwrap_or(1);
            let links = each("workers:") * each("local_peer_connections:").min(each("remote_peer_connections:"));
            until("every worker is connected to all others", || {
                let metrics = member.node.get("/metrics");
                let all = metrics.lines().filter(|line| line.starts_with("dynomite_peers_links{"));
                all.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).all(|up| up >= links)
            });
        }
        for member in &self.members {
            until("a node has found its datastore", || member.node.serves());
        }
    }

    pub fn client(&self, member: usize) -> Client {
        self.members[member].node.client()
    }

    /// The members that hold a key: one of each rack.
    pub fn owners(&self, key: &str) -> Vec<usize> {
        let token = HashKind::Murmur.token(key.as_bytes()).0;
        let rack = |rack: &[Member]| rack.iter().position(|member| token <= member.place.token).unwrap_or(0);
        let racks = self.members.chunks(self.shape.nodes);
        racks.enumerate().map(|(number, members)| number * self.shape.nodes + rack(members)).collect()
    }

    /// A connection to every member's datastore, past the nodes.
    pub fn datastores(&self) -> Vec<Client> {
        let connect = |member: &Member| match &member.datastore {
            Some(datastore) => datastore.client(),
            None => panic!("an embedded datastore has no port of its own"),
        };
        self.members.iter().map(connect).collect()
    }
}

/// A place for every node of a shape.
pub fn places(shape: &Shape) -> Vec<Place> {
    let mut places = Vec::new();
    for datacenter in 0..shape.datacenters {
        for rack in 0..shape.racks {
            for node in 0..shape.nodes {
                let token = ((node as u64 + 1) * (1 << 32) / shape.nodes as u64 - 1) as u32;
                places.push(Place { host: Host::fresh(), datacenter, rack, token });
            }
        }
    }
    places
}

/// The configuration of the node at one place.
pub fn settings(shape: &Shape, place: &Place, all: &[Place], datastore: Option<&Datastore>) -> Settings {
    let settings = match datastore {
        Some(datastore) => Settings::before(datastore),
        None => Settings::embedded(shape.kind),
    };
    let mut settings = Settings { host: place.host, ..settings }
        .line(&format!("datacenter: dc{}", place.datacenter))
        .line(&format!("rack: rack{}", place.rack))
        .line(&format!("tokens: '{}'", place.token));
    if all.len() > 1 {
        settings = settings.line("dyn_seeds:");
        for other in all.iter().filter(|other| *other != place) {
            settings = settings.line(&format!("- {}", other.seed()));
        }
    }
    shape.lines.iter().fold(settings, |settings, line| settings.line(line))
}
