//! What this kernel can do for us, found out by doing: the fast path is started, proven and aimed, or there is one reason
//! why not.
//! Owns: the order of these questions, and the lock that keeps two nodes from fighting over one datastore.

use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self as unix, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use super::guard::Guard;
use super::selftest::{self, Trial};
use super::{FastPath, Language, LoadError, Progress, Settings};

/// Why the kernel does nothing for us, or not this part.
#[derive(Debug)]
pub enum Off {
    /// The configuration says so.
    Configured,
    /// The datastore is reached in a way that has no sockets of its own for the kernel to write into.
    NoTcp(&'static str),
    /// The datastore's sockets are another kernel's.
    Remote(SocketAddr),
    /// Names of the capabilities that are missing.
    NotAllowed(Vec<&'static str>),
    /// No cgroup of version 2 is mounted.
    NoCgroup,
    /// The cgroup of the configuration cannot be used.
    BadCgroup(PathBuf, String),
    /// The process has its capabilities of a user namespace, as in many containers.
    UserNamespace,
    /// Kernels before 5.11 count maps as locked memory; this many bytes are allowed.
    LockedMemory(u64),
    /// The kernel is locked down, so that programs may not read its memory.
    LockedDown,
    Load(LoadError),
    /// A trial of the self-test did not end as it should.
    SelfTest(Trial),
    /// Another process routes for this datastore. Its number, if it can be told.
    Taken(SocketAddr, Option<i32>),
    /// The datastore's sockets are not seen: its process is outside of the cgroup, or behind a proxy.
    Unseen(PathBuf),
    /// The configuration wants it off, this part alone.
    Unwanted(&'static str),
    /// Connections on it stood still.
    GivenUp,
    /// An operator switched it off.
    Switched,
    /// Requests cannot be told apart in the kernel with this configuration.
    Configuration(String),
}

impl fmt::Display for Off {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Off::Configured => write!(f, "kernel.mode is off"),
            Off::NoTcp(what) => write!(f, "{what}"),
            Off::Remote(address) => write!(f, "the datastore {address} is not on this host"),
            Off::NotAllowed(missing) => write!(f, "missing {}", missing.join(", ")),
            Off::NoCgroup => write!(f, "no cgroup2 is mounted (version 1 alone does not do)"),
            Off::BadCgroup(path, why) => write!(f, "cgroup {}: {why}", path.display()),
            Off::UserNamespace => {
                write!(f, "in a user namespace; its capabilities do not count for programs in the kernel")
            }
            Off::LockedMemory(bytes) => write!(
                f,
                "the kernel counts its maps as locked memory, and no more than {bytes} bytes of that are allowed"
            ),
            Off::LockedDown => write!(f, "the kernel is locked down (confidentiality)"),
            Off::Load(error) => write!(f, "{error}"),
            Off::SelfTest(trial) => {
                write!(f, "self-test \"{}\" failed: {}", trial.name, trial.fault.as_deref().unwrap_or("?"))
            }
            Off::Taken(address, Some(pid)) => write!(f, "process {pid} routes for the datastore {address} already"),
            Off::Taken(address, None) => write!(f, "another process routes for the datastore {address} already"),
            Off::Unseen(cgroup) => {
                write!(f, "the datastore's sockets are not seen in cgroup {}", cgroup.display())
            }
            Off::Unwanted(what) => write!(f, "{what}"),
            Off::GivenUp => write!(f, "given up: connections on it stood still"),
            Off::Switched => write!(f, "switched off at the stats port"),
            Off::Configuration(why) => write!(f, "{why}"),
        }
    }
}

/// What was found out and started. One part or the other may have to stay off.
pub struct Proven {
    pub path: Arc<FastPath>,
    pub datastore: SocketAddr,
    pub route: Result<Vec<Trial>, Off>,
    pub shortcut: Result<Vec<Trial>, Off>,
    // Held for as long as the path is used.
    _lock: Lock,
}

pub const ROUTE: &str = "route";
pub const SHORTCUT: &str = "shortcut";

/// Each part: its trials, or why it stays off.
pub fn parts(proven: &Result<Proven, Off>) -> [(&'static str, Result<&Vec<Trial>, &Off>); 2] {
    let (route, shortcut) = match proven {
        Ok(proven) => (proven.route.as_ref(), proven.shortcut.as_ref()),
        Err(off) => (Err(off), Err(off)),
    };
    [(ROUTE, route), (SHORTCUT, shortcut)]
}

/// Starts the fast path for `datastore`, which a connection begins with `greetings`.
pub fn start(
    mut settings: Settings,
    cgroup: Option<PathBuf>,
    greetings: &[&[u8]],
    wants_shortcut: bool,
) -> Result<Proven, Off> {
    let missing = missing_capabilities(&fs::read_to_string("/proc/self/status").unwrap_or_default());
    if !missing.is_empty() {
        return Err(Off::NotAllowed(missing));
    }
    if !is_local(settings.datastore) {
        return Err(Off::Remote(settings.datastore));
    }
    let root = cgroup2(&fs::read_to_string("/proc/self/mounts").unwrap_or_default());
    let cgroup = cgroup.or_else(|| root.clone()).ok_or(Off::NoCgroup)?;
    if let Err(why) = is_cgroup2(&cgroup) {
        return Err(Off::BadCgroup(cgroup, why));
    }
    // The self-test's sockets are this process's own, wherever the datastore's are.
    settings.cgroup = root.unwrap_or_else(|| cgroup.clone());
    let lock = Lock::take(settings.datastore)?;
    lift_memory_limit();
    let path = FastPath::start(&settings).map_err(because)?;
    let route = passed(selftest::run(&path));
    let shortcut = match path.shortcut_refused() {
        _ if !wants_shortcut => Err(Off::Unwanted("kernel.shortcut is false")),
        Ok(()) => passed(selftest::run_shortcut(&path)),
        Err(error) => Err(because(error)),
    };
    path.forget();
    path.see(&cgroup).map_err(because)?;
    path.aim(settings.datastore, settings.language).map_err(|error| Off::Load(LoadError::NotMapped(error)))?;
    if sees_datastore(&path, greetings) == Some(false) {
        return Err(Off::Unseen(cgroup));
    }
    Ok(Proven { path, datastore: settings.datastore, route, shortcut, _lock: lock })
}

fn passed(mut trials: Vec<Trial>) -> Result<Vec<Trial>, Off> {
    match trials.iter().position(|trial| trial.fault.is_some()) {
        Some(failed) => Err(Off::SelfTest(trials.swap_remove(failed))),
        None => Ok(trials),
    }
}

/// The guard's program, proven, attached nowhere. It needs neither a datastore nor a cgroup.
pub fn guard() -> Result<(Guard, Vec<Trial>), Off> {
    let missing = missing_capabilities(&fs::read_to_string("/proc/self/status").unwrap_or_default());
    if !missing.is_empty() {
        return Err(Off::NotAllowed(missing));
    }
    lift_memory_limit();
    // One for the trials, which leave traces and make it talk, and one for work.
    let mut trials = Guard::load().map_err(because)?.prove();
    if let Some(failed) = trials.iter().position(|trial| trial.fault.is_some()) {
        return Err(Off::SelfTest(trials.swap_remove(failed)));
    }
    Ok((Guard::load().map_err(because)?, trials))
}

/// What is behind a refusal, where there is more to it than the error tells.
fn because(error: LoadError) -> Off {
    match error {
        LoadError::Refused { .. } if is_locked_down() => Off::LockedDown,
        LoadError::Denied(_) if is_in_user_namespace(&fs::read_to_string("/proc/self/uid_map").unwrap_or_default()) => {
            Off::UserNamespace
        }
        LoadError::Denied(_) => match getrlimit(Resource::RLIMIT_MEMLOCK) {
            Ok((bytes, _)) if bytes != RLIM_INFINITY => Off::LockedMemory(bytes),
            _ => Off::Load(error),
        },
        error => Off::Load(error),
    }
}

/// From `/proc/self/uid_map`: the first namespace maps every number to itself.
fn is_in_user_namespace(map: &str) -> bool {
    let words: Vec<&str> = map.split_whitespace().collect();
    !words.is_empty() && words != ["0", "0", "4294967295"]
}

/// Maps count as locked memory on kernels before 5.11. Where we may not, creating the maps says so.
fn lift_memory_limit() {
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
}

/// What this host can do, for people: the same questions with a datastore of our own making. `meant`: the one that it is asked
/// for, which is not touched.
pub fn check(meant: Option<SocketAddr>, cgroup: Option<PathBuf>) -> Result<Proven, Off> {
    if let Some(remote) = meant.filter(|meant| !is_local(*meant)) {
        return Err(Off::Remote(remote));
    }
    let refused = |error| Off::Load(LoadError::NotMapped(error));
    let datastore = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(refused)?;
    let settings = Settings {
        datastore: datastore.local_addr().map_err(refused)?,
        language: Language::Resp,
        flows_max: 64,
        cgroup: PathBuf::new(),
    };
    if let Some(cgroup) = &cgroup {
        is_cgroup2(cgroup).map_err(|why| Off::BadCgroup(cgroup.clone(), why))?;
    }
    // What stands for the datastore is where this process is.
    let own = cgroup2(&fs::read_to_string("/proc/self/mounts").unwrap_or_default());
    start(settings, own.or(cgroup), &[], true)
}

/// Is a real connection to the datastore adopted? None: it cannot be told, since nobody answers there yet.
fn sees_datastore(path: &Arc<FastPath>, greetings: &[&[u8]]) -> Option<bool> {
    // To be seen takes no time; and the node is not to wait long before it serves without.
    const PATIENCE: Duration = Duration::from_secs(1);
    path.publish(Some(&super::Routing { keys: None, commands: Vec::new() }));
    let flow = path.join(Box::new(|| {})).dial(greetings);
    path.publish(None);
    let mut flow = flow.ok()?;
    let give_up_at = Instant::now() + PATIENCE;
    loop {
        match flow.on_event() {
            Progress::Ready => return Some(true),
            Progress::Lost(_) => return None,
            Progress::Same | Progress::Speaks if Instant::now() > give_up_at => return Some(flow.is_seen()),
            Progress::Same | Progress::Speaks => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// Capabilities that loading and attaching ask for and that this process has not, from `/proc/self/status`.
fn missing_capabilities(status: &str) -> Vec<&'static str> {
    const ADMIN: u32 = 21;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let Some(effective) = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()) else {
        return vec!["/proc"];
    };
    let has = |number: u32| effective >> number & 1 == 1;
    let needs = [("CAP_NET_ADMIN", 12, false), ("CAP_PERFMON", 38, true), ("CAP_BPF", 39, true)];
    let is_missing = |&(_, number, admin_does): &(&str, u32, bool)| !(has(number) || admin_does && has(ADMIN));
    needs.iter().filter(|need| is_missing(need)).map(|need| need.0).collect()
}

/// The root of the version 2 hierarchy, from `/proc/self/mounts`.
pub fn cgroup2(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_, place, kind) = (fields.next()?, fields.next()?, fields.next()?);
        // Blanks are written as octal numbers; a cgroup mounted below such a name can be given in the configuration.
        (kind == "cgroup2" && !place.contains('\\')).then(|| place.into())
    })
}

fn is_cgroup2(path: &Path) -> Result<(), String> {
    match statfs(path) {
        Ok(found) if found.filesystem_type() == CGROUP2_SUPER_MAGIC => Ok(()),
        Ok(_) => Err("not a cgroup of version 2".into()),
        Err(error) => Err(error.desc().into()),
    }
}

/// Only addresses of this host can be bound.
fn is_local(datastore: SocketAddr) -> bool {
    UdpSocket::bind(SocketAddr::new(datastore.ip(), 0)).is_ok()
}

fn is_locked_down() -> bool {
    fs::read_to_string("/sys/kernel/security/lockdown").is_ok_and(|modes| modes.contains("[confidentiality]"))
}

/// Two pairs of programs would take the same sockets from each other. The name is free again when its holder ends,
/// however it ends.
struct Lock(#[expect(dead_code, reason = "held, not used")] UnixListener);

impl Lock {
    fn take(datastore: SocketAddr) -> Result<Lock, Off> {
        let taken = |_| Off::Taken(datastore, None);
        let name = unix::SocketAddr::from_abstract_name(format!("dynomite-fast-path/{datastore}")).map_err(taken)?;
        match UnixListener::bind_addr(&name) {
            Ok(listener) => Ok(Lock(listener)),
            Err(_) => {
                let holder = UnixStream::connect_addr(&name).ok();
                let holder = holder.and_then(|stream| getsockopt(&stream, PeerCredentials).ok());
                Err(Off::Taken(datastore, holder.map(|credentials| credentials.pid())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_named() {
        let check = |hex: &str, missing: &[&str]| {
            assert_eq!(missing_capabilities(&format!("Name:\tx\nCapEff:\t{hex}\n")), missing, "{hex}");
        };
        check("000001ffffffffff", &[]);
        check("0000000000000000", &["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"]);
        check("000000c000001000", &[]);
        check("0000008000001000", &["CAP_PERFMON"]);
        check("0000000000201000", &[]);
        check("000000c000000000", &["CAP_NET_ADMIN"]);
        assert_eq!(missing_capabilities(""), ["/proc"]);
    }

    #[test]
    fn namespaces_map_numbers() {
        assert!(!is_in_user_namespace("         0          0 4294967295\n"));
        assert!(is_in_user_namespace("         0       1000          1\n"));
        assert!(!is_in_user_namespace(""), "kernels without them");
    }

    #[test]
    fn cgroups_of_version_two_are_found() {
        let one = "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n";
        assert_eq!(cgroup2(one), None);
        assert_eq!(
            cgroup2(&format!("{one}cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n")),
            Some("/sys/fs/cgroup/unified".into())
        );
        assert_eq!(cgroup2("cgroup2 /a\\040b cgroup2 rw 0 0\n"), None);
        assert_eq!(cgroup2("\n \n"), None);
    }

    #[test]
    fn a_datastore_has_one_router() {
        let datastore = ([127, 9, 9, 9], 4242).into();
        let lock = Lock::take(datastore).ok().unwrap();
        let Err(Off::Taken(_, Some(pid))) = Lock::take(datastore) else { panic!("taken twice") };
        assert_eq!(pid as u32, std::process::id());
        drop(lock);
        assert!(Lock::take(datastore).is_ok());
    }
}
