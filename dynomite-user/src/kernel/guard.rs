//! The guard seen from the daemon: one program on the network interfaces that the configuration names.
//! Owns: the links, which end with the process however it ends, and what the program is told. Knows nothing of:
//! topologies, names of hosts.

mod trials;

use std::collections::BTreeSet;
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
    _link: OwnedFd,
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
    attached: Vec<Attached>,
    maps: Mutex<Maps>,
    object: Ebpf,
}

struct Maps {
    told: Rules,
    rules: Array<MapData, Rules>,
    members: HashMap<MapData, [u32; 4], u32>,
    counts: PerCpuHashMap<MapData, Cell, Tally>,
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
        };
        let walked = walked(&object, program::GUARD);
        let words = Words::of(&mut object);
        Ok(Guard { walked, words, attached: Vec::new(), maps: Mutex::new(maps), object })
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
    pub fn attach(&mut self, name: &str, place: Option<Place>) -> Result<Place, NotAttached> {
        let index = interface(name)?;
        if self.attached.len() as u32 == INTERFACES_MAX {
            return Err(NotAttached::TooMany);
        }
        self.cells(index).map_err(|error| NotAttached::Refused(place.unwrap_or(Place::Native), error))?;
        let (place, link) = match place {
            Some(place) => (place, self.link(index, place)?),
            None => match self.link(index, Place::Native) {
                Ok(link) => (Place::Native, link),
                Err(NotAttached::Refused(..)) => (Place::Generic, self.link(index, Place::Generic)?),
                Err(error) => return Err(error),
            },
        };
        self.attached.push(Attached { name: name.to_owned(), index, _link: link });
        Ok(place)
    }

    /// From all interfaces.
    pub fn detach(&mut self) {
        self.attached.clear();
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

    /// Counters at zero for an interface.
    fn cells(&self, interface: u32) -> io::Result<()> {
        let zeros = vec![Tally::default(); aya::util::nr_cpus().map_err(|(_, error)| error)?];
        let mut maps = self.maps();
        for (class, ruling) in countable() {
            let zeros = PerCpuValues::try_from(zeros.clone())?;
            maps.counts.insert(cell(interface, class, ruling), zeros, 0).map_err(io::Error::other)?;
        }
        Ok(())
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

    /// Every counter of the interfaces that are guarded.
    pub fn counts(&self) -> Vec<Count> {
        let maps = self.maps();
        let mut counts = Vec::new();
        for attached in &self.attached {
            for (class, ruling) in countable() {
                let tally = maps.sum(attached.index, class, ruling);
                counts.push(Count { interface: attached.name.clone(), class, ruling, tally });
            }
        }
        counts
    }

    fn maps(&self) -> MutexGuard<'_, Maps> {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Maps {
    fn tell(&mut self, change: impl FnOnce(&mut Rules)) -> io::Result<()> {
        change(&mut self.told);
        self.rules.set(0, self.told, 0).map_err(io::Error::other)
    }

    /// Over all processors.
    fn sum(&self, interface: u32, class: Class, ruling: Ruling) -> Tally {
        let Ok(values) = self.counts.get(&cell(interface, class, ruling), 0) else { return Tally::default() };
        values.iter().fold(Tally::default(), |sum, tally| Tally {
            times: sum.times + tally.times,
            bytes: sum.bytes + tally.bytes,
        })
    }
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
