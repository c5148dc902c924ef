//! Capacities that both sides compile against. Each has its reason beside it.

/// How much of a request the route program looks at. A read with its key fits many times over; the power of two lets
/// an index be kept inside the array by a mask.
pub const HEAD_BYTES: usize = 512;

/// Arguments of a request that the kernel follows, the name included: GETRANGE has four, SET with EX and a number five.
pub const ARGS_MAX: u32 = 6;

/// Names of commands that the kernel knows: `zremrangebyscore` has sixteen letters.
pub const NAME_BYTES_MAX: u32 = 16;

/// The longest reply that the kernel carries. Longer ones are relayed by the daemon, with back-pressure.
pub const REPLY_BYTES_MAX: u64 = 64 * 1024;

/// Send buffer that a client socket must have free before a request of it is routed: the longest reply at twice its
/// size, since the kernel accounts for its own structures too, and something for the daemon's small answers.
pub const SEND_ROOM_BYTES: u32 = 2 * REPLY_BYTES_MAX as u32 + 16 * 1024;

/// What the send buffer of an adopted client is forced to: `SEND_ROOM_BYTES` stay free while a client lags behind with
/// 128 KB of replies (also counted twice).
pub const SEND_BUFFER_BYTES: u32 = SEND_ROOM_BYTES + 2 * 128 * 1024;

/// Flows unless `flows_max` says otherwise. A slot is 256 bytes; each flow is one more connection for the datastore.
pub const FLOWS_DEFAULT: u32 = 1024;

/// `flows_max` may not say more: each flow has a local port of its own.
pub const FLOWS_MAX: u32 = 1 << 16;

/// Shared datastore connections that take the shortcut, of all workers; a slot is 256 bytes.
pub const SHORTCUTS_MAX: u32 = 1024;

/// Bytes on one direction of a shortcut that are written and not read. What goes straight is not bounded by the receiver's
/// buffer: a reader that stalls would have all of it parked in the kernel's memory. The daemon keeps its requests within
/// this; replies beyond it go over TCP, which has limits of its own.
pub const SHORTCUT_BYTES_MAX: u64 = 4 << 20;

/// A request longer than this goes over TCP, when all before it are answered.
pub const SHORTCUT_FRAME_BYTES_MAX: u64 = SHORTCUT_BYTES_MAX / 2;

/// The receive buffer of the daemon's end: room for what is parked, which counts, and for TCP beside it. Without, a
/// direction that changes to TCP finds a closed window, and nothing opens it again but a timer.
pub const SHORTCUT_BUFFER_BYTES: u32 = 4 * SHORTCUT_BYTES_MAX as u32;

/// Rows of the command table in the kernel.
pub const COMMANDS_MAX: u32 = 256;

/// Token ranges of one node that the kernel compares against, one by one. A node has one token, so one range or two
/// (the one that wraps around); more than this and the daemon routes.
pub const RANGES_MAX: usize = 32;

/// Bytes of the ring buffer for events: 24 each with its head, so some 2 700 of them.
pub const EVENTS_BYTES: u32 = 64 * 1024;

/// Addresses of members. A cluster has hundreds of nodes at most; were there more, no stranger would be told from them.
pub const MEMBERS_MAX: u32 = 16 * 1024;

/// Sources whose new connections are counted when there is a limit; the ones seen last are kept. Some 100 bytes each.
pub const SOURCES_MAX: u32 = 16 * 1024;

/// Network interfaces that the guard may be attached to.
pub const INTERFACES_MAX: u32 = 64;

/// Counters of the guard: each interface has one for every ruling of every class (`dynomite_common::guard`).
pub const CELLS_MAX: u32 = INTERFACES_MAX * 32;
