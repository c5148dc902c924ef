//! The YAML file → settings of each part; every problem at once.
//! Owns: `Config`, a plain struct that the daemon takes apart. Knows nothing of: sockets, and who uses which setting.
//! In reading order: `options` (the table of keys), `parse` (YAML → keys and texts), `value` (texts → values), `check`
//! (all of it → `Config`, or every problem), `lookup` (hosts and files), `reference` (the table → conf/reference.yml).

mod check;
pub mod lookup;
pub mod options;
mod parse;
mod problem;
mod reference;
#[cfg(test)]
mod tests;
pub mod value;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dynomite_common::token::Token;

pub use check::{NO_GOSSIP, check};
pub use lookup::Lookup;
pub use problem::{Invalid, Problem, located};
pub use reference::reference;
pub use value::{Address, Datastore, Guard, HostPort, KernelMode, ReadFailover, Secure, Seed, SeedProvider, Xdp};

use crate::coordinator::ConsistencyLevel;
use crate::protocol::Protocol;
use crate::ring::hash::{HashKind, HashTag};

/// One pool: this node. Fields bear the names of their keys; `options` says what each means.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The pool's name: the stats document's object is called so.
    pub pool: String,

    pub listen: Address,
    pub dyn_listen: HostPort,
    pub stats_listen: HostPort,
    pub backlog: i32,

    pub datastore: Datastore,
    pub protocol: Protocol,
    pub requirepass: Option<String>,
    pub datastore_connections: usize,
    pub preconnect: bool,
    pub timeout: Duration,
    pub server_retry_timeout: Duration,
    pub server_failure_limit: u32,
    pub auto_eject_hosts: bool,

    pub datacenter: String,
    pub rack: String,
    /// The last one written comes first.
    pub tokens: Vec<Token>,
    pub seeds: Vec<Seed>,
    pub seed_provider: SeedProvider,
    pub hash: HashKind,
    pub hash_tag: Option<HashTag>,
    pub environment: Environment,

    pub read_consistency: ConsistencyLevel,
    pub write_consistency: ConsistencyLevel,
    pub read_repairs_enabled: bool,
    pub read_failover: ReadFailover,

    pub local_peer_connections: usize,
    pub remote_peer_connections: usize,
    /// Zero: no limit.
    pub conn_msg_rate: u32,
    pub enable_gossip: bool,
    pub gossip_interval: Duration,
    pub secure: Secure,
    pub pem_key_file: PathBuf,

    /// Zero: no limit.
    pub client_connections: usize,
    pub client_outstanding_max: usize,
    pub client_output_bytes_max: usize,
    pub request_bytes_max: usize,
    pub request_arguments_max: u32,
    pub reply_bytes_max: usize,
    pub datastore_queue_bytes_max: usize,
    pub peer_queue_bytes_max: usize,
    pub max_msgs: usize,
    pub mbuf_size: usize,

    /// Zero: as many as there are cores.
    pub workers: usize,
    pub kernel: Kernel,
}

/// The `kernel:` map.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kernel {
    pub mode: KernelMode,
    pub interfaces: Vec<String>,
    pub xdp: Xdp,
    pub guard: Guard,
    /// Zero: no limit.
    pub guard_syn_rate: u32,
    pub flows_max: usize,
    pub shortcut: bool,
    pub cgroup: Option<PathBuf>,
}

/// Which environment variables tell a node its public name and address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    Aws,
    Other,
}

impl Environment {
    /// The variable that holds `what`, one of `PUBLIC_HOSTNAME`, `PUBLIC_IPV4`, `LOCAL_IPV4`.
    pub fn variable(self, what: &str) -> String {
        match self {
            Environment::Aws => format!("EC2_{what}"),
            Environment::Other => what.to_owned(),
        }
    }
}

impl Config {
    /// Before any key was read: the table's defaults go over it, and what is required must come from the file.
    fn blank(pool: &str) -> Config {
        Config {
            pool: pool.to_owned(),
            listen: Address::default(),
            dyn_listen: HostPort::default(),
            stats_listen: HostPort::default(),
            backlog: 0,
            datastore: Datastore::default(),
            protocol: Protocol::Resp,
            requirepass: None,
            datastore_connections: 0,
            preconnect: false,
            timeout: Duration::ZERO,
            server_retry_timeout: Duration::ZERO,
            server_failure_limit: 0,
            auto_eject_hosts: false,
            datacenter: String::new(),
            rack: String::new(),
            tokens: Vec::new(),
            seeds: Vec::new(),
            seed_provider: SeedProvider::Simple,
            hash: HashKind::Murmur,
            hash_tag: None,
            environment: Environment::Aws,
            read_consistency: ConsistencyLevel::DcOne,
            write_consistency: ConsistencyLevel::DcOne,
            read_repairs_enabled: false,
            read_failover: ReadFailover::Racks,
            local_peer_connections: 0,
            remote_peer_connections: 0,
            conn_msg_rate: 0,
            enable_gossip: false,
            gossip_interval: Duration::ZERO,
            secure: Secure::None,
            pem_key_file: PathBuf::new(),
            client_connections: 0,
            client_outstanding_max: 0,
            client_output_bytes_max: 0,
            request_bytes_max: 0,
            request_arguments_max: 0,
            reply_bytes_max: 0,
            datastore_queue_bytes_max: 0,
            peer_queue_bytes_max: 0,
            max_msgs: 0,
            mbuf_size: 0,
            workers: 0,
            kernel: Kernel::default(),
        }
    }
}

/// A configuration that may be used, and what its author should know.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    pub warnings: Vec<Problem>,
    /// The keys that the file gave, and in which line.
    pub given: BTreeMap<&'static str, usize>,
}

impl Loaded {
    pub fn line(&self, key: &str) -> Option<usize> {
        self.given.get(key).copied()
    }
}

/// A file longer than this is no configuration.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Everything that is wrong with a file on this machine, and what its author should know; resolvers are asked.
pub fn examine(path: &Path, mend: impl FnOnce(&mut Loaded), lookup: Lookup) -> (Loaded, Vec<Problem>) {
    let (mut loaded, mut problems) = match read(path) {
        Ok(text) => check::examine(&text),
        Err(text) => (check::examine("").0, vec![Problem::of_file(text)]),
    };
    mend(&mut loaded);
    lookup::look_up(&mut loaded, &mut problems, lookup);
    (loaded, problems)
}

/// Reads and checks a file. Asks no resolver and opens nothing else: see `lookup`.
pub fn load(path: &Path) -> Result<Loaded, Invalid> {
    let invalid = |problems| Invalid { path: path.to_owned(), problems };
    let text = read(path).map_err(|text| invalid(vec![Problem::of_file(text)]))?;
    check(&text).map_err(invalid)
}

fn read(path: &Path) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    if fs::metadata(path).map_err(cannot)?.len() > FILE_BYTES_MAX {
        return Err(format!("is longer than {FILE_BYTES_MAX} bytes"));
    }
    fs::read_to_string(path).map_err(cannot)
}
