//! Names, keys and values of maps and programs.
//! What a slot holds is in `flow`; this is what stands around it.

use crate::flow::Count;
use crate::limits::RANGES_MAX;

/// Names of programs in the object.
pub mod program {
    pub const ADOPT: &str = "adopt";
    pub const ROUTE: &str = "route";
    pub const REPLY: &str = "reply";
    pub const SHORTCUT: &str = "shortcut";
    pub const GUARD: &str = "guard";
}

/// Names of maps in the object; what each holds is said in the object's `maps.rs`.
pub mod map {
    pub const SLOTS: &str = "SLOTS";
    pub const CONFIG: &str = "CONFIG";
    pub const PORTS: &str = "PORTS";
    pub const FLOWS: &str = "FLOWS";
    pub const CLIENTS: &str = "CLIENTS";
    pub const DATASTORES: &str = "DATASTORES";
    pub const PAIRS: &str = "PAIRS";
    pub const SHORTCUTS: &str = "SHORTCUTS";
    pub const COMMANDS: &str = "COMMANDS";
    pub const TALLIES: &str = "TALLIES";
    pub const ANSWERS: &str = "ANSWERS";
    pub const EVENTS: &str = "EVENTS";
    pub const RULES: &str = "RULES";
    pub const MEMBERS: &str = "MEMBERS";
    pub const SOURCES: &str = "SOURCES";
    pub const GUARDED: &str = "GUARDED";
}

/// A connection's two ends. Addresses are as the socket has them (network order; IPv4 in the last word behind
/// `::ffff:`), ports in host order: the hook converts, since the kernel mixes orders.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    pub remote_ip: [u32; 4],
    pub local_ip: [u32; 4],
    pub remote_port: u32,
    pub local_port: u32,
}
const _: () = assert!(size_of::<FlowKey>() == 40 && align_of::<FlowKey>() == 4);

/// The second word from the end of an IPv4 address in six's clothes, in network order.
pub const MAPPED: u32 = 0xffff_u32.to_be();

impl FlowKey {
    pub fn mapped(ip4: u32) -> [u32; 4] {
        [0, 0, MAPPED, ip4]
    }
}

/// What a local port of the daemon's is used for: the value of the ports map, zero for ports that are not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// The daemon's end of a flow's datastore connection.
    Flow { slot: u32 },
    /// The daemon's end of a shared connection that takes the shortcut.
    Shortcut { pair: u32 },
}

impl Port {
    const FLOW: u64 = 1 << 32;
    const SHORTCUT: u64 = 2 << 32;
    const INDEX: u64 = (1 << 32) - 1;

    pub const fn pack(self) -> u64 {
        match self {
            Port::Flow { slot } => Port::FLOW | slot as u64,
            Port::Shortcut { pair } => Port::SHORTCUT | pair as u64,
        }
    }

    #[inline(always)]
    pub const fn unpack(value: u64) -> Option<Port> {
        match value & !Port::INDEX {
            Port::FLOW => Some(Port::Flow { slot: (value & Port::INDEX) as u32 }),
            Port::SHORTCUT => Some(Port::Shortcut { pair: (value & Port::INDEX) as u32 }),
            _ => None,
        }
    }
}

/// Tokens `first` to `last`, both included; an arc that wraps around is two of these.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenRange {
    pub first: u32,
    pub last: u32,
}

/// The one element of the configuration map.
#[repr(C)]
#[derive(Debug)]
pub struct Config {
    /// Odd: nothing is routed, and `table` may be written once no program is under way.
    pub generation: Count,
    pub table: Table,
}
const _: () = assert!(size_of::<Config>() == 8 + size_of::<Table>());

/// Whose keys are whose, and how the kernel finds out.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// 0 RESP, 1 memcached.
    pub protocol: u32,
    /// A `KernelHash`; 0 when this node owns every key of its rack and nothing need be hashed.
    pub hash: u32,
    /// `hash_tag`'s two letters, 0 and 0 for none.
    pub tag_open: u32,
    pub tag_close: u32,
    /// The datastore's port, host order.
    pub datastore_port: u32,
    /// Elements of `range` that count.
    pub ranges: u32,
    /// The daemon's own address on connections to the datastore, as in `FlowKey`.
    pub daemon_ip: [u32; 4],
    pub range: [TokenRange; RANGES_MAX],
}
const _: () = assert!(size_of::<Table>() == 40 + 8 * RANGES_MAX && size_of::<Table>().is_multiple_of(8));

impl Table {
    pub const EMPTY: Table = Table {
        protocol: 0,
        hash: 0,
        tag_open: 0,
        tag_close: 0,
        datastore_port: 0,
        ranges: 0,
        daemon_ip: [0; 4],
        range: [TokenRange { first: 0, last: 0 }; RANGES_MAX],
    };
}

/// The hashes that a kernel program computes, as numbered in `Config::hash`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum KernelHash {
    Murmur = 1,
    Murmur3 = 2,
    Fnv132 = 3,
    Fnv1a32 = 4,
    Fnv164 = 5,
    Fnv1a64 = 6,
    Crc32 = 7,
    Crc32a = 8,
    Jenkins = 9,
}

impl KernelHash {
    pub const ALL: [KernelHash; 9] = [
        KernelHash::Murmur,
        KernelHash::Murmur3,
        KernelHash::Fnv132,
        KernelHash::Fnv1a32,
        KernelHash::Fnv164,
        KernelHash::Fnv1a64,
        KernelHash::Crc32,
        KernelHash::Crc32a,
        KernelHash::Jenkins,
    ];

    /// As in the configuration file's `hash:`.
    pub const fn name(self) -> &'static str {
        match self {
            KernelHash::Murmur => "murmur",
            KernelHash::Murmur3 => "murmur3",
            KernelHash::Fnv132 => "fnv1_32",
            KernelHash::Fnv1a32 => "fnv1a_32",
            KernelHash::Fnv164 => "fnv1_64",
            KernelHash::Fnv1a64 => "fnv1a_64",
            KernelHash::Crc32 => "crc32",
            KernelHash::Crc32a => "crc32a",
            KernelHash::Jenkins => "jenkins",
        }
    }

    /// None for the hashes that only the daemon computes (`md5`, `hsieh`, `crc16`, `one_at_a_time`).
    pub fn named(name: &str) -> Option<KernelHash> {
        KernelHash::ALL.into_iter().find(|hash| hash.name() == name)
    }
}

/// A command's name in lower case, filled up with zeros, as two little-endian words: the key of the command map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Name(pub [u64; 2]);
const _: () = assert!(size_of::<Name>() == 16);

impl Name {
    /// None if it is longer than a name in the kernel can be, or not of lower-case letters alone.
    pub fn new(name: &str) -> Option<Name> {
        let mut bytes = [0; 16];
        bytes.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase()) {
            return None;
        }
        let number = u128::from_le_bytes(bytes);
        Some(Name([number as u64, (number >> 64) as u64]))
    }
}

/// A command that the kernel may route: its key is the first argument, its reply one element.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandRow {
    /// Arguments with the name, both ends included.
    pub args_min: u32,
    pub args_max: u32,
    /// Where it is counted: below `COMMANDS_MAX`.
    pub number: u32,
}
const _: () = assert!(size_of::<CommandRow>() == 12);

// SAFETY: repr(C) integers without padding (sizes asserted above); every bit pattern is a value.
#[cfg(feature = "user")]
mod pod {
    unsafe impl aya::Pod for super::FlowKey {}
    unsafe impl aya::Pod for super::Name {}
    unsafe impl aya::Pod for super::CommandRow {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_says_what_it_is_for() {
        for port in
            [Port::Flow { slot: 0 }, Port::Flow { slot: 77 }, Port::Shortcut { pair: 0 }, Port::Shortcut { pair: 9 }]
        {
            assert_eq!(Port::unpack(port.pack()), Some(port));
        }
        assert_eq!(Port::unpack(0), None);
        assert_eq!(Port::unpack(u64::MAX), None);
    }

    #[test]
    fn names() {
        assert_eq!(Name::new("get"), Some(Name([u64::from_le_bytes(*b"get\0\0\0\0\0"), 0])));
        assert_eq!(Name::new("zremrangebyscore").map(|name| name.0[1]), Some(u64::from_le_bytes(*b"ebyscore")));
        for bad in ["", "GET", "json.get", "georadiusbymember", "script load"] {
            assert_eq!(Name::new(bad), None, "{bad}");
        }
    }

    #[test]
    fn hashes_have_names() {
        for hash in KernelHash::ALL {
            assert_eq!(KernelHash::named(hash.name()), Some(hash));
        }
        assert_eq!(KernelHash::named("md5"), None);
    }
}
