//! The fast path seen from the daemon: clients whose requests the kernel answers.
//! Owns: the programs, which slots are free, whether anything may be routed. Knows nothing of: protocols beyond a reply's
//! length, the coordinator, configuration files.
//!
//! In reading order: `load` (object → kernel), `flow` (one adopted client), `turn` (what the daemon may do with it),
//! `habit` and `crowd` (who is taken in), `relay` (long replies), `events`, `words`, `slots`, `descriptors`, `btf`, `sys`; and
//! beside all that, `guard`.

mod btf;
mod counts;
pub mod crowd;
mod descriptors;
mod events;
mod flow;
pub mod guard;
pub mod habit;
mod load;
pub mod probe;
mod relay;
pub mod selftest;
mod shortcut;
mod slots;
mod sys;
mod turn;
pub mod words;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dynomite_common::abi::{CommandRow, KernelHash, Name, Table, TokenRange};
use dynomite_common::event::Event;
use dynomite_common::limits::{RANGES_MAX, SHORTCUTS_MAX};
use dynomite_common::reason::{Answers, Reason, Tally};
use mio::Waker;
use socket2::{Domain, Protocol, Socket, Type};

pub use counts::{Counts, Reset};
pub use descriptors::Descriptors;
pub use dynomite_common::limits::SHORTCUT_FRAME_BYTES_MAX;
pub use events::Mailbox;
pub use flow::{Flow, More, Owed, Progress, Released, push};
pub use load::LoadError;
pub use shortcut::Shortcut;
pub use turn::{Turn, View};

use crate::moment::Moment;
use load::{Loaded, Offsets};
use slots::Slots;
use words::Words;

/// What the datastore speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Resp,
    Memcache,
}

/// What the fast path is told at the start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The local datastore.
    pub datastore: SocketAddr,
    pub language: Language,
    pub flows_max: u32,
    /// Where the sock_ops program sees the datastore's sockets: a cgroup (version 2) that holds its process.
    pub cgroup: PathBuf,
}

/// Which requests the kernel may answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routing {
    /// None: every key of the rack is this node's.
    pub keys: Option<Keys>,
    pub commands: Vec<(Name, CommandRow)>,
}

/// Which keys are this node's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    pub hash: KernelHash,
    pub tag: Option<(u8, u8)>,
    /// At most `RANGES_MAX`.
    pub ranges: Vec<TokenRange>,
}

/// Why a client was not taken in.
#[derive(Debug)]
pub enum Refused {
    /// As many flows as there may be, or slots that rest for a moment.
    Full,
    /// Few descriptors are left.
    Descriptors,
    /// Nothing is routed now.
    Off,
    /// The flow's datastore connection is not established yet.
    NotReady,
    /// Something of the client came in that very moment. Later, perhaps; nothing has changed.
    Busy,
    /// The datastore could not be dialled.
    Dial(io::Error),
    /// The kernel would not. Nothing has changed.
    System(io::Error),
    /// Bytes came in the wrong moment: the connection is to be reset.
    Torn,
}

impl Refused {
    fn map(error: aya::maps::MapError) -> Refused {
        Refused::System(io::Error::other(error))
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Full => write!(f, "no slot is free"),
            Refused::Descriptors => write!(f, "few descriptors are left"),
            Refused::Off => write!(f, "the fast path is off"),
            Refused::NotReady => write!(f, "no datastore connection yet"),
            Refused::Busy => write!(f, "bytes came at that moment"),
            Refused::Dial(error) => write!(f, "datastore: {error}"),
            Refused::System(error) => write!(f, "system: {error}"),
            Refused::Torn => write!(f, "bytes came between two looks"),
        }
    }
}

/// Which datastore is dialled, from which of our addresses, and what it speaks.
#[derive(Clone, Copy, Debug)]
struct Aim {
    datastore: SocketAddr,
    own_ip: IpAddr,
    language: Language,
}

impl Aim {
    fn at(datastore: SocketAddr, language: Language) -> io::Result<Aim> {
        Ok(Aim { datastore, own_ip: source_address(datastore)?, language })
    }
}

/// A slot that no map knows any more, and a program may still have in hand.
enum Used {
    Flow(u32),
    Pair(u32),
}

/// So many flows may stand still, if it is not longer than this from one to the next.
const ROUTE_TRIPS_MAX: u32 = 3;
const TRIPS_APART: Duration = Duration::from_secs(600);

/// The programs at work. One a process; workers share it.
pub struct FastPath {
    loaded: Loaded,
    aim: Mutex<Aim>,
    descriptors: Descriptors,
    slots: Mutex<Slots>,
    flows_max: AtomicU32,
    pairs: Mutex<Slots>,
    shortcut_on: AtomicBool,
    /// The moment when the datastore was last seen to have answered on any flow.
    answered_at: AtomicU64,
    /// Flows that stood still while others moved, since an operator forgave it.
    route_trips: AtomicU32,
    route_tripped_at: AtomicU64,
    /// Connections on it that stood still or said nonsense, since an operator forgave it.
    shortcut_trips: AtomicU32,
    /// It was on once: connections are dialled so that they can take it.
    shortcut_used: AtomicBool,
    used: Sender<Used>,
    counts: Counts,
    mailboxes: Mutex<Vec<Arc<Mailbox>>>,
    /// Slot → number of the worker that has the flow.
    owners: Vec<AtomicU32>,
    table: Mutex<()>,
    events_end: Mutex<Option<Waker>>,
}

impl FastPath {
    /// Loads and attaches. Nothing is routed before `publish`, and no shortcut taken before `switch_shortcut`.
    pub fn start(settings: &Settings) -> Result<Arc<FastPath>, LoadError> {
        let aim = Aim::at(settings.datastore, settings.language).map_err(LoadError::NotMapped)?;
        let slots = settings.flows_max + slots::SPARE;
        let loaded = Loaded::new(slots, Offsets::read()?)?;
        loaded.see(&settings.cgroup)?;
        let records = loaded.maps().events.take();
        let (used, using) = channel();
        let path = Arc::new(FastPath {
            loaded,
            aim: Mutex::new(aim),
            descriptors: Descriptors::of_this_process(),
            slots: Mutex::new(Slots::new(slots)),
            flows_max: AtomicU32::new(settings.flows_max),
            pairs: Mutex::new(Slots::new(SHORTCUTS_MAX)),
            shortcut_on: AtomicBool::new(false),
            answered_at: AtomicU64::new(0),
            route_trips: AtomicU32::new(0),
            route_tripped_at: AtomicU64::new(0),
            shortcut_trips: AtomicU32::new(0),
            shortcut_used: AtomicBool::new(false),
            used,
            counts: Counts::default(),
            mailboxes: Mutex::default(),
            owners: (0..slots).map(|_| AtomicU32::new(0)).collect(),
            table: Mutex::default(),
            events_end: Mutex::default(),
        });
        path.loaded.config().write(path.empty_table());
        if let Some(records) = records {
            let waker = events::listen(&path, records).map_err(LoadError::NotMapped)?;
            *lock(&path.events_end) = Some(waker);
        }
        events::rest(&path, using).map_err(LoadError::NotMapped)?;
        Ok(path)
    }

    /// The datastore's sockets are in this cgroup (version 2), or below.
    fn see(&self, cgroup: &Path) -> Result<(), LoadError> {
        self.loaded.see(cgroup)
    }

    /// A worker's hand on the fast path. `wake` is called, from another thread, when its mailbox gets its first letter.
    pub fn join(self: &Arc<FastPath>, wake: Box<dyn Fn() + Send + Sync>) -> Hand {
        let mailbox = Arc::new(Mailbox::new(wake));
        let mut mailboxes = lock(&self.mailboxes);
        mailboxes.push(Arc::clone(&mailbox));
        Hand { path: Arc::clone(self), worker: mailboxes.len() as u32 - 1, mailbox }
    }

    /// From now on the kernel answers by this, or with `None`, nothing. When it returns, no program decides by what was
    /// before, so it is called before a new topology takes effect anywhere else.
    pub fn publish(&self, routing: Option<&Routing>) {
        let _one_at_a_time = lock(&self.table);
        let config = self.loaded.config();
        let generation = config[0].generation.get() | 1;
        config[0].generation.set(generation);
        self.wait_for_programs();
        let Some(routing) = routing else { return };
        let mut table = self.empty_table();
        if let Some(keys) = &routing.keys {
            if keys.ranges.len() > RANGES_MAX {
                return;
            }
            table.hash = keys.hash as u32;
            (table.tag_open, table.tag_close) = keys.tag.map_or((0, 0), |(open, close)| (open.into(), close.into()));
            table.ranges = keys.ranges.len() as u32;
            table.range[..keys.ranges.len()].copy_from_slice(&keys.ranges);
        }
        config.write(table);
        let mut maps = self.loaded.maps();
        let old: Vec<Name> = maps.commands.keys().flatten().collect();
        for name in old.iter().filter(|old| !routing.commands.iter().any(|(name, _)| name == *old)) {
            let _ = maps.commands.remove(name);
        }
        for (name, row) in &routing.commands {
            if let Err(error) = maps.commands.insert(*name, *row, 0) {
                tracing::warn!(%error, "a command is not known to the kernel");
            }
        }
        drop(maps);
        config[0].generation.set(generation + 1);
    }

    pub fn saw_answer(&self, now: Moment) {
        self.answered_at.fetch_max(now.0, Ordering::Relaxed);
    }

    pub fn answered_at(&self) -> Moment {
        Moment(self.answered_at.load(Ordering::Relaxed))
    }

    /// A flow stood still although the datastore answered others: after a few of them, none long after another, nothing is
    /// routed any more.
    pub fn distrust_route(&self, now: Moment) {
        let last = Moment(self.route_tripped_at.swap(now.0, Ordering::Relaxed));
        if now.since(last) > TRIPS_APART {
            self.route_trips.store(0, Ordering::Relaxed);
        }
        self.route_trips.fetch_add(1, Ordering::Relaxed);
        if self.route_is_given_up() && self.is_open() {
            tracing::error!("the fast path is off: flows stood still while the datastore answered others");
            self.publish(None);
        }
    }

    pub fn route_is_given_up(&self) -> bool {
        self.route_trips.load(Ordering::Relaxed) >= ROUTE_TRIPS_MAX
    }

    /// Another chance.
    pub fn forgive(&self) {
        self.route_trips.store(0, Ordering::Relaxed);
        self.shortcut_trips.store(0, Ordering::Relaxed);
    }

    /// May anything be routed now?
    pub fn is_open(&self) -> bool {
        self.loaded.config()[0].generation.get() & 1 == 0
    }

    /// Every program's exits.
    pub fn tallies(&self) -> Vec<(Reason, Tally)> {
        self.loaded.tallies()
    }

    /// What the kernel did of the command with this `CommandRow::number`.
    pub fn answers(&self, number: u32) -> Answers {
        self.loaded.answers(number)
    }

    /// How many instructions the verifier walked, by program; 0 on kernels that do not tell (before 5.16).
    pub fn walked(&self) -> &[(&'static str, u32)] {
        &self.loaded.walked
    }

    /// What the programs have to say, once.
    pub fn take_words(&self) -> Option<Words> {
        lock(&self.loaded.words).take()
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    pub fn flows_now(&self) -> u32 {
        lock(&self.slots).in_use()
    }

    pub fn flows_max(&self) -> u32 {
        self.flows_max.load(Ordering::Relaxed)
    }

    /// From now on there may be so many flows, as far as slots go. Those that are, stay.
    pub fn allow_flows(&self, flows_max: u32) {
        self.flows_max.store(flows_max, Ordering::Relaxed);
    }

    pub fn descriptors(&self) -> Descriptors {
        self.descriptors
    }

    fn language(&self) -> Language {
        lock(&self.aim).language
    }

    fn empty_table(&self) -> Table {
        let aim = *lock(&self.aim);
        Table {
            protocol: match aim.language {
                Language::Resp => 0,
                Language::Memcache => 1,
            },
            datastore_port: u32::from(aim.datastore.port()),
            daemon_ip: flow::address_words(SocketAddr::new(aim.own_ip, 0)),
            ..Table::EMPTY
        }
    }

    /// Until every program that may have read the old generation has ended.
    fn wait_for_programs(&self) {
        let give_up_at = Instant::now() + Duration::from_secs(1);
        for slot in self.loaded.slots.iter() {
            while slot.route.entered.get() != slot.route.left.get() && Instant::now() < give_up_at {
                std::thread::yield_now();
            }
        }
    }

    /// Another datastore: the self-test's own, then the real one. Nothing is routed until the next `publish`.
    fn aim(&self, datastore: SocketAddr, language: Language) -> io::Result<()> {
        *lock(&self.aim) = Aim::at(datastore, language)?;
        self.publish(None);
        self.loaded.config().write(self.empty_table());
        Ok(())
    }

    /// The self-test's traffic is not counted.
    fn forget(&self) {
        self.loaded.forget_tallies();
        self.counts.forget();
        self.forgive();
        self.shortcut_used.store(false, Ordering::Relaxed);
    }

    /// A socket for a datastore connection, bound so that its port is known before it is connected; and to where.
    fn bound(&self) -> io::Result<(Socket, u16, SocketAddr)> {
        let aim = *lock(&self.aim);
        let socket = Socket::new(Domain::for_address(aim.datastore), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.bind(&SocketAddr::new(aim.own_ip, 0).into())?;
        let port = socket.local_addr()?.as_socket().map_or(0, |address| address.port());
        Ok((socket, port, aim.datastore))
    }

    fn deliver(&self, event: Event) {
        let Some(owner) = self.owners.get(event.slot as usize) else { return };
        if self.loaded.slots[event.slot as usize].daemon.life.get() != event.life {
            return;
        }
        let mailbox = lock(&self.mailboxes).get(owner.load(Ordering::Relaxed) as usize).cloned();
        if let Some(mailbox) = mailbox {
            mailbox.put(event.slot as u32);
        }
    }

    fn rest(&self, used: Used) {
        match used {
            Used::Flow(slot) => lock(&self.slots).rest(slot),
            Used::Pair(pair) => lock(&self.pairs).rest(pair),
        }
        // The receiver lives as long as `self`.
        let _ = self.used.send(used);
    }

    fn rested(&self, used: Vec<Used>) {
        for used in used {
            match used {
                Used::Flow(number) => {
                    let slot = &self.loaded.slots[number as usize];
                    if slot.is_in_hand() {
                        // Not yet.
                        let _ = self.used.send(Used::Flow(number));
                        continue;
                    }
                    slot.reset(0);
                    lock(&self.slots).rested(number);
                }
                Used::Pair(pair) => {
                    self.loaded.pairs[pair as usize].reset();
                    lock(&self.pairs).rested(pair);
                }
            }
        }
    }
}

impl Drop for FastPath {
    fn drop(&mut self) {
        if let Some(waker) = lock(&self.events_end).take() {
            let _ = waker.wake();
        }
    }
}

/// What a worker holds.
pub struct Hand {
    path: Arc<FastPath>,
    worker: u32,
    mailbox: Arc<Mailbox>,
}

impl Hand {
    pub fn path(&self) -> &FastPath {
        &self.path
    }

    pub fn share(&self) -> Arc<FastPath> {
        Arc::clone(&self.path)
    }

    /// Begins a flow: dials a datastore connection for one client, which begins with `greetings`, each answered once.
    pub fn dial(&self, greetings: &[&[u8]]) -> Result<Flow, Refused> {
        if !self.path.is_open() {
            return Err(Refused::Off);
        }
        let (slot, life) = lock(&self.path.slots).take(self.path.flows_max()).ok_or(Refused::Full)?;
        self.path.loaded.slots[slot as usize].daemon.life.set(life);
        self.path.owners[slot as usize].store(self.worker, Ordering::Relaxed);
        Flow::dial(&self.path, slot, greetings).inspect_err(|_| self.path.rest(Used::Flow(slot)))
    }

    /// Slots of this worker's flows that something happened to.
    pub fn take_events(&self, slots: &mut Vec<u32>) {
        self.mailbox.take(slots);
    }
}

impl fmt::Debug for Hand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hand").field("worker", &self.worker).finish_non_exhaustive()
    }
}

/// Which of our addresses a connection to `datastore` comes from.
fn source_address(datastore: SocketAddr) -> io::Result<IpAddr> {
    let any: SocketAddr = if datastore.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(datastore)?;
    Ok(socket.local_addr()?.ip())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
