//! The guard seen from the daemon: one program on the network interfaces that the configuration names.
//! Owns: the links, which end with the process however it ends, and what the program is told. Knows nothing of:
//! topologies, names of hosts.

mod trials;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aya::maps::{Array, HashMap, MapData, PerCpuHashMap, PerCpuValues};
use aya::programs::{ProgramFd, TestRun as _, Xdp};
use aya::{Ebpf, EbpfLoader, TestRunOptions, VerifierLogLevel};
use dynomite_common::abi::{map, program};
use dynomite_common::guard::{Cell, Class, Listener, Mode, Rules, Ruling};
use dynomite_common::limits::INTERFACES_MAX;
use dynomite_common::reason::Tally;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;

use super::flow::address_words;
use super::load::{LoadError, OBJECT, get, not_read, refused, take, walked};
use super::selftest::Trial;
use super::sys;
use super::words::{self, Words};

/// What the program does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Drop,
}

/// Where an attached program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the driver.
    Native,
    /// In the network stack, for any driver.
    Generic,
}

impl Place {
    pub fn name(self) -> &'static str {
        match self {
            Place::Native => "native",
            Place::Generic => "generic",
        }
    }
}

/// Why an interface is not guarded. Nothing has changed on it.
#[derive(Debug)]
pub enum NotAttached {
    Missing,
    /// Its frames do not begin with Ethernet addresses, so the program would look at the wrong bytes.
    NotEthernet(u16),
    /// Somebody else's program is there; ours does not push it out.
    Taken,
    /// The kernel has no links for XDP: it is older than 5.9.
    NoLinks,
    TooMany,
    Refused(Place, io::Error),
}

impl fmt::Display for NotAttached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotAttached::Missing => write!(f, "there is no such interface"),
            NotAttached::NotEthernet(kind) => write!(f, "not an Ethernet interface (its type is {kind})"),
            NotAttached::Taken => write!(f, "another XDP program is attached to it, and stays"),
            NotAttached::NoLinks => write!(f, "this kernel has no links for XDP programs (before 5.9)"),
            NotAttached::TooMany => write!(f, "more than {INTERFACES_MAX} interfaces"),
            NotAttached::Refused(place, error) => write!(f, "cannot attach in {} mode: {error}", place.name()),
        }
    }
}

/// A guarded interface. Dropped, it is not.
#[derive(Debug)]
struct Attached {
    name: String,
    index: u32,
    link: OwnedFd,
}

impl Attached {
    /// The kernel lets go of an interface that is removed, and whoever may can detach a link. An interface that has
    /// another name now, or stands in another namespace, is guarded still, unless its name is another's by now.
    fn holds(&self) -> bool {
        sys::interface_of_link(self.link.as_fd()).is_ok_and(|index| index != 0)
            && if_nametoindex(self.name.as_str()).map_or(true, |index| index == self.index)
    }
}

/// Packets of one class that got one ruling on one interface.
#[derive(Clone, Debug)]
pub struct Count {
    pub interface: String,
    pub class: Class,
    pub ruling: Ruling,
    pub tally: Tally,
}

pub struct Guard {
    /// How many instructions the verifier walked; 0 on kernels that do not tell (before 5.16).
    pub walked: u32,
    /// What it has to say, for who wants to hear it.
    pub words: Option<Words>,
    attached: Mutex<Vec<Attached>>,
    maps: Mutex<Maps>,
    object: Ebpf,
}

struct Maps {
    told: Rules,
    rules: Array<MapData, Rules>,
    members: HashMap<MapData, [u32; 4], u32>,
    counts: PerCpuHashMap<MapData, Cell, Tally>,
    /// What was counted on interfaces that are gone, by their names.
    past: BTreeMap<String, Vec<Tally>>,
}

impl Guard {
    /// Loads the program. It looks at nothing before it is attached and told its rules.
    pub fn load() -> Result<Guard, LoadError> {
        words::if_possible(Guard::load_with)
    }

    fn load_with(level: u8) -> Result<Guard, LoadError> {
        // The object's other programs are not loaded, so their maps need not be large.
        let others = [map::SLOTS, map::FLOWS, map::CLIENTS, map::DATASTORES, map::PORTS, map::COMMANDS];
        let mut loader = EbpfLoader::new();
        others.iter().for_each(|name| _ = loader.map_max_entries(name, 1));
        let mut object = loader
            .map_max_entries(words::MAP, words::BYTES)
            .override_global(words::LEVEL, &level, true)
            .verifier_log_level(VerifierLogLevel::STATS)
            .load(OBJECT)
            .map_err(|error| not_read(&error))?;
        let program: &mut Xdp = get(&mut object, program::GUARD)?;
        program.load().map_err(|error| refused(program::GUARD, &error))?;
        let maps = Maps {
            told: Rules::default(),
            rules: take(&mut object, map::RULES)?,
            members: take(&mut object, map::MEMBERS)?,
            counts: take(&mut object, map::GUARDED)?,
            past: BTreeMap::new(),
        };
        let walked = walked(&object, program::GUARD);
        let words = Words::of(&mut object);
        Ok(Guard { walked, words, attached: Mutex::default(), maps: Mutex::new(maps), object })
    }

    /// Proof on this kernel: packets of our own making, which go nowhere. Its rules and members are others afterwards.
    pub fn prove(&self) -> Vec<Trial> {
        trials::run(self)
    }

    /// What the program makes of a frame, attached or not, and how long it takes on average of so many times. The frame
    /// goes nowhere; for the program it comes from the loopback interface.
    pub fn try_frame(&self, frame: &[u8], times: u32) -> io::Result<(Verdict, Duration)> {
        let options = TestRunOptions { data_in: Some(frame), repeat: times, ..TestRunOptions::default() };
        let result = self.xdp()?.test_run(options).map_err(io::Error::other)?;
        let verdict = match result.return_value {
            1 => Verdict::Drop,
            2 => Verdict::Pass,
            other => return Err(io::Error::other(format!("the program said {other}"))),
        };
        Ok((verdict, result.duration))
    }

    /// Attaches to one more interface, there or there or, if neither is asked for, natively where the driver can.
    pub fn attach(&self, name: &str, place: Option<Place>) -> Result<Place, NotAttached> {
        let index = interface(name)?;
        let mut attached = lock(&self.attached);
        if attached.len() as u32 == INTERFACES_MAX {
            return Err(NotAttached::TooMany);
        }
        let mut maps = self.maps();
        maps.begin(index).map_err(|error| NotAttached::Refused(place.unwrap_or(Place::Native), error))?;
        let linked = match place {
            Some(place) => self.link(index, place).map(|link| (place, link)),
            None => match self.link(index, Place::Native) {
                Err(NotAttached::Refused(..)) => self.link(index, Place::Generic).map(|link| (Place::Generic, link)),
                linked => linked.map(|link| (Place::Native, link)),
            },
        };
        match linked {
            Ok((place, link)) => {
                attached.push(Attached { name: name.to_owned(), index, link });
                Ok(place)
            }
            Err(error) => {
                // Unless it has two names in the configuration, and is guarded under the first.
                if attached.iter().all(|other| other.index != index) {
                    maps.end(index);
                }
                Err(error)
            }
        }
    }

    /// From all interfaces.
    pub fn detach(&self) {
        lock(&self.attached).clear();
    }

    /// Is the interface that it was attached to under this name guarded still?
    pub fn holds(&self, name: &str) -> bool {
        lock(&self.attached).iter().any(|attached| attached.name == name && attached.holds())
    }

    /// From an interface that it does not hold, or that is not to be held; what was counted there is not forgotten.
    pub fn let_go(&self, name: &str) {
        let mut all = lock(&self.attached);
        let Some(at) = all.iter().position(|attached| attached.name == name) else { return };
        let gone = all.remove(at);
        drop(gone.link);
        let mut maps = self.maps();
        let tallies = countable().map(|(class, ruling)| maps.sum(gone.index, class, ruling));
        let tallies: Vec<_> = tallies.zip(maps.past(name)).map(|(tally, past)| plus(tally, past)).collect();
        maps.past.insert(gone.name, tallies);
        maps.end(gone.index);
    }

    fn link(&self, interface: u32, place: Place) -> Result<OwnedFd, NotAttached> {
        let program = self.program().map_err(|error| NotAttached::Refused(place, error))?;
        sys::attach_xdp(program.as_fd(), interface, place == Place::Native).map_err(|error| {
            match error.raw_os_error() {
                Some(libc::EBUSY | libc::EEXIST) => NotAttached::Taken,
                // Only kernels that do not know of it say so of a link; drivers say it of programs.
                Some(libc::EINVAL) if place == Place::Generic => NotAttached::NoLinks,
                _ => NotAttached::Refused(place, error),
            }
        })
    }

    fn program(&self) -> io::Result<&ProgramFd> {
        self.xdp()?.fd().map_err(io::Error::other)
    }

    fn xdp(&self) -> io::Result<&Xdp> {
        let program = self.object.program(program::GUARD).and_then(|program| program.try_into().ok());
        program.ok_or_else(|| io::Error::other("no program"))
    }

    /// What it goes by from now on; members stay who they are.
    pub fn set_rules(&self, listeners: [Option<SocketAddr>; 3], syn_rate: u32) -> io::Result<()> {
        let listeners = listeners.map(|address| {
            address.map_or(Listener::default(), |address| Listener {
                address: address_words(address),
                port: address.port().into(),
            })
        });
        self.maps().tell(|rules| (rules.listeners, rules.syn_rate) = (listeners, syn_rate))
    }

    pub fn set_mode(&self, mode: Mode) -> io::Result<()> {
        self.maps().tell(|rules| rules.mode = mode as u32)
    }

    /// Who may open connections to the peer port. `all_known`: there are no others, so strangers can be told. An error:
    /// strangers are not told from members until it is done without one.
    pub fn set_members(&self, members: &BTreeSet<IpAddr>, all_known: bool) -> io::Result<()> {
        let mut maps = self.maps();
        let members: BTreeSet<[u32; 4]> =
            members.iter().map(|&address| address_words(SocketAddr::new(address.to_canonical(), 0))).collect();
        // Before anybody is missing from the map, and after everybody is in it.
        if !all_known {
            maps.tell(|rules| rules.members_known = 0)?;
        }
        let old: BTreeSet<[u32; 4]> = maps.members.keys().flatten().collect();
        for member in members.difference(&old) {
            if let Err(error) = maps.members.insert(member, 0, 0) {
                maps.tell(|rules| rules.members_known = 0)?;
                return Err(io::Error::other(error));
            }
        }
        for gone in old.difference(&members) {
            // Not there: as it should be.
            let _ = maps.members.remove(gone);
        }
        maps.tell(|rules| rules.members_known = all_known.into())
    }

    /// Every counter of the interfaces that are or were guarded.
    pub fn counts(&self) -> Vec<Count> {
        let attached = lock(&self.attached);
        let maps = self.maps();
        let names: BTreeSet<&String> = attached.iter().map(|attached| &attached.name).chain(maps.past.keys()).collect();
        let mut counts = Vec::new();
        for name in names {
            let now = attached.iter().find(|attached| attached.name == *name);
            for ((class, ruling), past) in countable().zip(maps.past(name)) {
                let tally = now.map_or(past, |attached| plus(maps.sum(attached.index, class, ruling), past));
                counts.push(Count { interface: name.clone(), class, ruling, tally });
            }
        }
        counts
    }

    fn maps(&self) -> MutexGuard<'_, Maps> {
        lock(&self.maps)
    }
}

impl Maps {
    fn tell(&mut self, change: impl FnOnce(&mut Rules)) -> io::Result<()> {
        change(&mut self.told);
        self.rules.set(0, self.told, 0).map_err(io::Error::other)
    }

    /// Counters at zero for an interface.
    fn begin(&mut self, interface: u32) -> io::Result<()> {
        let zeros = vec![Tally::default(); aya::util::nr_cpus().map_err(|(_, error)| error)?];
        for (class, ruling) in countable() {
            let zeros = PerCpuValues::try_from(zeros.clone())?;
            self.counts.insert(cell(interface, class, ruling), zeros, 0).map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn end(&mut self, interface: u32) {
        for (class, ruling) in countable() {
            // Not there: as it should be.
            let _ = self.counts.remove(&cell(interface, class, ruling));
        }
    }

    /// In the order of `countable`.
    fn past(&self, name: &str) -> Vec<Tally> {
        self.past.get(name).cloned().unwrap_or_else(|| vec![Tally::default(); countable().count()])
    }

    /// Over all processors.
    fn sum(&self, interface: u32, class: Class, ruling: Ruling) -> Tally {
        let Ok(values) = self.counts.get(&cell(interface, class, ruling), 0) else { return Tally::default() };
        values.iter().fold(Tally::default(), |sum, tally| plus(sum, *tally))
    }
}

fn plus(one: Tally, other: Tally) -> Tally {
    Tally { times: one.times + other.times, bytes: one.bytes + other.bytes }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every ruling of every class that can have it.
fn countable() -> impl Iterator<Item = (Class, Ruling)> {
    let all = Class::ALL.iter().flat_map(|&class| Ruling::ALL.iter().map(move |&ruling| (class, ruling)));
    all.filter(|(class, ruling)| ruling.is_of(*class))
}

fn cell(interface: u32, class: Class, ruling: Ruling) -> Cell {
    Cell { interface, class: class as u32, ruling: ruling as u32 }
}

/// The number of an interface that the program understands the frames of.
pub fn interface(name: &str) -> Result<u32, NotAttached> {
    const ETHERNET: u16 = 1;
    const LOOPBACK: u16 = 772;
    let index = if_nametoindex(name).map_err(|_| NotAttached::Missing)?;
    let addresses = getifaddrs().map_err(|error| NotAttached::Refused(Place::Generic, error.into()))?;
    let mut own = addresses.filter(|one| one.interface_name == name);
    let kind = own.find_map(|one| Some(one.address?.as_link_addr()?.hatype()));
    match kind {
        Some(ETHERNET | LOOPBACK) => Ok(index),
        kind => Err(NotAttached::NotEthernet(kind.unwrap_or(u16::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_known_by_name() {
        assert_eq!(interface("lo").ok(), if_nametoindex("lo").ok());
        assert!(matches!(interface("no-such-one"), Err(NotAttached::Missing)));
    }
}
