//! The fast path among the daemon's parts: what the configuration and the topology let the kernel answer, switching it
//! at run time, and what it says about itself.
//! Owns: whether it is on, and why not. Knows nothing of: flows.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::bail;
use dynomite_common::abi::{CommandRow, KernelHash, Name, TokenRange};
use dynomite_common::limits::{ARGS_MAX, RANGES_MAX};
use dynomite_common::reason::Answers;
use dynomite_common::token::Token;
use serde_json::json;

use super::guard::Guarding;
use super::members;
use super::room::{self, Room, Told};
use crate::always;
use crate::config::{Address, Config, KernelMode};
use crate::control::{Control, NodeState};
use crate::kernel::probe::{self, Off, Proven};
use crate::kernel::words::Words;
use crate::kernel::{Descriptors, FastPath, Keys, Language, Routing, Settings};
use crate::net::endpoints::KernelSwitch;
use crate::net::worker;
use crate::protocol::Protocol;
use crate::protocol::commands::{Command, Keys as Places, Kind};
use crate::protocol::{memcache, resp};
use crate::ring::{PeerId, Topology};
use crate::stats::render::{Section, Sections};
use crate::stats::{Stat, Stats};

pub struct Kernel {
    config: Config,
    control: Arc<Control>,
    /// Connections to the datastore that clients share.
    shared: usize,
    guarding: Option<Arc<Guarding>>,
    workers: Mutex<Vec<worker::Mailbox>>,
    stats: Arc<Stats>,
    state: Mutex<State>,
}

struct State {
    topology: Arc<Topology>,
    proven: Result<Proven, Off>,
    room: Room,
    /// By an operator.
    is_switched_off: bool,
    /// Why nothing can be routed, although the kernel could.
    unroutable: Option<String>,
}

impl State {
    fn path(&self) -> Option<Arc<FastPath>> {
        self.proven.as_ref().ok().map(|proven| proven.path.clone())
    }
}

/// So often what could not be had is asked for again.
const AGAIN: Duration = Duration::from_secs(5);

/// For as long as the node runs: what has changed since the start.
async fn look_again(kernel: Arc<Kernel>) {
    loop {
        tokio::time::sleep(AGAIN).await;
        let kernel = kernel.clone();
        let _ = tokio::task::spawn_blocking(move || kernel.look_again()).await;
    }
}

impl Kernel {
    /// Proves what this host can do. An error: the configuration asks for it, and it cannot be had.
    pub fn start(
        config: &Config,
        control: Arc<Control>,
        topology: Arc<Topology>,
        embedded: bool,
        shared: usize,
        stats: Arc<Stats>,
    ) -> anyhow::Result<Arc<Kernel>> {
        // First, since it takes less time than to prove the fast path.
        let guarding = Guarding::start(config, &topology).map(Arc::new);
        if let (KernelMode::Required, Some(fault)) = (config.kernel.mode, guarding.as_ref().and_then(|it| it.fault())) {
            bail!("kernel.mode is required, but the guard cannot be had: {fault}");
        }
        let proven = match embedded {
            true => Err(Off::NoTcp("the datastore is embedded in this process")),
            false => prove(config),
        };
        let room = Room { flows: config.kernel.flows_max as u32, why: None, told: Told::Nobody };
        let state = Mutex::new(State { topology, proven, room, is_switched_off: false, unroutable: None });
        let workers = Mutex::default();
        let kernel = Arc::new(Kernel { config: config.clone(), control, shared, guarding, workers, stats, state });
        {
            let state = &mut kernel.state();
            kernel.make_room(state);
            kernel.publish(state);
            kernel.say(state)?;
        }
        let weak = Arc::downgrade(&kernel);
        // Told in the thread that makes a change, before whoever asked for it hears that it is done.
        kernel.control.listen(move |_| {
            if let Some(kernel) = weak.upgrade() {
                kernel.publish(&mut kernel.state());
            }
        });
        Ok(kernel)
    }

    /// These workers were given what path there was, and are told of a later one.
    pub fn tell(&self, workers: Vec<worker::Mailbox>) {
        *self.workers.lock().unwrap_or_else(PoisonError::into_inner) = workers;
    }

    /// For the workers.
    pub fn path(&self) -> Option<Arc<FastPath>> {
        self.state().path()
    }

    /// Work for the control thread: names of members, words of the programs.
    pub fn spawn(self: &Arc<Kernel>, runtime: &tokio::runtime::Runtime) {
        follow(self.path().and_then(|path| path.take_words()));
        if let Some(guarding) = &self.guarding {
            follow(guarding.take_words());
            runtime.spawn(guarding.clone().resolve());
            runtime.spawn(guarding.clone().watch());
        }
        runtime.spawn(look_again(Arc::clone(self)));
    }

    /// Another topology is about to take effect: to be called before any worker hears of it.
    pub fn set_topology(&self, topology: Arc<Topology>) {
        if let Some(guarding) = &self.guarding {
            guarding.set_topology(&topology);
        }
        let mut state = self.state();
        state.topology = topology;
        self.publish(&mut state);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_again(&self) {
        let mut state = self.state();
        match &state.proven {
            Ok(proven) if proven.route.is_ok() && state.room.told == Told::Nobody => {
                self.make_room(&mut state);
                self.publish(&mut state);
            }
            // Until the other has stopped, no more than a look at its lock.
            Err(Off::Taken(..)) => self.try_again(&mut state),
            _ => {}
        }
    }

    /// What was in the way at the start may be gone.
    fn try_again(&self, state: &mut State) {
        state.proven = prove(&self.config);
        let Ok(proven) = &state.proven else { return };
        let path = proven.path.clone();
        self.make_room(state);
        self.publish(state);
        if let Err(error) = self.say(state) {
            tracing::error!("{error:#}");
        }
        follow(path.take_words());
        for worker in &*self.workers.lock().unwrap_or_else(PoisonError::into_inner) {
            worker.join(&path);
        }
    }

    /// What each part does, into the log. An error: the configuration asks for it, and it cannot be had.
    fn say(&self, state: &State) -> anyhow::Result<()> {
        let wanted = &self.config.kernel;
        let is_required = wanted.mode == KernelMode::Required;
        let wants_another = wanted.shortcut || self.guarding.is_some();
        // What is in the way of both is said once.
        let said = if state.proven.is_ok() { 2 } else { 1 };
        let parts = probe::parts(&state.proven).into_iter().zip(self.why_off(state));
        for (name, ((part, proven), (_, why))) in ["fast path", "shortcut"].into_iter().zip(parts).take(said) {
            match (proven, why) {
                (Err(Off::Unwanted(_)), _) if part == probe::SHORTCUT => {}
                (Err(Off::Unwanted(why)), _) if wants_another => always!("{name}: off, {why}"),
                (_, Some(why)) if is_required => {
                    bail!("kernel.mode is required, but the {name} cannot be had: {why}")
                }
                (_, Some(why)) => always!("{name}: off, {why}"),
                (Ok(trials), None) => always!("{name}: on, {} trials in the kernel as they should be", trials.len()),
                (Err(_), None) => {}
            }
        }
        Ok(())
    }

    /// As many flows as the datastore has room for.
    fn make_room(&self, state: &mut State) {
        let Ok(proven) = &state.proven else { return };
        if proven.route.is_err() {
            return;
        }
        let greeting = super::workers::greeting(&self.config);
        let told = room::ask(proven.datastore, self.config.protocol, &greeting);
        let room = Room::find(&self.config, told, self.shared);
        if room != state.room {
            room.say(self.config.kernel.flows_max);
        }
        proven.path.allow_flows(room.flows);
        state.room = room;
    }

    fn publish(&self, state: &mut State) {
        let Ok(proven) = &state.proven else { return };
        let is_given_up = proven.path.shortcut_is_given_up();
        proven.path.switch_shortcut(proven.shortcut.is_ok() && !state.is_switched_off && !is_given_up);
        let routing = match &state.room {
            Room { flows: 0, why: Some(why), .. } => Err(format!("there is no room for flows: {why}")),
            _ => routing(&self.config, &self.control, &state.topology),
        };
        let routed = routing
            .as_ref()
            .ok()
            .filter(|_| proven.route.is_ok() && !state.is_switched_off && !proven.path.route_is_given_up());
        proven.path.publish(routed);
        state.unroutable = routing.err();
    }

    /// Why each part is off, if it is.
    fn why_off(&self, state: &State) -> [(&'static str, Option<String>); 2] {
        probe::parts(&state.proven).map(|(part, proven)| {
            let why = match proven {
                Err(off) => Some(off.to_string()),
                Ok(_) if state.is_switched_off => Some(Off::Switched.to_string()),
                Ok(_) if part == probe::ROUTE && state.path().is_some_and(|path| path.route_is_given_up()) => {
                    Some(Off::GivenUp.to_string())
                }
                Ok(_) if part == probe::ROUTE => state.unroutable.clone(),
                Ok(_) if state.path().is_some_and(|path| path.shortcut_is_given_up()) => Some(Off::GivenUp.to_string()),
                Ok(_) => None,
            };
            (part, why)
        })
    }
}

/// Programs and maps take some thirty descriptors, and flows no more than a quarter: of fewer than these, clients had better
/// have all.
const DESCRIPTORS_MIN: u64 = 256;

/// The datastore, if its sockets are such as the kernel can write into.
fn datastore(config: &Config) -> Result<SocketAddr, Off> {
    if config.kernel.mode == KernelMode::Off {
        return Err(Off::Configured);
    }
    let descriptors = Descriptors::of_this_process();
    if descriptors.max() < DESCRIPTORS_MIN {
        let why = format!(
            "{DESCRIPTORS_MIN} open files are the least it is worth it for, and {} are allowed",
            descriptors.max()
        );
        return Err(Off::Configuration(why));
    }
    let Address::Tcp(datastore) = &config.datastore.address else {
        return Err(Off::NoTcp("the datastore is reached over a unix socket"));
    };
    datastore.resolve().map_err(|error| Off::Configuration(format!("{datastore}: {error}")))
}

/// What this host can do with this configuration, whether or not anything runs.
pub fn check(config: &Config) -> Result<Proven, Off> {
    let datastore = datastore(config)?;
    let mut proven = probe::check(Some(datastore), config.kernel.cgroup.clone())?;
    let topology = members::topology(config);
    let keys = topology.map_err(|_| "no ring can be made of these nodes".to_owned()).and_then(|all| keys(config, &all));
    if let (Ok(_), Err(why)) = (&proven.route, keys) {
        proven.route = Err(Off::Configuration(why));
    }
    Ok(proven)
}

fn follow(words: Option<Words>) {
    if let Some(Err(error)) = words.map(Words::follow) {
        tracing::error!("the kernel's words are not heard: {error}");
    }
}

/// The programs in the kernel, proven and aimed at the datastore.
fn prove(config: &Config) -> Result<Proven, Off> {
    let datastore = datastore(config)?;
    let settings = Settings {
        datastore,
        language: match config.protocol {
            Protocol::Resp => Language::Resp,
            Protocol::Memcache => Language::Memcache,
        },
        flows_max: (config.kernel.flows_max as u32).min(Descriptors::of_this_process().flows_max()),
        cgroup: Default::default(),
    };
    let greeting = super::workers::greeting(config);
    let greeting: Vec<&[u8]> = greeting.iter().map(Vec::as_slice).collect();
    let mut proven = probe::start(settings, config.kernel.cgroup.clone(), &greeting, config.kernel.shortcut)?;
    if config.kernel.flows_max == 0 {
        proven.route = Err(Off::Unwanted("kernel.flows_max is 0"));
    }
    Ok(proven)
}

/// What the kernel may answer now; or why nothing.
fn routing(config: &Config, control: &Control, topology: &Topology) -> Result<Routing, String> {
    if control.state() != NodeState::Normal {
        return Err(format!("the node's state is {}", control.state()));
    }
    if control.is_draining() {
        return Err("the node stops".into());
    }
    if control.repairs_reads() {
        return Err("reads are repaired".into());
    }
    let alone = matches!(topology.datacenters(), [datacenter] if datacenter.racks.len() == 1);
    Ok(Routing { keys: keys(config, topology)?, commands: commands(config.protocol, alone) })
}

/// What the kernel is told of commands. `alone`: keys have one replica, so writes need nobody else.
pub fn commands(protocol: Protocol, alone: bool) -> Vec<(Name, CommandRow)> {
    match protocol {
        Protocol::Resp => answerable(protocol).filter_map(|(number, command)| row(number, command, alone)).collect(),
        Protocol::Memcache => {
            let row = CommandRow { args_min: 2, args_max: 2, number: 0 };
            vec![(Name::new("get").expect("a short word"), row)]
        }
    }
}

/// Whatever the kernel may answer anywhere, with its number.
fn answerable(protocol: Protocol) -> impl Iterator<Item = (u32, &'static Command)> {
    let commands: Vec<&Command> = match protocol {
        Protocol::Resp => resp::commands::COMMANDS.iter().collect(),
        Protocol::Memcache => memcache::commands::ROWS.iter().map(|row| &row.command).collect(),
    };
    (0..).zip(commands.into_iter().filter(|command| command.fast || command.fast_alone))
}

/// Of one command, if the kernel may answer it.
fn row(number: u32, command: &Command, alone: bool) -> Option<(Name, CommandRow)> {
    if !(command.fast || alone) {
        return None;
    }
    let arity = u32::from(command.arity.unsigned_abs());
    let (args_min, args_max) = match command.keys {
        Places::At(1) if command.arity < 0 => (arity, ARGS_MAX),
        Places::At(1) => (arity, arity),
        // Of many keys the kernel takes one.
        Places::Range { first: 1, but_last: 0, step } => (1 + u32::from(step), 1 + u32::from(step)),
        _ => return None,
    };
    (args_min <= ARGS_MAX).then_some((Name::new(command.name)?, CommandRow { args_min, args_max, number }))
}

/// Which keys are this node's; None: all. An error: the kernel cannot tell.
fn keys(config: &Config, topology: &Topology) -> Result<Option<Keys>, String> {
    let own = topology.own();
    let racks = &topology.own_datacenter().racks;
    let rack = racks.iter().find(|rack| rack.name == own.rack).ok_or("this node is in no rack")?;
    if rack.nodes.len() == 1 {
        return Ok(None);
    }
    let name = config.hash.name();
    let hash = KernelHash::named(name).ok_or_else(|| format!("the hash {name} is not computed in the kernel"))?;
    let ranges = ranges(rack.continuum.entries());
    if ranges.len() > RANGES_MAX {
        return Err(format!("more than {RANGES_MAX} token ranges"));
    }
    Ok(Some(Keys { hash, tag: config.hash_tag.map(|tag| (tag.open, tag.close)), ranges }))
}

/// The arcs below this node's tokens; the lowest token's goes on above the highest.
fn ranges(entries: impl Iterator<Item = (Token, PeerId)>) -> Vec<TokenRange> {
    let entries: Vec<_> = entries.collect();
    let mut ranges = Vec::new();
    let mut after: Option<u32> = None;
    for &(Token(token), owner) in &entries {
        let first = after.map_or(0, |after| after + 1);
        after = Some(token);
        if owner == PeerId::SELF {
            ranges.push(TokenRange { first, last: token });
        }
    }
    let above = after.and_then(|last| last.checked_add(1));
    if let (Some(&(_, PeerId::SELF)), Some(first)) = (entries.first(), above) {
        ranges.push(TokenRange { first, last: u32::MAX });
    }
    ranges
}

impl KernelSwitch for Kernel {
    fn describe(&self) -> String {
        let state = self.state();
        let [(_, route), (_, shortcut)] = self.why_off(&state);
        let path = state.path();
        let guarded = self.guarding.as_ref().map_or(&[][..], |guarding| guarding.trials());
        let trials =
            probe::parts(&state.proven).into_iter().filter_map(|(_, proven)| proven.ok()).flatten().chain(guarded);
        let document = json!({
            "mode": self.config.kernel.mode.name(),
            "route": {
                "on": route.is_none(),
                "why": route,
                "flows": path.as_ref().map(|path| path.flows_now()),
                "flows_max": state.room.flows,
                "flows_max_why": state.room.why,
            },
            "shortcut": {
                "on": shortcut.is_none(),
                "why": shortcut,
                "connections": path.as_ref().map(|path| path.shortcuts_now()),
            },
            "guard": self.guarding.as_ref().map(|guarding| guarding.describe()),
            "self_test": trials.map(|trial| json!({
                "name": trial.name,
                "milliseconds": trial.took.as_secs_f64() * 1e3,
                "fault": trial.fault,
            })).collect::<Vec<_>>(),
        });
        format!("{document:#}\n")
    }

    fn switch(&self, on: bool) -> Result<(), String> {
        // The guard stays: what makes answers faster may go, but not what keeps strangers out.
        let mut state = self.state();
        state.is_switched_off = !on;
        if let Some(path) = state.path().filter(|_| on) {
            path.forgive();
        }
        if let (true, Err(off)) = (on, &state.proven)
            && !matches!(off, Off::Configured | Off::NoTcp(_))
        {
            self.try_again(&mut state);
        }
        self.publish(&mut state);
        match self.why_off(&state) {
            [(_, Some(why)), (_, Some(_))] if on => Err(why),
            _ => Ok(()),
        }
    }
}

impl Kernel {
    /// Adds what the kernel answered to what the workers count of requests.
    fn count_answers(&self, path: &FastPath) {
        let mut sums = [0; Stat::COUNT];
        for (number, command) in answerable(self.config.protocol) {
            for (stat, count) in counted(command, self.config.protocol, path.answers(number)) {
                sums[stat as usize] += count;
            }
        }
        for (stat, sum) in Stat::ALL.iter().zip(sums) {
            self.stats.set(*stat, sum);
        }
    }
}

/// What a worker would have counted, had it answered.
fn counted(command: &Command, protocol: Protocol, answers: Answers) -> impl Iterator<Item = (Stat, u64)> {
    let Answers { requests, request_bytes, replies, reply_bytes } = answers;
    let of_kind = match command.kind {
        Kind::Read => [
            (Stat::client_read_requests, requests),
            (Stat::read_requests, requests),
            (Stat::read_request_bytes, request_bytes),
            (Stat::read_responses, replies),
            (Stat::read_response_bytes, reply_bytes),
        ],
        Kind::Write => [
            (Stat::client_write_requests, requests),
            (Stat::write_requests, requests),
            (Stat::write_request_bytes, request_bytes),
            (Stat::write_responses, replies),
            (Stat::write_response_bytes, reply_bytes),
        ],
    };
    let of_any = [
        (Stat::client_requests, requests),
        (Stat::client_bytes_in, request_bytes),
        (Stat::client_replies, replies),
        (Stat::client_bytes_out, reply_bytes),
    ];
    let of_redis = (protocol == Protocol::Resp).then(|| (command.tally.stat(), requests));
    of_any.into_iter().chain(of_kind).chain(of_redis)
}

impl Sections for Kernel {
    fn sections(&self) -> Vec<Section> {
        let mut section = Section::new("kernel");
        let state = self.state();
        let [(_, route), (_, shortcut)] = self.why_off(&state);
        section.gauge("route_on", "1 when the kernel answers what it can", route.is_none().into());
        section.text("route_why", "why it does not", route.unwrap_or_default());
        section.gauge("shortcut_on", "1 when shared datastore connections go past TCP", shortcut.is_none().into());
        section.text("shortcut_why", "why they do not", shortcut.unwrap_or_default());
        if let Some(guarding) = &self.guarding {
            guarding.show(&mut section);
        }
        let Ok(proven) = &state.proven else { return vec![section] };
        self.count_answers(&proven.path);
        section.gauge("shortcuts_now", "datastore connections that do just now", proven.path.shortcuts_now());
        section.gauge("flows_now", "clients in the kernel, and on their way there", proven.path.flows_now().into());
        section.gauge("flows_max", "clients that may be there", state.room.flows.into());
        for (name, value, help) in proven.path.counts().all() {
            section.counter(name, help, value);
        }
        let tallies = proven.path.tallies();
        for (reason, tally) in &tallies {
            section.counter("verdicts", "what the kernel's programs did with segments and replies", tally.times);
            section.labelled("reason", reason.name());
        }
        for (reason, tally) in &tallies {
            section.counter("verdict_bytes", "bytes of these", tally.bytes);
            section.labelled("reason", reason.name());
        }
        vec![section]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_ranges(entries: &[(u32, u32)], expected: &[(u32, u32)]) {
        let entries = entries.iter().map(|&(token, owner)| (Token(token), PeerId(owner)));
        let expected: Vec<_> = expected.iter().map(|&(first, last)| TokenRange { first, last }).collect();
        assert_eq!(ranges(entries), expected);
    }

    #[test]
    fn ranges_end_with_their_tokens_and_the_first_wraps() {
        check_ranges(&[(100, 0)], &[(0, 100), (101, u32::MAX)]);
        check_ranges(&[(100, 0), (200, 1)], &[(0, 100), (201, u32::MAX)]);
        check_ranges(&[(100, 1), (200, 0)], &[(101, 200)]);
        check_ranges(&[(0, 0), (u32::MAX, 1)], &[(0, 0)]);
        check_ranges(&[(0, 1), (u32::MAX, 0)], &[(1, u32::MAX)]);
        check_ranges(&[(10, 0), (20, 1), (30, 0)], &[(0, 10), (21, 30), (31, u32::MAX)]);
    }

    /// The kernel's ranges and the ring's search agree about every token, where tokens meet above all.
    #[test]
    fn ranges_are_what_the_ring_says() {
        let continuum = crate::ring::continuum::Continuum::new(vec![
            (Token(5), PeerId(1)),
            (Token(1000), PeerId::SELF),
            (Token(1 << 31), PeerId(2)),
            (Token(u32::MAX - 3), PeerId::SELF),
        ]);
        let ranges = ranges(continuum.entries());
        let near =
            continuum.entries().flat_map(|(Token(token), _)| [token.wrapping_sub(1), token, token.wrapping_add(1)]);
        for token in near.chain([0, u32::MAX, 77, 1 << 30]) {
            let ours = ranges.iter().any(|range| range.first <= token && token <= range.last);
            assert_eq!(ours, continuum.owner(Token(token)) == Some(PeerId::SELF), "{token}");
        }
    }

    fn routing_of(text: &str) -> Result<Routing, String> {
        let config = crate::config::check(text).expect("valid").config;
        let topology = members::topology(&config).expect("a topology");
        let control = Control::new(config.read_consistency, config.write_consistency, false, NodeState::Normal);
        routing(&config, &control, &topology)
    }

    const ALONE: &str = "p:\n  listen: 127.0.0.1:8102\n  dyn_listen: 127.0.0.1:8101\n  tokens: 7\n  datacenter: d\n  rack: r\n  \
                         servers: 127.0.0.1:22122:1\n";

    fn knows(routing: &Routing, name: &str) -> Option<(u32, u32)> {
        let row = routing.commands.iter().find(|(row, _)| Some(*row) == Name::new(name))?;
        Some((row.1.args_min, row.1.args_max))
    }

    #[test]
    fn reads_of_one_key_are_routed_and_writes_where_there_is_one_replica() {
        let alone = routing_of(ALONE).unwrap();
        assert_eq!(alone.keys, None);
        let replicated = routing_of(&format!("{ALONE}  dyn_seeds:\n  - 127.0.0.2:8101:r2:d:7\n")).unwrap();
        assert_eq!(replicated.keys, None);
        for (name, args) in
            [("get", (2, 2)), ("exists", (2, 2)), ("getrange", (4, 4)), ("ttl", (2, 2)), ("zscore", (3, 3))]
        {
            assert_eq!(knows(&alone, name), Some(args), "{name}");
            assert_eq!(knows(&replicated, name), Some(args), "{name}");
        }
        for (name, args) in [("set", (3, ARGS_MAX)), ("incr", (2, 2)), ("hset", (4, ARGS_MAX))] {
            assert_eq!(knows(&alone, name), Some(args), "{name}");
            assert_eq!(knows(&replicated, name), None, "{name}");
        }
        for name in ["mget", "keys", "hgetall", "blpop", "multi", "ping", "smembers", "lrange", "hscan"] {
            assert_eq!(knows(&alone, name), None, "{name}");
        }
    }

    #[test]
    fn keys_of_several_nodes_are_told_apart_by_their_hash() {
        let two = format!("{ALONE}  hash_tag: \"{{}}\"\n  dyn_seeds:\n  - 127.0.0.2:8101:r:d:2147483648\n");
        let keys = routing_of(&two).unwrap().keys.expect("ranges");
        assert_eq!((keys.hash, keys.tag, keys.ranges.len()), (KernelHash::Murmur, Some((b'{', b'}')), 2));
        assert!(routing_of(&two.replace("hash_tag", "hash: md5\n  hash_tag")).is_err());
    }

    #[test]
    fn memcached_routes_get() {
        let routing = routing_of(&ALONE.replace("  tokens", "  data_store: 1\n  tokens")).unwrap();
        assert_eq!(routing.commands.len(), 1);
        assert_eq!(knows(&routing, "get"), Some((2, 2)));
    }
}
