//! What an operator may change while the node runs, and what the node says about itself to its operator.
//! Owns: the levels, the state, the switches. One `Arc<Control>` a process: the control thread writes, workers read
//! (relaxed: a change need not be seen by the very next request) and are told of what they must act on at once.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::coordinator::ConsistencyLevel;
use crate::coordinator::here::Card;
use crate::coordinator::scripts::Texts;

/// Whether this node's datastore is read and written. The numbers travel in gossip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum NodeState {
    Init = 0,
    /// No reads and no writes: the datastore is being warmed up.
    Standby = 1,
    /// Reads are refused, writes wait.
    WritesOnly = 2,
    /// Reads are refused, waiting writes go out.
    Resuming = 3,
    Normal = 4,
    Joining = 7,
    Down = 8,
    Reset = 11,
    Unknown = 12,
}

impl NodeState {
    pub const ALL: [NodeState; 9] = [
        NodeState::Init,
        NodeState::Standby,
        NodeState::WritesOnly,
        NodeState::Resuming,
        NodeState::Normal,
        NodeState::Joining,
        NodeState::Down,
        NodeState::Reset,
        NodeState::Unknown,
    ];

    pub fn name(self) -> &'static str {
        match self {
            NodeState::Init => "INIT",
            NodeState::Standby => "STANDBY",
            NodeState::WritesOnly => "WRITES_ONLY",
            NodeState::Resuming => "RESUMING",
            NodeState::Normal => "NORMAL",
            NodeState::Joining => "JOINING",
            NodeState::Down => "DOWN",
            NodeState::Reset => "RESET",
            NodeState::Unknown => "Unknown",
        }
    }

    /// Of a number from the wire or an atomic; what has no name is `Unknown`.
    pub fn from_number(number: u8) -> NodeState {
        NodeState::ALL.into_iter().find(|state| *state as u8 == number).unwrap_or(NodeState::Unknown)
    }
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What `/peer/<verb>/<name>` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerVerb {
    /// Nothing is asked of it until `Up`.
    Down,
    /// The end of `Down`. Links that wait to be dialled again are dialled at once.
    Up,
    /// Close the links to it and dial again.
    Reset,
}

impl FromStr for PeerVerb {
    type Err = ();

    fn from_str(text: &str) -> Result<PeerVerb, ()> {
        match text {
            "down" => Ok(PeerVerb::Down),
            "up" => Ok(PeerVerb::Up),
            "reset" => Ok(PeerVerb::Reset),
            _ => Err(()),
        }
    }
}

/// What listeners are told of, in the thread that made the change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    State(NodeState),
    /// `None`: every peer.
    Peer {
        verb: PeerVerb,
        name: Option<String>,
    },
    /// A consistency level, the timeout factor or read repair: worth a new look before the kernel answers anything.
    Levels,
    /// Take no new clients, finish what is outstanding, stop.
    Drain,
}

type Listener = Box<dyn Fn(&Change) + Send + Sync>;

pub const TIMEOUT_FACTOR_MAX: u8 = 10;

pub struct Control {
    client_ids: AtomicU64,
    /// How many clients are connected, on all workers.
    clients: AtomicUsize,
    /// The clients of all workers, by id.
    roster: Mutex<BTreeMap<u64, Card>>,
    /// Scripts that C nodes may have to run.
    scripts: Mutex<Texts>,
    read_consistency: AtomicU8,
    write_consistency: AtomicU8,
    state: AtomicU8,
    timeout_factor: AtomicU8,
    read_repairs: AtomicBool,
    draining: AtomicBool,
    listeners: Mutex<Vec<Listener>>,
    cluster: Mutex<Arc<ClusterView>>,
}

impl Control {
    pub fn new(read: ConsistencyLevel, write: ConsistencyLevel, read_repairs: bool, state: NodeState) -> Control {
        Control {
            client_ids: AtomicU64::new(0),
            clients: AtomicUsize::new(0),
            roster: Mutex::default(),
            scripts: Mutex::default(),
            read_consistency: AtomicU8::new(read as u8),
            write_consistency: AtomicU8::new(write as u8),
            state: AtomicU8::new(state as u8),
            timeout_factor: AtomicU8::new(1),
            read_repairs: AtomicBool::new(read_repairs),
            draining: AtomicBool::new(false),
            listeners: Mutex::default(),
            cluster: Mutex::default(),
        }
    }

    /// A number that no other client of this node has or had.
    pub fn next_client_id(&self) -> u64 {
        self.client_ids.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// One more client, if that is not more than `max`; 0: no limit. Who was let in must be let out.
    pub fn let_in(&self, max: usize) -> bool {
        let more = |clients| (max == 0 || clients < max).then_some(clients + 1);
        self.clients.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    pub fn let_out(&self) {
        self.clients.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many there are.
    pub fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    /// Held for a moment only, and only where a script concerns a C node.
    pub fn scripts(&self) -> MutexGuard<'_, Texts> {
        self.scripts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What CLIENT LIST shows. Held for a moment only: when clients come, go, or say something about themselves.
    pub fn roster(&self) -> MutexGuard<'_, BTreeMap<u64, Card>> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The level that connections accepted from now on start with.
    pub fn read_consistency(&self) -> ConsistencyLevel {
        level(&self.read_consistency)
    }

    pub fn write_consistency(&self) -> ConsistencyLevel {
        level(&self.write_consistency)
    }

    pub fn set_read_consistency(&self, level: ConsistencyLevel) {
        self.read_consistency.store(level as u8, Ordering::Relaxed);
        self.tell(&Change::Levels);
    }

    pub fn set_write_consistency(&self, level: ConsistencyLevel) {
        self.write_consistency.store(level as u8, Ordering::Relaxed);
        self.tell(&Change::Levels);
    }

    pub fn state(&self) -> NodeState {
        NodeState::from_number(self.state.load(Ordering::Relaxed))
    }

    pub fn set_state(&self, state: NodeState) {
        let before = NodeState::from_number(self.state.swap(state as u8, Ordering::Relaxed));
        if before != state {
            tracing::info!("node state {before} -> {state}");
            self.tell(&Change::State(state));
        }
    }

    /// The cluster knows this node: it stops joining. Any other state is the operator's, and stays.
    pub fn joined(&self) {
        let (joining, normal) = (NodeState::Joining as u8, NodeState::Normal as u8);
        if self.state.compare_exchange(joining, normal, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            tracing::info!("node state {} -> {}", NodeState::Joining, NodeState::Normal);
            self.tell(&Change::State(NodeState::Normal));
        }
    }

    /// Every timeout is multiplied by this: 1 to 10.
    pub fn timeout_factor(&self) -> u8 {
        self.timeout_factor.load(Ordering::Relaxed)
    }

    pub fn set_timeout_factor(&self, factor: u64) {
        let factor = factor.clamp(1, u64::from(TIMEOUT_FACTOR_MAX)) as u8;
        self.timeout_factor.store(factor, Ordering::Relaxed);
        self.tell(&Change::Levels);
    }

    /// The switch; repair also needs both levels above `DcOne`: see `repairs_reads`.
    pub fn read_repairs(&self) -> bool {
        self.read_repairs.load(Ordering::Relaxed)
    }

    pub fn set_read_repairs(&self, enabled: bool) {
        self.read_repairs.store(enabled, Ordering::Relaxed);
        self.tell(&Change::Levels);
    }

    /// Are requests rewritten for read repair now?
    pub fn repairs_reads(&self) -> bool {
        self.read_repairs()
            && self.read_consistency() > ConsistencyLevel::DcOne
            && self.write_consistency() > ConsistencyLevel::DcOne
    }

    pub fn command_peers(&self, verb: PeerVerb, name: Option<String>) {
        self.tell(&Change::Peer { verb, name });
    }

    /// Asks every part to finish. Asking again changes nothing.
    pub fn drain(&self) {
        if !self.draining.swap(true, Ordering::Relaxed) {
            self.tell(&Change::Drain);
        }
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// `listener` is called for every change from now on, in the changer's thread: post to a mailbox and return.
    pub fn listen(&self, listener: impl Fn(&Change) + Send + Sync + 'static) {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(listener));
    }

    fn tell(&self, change: &Change) {
        for listener in &*self.listeners.lock().unwrap_or_else(PoisonError::into_inner) {
            listener(change);
        }
    }

    /// What `/cluster_describe` shows.
    pub fn cluster(&self) -> Arc<ClusterView> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_cluster(&self, view: ClusterView) {
        *self.cluster.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
    }
}

fn level(cell: &AtomicU8) -> ConsistencyLevel {
    let number = cell.load(Ordering::Relaxed);
    ConsistencyLevel::ALL.into_iter().find(|level| *level as u8 == number).unwrap_or_default()
}

/// The known nodes, in the order in which they are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterView {
    pub datacenters: Vec<DatacenterView>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatacenterView {
    pub name: String,
    pub racks: Vec<RackView>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RackView {
    pub name: String,
    pub nodes: Vec<NodeView>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    pub name: String,
    pub host: String,
    pub port: u16,
    /// The first one.
    pub token: u32,
}

impl ClusterView {
    /// Adds a node; its datacenter and rack are made when they are new. Datacenters keep the order of their first
    /// node, racks are sorted by name.
    pub fn add(&mut self, datacenter: &str, rack: &str, node: NodeView) {
        let at = self.datacenters.iter().position(|known| known.name == datacenter).unwrap_or_else(|| {
            self.datacenters.push(DatacenterView { name: datacenter.to_owned(), racks: Vec::new() });
            self.datacenters.len() - 1
        });
        let racks = &mut self.datacenters[at].racks;
        let at = racks.binary_search_by(|known| known.name.as_str().cmp(rack)).unwrap_or_else(|at| {
            racks.insert(at, RackView { name: rack.to_owned(), nodes: Vec::new() });
            at
        });
        racks[at].nodes.push(node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control() -> Control {
        Control::new(ConsistencyLevel::DcOne, ConsistencyLevel::DcQuorum, true, NodeState::Joining)
    }

    #[test]
    fn repair_needs_the_switch_and_both_levels() {
        let control = control();
        assert!(!control.repairs_reads());
        control.set_read_consistency(ConsistencyLevel::DcSafeQuorum);
        assert!(control.repairs_reads());
        control.set_read_repairs(false);
        assert!(!control.repairs_reads());
    }

    #[test]
    fn no_more_clients_than_may_be() {
        let control = control();
        let let_in = |max: usize| (0..10).filter(|_| control.let_in(max)).count();
        assert_eq!(let_in(3), 3);
        control.let_out();
        assert_eq!((let_in(3), let_in(3), let_in(5)), (1, 0, 2));
        assert_eq!((let_in(0), let_in(5)), (10, 0));
    }

    #[test]
    fn the_timeout_factor_stays_between_one_and_ten() {
        let control = control();
        for (asked, got) in [(0, 1), (1, 1), (7, 7), (200, 10), (u64::MAX, 10)] {
            control.set_timeout_factor(asked);
            assert_eq!(control.timeout_factor(), got, "{asked}");
        }
    }

    #[test]
    fn listeners_hear_of_changes_once() {
        let control = control();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let log = heard.clone();
        control.listen(move |change| log.lock().unwrap().push(change.clone()));
        control.set_state(NodeState::Normal);
        control.set_state(NodeState::Normal);
        control.drain();
        control.drain();
        assert_eq!(*heard.lock().unwrap(), [Change::State(NodeState::Normal), Change::Drain]);
        assert_eq!(control.state(), NodeState::Normal);
    }

    #[test]
    fn only_joining_ends_by_itself() {
        let control = control();
        control.joined();
        assert_eq!(control.state(), NodeState::Normal);
        control.set_state(NodeState::Standby);
        control.joined();
        assert_eq!(control.state(), NodeState::Standby);
    }

    #[test]
    fn states_survive_their_number() {
        assert!(NodeState::ALL.into_iter().all(|state| NodeState::from_number(state as u8) == state));
        assert_eq!(NodeState::from_number(5), NodeState::Unknown);
    }

    #[test]
    fn a_cluster_view_sorts_racks_and_keeps_datacenters_in_order() {
        let node = |name: &str| NodeView { name: name.to_owned(), host: name.to_owned(), port: 8101, token: 1 };
        let mut view = ClusterView::default();
        for (datacenter, rack, name) in [("b", "r2", "1"), ("a", "r1", "2"), ("b", "r1", "3"), ("b", "r2", "4")] {
            view.add(datacenter, rack, node(name));
        }
        let shape: Vec<_> = (view.datacenters.iter())
            .flat_map(|dc| dc.racks.iter().map(move |rack| (dc.name.as_str(), rack.name.as_str(), rack.nodes.len())))
            .collect();
        assert_eq!(shape, [("b", "r1", 1), ("b", "r2", 2), ("a", "r1", 1)]);
    }
}
