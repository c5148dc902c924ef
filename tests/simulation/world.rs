//! One run: a cluster, its clients and its misfortunes, from a seed to a verdict.
//! Owns: the clock and the order of things. Everything that is random comes from the seed.

mod trouble;

use std::collections::VecDeque;
use std::time::Duration;

use dynomite_common::token::Token;
use dynomite_tests::random::Random;
use dynomite_user::coordinator::route::RouteSettings;
use dynomite_user::coordinator::{ConsistencyLevel, Settings};
use dynomite_user::moment::Moment;
use dynomite_user::protocol::Protocol;
use dynomite_user::ring::{HashKind, Node as RingNode, PeerId, Topology};

use crate::faults::{self, Fault};
use crate::network::{Arrival, ConnId, Holder, Network, Notice, Place, Port};
use crate::node::{Canary, Levels, Node, Target, Wish};
use crate::oracle::{Oracle, Replica, Stand, version_held};
use crate::store::{Mood, Store};
use crate::workload::{Client, Habits};

/// How a run went.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    pub answers: u64,
    pub errors: u64,
    pub acknowledged: u64,
    pub held: u64,
    /// Replicas that had to hold what was acknowledged, and did.
    pub compared: u64,
    pub events: u64,
}

/// The seed and what was wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    pub what: String,
    pub at: Moment,
    pub story: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub canary: Option<Canary>,
    /// Keep what happened, to tell it.
    pub story: bool,
}

struct Member {
    /// `None` while it is dead.
    node: Option<Node>,
    life: u32,
    spec: RingNode,
    stand: Stand,
    store: Store,
    /// What it does next, and when: nothing before this.
    due: Moment,
    /// Microseconds that its clock is ahead or behind when nobody sets it.
    skew: i64,
}

struct World {
    now: Moment,
    random: Random,
    network: Network,
    members: Vec<Member>,
    clients: Vec<Client>,
    habits: Habits,
    levels: Levels,
    settings: Settings,
    /// As the first member sees it: its peers' numbers are the members'.
    topology: Topology,
    oracle: Oracle,
    /// By the pair: something has stood between these two.
    troubled: Vec<Vec<bool>>,
    faults: VecDeque<(Moment, Fault)>,
    /// What ends when.
    ends: Vec<(Moment, Fault)>,
    canary: Option<Canary>,
    phase: Phase,
    events: u64,
    story: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Links are made.
    Start,
    /// Clients read and write, things go wrong.
    Load,
    /// Nothing goes wrong any more, nobody asks; links come back.
    Rest,
    /// Clients read everything once.
    Look,
}

const START_MAX: Moment = Moment(20_000_000_000);
const LOAD: Duration = Duration::from_secs(12);
/// Longer than the longest pause between two attempts to connect.
const REST: Duration = Duration::from_secs(25);
const LOOK: Duration = Duration::from_secs(15);
/// How often, and with how much time between: the first ones repair, and may have to wait for what is under way.
const LOOKS: usize = 2;
const BETWEEN_LOOKS: Duration = Duration::from_secs(4);
const TIMEOUT: Duration = Duration::from_millis(400);
/// A client's request is answered by then, whatever happened: the longest that a request may take (another datacenter is
/// given five seconds more), what waits before it in the client's order, and the network's own delays.
const PATIENCE: Duration = Duration::from_secs(12);
/// So many things happen in no run.
const EVENTS_MAX: u64 = 5_000_000;

pub fn run(seed: u64, options: Options) -> Result<Summary, Failure> {
    let mut world = World::build(seed, options);
    match world.play() {
        Ok(()) => Ok(Summary {
            answers: world.oracle.answers,
            errors: world.oracle.errors,
            acknowledged: world.oracle.acknowledged,
            held: world.oracle.held,
            compared: world.oracle.compared,
            events: world.events,
        }),
        Err(what) => Err(Failure { what, at: world.now, story: world.story.unwrap_or_default() }),
    }
}

impl World {
    fn build(seed: u64, options: Options) -> World {
        let mut random = Random::from_seed(seed);
        let specs = cluster(&mut random);
        let mut datacenters: Vec<String> = Vec::new();
        let mut racks: Vec<(String, String)> = Vec::new();
        let mut members = Vec::new();
        for spec in specs {
            let place = |list: &mut Vec<String>, name: &String| {
                list.iter().position(|known| known == name).unwrap_or_else(|| {
                    list.push(name.clone());
                    list.len() - 1
                })
            };
            let datacenter = place(&mut datacenters, &spec.datacenter);
            let pair = (spec.datacenter.clone(), spec.rack.clone());
            let rack = racks.iter().position(|known| *known == pair).unwrap_or_else(|| {
                racks.push(pair);
                racks.len() - 1
            });
            let (stand, skew) = (Stand { datacenter, rack }, faults::skew(&mut random));
            members.push(Member { node: None, life: 0, spec, stand, store: Store::new(), due: Moment(0), skew });
        }
        let stands: Vec<_> = members.iter().map(|member| member.stand).collect();
        let (read, write) = (random.pick(&ConsistencyLevel::ALL), random.pick(&ConsistencyLevel::ALL));
        let repairs = read.min(write) > ConsistencyLevel::DcOne && random.below(3) > 0;
        let levels = Levels { read, write, repairs };
        let is_calm = random.one_in(4);
        let habits = Habits {
            pipeline_max: random.pick(&[1, 2, 6]),
            pause: Duration::from_millis(random.pick(&[30, 100, 400])),
            value_bytes_max: random.pick(&[0, 10, 300]),
            many_keys: random.one_in(2),
            removes: read > ConsistencyLevel::DcOne && random.one_in(2),
            moves: repairs,
            repeats: random.one_in(2),
        };
        let clients = 1 + random.below(5);
        let clients: Vec<_> = (0..clients).map(|number| Client::new(number, random.below(members.len()))).collect();
        let faults = match is_calm {
            true => Vec::new(),
            false => faults::plan(&mut random, members.len(), clients.len(), Moment(0) + LOAD),
        };
        let settings = Settings {
            protocol: Protocol::Resp,
            hash: HashKind::Murmur,
            hash_tag: None,
            timeout: TIMEOUT,
            requirepass: None,
            outstanding_max: 10_000,
            route: RouteSettings { remote_reads: random.one_in(2), ..RouteSettings::default() },
        };
        let latency = {
            let stands = stands.clone();
            move |from: Place, to: Place| {
                if from == to {
                    return Duration::from_micros(30);
                }
                let far = stands[usize::from(from.0)].datacenter != stands[usize::from(to.0)].datacenter;
                if far { Duration::from_millis(15) } else { Duration::from_micros(150) }
            }
        };
        let own = members[0].spec.clone();
        let others = members[1..].iter().map(|member| member.spec.clone()).collect();
        let topology = Topology::build(own, others).expect("a ring");
        World {
            now: Moment(0),
            topology,
            troubled: vec![vec![false; members.len()]; members.len()],
            network: Network::new(random.bits(), latency),
            random,
            members,
            clients,
            habits,
            levels,
            settings,
            oracle: Oracle::new(levels, is_calm, stands),
            faults: faults.into(),
            ends: Vec::new(),
            canary: options.canary,
            phase: Phase::Start,
            events: 0,
            story: options.story.then(Vec::new),
        }
    }

    fn play(&mut self) -> Result<(), String> {
        self.tell(|world| {
            let nodes = world.members.iter().map(|member| {
                let tokens: Vec<_> = member.spec.tokens.iter().map(|token| token.0).collect();
                format!("{}/{} {tokens:?}", member.spec.datacenter, member.spec.rack)
            });
            format!("{:?}, {:?}, nodes {}", world.levels, world.habits, nodes.collect::<Vec<_>>().join(", "))
        });
        for node in 0..self.members.len() {
            self.start(node);
        }
        let faults = std::mem::take(&mut self.faults);
        // Links are up before the clients come: a cluster that starts is another story.
        while !self.members.iter().all(|member| member.node.as_ref().is_some_and(Node::is_connected)) {
            if self.now > START_MAX {
                return Err("the cluster does not come up".to_owned());
            }
            self.run_until(self.now + Duration::from_millis(10))?;
        }
        let load_begins = self.now;
        let load_ends = load_begins + LOAD;
        let by = load_begins.since(Moment(0));
        self.faults = faults.into_iter().map(|(at, fault)| (at + by, fault.postponed(by))).collect();
        for client in &mut self.clients {
            client.next_at = load_begins + Duration::from_millis(self.random.below(500) as u64);
        }
        self.phase = Phase::Load;
        self.run_until(load_ends)?;
        self.rest();
        self.run_until(load_ends + REST)?;
        self.expect_quiet()?;
        self.oracle.over();
        self.phase = Phase::Look;
        self.look()?;
        self.run_until(load_ends + REST + LOOK)?;
        self.expect_quiet()?;
        self.expect_kept()
    }

    fn run_until(&mut self, end: Moment) -> Result<(), String> {
        while let Some(at) = self.next_at().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.events += 1;
            if self.events > EVENTS_MAX {
                return Err("too much happens: is somebody chasing his tail?".to_owned());
            }
            self.step()?;
        }
        self.now = end;
        Ok(())
    }

    fn next_at(&self) -> Option<Moment> {
        let members = self.members.iter().map(|member| member.due);
        let clients = self.clients.iter().filter(|_| self.phase == Phase::Load).map(|client| client.next_at);
        let faults = self.faults.front().map(|(at, _)| *at);
        let ends = self.ends.iter().map(|(at, _)| *at);
        members.chain(clients).chain(faults).chain(ends).chain(self.network.next_at()).min()
    }

    /// Everything that is due now, each kind in its turn.
    fn step(&mut self) -> Result<(), String> {
        if let Some(arrival) = self.network.pop(self.now) {
            return self.on_arrival(arrival);
        }
        if let Some(at) = self.ends.iter().position(|(at, _)| *at <= self.now) {
            let (_, fault) = self.ends.swap_remove(at);
            self.end(fault);
            return Ok(());
        }
        if self.faults.front().is_some_and(|(at, _)| *at <= self.now) {
            let (_, fault) = self.faults.pop_front().expect("just seen");
            self.begin(fault);
            return Ok(());
        }
        while let Some(number) = self.members.iter().position(|member| member.due <= self.now) {
            let member = &mut self.members[number];
            if let Some((conn, reply)) = member.store.step(self.now, &mut self.random) {
                self.network.send(conn, 1, reply, self.now);
                self.members[number].look_ahead();
                return Ok(());
            }
            if let Some(node) = &mut member.node
                && node.wakes_at() <= self.now
            {
                let wishes = node.wake(self.now);
                self.grant(number, wishes);
                return Ok(());
            }
            member.look_ahead();
        }
        if self.phase == Phase::Load {
            for number in 0..self.clients.len() {
                if self.clients[number].next_at <= self.now {
                    return self.client_turn(number);
                }
            }
        }
        Ok(())
    }

    fn on_arrival(&mut self, arrival: Arrival) -> Result<(), String> {
        let Arrival { conn, side, notice } = arrival;
        self.tell(|world| {
            let what = match &notice {
                Notice::Bytes(bytes) => {
                    format!("{} bytes {}", bytes.len(), bytes[..bytes.len().min(4000)].escape_ascii())
                }
                other => format!("{other:?}"),
            };
            format!("{:?} of {:?}: {what}", world.network.holder(conn, side), conn)
        });
        if let Notice::Knock(port) = notice {
            self.on_knock(conn, port);
            return Ok(());
        }
        match self.network.holder(conn, side) {
            Some(Holder::Node(number, life)) => {
                let member = &mut self.members[number];
                if let Some(node) = member.node.as_mut().filter(|node| node.life == life) {
                    let wishes = node.on_notice(conn, notice, self.canary, self.now);
                    self.grant(number, wishes);
                }
                Ok(())
            }
            Some(Holder::Datastore(number)) => {
                let store = &mut self.members[number].store;
                match notice {
                    Notice::Bytes(bytes) => store.bytes(conn, &bytes, self.now),
                    _ => store.closed(conn),
                }
                self.members[number].look_ahead();
                Ok(())
            }
            Some(Holder::Client(number)) => self.on_client(number, conn, notice),
            Some(Holder::Stranger) | None => Ok(()),
        }
    }

    fn on_knock(&mut self, conn: ConnId, port: Port) {
        let accepted = match port {
            Port::Clients(number) | Port::Peers(number) => {
                let life = self.members[number].life;
                self.members[number].node.as_mut().map(|node| {
                    node.accept(conn, port);
                    Holder::Node(number, life)
                })
            }
            Port::Datastore(number) => {
                let store = &mut self.members[number].store;
                (store.mood != Mood::Dead).then(|| {
                    store.connected(conn);
                    Holder::Datastore(number)
                })
            }
        };
        match accepted {
            Some(holder) => self.network.accept(conn, holder, self.now),
            None => self.network.refuse(conn, self.now),
        }
    }

    fn grant(&mut self, number: usize, wishes: Vec<Wish>) {
        for wish in wishes {
            match wish {
                Wish::Send(conn, bytes) => {
                    let side = self.side_of(conn, number);
                    self.network.send(conn, side, bytes, self.now);
                }
                Wish::Close(conn) => {
                    let side = self.side_of(conn, number);
                    self.network.close(conn, side, self.now);
                }
                Wish::Abort(conn) => {
                    let side = self.side_of(conn, number);
                    self.network.abort(conn, side, self.now);
                }
                Wish::Dial(target) => {
                    let (to, port) = match target {
                        Target::Datastore => (number, Port::Datastore(number)),
                        Target::Peer(peer) => {
                            let to = self.member_of(number, peer);
                            (to, Port::Peers(to))
                        }
                    };
                    let holder = Holder::Node(number, self.members[number].life);
                    let conn = self.network.dial(place(number), holder, place(to), port, self.now);
                    if let Some(node) = &mut self.members[number].node {
                        node.dialled(target, conn);
                    }
                }
            }
        }
        self.members[number].look_ahead();
    }

    fn side_of(&self, conn: ConnId, number: usize) -> usize {
        let holder = Holder::Node(number, self.members[number].life);
        usize::from(self.network.holder(conn, 0) != Some(holder))
    }

    /// Which member a node knows by this id: itself first, then the others in order.
    fn member_of(&self, number: usize, peer: PeerId) -> usize {
        let id = peer.0 as usize;
        if id <= number { id - 1 } else { id }
    }

    fn start(&mut self, number: usize) {
        let own = self.members[number].spec.clone();
        let others = self.members.iter().enumerate().filter(|(other, _)| *other != number);
        let others = others.map(|(_, member)| member.spec.clone()).collect();
        let topology = Topology::build(own, others).expect("a ring");
        let member = &mut self.members[number];
        member.life += 1;
        let (life, skew) = (member.life, member.skew);
        member.node = Some(Node::start(life, skew, topology, self.settings.clone(), self.levels, self.now));
        member.look_ahead();
    }

    fn kill(&mut self, number: usize) {
        let member = &mut self.members[number];
        if member.node.take().is_some() {
            self.network.close_all(Holder::Node(number, member.life), self.now);
        }
    }

    // Clients ----------------------------------------------------------------------------------------------------

    fn client_turn(&mut self, number: usize) -> Result<(), String> {
        let now = self.now;
        let client = &mut self.clients[number];
        if client.waits_since().is_some_and(|since| since + PATIENCE <= now) {
            return Err(format!("client {number} of node {} waits since {:?}", client.node, client.waits_since()));
        }
        let pause = self.random.below(self.habits.pause.as_micros() as usize) as u64;
        client.next_at = now + Duration::from_micros(1 + pause);
        match client.conn {
            None => self.client_dials(number),
            Some(conn) if client.is_connected => {
                // Not too much at a time: a client is a patient thing.
                if client.outstanding() < 64 {
                    let (topology, settings) = (&self.topology, &self.settings);
                    let mut span = |name: &str| span(&mut self.members, topology, settings, name, now);
                    let bytes = client.ask(&self.habits, &mut self.oracle, &mut self.random, &mut span, now);
                    self.network.send(conn, 0, bytes, now);
                }
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn client_dials(&mut self, number: usize) {
        let client = &mut self.clients[number];
        let node = client.node;
        let conn = self.network.dial(place(node), Holder::Client(number), place(node), Port::Clients(node), self.now);
        client.conn = Some(conn);
    }

    fn client_leaves(&mut self, number: usize) {
        let client = &mut self.clients[number];
        if let Some(conn) = client.conn {
            self.network.close(conn, 0, self.now);
            client.disconnected(&mut self.oracle);
            // Perhaps to another node.
            client.node = self.random.below(self.members.len());
        }
    }

    fn on_client(&mut self, number: usize, conn: ConnId, notice: Notice) -> Result<(), String> {
        let client = &mut self.clients[number];
        if client.conn != Some(conn) {
            return Ok(());
        }
        match notice {
            Notice::Connected => {
                let life = self.members[client.node].life;
                let bytes = client.connected(life, &self.habits, &mut self.oracle, &mut self.random, self.now);
                self.network.send(conn, 0, bytes, self.now);
                Ok(())
            }
            Notice::Bytes(bytes) => {
                let (topology, settings, now) = (&self.topology, &self.settings, self.now);
                let mut span = |name: &str| span(&mut self.members, topology, settings, name, now);
                client.hear(&bytes, &mut self.oracle, &mut span)
            }
            _ => {
                client.disconnected(&mut self.oracle);
                if self.random.one_in(2) {
                    client.node = self.random.below(self.members.len());
                }
                if self.phase == Phase::Look {
                    return Err(format!("client {number} was cut off though nothing is wrong"));
                }
                client.next_at = self.now + Duration::from_millis(50 + self.random.below(500) as u64);
                Ok(())
            }
        }
    }

    // The end ----------------------------------------------------------------------------------------------------

    /// Nothing goes wrong any more, and nobody asks.
    fn rest(&mut self) {
        self.tell(|_| "rest".to_owned());
        self.phase = Phase::Rest;
        self.faults.clear();
        for (_, fault) in std::mem::take(&mut self.ends) {
            self.end(fault);
        }
    }

    fn expect_quiet(&self) -> Result<(), String> {
        for (number, member) in self.members.iter().enumerate() {
            let node = member.node.as_ref().ok_or(format!("node {number} did not come back"))?;
            let left = node.leftovers();
            if !left.is_empty() {
                return Err(format!("node {number} is not quiet: {}", left.join(", ")));
            }
            if !node.is_connected() {
                return Err(format!("node {number} has not found all its links again"));
            }
        }
        match self.clients.iter().find(|client| client.outstanding() > 0) {
            Some(client) => Err(format!("client {} still waits for {} answers", client.number, client.outstanding())),
            None => Ok(()),
        }
    }

    /// Every client reads the latest keys once more: now it must be answered.
    fn look(&mut self) -> Result<(), String> {
        self.tell(|_| "look".to_owned());
        for number in 0..self.clients.len() {
            if self.clients[number].conn.is_none() {
                self.client_dials(number);
            }
        }
        self.run_until(self.now + Duration::from_secs(1))?;
        for _ in 0..LOOKS {
            for number in 0..self.clients.len() {
                let latest = self.latest_keys();
                let client = &mut self.clients[number];
                let Some(conn) = client.conn.filter(|_| client.is_connected) else {
                    return Err(format!("client {number} cannot connect to node {}", client.node));
                };
                let mut bytes = Vec::new();
                for key in latest {
                    bytes.extend(client.ask_for(key, &self.oracle, self.now));
                }
                self.network.send(conn, 0, bytes, self.now);
            }
            self.run_until(self.now + BETWEEN_LOOKS)?;
        }
        Ok(())
    }

    fn latest_keys(&self) -> std::ops::Range<usize> {
        let keys = self.oracle.keys();
        keys.saturating_sub(100)..keys
    }

    /// What was acknowledged is where it should be.
    fn expect_kept(&mut self) -> Result<(), String> {
        let looked: Vec<usize> = self.clients.iter().map(|client| self.members[client.node].stand.datacenter).collect();
        let all = self.levels.read == ConsistencyLevel::DcEachSafeQuorum;
        for key in 0..self.oracle.keys() {
            let writer = self.oracle.acknowledged_by(key);
            let token = self.settings.hash.token(self.oracle.name(key).as_bytes());
            let owners: Vec<usize> = self.topology.owners(token).map(|(_, _, owner)| owner.0 as usize).collect();
            let is_looked_at = self.levels.repairs && self.latest_keys().contains(&key);
            let mut replicas = Vec::new();
            for owner in owners {
                let was_reached = self.was_reached(writer, owner);
                let Member { stand, store, .. } = &mut self.members[owner];
                let was_read = is_looked_at && (all || looked.contains(&stand.datacenter));
                let reply = store.ask(&self.oracle.read(key), self.now);
                replicas.push(Replica { stand: *stand, reply, was_reached, was_read });
            }
            self.oracle.judge_replicas(key, &replicas)?;
        }
        Ok(())
    }

    /// Has nothing ever stood between what a node was told and that replica?
    fn was_reached(&self, writer: usize, owner: usize) -> bool {
        let (here, there) = (self.members[writer].stand.datacenter, self.members[owner].stand.datacenter);
        if here == there || self.levels.write == ConsistencyLevel::DcEachSafeQuorum {
            return !self.troubled[writer][owner] && !self.troubled[writer][writer] && !self.troubled[owner][owner];
        }
        // Any of them may have been the one that hands it on.
        let all = || (0..self.members.len()).filter(|other| self.members[*other].stand.datacenter == there);
        let all: Vec<usize> = all().chain([writer]).collect();
        all.iter().all(|one| all.iter().all(|other| !self.troubled[*one][*other]))
    }

    fn tell(&mut self, what: impl FnOnce(&World) -> String) {
        if let Some(mut story) = self.story.take() {
            story.push(format!("{:>12.6} {}", self.now.0 as f64 / 1e9, what(self)));
            self.story = Some(story);
        }
    }
}

impl Member {
    fn look_ahead(&mut self) {
        let node = self.node.as_ref().map(Node::wakes_at);
        self.due = node.into_iter().chain(self.store.next_at()).min().unwrap_or(Moment(u64::MAX));
    }
}

/// The lowest and the highest version that replicas of a key hold.
fn span(members: &mut [Member], topology: &Topology, settings: &Settings, name: &str, now: Moment) -> (u64, u64) {
    let (mut lowest, mut highest) = (u64::MAX, 0);
    for (_, _, owner) in topology.owners(settings.hash.token(name.as_bytes())) {
        let store = &mut members[owner.0 as usize].store;
        let texts = store.ask(&[b"GET", name.as_bytes()], now);
        let reply = if texts.starts_with(b"-") { store.ask(&[b"HGET", name.as_bytes(), b"f"], now) } else { texts };
        let version = version_held(name, &reply);
        (lowest, highest) = (lowest.min(version), highest.max(version));
    }
    (lowest, highest)
}

fn place(number: usize) -> Place {
    Place(number as u16)
}

/// Datacenters, racks and nodes. Racks may cut the ring at different places.
fn cluster(random: &mut Random) -> Vec<RingNode> {
    let mut nodes: Vec<RingNode> = Vec::new();
    let datacenters = random.pick(&[1, 1, 1, 2, 2, 3]);
    for datacenter in 0..datacenters {
        let racks = random.pick(&[1, 2, 3, 3, 3, 4, 5]);
        for rack in 0..racks {
            for _ in 0..random.pick(&[1, 1, 2, 3]) {
                let number = nodes.len();
                nodes.push(RingNode {
                    name: format!("node{number}"),
                    host: format!("10.0.0.{number}"),
                    port: 8101,
                    datacenter: format!("dc{datacenter}"),
                    rack: format!("rack{rack}"),
                    tokens: (0..random.pick(&[1, 1, 3])).map(|_| Token(random.bits() as u32)).collect(),
                    secured: false,
                });
            }
        }
    }
    nodes
}
