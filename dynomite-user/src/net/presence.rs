//! What all workers know of the other nodes together: where they are, and how many links to them work.
//! Owns: the resolving of host names, off the workers' threads. Knows nothing of: links, requests.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::stream::Address;
use crate::ring::topology::Node;
use crate::stats::histogram::Unit;
use crate::stats::render::{Section, Sections};
use crate::stats::{Kind, PeerStat, PeerStats, Stat, Stats, peers};

/// One other node.
pub struct Presence {
    /// What operators call it.
    name: String,
    pub host: String,
    pub port: u16,
    datacenter: String,
    rack: String,
    /// The last one that was found.
    address: Mutex<Option<SocketAddr>>,
    /// Its name is to be looked up.
    is_wanted: AtomicBool,
    /// The log has it that it cannot be found.
    is_missed: AtomicBool,
    links_up: AtomicU32,
    /// Links over which it said that it is one of ours.
    links_ours: AtomicU32,
    /// An operator has said that it is down.
    is_barred: AtomicBool,
    /// How often a link to it was found to be stuck.
    alarms: AtomicU32,
    /// What each worker counts of it.
    counts: Mutex<Vec<Arc<PeerStats>>>,
}

impl Presence {
    fn new(node: &Node) -> Presence {
        let (host, port) = (&node.host, node.port);
        let known = host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port));
        Presence {
            name: node.name.clone(),
            host: host.clone(),
            port,
            datacenter: node.datacenter.clone(),
            rack: node.rack.clone(),
            address: Mutex::new(known),
            is_wanted: AtomicBool::new(known.is_none()),
            is_missed: AtomicBool::new(false),
            links_up: AtomicU32::new(0),
            links_ours: AtomicU32::new(0),
            is_barred: AtomicBool::new(false),
            alarms: AtomicU32::new(0),
            counts: Mutex::default(),
        }
    }

    /// A set of counts for one more worker.
    pub fn open_counts(&self, stats: &Stats) -> Arc<PeerStats> {
        let counts = stats.for_peer();
        lock(&self.counts).push(counts.clone());
        counts
    }

    pub fn address(&self) -> Option<Address> {
        lock(&self.address).map(Address::Tcp)
    }

    pub fn came_up(&self, is_ours: bool) {
        if self.links_up.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::info!("the peer at {}:{} is there", self.host, self.port);
        }
        self.links_ours.fetch_add(u32::from(is_ours), Ordering::Relaxed);
    }

    /// A link that had come up is gone.
    pub fn went_down(&self, was_ours: bool) {
        if self.links_up.fetch_sub(1, Ordering::Relaxed) == 1 {
            tracing::warn!("the peer at {}:{} is away: no link to it is left", self.host, self.port);
        }
        self.links_ours.fetch_sub(u32::from(was_ours), Ordering::Relaxed);
    }

    pub fn bar(&self, barred: bool) {
        self.is_barred.store(barred, Ordering::Relaxed);
    }

    /// It accepts connections but does not answer on one of them: the other workers had better look, too.
    pub fn alarm(&self) {
        self.alarms.fetch_add(1, Ordering::Relaxed);
    }

    pub fn alarms(&self) -> u32 {
        self.alarms.load(Ordering::Relaxed)
    }

    pub fn is_up(&self) -> bool {
        self.links_up.load(Ordering::Relaxed) > 0 && !self.is_barred.load(Ordering::Relaxed)
    }

    /// Where it is configured to be.
    fn id(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    fn has_a_name(&self) -> bool {
        self.host.parse::<IpAddr>().is_err()
    }
}

/// Every other node that was ever heard of. One a process.
pub struct Board {
    peers: Mutex<BTreeMap<(String, u16), Arc<Presence>>>,
    wanted: Notify,
    /// The control thread's own set.
    stats: Arc<Stats>,
}

/// One look-up; a resolver that is away must not keep the other names waiting for long.
const LOOKUP_PATIENCE: Duration = Duration::from_secs(5);
/// Between two look-ups of what could not be found or not be reached.
const LOOKUP_PAUSE: Duration = Duration::from_secs(1);

impl Board {
    pub fn new(stats: Arc<Stats>) -> Arc<Board> {
        Arc::new(Board { peers: Mutex::default(), wanted: Notify::new(), stats })
    }

    pub fn presence(&self, node: &Node) -> Arc<Presence> {
        let mut peers = lock(&self.peers);
        let presence = peers.entry((node.host.clone(), node.port)).or_insert_with(|| Arc::new(Presence::new(node)));
        if presence.is_wanted.load(Ordering::Relaxed) {
            self.wanted.notify_one();
        }
        presence.clone()
    }

    pub fn find(&self, host: &str, port: u16) -> Option<Arc<Presence>> {
        lock(&self.peers).get(&(host.to_owned(), port)).cloned()
    }

    /// The addresses, as they are configured, of those with this name, host, number or `host:port`.
    pub fn called(&self, name: &str) -> Vec<String> {
        let number = name.parse::<IpAddr>().ok();
        let peers = lock(&self.peers);
        let is_called = |peer: &&Arc<Presence>| {
            let is_there = || number.is_some() && lock(&peer.address).map(|address| address.ip()) == number;
            peer.name == name || peer.host == name || peer.id() == name || is_there()
        };
        peers.values().filter(is_called).map(|peer| peer.id()).collect()
    }

    pub fn addresses(&self) -> Vec<String> {
        lock(&self.peers).values().map(|peer| peer.id()).collect()
    }

    /// It could not be reached where it was thought to be: perhaps its name has moved.
    pub fn doubt(&self, presence: &Presence) {
        if presence.has_a_name() && !presence.is_wanted.swap(true, Ordering::Relaxed) {
            self.wanted.notify_one();
        }
    }

    /// Looks up the names that are wanted, for as long as it is polled.
    pub async fn resolve(self: Arc<Self>) {
        loop {
            let wanted: Vec<Arc<Presence>> =
                lock(&self.peers).values().filter(|peer| peer.is_wanted.load(Ordering::Relaxed)).cloned().collect();
            if wanted.is_empty() {
                self.wanted.notified().await;
                continue;
            }
            for presence in wanted {
                let lookup = tokio::net::lookup_host((presence.host.as_str(), presence.port));
                let found = tokio::time::timeout(LOOKUP_PATIENCE, lookup).await;
                let found: Vec<SocketAddr> = found.ok().and_then(Result::ok).into_iter().flatten().collect();
                let mut address = lock(&presence.address);
                // The one that is in use was not reached: the next one, if there are several.
                let next = found.iter().position(|one| Some(*one) == *address).map_or(0, |at| (at + 1) % found.len());
                let Some(next) = found.get(next) else {
                    if !presence.is_missed.swap(true, Ordering::Relaxed) {
                        let Presence { host, port, .. } = &*presence;
                        tracing::warn!(
                            "peer {host}:{port} cannot be found: its name has no address; it is looked up again and again"
                        );
                    }
                    continue;
                };
                presence.is_missed.store(false, Ordering::Relaxed);
                *address = Some(*next);
                presence.is_wanted.store(false, Ordering::Relaxed);
            }
            tokio::time::sleep(LOOKUP_PAUSE).await;
        }
    }
}

impl Sections for Board {
    fn sections(&self) -> Vec<Section> {
        let members: Vec<Arc<Presence>> = lock(&self.peers).values().cloned().collect();
        let up = members.iter().filter(|peer| peer.is_up()).count();
        self.stats.set(Stat::peers_up, up as u64);
        self.stats.set(Stat::peers_down, (members.len() - up) as u64);
        let mut section = Section::new("peers");
        let mut show = |show: &dyn Fn(&mut Section, &Presence)| {
            for peer in &members {
                show(&mut section, peer);
                section.labelled("peer", peer.id());
                section.labelled("peer_datacenter", &peer.datacenter);
                section.labelled("peer_rack", &peer.rack);
            }
        };
        show(&|section, peer| section.gauge("reachable", "1: requests are sent to this peer", peer.is_up().into()));
        show(&|section, peer| {
            let links = peer.links_up.load(Ordering::Relaxed);
            section.gauge("links", "working links to this peer, of all workers", links.into());
        });
        show(&|section, peer| {
            let links = peer.links_up.load(Ordering::Relaxed);
            let links_c = links.saturating_sub(peer.links_ours.load(Ordering::Relaxed));
            section.gauge("links_c", "of these, links to C Dynomite", links_c.into());
        });
        for stat in PeerStat::ALL {
            let row = stat.row();
            show(&|section, peer| {
                let value = peers::total(&lock(&peer.counts), *stat);
                match row.kind {
                    Kind::Counter => section.counter(row.name, row.help, value),
                    Kind::Gauge | Kind::Timestamp => section.gauge(row.name, row.help, value),
                }
            });
        }
        show(&|section, peer| {
            let latency = peers::latency(&lock(&peer.counts));
            section.summary("latency", "from a request to this peer to its reply", Unit::Microseconds, latency);
        });
        show(&|section, peer| {
            let latency = peers::latency(&lock(&peer.counts));
            section.gauge("latency_max", "the longest since the last reset, in microseconds", latency.max);
        });
        vec![section]
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn node(host: &str) -> Node {
        Node {
            name: host.to_owned(),
            host: host.to_owned(),
            port: 8101,
            datacenter: "a".to_owned(),
            rack: "r".to_owned(),
            tokens: Vec::new(),
            secured: false,
        }
    }

    #[test]
    fn numbers_need_no_resolver_names_do() {
        let board = Board::new(Stats::alone());
        assert!(board.presence(&node("127.0.0.9")).address().is_some());
        let named = board.presence(&node("localhost"));
        assert!(named.address().is_none());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        let found = async {
            while named.address().is_none() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        runtime.block_on(async {
            tokio::select! {
                () = board.clone().resolve() => unreachable!("it never ends"),
                () = found => {}
            }
        });
        let Some(Address::Tcp(address)) = named.address() else { panic!("no address") };
        assert!(address.ip().is_loopback() && address.port() == 8101);
    }

    #[test]
    fn up_means_a_link_and_no_bar() {
        let stats = Stats::alone();
        let board = Board::new(stats.clone());
        let (one, two) = (board.presence(&node("127.0.0.1")), board.presence(&node("127.0.0.2")));
        one.came_up(true);
        one.came_up(false);
        two.came_up(true);
        let check = |up, down| {
            board.sections();
            assert_eq!((stats.get(Stat::peers_up), stats.get(Stat::peers_down)), (up, down));
        };
        check(2, 0);
        two.went_down(true);
        check(1, 1);
        one.went_down(false);
        check(1, 1);
        one.bar(true);
        check(0, 2);
        one.bar(false);
        check(1, 1);
    }
}
