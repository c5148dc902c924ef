//! The object into the kernel: maps, programs, attachments. Everything is undone in reverse by Drop; nothing is pinned.
//! Owns: the descriptors. Knows nothing of: which client is adopted when.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aya::maps::{HashMap, MapData, MapError, PerCpuArray, PerCpuValues, RingBuf, SockMap};
use aya::programs::links::CgroupAttachMode;
use aya::programs::sock_ops::SockOpsLink;
use aya::programs::{ProgramError, SkMsg, SkSkb, SockOps};
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use dynomite_common::abi::{CommandRow, Config, FlowKey, Name, map, program};
use dynomite_common::flow::{Count, Slot};
use dynomite_common::limits::{COMMANDS_MAX, SHORTCUTS_MAX};
use dynomite_common::pair::Pair;
use dynomite_common::reason::{Answers, Reason, Tally};

use super::btf::Btf;
use super::sys::Mapping;
use super::words::{self, Words};

/// The object as it was built: from source when `cargo xtask ebpf` had a toolchain for it, else as kept in the repository.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/dynomite-ebpf.o"));

/// Why something could not be brought into the kernel.
#[derive(Debug)]
pub enum LoadError {
    /// The kernel does not describe its types, or a field that we need is not where anybody could find it.
    NoTypes(String),
    /// Not to this process, whatever it asks for.
    Denied(String),
    /// A map could not be made, or the object could not be read.
    Object(String),
    /// The verifier (or the kernel's configuration) refused a program; its last words.
    Refused { program: &'static str, words: String },
    /// Loaded, but it could not be attached.
    NotAttached { program: &'static str, error: String },
    /// Memory could not be shared with the kernel.
    NotMapped(io::Error),
}

impl std::fmt::Display for LoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LoadError::NoTypes(what) => write!(f, "no type information of the running kernel: {what}"),
            LoadError::Denied(what) => write!(f, "the kernel does not allow it: {what}"),
            LoadError::Object(error) => write!(f, "could not create the maps: {error}"),
            LoadError::Refused { program, words } => write!(f, "the kernel refused program {program}: {words}"),
            LoadError::NotAttached { program, error } => write!(f, "could not attach program {program}: {error}"),
            LoadError::NotMapped(error) => write!(f, "could not map memory: {error}"),
        }
    }
}

/// Places of kernel fields that the programs read; set as constants when the object is loaded.
#[derive(Clone, Copy, Debug)]
pub struct Offsets {
    skb_cb: u32,
    skb_sk: u32,
    sock_wmem_queued: u32,
    sock_sndbuf: u32,
}

impl Offsets {
    pub fn read() -> Result<Offsets, LoadError> {
        let path = "/sys/kernel/btf/vmlinux";
        let bytes = std::fs::read(path).map_err(|error| LoadError::NoTypes(format!("{path}: {error}")))?;
        let btf = Btf::parse(&bytes).ok_or_else(|| LoadError::NoTypes(format!("{path} is not understood")))?;
        let find = |of: &str, field: &str| {
            btf.offset_of(of, field).ok_or_else(|| LoadError::NoTypes(format!("no field {field} in struct {of}")))
        };
        Ok(Offsets {
            skb_cb: find("sk_buff", "cb")?,
            skb_sk: find("sk_buff", "sk")?,
            sock_wmem_queued: find("sock", "sk_wmem_queued")?,
            sock_sndbuf: find("sock", "sk_sndbuf")?,
        })
    }
}

/// The programs and their maps, attached.
pub struct Loaded {
    /// How many instructions the verifier walked, by program.
    pub walked: Vec<(&'static str, u32)>,
    /// What they have to say, for who wants to hear it.
    pub words: Mutex<Option<Words>>,
    pub slots: Mapping<Slot>,
    pub ports: Mapping<Count>,
    pub pairs: Mapping<Pair>,
    /// What the kernel has against the shortcut program; taken by whoever says so.
    pub shortcut: Mutex<Result<(), LoadError>>,
    config: Mapping<Config>,
    maps: Mutex<Maps>,
    /// Where `adopt` is attached.
    attached: Mutex<Option<SockOpsLink>>,
    // Dropped last: detaches and unloads the programs.
    object: Mutex<Ebpf>,
}

/// What is changed through system calls, by any worker at adoption and release.
pub struct Maps {
    pub flows: HashMap<MapData, FlowKey, u32>,
    pub clients: SockMap<MapData>,
    pub datastores: SockMap<MapData>,
    pub shortcuts: SockMap<MapData>,
    pub commands: HashMap<MapData, Name, CommandRow>,
    pub tallies: PerCpuArray<MapData, Tally>,
    pub answers: PerCpuArray<MapData, Answers>,
    pub events: Option<RingBuf<MapData>>,
}

impl Loaded {
    /// `adopt` sees no sockets yet.
    pub fn new(flows_max: u32, offsets: Offsets) -> Result<Loaded, LoadError> {
        words::if_possible(|level| Loaded::with(flows_max, offsets, level))
    }

    fn with(flows_max: u32, offsets: Offsets, level: u8) -> Result<Loaded, LoadError> {
        let mut object = EbpfLoader::new()
            // The verifier's account of its walk is megabytes; it is asked for again only when it says no.
            .verifier_log_level(VerifierLogLevel::STATS)
            .map_max_entries(map::SLOTS, flows_max)
            .map_max_entries(map::FLOWS, flows_max)
            .map_max_entries(map::CLIENTS, flows_max)
            .map_max_entries(map::DATASTORES, flows_max)
            // The guard has an object of its own.
            .map_max_entries(map::SOURCES, 1)
            .map_max_entries(map::GUARDED, 1)
            .map_max_entries(words::MAP, words::BYTES)
            .override_global(words::LEVEL, &level, true)
            .override_global("SKB_CB", &offsets.skb_cb, true)
            .override_global("SKB_SK", &offsets.skb_sk, true)
            .override_global("SOCK_WMEM_QUEUED", &offsets.sock_wmem_queued, true)
            .override_global("SOCK_SNDBUF", &offsets.sock_sndbuf, true)
            .load(OBJECT)
            .map_err(|error| not_read(&error))?;

        // Programs before maps: they name maps by descriptors, and a mapped map's descriptor is closed below.
        let route: &mut SkSkb = get(&mut object, program::ROUTE)?;
        route.load().map_err(|error| refused(program::ROUTE, &error))?;
        let reply: &mut SkMsg = get(&mut object, program::REPLY)?;
        reply.load().map_err(|error| refused(program::REPLY, &error))?;
        let adopt: &mut SockOps = get(&mut object, program::ADOPT)?;
        adopt.load().map_err(|error| refused(program::ADOPT, &error))?;

        let shortcut: &mut SkMsg = get(&mut object, program::SHORTCUT)?;
        let shortcut = shortcut.load().map_err(|error| refused(program::SHORTCUT, &error));

        let walked = [program::ADOPT, program::ROUTE, program::REPLY, program::SHORTCUT]
            .map(|name| (name, walked(&object, name)))
            .to_vec();
        let maps = Maps {
            flows: take(&mut object, map::FLOWS)?,
            clients: take(&mut object, map::CLIENTS)?,
            datastores: take(&mut object, map::DATASTORES)?,
            shortcuts: take(&mut object, map::SHORTCUTS)?,
            commands: take(&mut object, map::COMMANDS)?,
            tallies: take(&mut object, map::TALLIES)?,
            answers: take(&mut object, map::ANSWERS)?,
            events: Some(take(&mut object, map::EVENTS)?),
        };
        let slots = shared(&mut object, map::SLOTS, flows_max as usize)?;
        let ports = shared(&mut object, map::PORTS, 1 << 16)?;
        let pairs = shared(&mut object, map::PAIRS, SHORTCUTS_MAX as usize)?;
        let config: Mapping<Config> = shared(&mut object, map::CONFIG, 1)?;
        config[0].generation.set(1);

        let route: &mut SkSkb = get(&mut object, program::ROUTE)?;
        route.attach(maps.clients.fd()).map_err(|error| not_attached(program::ROUTE, &error))?;
        let reply: &mut SkMsg = get(&mut object, program::REPLY)?;
        reply.attach(maps.datastores.fd()).map_err(|error| not_attached(program::REPLY, &error))?;
        let shortcut = shortcut.and_then(|()| {
            let shortcut: &mut SkMsg = get(&mut object, program::SHORTCUT)?;
            shortcut.attach(maps.shortcuts.fd()).map_err(|error| not_attached(program::SHORTCUT, &error))?;
            Ok(())
        });
        let words = Mutex::new(Words::of(&mut object));
        let (shortcut, maps) = (Mutex::new(shortcut), Mutex::new(maps));
        let (attached, object) = (Mutex::new(None), Mutex::new(object));
        Ok(Loaded { walked, words, slots, ports, pairs, shortcut, config, maps, attached, object })
    }

    /// From now on `adopt` sees the sockets of `cgroup` and below, and no others.
    pub fn see(&self, cgroup: &Path) -> Result<(), LoadError> {
        let mut object = self.object.lock().unwrap_or_else(PoisonError::into_inner);
        let mut attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner);
        // Twice on one socket, the second would find it adopted.
        drop(attached.take());
        let adopt: &mut SockOps = get(&mut object, program::ADOPT)?;
        let cgroup = File::open(cgroup).map_err(|error| not_attached(program::ADOPT, &error))?;
        let link = adopt.attach(cgroup, CgroupAttachMode::Single).and_then(|link| adopt.take_link(link));
        *attached = Some(link.map_err(|error| not_attached(program::ADOPT, &error))?);
        Ok(())
    }

    pub fn maps(&self) -> MutexGuard<'_, Maps> {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn config(&self) -> &Mapping<Config> {
        &self.config
    }

    /// Every counter back to zero.
    pub fn forget_tallies(&self) {
        let Maps { tallies, answers, .. } = &mut *self.maps();
        (0..Reason::COUNT).for_each(|index| clear(tallies, index));
        (0..COMMANDS_MAX).for_each(|index| clear(answers, index));
    }

    /// Every counter, summed over CPUs.
    pub fn tallies(&self) -> Vec<(Reason, Tally)> {
        let maps = self.maps();
        let sum = |reason: Reason| {
            let values = maps.tallies.get(&(reason as u32), 0).ok()?;
            Some(values.iter().fold(Tally::default(), |sum, tally| Tally {
                times: sum.times + tally.times,
                bytes: sum.bytes + tally.bytes,
            }))
        };
        Reason::ALL.iter().map(|&reason| (reason, sum(reason).unwrap_or_default())).collect()
    }

    /// What was done of a command, by `CommandRow::number`, summed over CPUs.
    pub fn answers(&self, number: u32) -> Answers {
        let Ok(values) = self.maps().answers.get(&number, 0) else { return Answers::default() };
        values.iter().fold(Answers::default(), |sum, answers| Answers {
            requests: sum.requests + answers.requests,
            request_bytes: sum.request_bytes + answers.request_bytes,
            replies: sum.replies + answers.replies,
            reply_bytes: sum.reply_bytes + answers.reply_bytes,
        })
    }
}

fn clear<T: aya::Pod + Default>(map: &mut PerCpuArray<MapData, T>, index: u32) {
    let Ok(values) = map.get(&index, 0) else { return };
    let zeros: Vec<T> = values.iter().map(|_| T::default()).collect();
    if let Ok(zeros) = PerCpuValues::try_from(zeros) {
        let _ = map.set(index, zeros, 0);
    }
}

pub(super) fn take<T: TryFrom<aya::maps::Map>>(object: &mut Ebpf, name: &str) -> Result<T, LoadError>
where
    T::Error: std::fmt::Display,
{
    let map = object.take_map(name).ok_or_else(|| LoadError::Object(format!("no map {name} in the object")))?;
    map.try_into().map_err(|error| LoadError::Object(format!("{name}: {error}")))
}

fn shared<T>(object: &mut Ebpf, name: &str, len: usize) -> Result<Mapping<T>, LoadError> {
    // The mapping keeps the map alive, the descriptor is not needed.
    let data = match object.take_map(name) {
        Some(aya::maps::Map::Array(data)) => data,
        _ => return Err(LoadError::Object(format!("no array {name} in the object"))),
    };
    let fd: BorrowedFd<'_> = data.fd().as_fd();
    Mapping::new(fd, len).map_err(LoadError::NotMapped)
}

pub(super) fn get<'a, T>(object: &'a mut Ebpf, name: &'static str) -> Result<&'a mut T, LoadError>
where
    &'a mut T: TryFrom<&'a mut aya::programs::Program>,
{
    let program = object.program_mut(name).and_then(|program| program.try_into().ok());
    program.ok_or_else(|| LoadError::Object(format!("no program {name} in the object")))
}

pub(super) fn walked(object: &Ebpf, name: &str) -> u32 {
    let info = object.program(name).and_then(|program| program.info().ok());
    info.and_then(|info| info.verified_instruction_count()).unwrap_or(0)
}

pub(super) fn not_read(error: &aya::EbpfError) -> LoadError {
    match error {
        aya::EbpfError::MapError(MapError::CreateError { io_error, .. }) if is_denied(io_error) => {
            LoadError::Denied(chain(error))
        }
        error => LoadError::Object(chain(error)),
    }
}

/// What a verifier does not like is "permission denied", too, but with another number.
fn is_denied(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EPERM)
}

/// The last lines of what the verifier says tell what it did not like.
pub(super) fn refused(program: &'static str, error: &ProgramError) -> LoadError {
    let words = match error {
        ProgramError::LoadError { io_error, .. } if is_denied(io_error) => return LoadError::Denied(chain(error)),
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
            let last = lines.len().saturating_sub(12);
            format!("{io_error}\n{}", lines[last..].join("\n"))
        }
        other => chain(other),
    };
    LoadError::Refused { program, words }
}

fn not_attached(program: &'static str, error: &dyn std::error::Error) -> LoadError {
    LoadError::NotAttached { program, error: chain(error) }
}

/// An error and what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        words = format!("{words}: {cause}");
        source = cause.source();
    }
    words
}
