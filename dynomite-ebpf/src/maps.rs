//! Every map: who writes, who reads.

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf, SockMap};
use dynomite_common::abi::{CommandRow, Config, FlowKey, Name};
use dynomite_common::flow::Slot;
use dynomite_common::guard::{Cell, Rules, Ruling};
use dynomite_common::limits::{
    CELLS_MAX, COMMANDS_MAX, EVENTS_BYTES, FLOWS_DEFAULT, HEAD_BYTES, MEMBERS_MAX, SHORTCUTS_MAX, SOURCES_MAX,
};
use dynomite_common::pair::Pair;
use dynomite_common::peek::State;
use dynomite_common::reason::{Answers, Reason, Tally};
use dynomite_common::token::Place;
use dynomite_common::verifier::Forgotten;

/// Flows by slot. Everybody reads; each field has one writer (`dynomite_common::flow`). The daemon maps it into memory
/// and sets the real size at load.
#[map]
pub static SLOTS: Array<Slot> = Array::with_max_entries(FLOWS_DEFAULT, BPF_F_MMAPABLE);

/// One element: written by the daemon, through memory; read by `adopt` and `route`.
#[map]
pub static CONFIG: Array<Config> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// A `Port` by local port of the daemon. Written by the daemon before it dials, through memory; read by `adopt`,
/// `reply` and `shortcut`, to whom that port is the remote one.
#[map]
pub static PORTS: Array<u64> = Array::with_max_entries(1 << 16, BPF_F_MMAPABLE);

/// Client connection → slot. Written by the daemon at adoption and release; read by `route`.
#[map]
pub static FLOWS: HashMap<FlowKey, u32> = HashMap::with_max_entries(FLOWS_DEFAULT, 0);

/// Slot → client socket; `route` is attached here. Written by the daemon; `reply` redirects to it.
#[map]
pub static CLIENTS: SockMap = SockMap::with_max_entries(FLOWS_DEFAULT, 0);

/// Slot → the datastore's own end of the flow's connection; `reply` is attached here. Written by `adopt`, deleted by the
/// daemon; `route` redirects to it.
#[map]
pub static DATASTORES: SockMap = SockMap::with_max_entries(FLOWS_DEFAULT, 0);

/// Shared datastore connections. Each field has one writer (`dynomite_common::pair`); the daemon maps it into memory.
#[map]
pub static PAIRS: Array<Pair> = Array::with_max_entries(SHORTCUTS_MAX, BPF_F_MMAPABLE);

/// Both ends of these, at `End::place`; `shortcut` is attached here. The daemon's end is written by the daemon, the
/// datastore's by `adopt`; both are deleted by the daemon.
#[map]
pub static SHORTCUTS: SockMap = SockMap::with_max_entries(2 * SHORTCUTS_MAX, 0);

/// Eligible commands. Written by the daemon while the configuration's generation is odd; read by `route`.
#[map]
pub static COMMANDS: HashMap<Name, CommandRow> = HashMap::with_max_entries(COMMANDS_MAX, 0);

/// A counter per `Reason`. Written by every program; read by the daemon for the statistics.
#[map]
pub static TALLIES: PerCpuArray<Tally> = PerCpuArray::with_max_entries(Reason::COUNT, 0);

/// What was done of each command, by `CommandRow::number`. Written by `route` and `reply`, each its own half; read by the
/// daemon for the statistics.
#[map]
pub static ANSWERS: PerCpuArray<Answers> = PerCpuArray::with_max_entries(COMMANDS_MAX, 0);

/// `Event`s for the daemon: a reply ended that it may be waiting for, or a segment was passed that its poll does not tell
/// it of. Written by `reply` and `route`.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(EVENTS_BYTES, 0);

/// Working memory of `route`, which has only 512 bytes of stack.
#[map]
pub static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

#[repr(C)]
pub struct Scratch {
    pub head: [u8; HEAD_BYTES],
    pub look: State,
    pub place: Place,
    pub token: Forgotten,
    pub zero: u32,
}

// SAFETY: an element belongs to one CPU, and a program that uses it is not interrupted by another that does.
unsafe impl Sync for Scratch {}

/// One element: written by the daemon, read by `guard`.
#[map]
pub static RULES: Array<Rules> = Array::with_max_entries(1, 0);

/// Addresses of members, as in `FlowKey`; the value is the daemon's. Read by `guard`.
#[map]
pub static MEMBERS: HashMap<[u32; 4], u32> = HashMap::with_max_entries(MEMBERS_MAX, BPF_F_NO_PREALLOC);

/// What `guard` remembers of who opens connections (`dynomite_common::guard::count_in_second`), while there is a limit.
#[map]
pub static SOURCES: LruHashMap<[u32; 4], u64> = LruHashMap::with_max_entries(SOURCES_MAX, 0);

/// A counter per interface, class and ruling. Made by the daemon when it attaches, counted up by `guard`.
#[map]
pub static GUARDED: PerCpuHashMap<Cell, Tally> = PerCpuHashMap::with_max_entries(CELLS_MAX, 0);

/// When `guard` last said something, by ruling.
#[map]
pub static SAID: Array<u64> = Array::with_max_entries(Ruling::COUNT, 0);
