//! Every key of the configuration, one row each: name, kind, default, words, and where its value goes.
//! The parser, the checks, the reference and the help read the row; a new key is a row and a field of `Config`.

use std::path::PathBuf;
use std::time::Duration;

use super::value::{
    Guard, KernelMode, ReadFailover, Reason, Secure, SeedProvider, Xdp, address, datastore, host_port, seed, tokens_of,
};
use super::{Config, Environment};
use crate::coordinator::ConsistencyLevel;
use crate::protocol::Protocol;
use crate::ring::hash::HashKind;

pub struct Row {
    pub name: &'static str,
    pub kind: Kind,
    pub unset: Unset,
    pub help: &'static str,
    pub put: fn(&mut Config, Value<'_>) -> Result<(), Reason>,
}

#[derive(Clone, Copy)]
pub enum Kind {
    Text,
    Path,
    /// `true` or `false`.
    Flag,
    /// From, to. Where 0 is below `from` it stands for the default, as it always did.
    Count(u64, u64),
    Millis(u64, u64),
    Bytes(u64, u64),
    Choice(&'static [&'static str]),
    HostPort,
    /// host:port, or the path of a unix socket.
    Address,
    /// Lists: `put` is called for each element.
    Words,
    Datastores,
    Tokens,
    Seeds,
    Map(&'static [Row]),
    /// Any value at all; accepted and forgotten.
    Obsolete,
}

impl Kind {
    pub fn is_list(self) -> bool {
        matches!(self, Kind::Words | Kind::Datastores | Kind::Tokens | Kind::Seeds)
    }
}

#[derive(Clone, Copy)]
pub enum Unset {
    Is(&'static str),
    /// Unset means absent, and that is fine. An example for the reference.
    Absent(&'static str),
    /// The file must say. An example for the reference.
    Required(&'static str),
}

/// A raw text, and what its kind made of it.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    Text(&'a str),
    Number(u64),
    Flag(bool),
}

impl<'a> Value<'a> {
    fn text(self) -> &'a str {
        match self {
            Value::Text(text) => text,
            _ => unreachable!("a row's kind and its `put` belong together: each row's default is tested"),
        }
    }

    fn number<T: TryFrom<u64>>(self) -> T {
        match self {
            Value::Number(number) => T::try_from(number).ok(),
            _ => None,
        }
        .expect("a row's kind and its `put` belong together: each row's default and limits are tested")
    }

    fn millis(self) -> Duration {
        Duration::from_millis(self.number())
    }

    fn flag(self) -> bool {
        match self {
            Value::Flag(flag) => flag,
            _ => unreachable!("a row's kind and its `put` belong together: each row's default is tested"),
        }
    }
}

/// The largest number that the older program could hold, and more than anybody means.
const MAX: u64 = i32::MAX as u64;

/// `|config, value| …` says where the value goes; a row without it is accepted, and that is all.
macro_rules! rows {
    ($($name:literal $kind:expr, $unset:expr, $help:literal $(, |$config:ident, $value:ident| $put:expr)?;)*) => {
        &[$(Row { name: $name, kind: $kind, unset: $unset, help: $help, put: rows!(@put $($config, $value, $put)?) },)*]
    };
    (@put $config:ident, $value:ident, $put:expr) => { |$config, $value| { $put; Ok(()) } };
    (@put) => { |_, _| Ok(()) };
}

use Kind::{
    Address, Bytes, Choice, Count, Datastores, Flag, HostPort, Map, Millis, Obsolete, Path, Seeds, Text, Tokens, Words,
};
use Unset::{Absent, Is, Required};

/// The keys of a pool, in groups, as the reference shows them.
pub const GROUPS: &[(&str, &[Row])] = &[
    (
        "Where it listens",
        rows! {
            "listen" Address, Required("127.0.0.1:8102"),
                "Clients connect here: host:port, or the path of a unix socket.",
                |config, value| config.listen = address(value.text())?;
            "dyn_listen" HostPort, Required("127.0.0.1:8101"),
                "Peers connect here. Unless the environment names another, the host is also how the others know this node.",
                |config, value| config.dyn_listen = host_port(value.text())?;
            "stats_listen" HostPort, Is("0.0.0.0:22222"),
                "HTTP: /info, /metrics, /help and the operator's switches. There is no password: mind who can reach it.",
                |config, value| config.stats_listen = host_port(value.text())?;
            "backlog" Count(1, MAX), Is("512"),
                "Connections that may wait to be accepted, at each of the listeners.",
                |config, value| config.backlog = value.number();
        },
    ),
    (
        "Its datastore",
        rows! {
            "servers" Datastores, Required("127.0.0.1:22122:1"),
                "The one datastore: host:port:weight [name] or /path:weight [name]. The weight has no meaning.",
                |config, value| config.datastore = datastore(value.text())?;
            "data_store" Count(0, 1), Is("0"),
                "0: Redis (RESP). 1: memcached (text).",
                |config, value| config.protocol =
                    if value.number::<u64>() == 0 { Protocol::Resp } else { Protocol::Memcache };
            "requirepass" Text, Absent("secret"),
                "The datastore's password. The node says it to the datastore, and clients must say it to the node.",
                |config, value| config.requirepass = Some(value.text().to_owned());
            "datastore_connections" Count(1, 255), Is("1"),
                "Connections to the datastore, shared by all clients, of each worker.",
                |config, value| config.datastore_connections = value.number();
            "preconnect" Flag, Is("true"),
                "Connect to the datastore at the start, not at the first request.",
                |config, value| config.preconnect = value.flag();
            "timeout" Millis(1, MAX), Is("5000"),
                "How long the datastore may take to answer one request; peers get as long, and the way there and back.",
                |config, value| config.timeout = value.millis();
            "server_retry_timeout" Millis(1, MAX), Is("10000"),
                "The longest pause between two attempts to reach a datastore that is away.",
                |config, value| config.server_retry_timeout = value.millis();
            "server_failure_limit" Count(1, MAX), Is("3"),
                "Failures in a row after which the datastore is left alone for server_retry_timeout. One that cannot be connected is tried again within a second.",
                |config, value| config.server_failure_limit = value.number();
            "auto_eject_hosts" Flag, Is("true"),
                "Leave a failing datastore alone at all. false: try with every request.",
                |config, value| config.auto_eject_hosts = value.flag();
        },
    ),
    (
        "Its place in the cluster",
        rows! {
            "datacenter" Text, Is("localdc"),
                "Its datacenter's name.",
                |config, value| config.datacenter = value.text().to_owned();
            "rack" Text, Is("localrack"),
                "Its rack's name. Every rack holds one full copy of the data.",
                |config, value| config.rack = value.text().to_owned();
            "tokens" Tokens, Required("0"),
                "Where its range of the ring ends: 0 to 4294967295. One, if the cluster has C nodes.",
                |config, value| config.tokens.splice(..0, tokens_of(value.text())?);
            "dyn_seeds" Seeds, Absent("127.0.0.2:8101:rack1:dc1:1383429731"),
                "The other nodes: host:port:rack:datacenter:token [name].",
                |config, value| config.seeds.push(seed(value.text())?);
            "dyn_seed_provider" Text, Is("simple_provider"),
                "Who else knows nodes: simple_provider, which is nobody. florida_provider and dns_provider are not there yet.",
                |config, value| config.seed_provider = SeedProvider::parse(value.text());
            "hash" Choice(HASHES), Is("murmur"),
                "How keys become tokens. The same on all nodes.",
                |config, value| config.hash =
                    value.text().parse().map_err(|_| Reason::of("is not a valid hash"))?;
            "hash_tag" Text, Absent("{}"),
                "Two characters: of a key with both, only what lies between them is hashed. The same on all nodes.",
                |config, value| config.hash_tag = Some(value.text().parse()
                    .map_err(|_| Reason::of("is not a valid hash tag string with two characters"))?);
            "env" Text, Is("aws"),
                "aws: its public name and address are in EC2_PUBLIC_HOSTNAME, EC2_PUBLIC_IPV4; else in PUBLIC_HOSTNAME, …",
                |config, value| config.environment =
                    if value.text() == "aws" { Environment::Aws } else { Environment::Other };
        },
    ),
    (
        "Consistency",
        rows! {
            "read_consistency" Choice(LEVELS), Is("dc_one"),
                "How many replicas must answer a read: see the levels in README.",
                |config, value| config.read_consistency = level("read_consistency", value.text())?;
            "write_consistency" Choice(LEVELS), Is("dc_one"),
                "How many replicas must answer a write. All replicas get it, whatever the level.",
                |config, value| config.write_consistency = level("write_consistency", value.text())?;
            "read_repairs_enabled" Flag, Is("false"),
                "Mend replicas that a read found out of date. Needs both levels above dc_one, and Redis.",
                |config, value| config.read_repairs_enabled = value.flag();
            "read_failover" Choice(ReadFailover::NAMES), Is("racks"),
                "Who else is asked for a dc_one read when the owner in this rack is away.",
                |config, value| config.read_failover = choose(value.text(), ReadFailover::parse, ReadFailover::NAMES)?;
        },
    ),
    (
        "Links to peers",
        rows! {
            "local_peer_connections" Count(1, 255), Is("1"),
                "Connections to each peer of this datacenter, of each worker.",
                |config, value| config.local_peer_connections = value.number();
            "remote_peer_connections" Count(1, 255), Is("1"),
                "Connections to each peer of another datacenter, of each worker.",
                |config, value| config.remote_peer_connections = value.number();
            "conn_msg_rate" Count(0, MAX), Is("50000"),
                "Requests a second on one connection to another datacenter. 0: no limit.",
                |config, value| config.conn_msg_rate = value.number();
            "enable_gossip" Flag, Is("false"),
                "Tell other nodes who is in the cluster, and learn it from them. Not there yet: members are those of dyn_seeds.",
                |config, value| config.enable_gossip = value.flag();
            "gos_interval" Millis(1, MAX), Is("30000"),
                "The pause between two rounds of gossip, and between two looks at the seed provider. Neither is there yet.",
                |config, value| config.gossip_interval = value.millis();
            "secure_server_option" Choice(Secure::NAMES), Is("none"),
                "Which links are encrypted. The same on all nodes; datacenter if the cluster has C nodes.",
                |config, value| config.secure = Secure::parse(value.text()).ok_or_else(|| Reason::Whole(
                    "directive \"secure_server_option:\"must be one of 'none' 'rack' 'datacenter' 'all'".to_owned()))?;
            "pem_key_file" Path, Is("conf/dynomite.pem"),
                "The cluster's RSA key: PEM, the same on all nodes. Read only when links are encrypted.",
                |config, value| config.pem_key_file = value.text().into();
        },
    ),
    (
        "Limits",
        rows! {
            "client_connections" Count(0, MAX), Is("0"),
                "Clients connected at one time; more are closed at once. 0: no limit but the process's own.",
                |config, value| config.client_connections = value.number();
            "client_outstanding_max" Count(1, MAX), Is("20000"),
                "Requests of one client that are not yet answered; it is not read from until some are.",
                |config, value| config.client_outstanding_max = value.number();
            "client_output_bytes_max" Bytes(65_536, 1 << 40), Is("1073741824"),
                "Bytes of replies that one client may leave unread before it is closed.",
                |config, value| config.client_output_bytes_max = value.number();
            "request_bytes_max" Bytes(1024, 1 << 40), Is("1073741824"),
                "The largest request of a client or a peer.",
                |config, value| config.request_bytes_max = value.number();
            "request_arguments_max" Count(16, MAX), Is("1048576"),
                "Arguments of one request, its name among them.",
                |config, value| config.request_arguments_max = value.number();
            "reply_bytes_max" Bytes(1024, 1 << 40), Is("1073741824"),
                "The largest reply of the datastore or a peer.",
                |config, value| config.reply_bytes_max = value.number();
            "datastore_queue_bytes_max" Bytes(65_536, 1 << 40), Is("1073741824"),
                "Bytes of requests that may wait for one connection to the datastore; more are refused.",
                |config, value| config.datastore_queue_bytes_max = value.number();
            "peer_queue_bytes_max" Bytes(65_536, 1 << 40), Is("1073741824"),
                "Bytes of requests that may wait for one connection to a peer; more are refused.",
                |config, value| config.peer_queue_bytes_max = value.number();
            "max_msgs" Count(100_000, 1_000_000), Is("200000"),
                "Requests in the whole node that are not yet answered; more are refused.",
                |config, value| config.max_msgs = value.number();
            "mbuf_size" Bytes(512, 512_000), Is("16384"),
                "Bytes that encrypted links encrypt as one piece, and a few more. The same on all nodes.",
                |config, value| config.mbuf_size = mbuf_size(value.number())?;
        },
    ),
    (
        "Threads",
        rows! {
            "workers" Count(0, 1024), Is("0"),
                "Threads that serve clients. 0: one less than there are cores, which is the datastore's; at least one.",
                |config, value| config.workers = value.number();
        },
    ),
    (
        "The fast path in the kernel",
        rows! {
            "kernel" Map(KERNEL), Absent(""),
                "Requests that the kernel answers without the daemon. It may be left out: the node then does what it can.";
        },
    ),
    (
        "Accepted from older files, without effect",
        rows! {
            "stats_interval" Obsolete, Is("30000"), "figures are always current";
            "dyn_read_timeout" Obsolete, Is("10000"), "timeout is what counts";
            "dyn_write_timeout" Obsolete, Is("10000"), "timeout is what counts";
            "dyn_port" Obsolete, Is("8101"), "dyn_listen has the port";
            "dyn_connections" Obsolete, Is("100"), "local_peer_connections and remote_peer_connections are what counts";
            "distribution" Obsolete, Is("vnode"), "keys are distributed by token";
            "server_connections" Obsolete, Is("1"), "datastore_connections is what counts";
            "recon_key_file" Obsolete, Is("conf/recon_key.pem"), "there is no reconciliation";
            "recon_iv_file" Obsolete, Is("conf/recon_iv.pem"), "there is no reconciliation";
        },
    ),
];

/// The keys inside `kernel:`.
pub const KERNEL: &[Row] = rows! {
    "mode" Choice(KernelMode::NAMES), Is("auto"),
        "auto: what the probe proves. off: user space alone. required: do not start without.",
        |config, value| config.kernel.mode = choose(value.text(), KernelMode::parse, KernelMode::NAMES)?;
    "interface" Words, Absent("[eth0]"),
        "Network interfaces whose packets to our ports are counted and guarded (XDP), whenever they are there. None: no guard.",
        |config, value| interface(&mut config.kernel.interfaces, value.text())?;
    "xdp" Choice(Xdp::NAMES), Is("auto"),
        "How the guard attaches. auto: native, else generic.",
        |config, value| config.kernel.xdp = choose(value.text(), Xdp::parse, Xdp::NAMES)?;
    "guard" Choice(Guard::NAMES), Is("observe"),
        "observe: count what should not come in. enforce: drop it. Who is to join must then be in everybody's dyn_seeds.",
        |config, value| config.kernel.guard = choose(value.text(), Guard::parse, Guard::NAMES)?;
    "guard_syn_rate" Count(0, MAX), Is("0"),
        "New connections a second from one address, to listen and to stats_listen. Members may open more. 0: no limit.",
        |config, value| config.kernel.guard_syn_rate = value.number();
    "flows_max" Count(0, 65_536), Is("1024"),
        "Clients that the kernel may answer at one time. Each takes one more descriptor, and connection of the datastore.",
        |config, value| config.kernel.flows_max = value.number();
    "shortcut" Flag, Is("false"),
        "Shared connections to the datastore go past TCP, from socket to socket.",
        |config, value| config.kernel.shortcut = value.flag();
    "cgroup" Path, Absent("/sys/fs/cgroup"),
        "A cgroup (version 2) that holds the datastore. Found from the mount table when not given.",
        |config, value| config.kernel.cgroup = Some(cgroup(value.text())?);
};

fn cgroup(text: &str) -> Result<PathBuf, Reason> {
    match text.starts_with('/') {
        true => Ok(text.into()),
        false => Err(Reason::of("must be an absolute path: nodes are started from anywhere")),
    }
}

pub fn rows() -> impl Iterator<Item = &'static Row> {
    GROUPS.iter().flat_map(|(_, rows)| rows.iter())
}

const HASHES: &[&str] = &{
    let mut names = [""; HashKind::NAMES.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = HashKind::NAMES[index].0;
        index += 1;
    }
    names
};

const LEVELS: &[&str] = &["dc_one", "dc_quorum", "dc_safe_quorum", "dc_each_safe_quorum"];

fn level(key: &str, text: &str) -> Result<ConsistencyLevel, Reason> {
    text.parse().map_err(|_| {
        Reason::Whole(format!(
            "directive \"{key}:\"must be one of 'DC_ONE' 'DC_QUORUM' 'DC_SAFE_QUORUM' 'DC_EACH_SAFE_QUORUM'"
        ))
    })
}

fn choose<T>(text: &str, parse: fn(&str) -> Option<T>, names: &[&str]) -> Result<T, Reason> {
    parse(text).ok_or_else(|| Reason::of(format!("must be one of '{}'", names.join("' '"))))
}

/// Linux' own limit, and a zero behind it.
const INTERFACE_BYTES_MAX: usize = 15;

/// Twice the same is once.
fn interface(known: &mut Vec<String>, name: &str) -> Result<(), Reason> {
    if name.len() > INTERFACE_BYTES_MAX {
        return Err(Reason::of(format!("has '{name}': names of interfaces have at most {INTERFACE_BYTES_MAX} bytes")));
    }
    if !known.iter().any(|known| known == name) {
        known.push(name.to_owned());
    }
    Ok(())
}

fn mbuf_size(bytes: u64) -> Result<usize, Reason> {
    if bytes.is_multiple_of(16) {
        Ok(bytes as usize)
    } else {
        Err(Reason::Whole("mbuf_size: mbuf size must be a multiple of 16".to_owned()))
    }
}

impl Kind {
    /// Reads one scalar. `None`: the text is 0 where that stands for the default.
    pub fn read<'a>(self, name: &str, text: &'a str) -> Result<Option<Value<'a>>, Reason> {
        match self {
            Flag => match text {
                "true" => Ok(Some(Value::Flag(true))),
                "false" => Ok(Some(Value::Flag(false))),
                _ => Err(Reason::of("is not \"true\" or \"false\"")),
            },
            Count(from, to) | Millis(from, to) | Bytes(from, to) => {
                if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(Reason::of("is not a number"));
                }
                match text.parse::<u64>() {
                    Ok(0) if from > 0 => Ok(None),
                    Ok(number) if (from..=to).contains(&number) => Ok(Some(Value::Number(number))),
                    _ => Err(out_of_range(name, from, to)),
                }
            }
            _ => Ok(Some(Value::Text(text))),
        }
    }
}

fn out_of_range(name: &str, from: u64, to: u64) -> Reason {
    match name {
        "mbuf_size" => Reason::Whole(format!("mbuf_size: mbuf chunk size must be between {from} and {to} bytes")),
        "max_msgs" => {
            Reason::Whole(format!("max_msgs: max allocated messages buffer must be between {from} and {to} messages"))
        }
        _ => Reason::of(format!("must be from {from} to {to}")),
    }
}
