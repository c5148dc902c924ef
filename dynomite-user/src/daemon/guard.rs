//! The guard among the daemon's parts: which interfaces, which ports, who is a member.
//! Owns: the members' addresses, and why an interface is not guarded. Knows nothing of: packets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dynomite_common::guard::Mode;
use serde_json::json;

use crate::always;
use crate::config::{Address, Config, Guard as Wish, KernelMode, Xdp};
use crate::kernel::guard::{Guard, NotAttached, Place};
use crate::kernel::probe::{self, Off};
use crate::kernel::selftest::Trial;
use crate::kernel::words::Words;
use crate::ring::Topology;
use crate::stats::render::Section;

/// Names are looked up again this often: they may move.
const LOOKUP_PERIOD: Duration = Duration::from_secs(30);
/// And while some have no address yet.
const LOOKUP_PAUSE: Duration = Duration::from_secs(1);
/// One name; a resolver that is away must not keep the others waiting for long.
const LOOKUP_PATIENCE: Duration = Duration::from_secs(5);

/// Interfaces are looked at this often: one that is removed takes the guard with it, and comes back without.
const WATCH_PERIOD: Duration = Duration::from_secs(1);

/// What became of the interfaces that the configuration names; without any there is no `Guarding`.
pub struct Guarding {
    wish: Wish,
    place: Option<Place>,
    guard: Result<Guard, Off>,
    interfaces: Mutex<Vec<Interface>>,
    trials: Vec<Trial>,
    words: Mutex<Option<Words>>,
    members: Mutex<Members>,
}

struct Interface {
    name: String,
    attached: Result<Place, NotAttached>,
}

/// The members' hosts and where they were last found. A host that is an address is found at once.
#[derive(Default)]
struct Members {
    hosts: BTreeMap<String, BTreeSet<IpAddr>>,
}

impl Guarding {
    pub fn start(config: &Config, topology: &Topology) -> Option<Guarding> {
        let kernel = &config.kernel;
        if kernel.mode == KernelMode::Off || kernel.xdp == Xdp::Off || kernel.interfaces.is_empty() {
            return None;
        }
        let mut guarding = Guarding {
            wish: kernel.guard,
            place: match kernel.xdp {
                Xdp::Native => Some(Place::Native),
                Xdp::Generic => Some(Place::Generic),
                Xdp::Auto | Xdp::Off => None,
            },
            guard: Err(Off::Configured),
            interfaces: Mutex::default(),
            trials: Vec::new(),
            words: Mutex::default(),
            members: Mutex::default(),
        };
        match prepared(config) {
            Ok((mut guard, trials)) => {
                guarding.words = Mutex::new(guard.words.take());
                (guarding.guard, guarding.trials) = (Ok(guard), trials);
            }
            Err(off) => {
                always!("guard: off, {off}");
                guarding.guard = Err(off);
                return Some(guarding);
            }
        }
        // Members before packets.
        guarding.set_topology(topology);
        for name in &kernel.interfaces {
            let Ok(guard) = &guarding.guard else { break };
            let attached = guard.attach(name, guarding.place);
            match &attached {
                Ok(place) => always!("guard: {}s at {name}, {}", kernel.guard.name(), place.name()),
                Err(error) => always!("guard: not at {name}: {error}"),
            }
            guarding.interfaces().push(Interface { name: name.clone(), attached });
        }
        Some(guarding)
    }

    /// The first thing that was asked for and cannot be had.
    pub fn fault(&self) -> Option<String> {
        match &self.guard {
            Err(off) => Some(off.to_string()),
            Ok(_) => self.interfaces().iter().find_map(|Interface { name, attached }| {
                let error = attached.as_ref().err()?;
                Some(format!("{name}: {error}"))
            }),
        }
    }

    pub fn take_words(&self) -> Option<Words> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub fn trials(&self) -> &[Trial] {
        &self.trials
    }

    /// Sees to it that what is said of the interfaces stays true, and that the guard comes back with them.
    pub async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(WATCH_PERIOD).await;
            if self.interfaces().iter().all(|interface| self.is_well(interface)) {
                continue;
            }
            // A network card may take its time.
            let guarding = self.clone();
            if let Err(error) = tokio::task::spawn_blocking(move || guarding.mend()).await {
                tracing::error!("the guard's interfaces are not looked after: {error}");
            }
        }
    }

    fn is_well(&self, interface: &Interface) -> bool {
        let Ok(guard) = &self.guard else { return true };
        interface.attached.is_ok() && guard.holds(&interface.name)
    }

    fn mend(&self) {
        let Ok(guard) = &self.guard else { return };
        for interface in &mut *self.interfaces() {
            if self.is_well(interface) {
                continue;
            }
            let name = &interface.name;
            guard.let_go(name);
            let attached = guard.attach(name, self.place);
            let before = interface.attached.as_ref().map_err(ToString::to_string);
            match (before, &attached) {
                (Ok(_), Err(error)) => tracing::warn!("guard: lost {name}: {error}"),
                (Ok(_), Ok(place)) => {
                    tracing::warn!("guard: lost {name}, and {}s there again, {}", self.wish.name(), place.name());
                }
                (Err(_), Ok(place)) => tracing::info!("guard: {}s at {name}, {}", self.wish.name(), place.name()),
                (Err(before), Err(error)) if before != error.to_string() => {
                    tracing::warn!("guard: not at {name}: {error}");
                }
                (Err(_), Err(_)) => {}
            }
            interface.attached = attached;
        }
    }

    fn interfaces(&self) -> MutexGuard<'_, Vec<Interface>> {
        self.interfaces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_topology(&self, topology: &Topology) {
        let mut members = self.members();
        members.expect(topology.nodes().map(|(_, node)| node.host.as_str()));
        self.tell(&members);
    }

    /// Looks up the members' names, for as long as it is polled.
    pub async fn resolve(self: Arc<Self>) {
        loop {
            let names = self.members().names();
            for name in names {
                let lookup = tokio::time::timeout(LOOKUP_PATIENCE, tokio::net::lookup_host((name.as_str(), 0)));
                let found = lookup.await.ok().and_then(Result::ok);
                let found: BTreeSet<IpAddr> = found.into_iter().flatten().map(|address| address.ip()).collect();
                let mut members = self.members();
                if members.found(&name, found) {
                    self.tell(&members);
                }
            }
            let pause = if self.members().all_known() { LOOKUP_PERIOD } else { LOOKUP_PAUSE };
            tokio::time::sleep(pause).await;
        }
    }

    fn tell(&self, members: &Members) {
        let Ok(guard) = &self.guard else { return };
        if let Err(error) = guard.set_members(&members.addresses(), members.all_known()) {
            tracing::error!("strangers cannot be told from members: {error}");
        }
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn describe(&self) -> serde_json::Value {
        let members = self.members();
        json!({
            "guard": self.wish.name(),
            "why": self.guard.as_ref().err().map(ToString::to_string),
            "members": members.addresses(),
            "members_known": members.all_known(),
            "interfaces": self.interfaces().iter().map(|Interface { name, attached }| json!({
                "name": name,
                "on": attached.is_ok(),
                "xdp": attached.as_ref().ok().map(|place| place.name()),
                "why": attached.as_ref().err().map(ToString::to_string),
            })).collect::<Vec<_>>(),
        })
    }

    /// Its part of the kernel's section.
    pub fn show(&self, section: &mut Section) {
        let interfaces = self.interfaces();
        for Interface { name, attached } in &*interfaces {
            section.gauge("guard_on", "1 when packets of this interface are looked at", attached.is_ok().into());
            section.labelled("interface", name);
        }
        for Interface { name, attached } in &*interfaces {
            let why = attached.as_ref().err().map(ToString::to_string);
            section.text("guard_why", "why they are not", why.unwrap_or_default());
            section.labelled("interface", name);
        }
        let Ok(guard) = &self.guard else { return };
        let counts = guard.counts();
        let mut all = |name, help, value: fn(&crate::kernel::guard::Count) -> u64| {
            for count in &counts {
                section.counter(name, help, value(count));
                section.labelled("interface", &count.interface);
                section.labelled("class", count.class.name());
                section.labelled("verdict", self.verdict(count.ruling.rejects()));
                section.labelled("reason", count.ruling.name());
            }
        };
        all("guard_packets", "packets to our ports", |count| count.tally.times);
        all("guard_bytes", "bytes of these", |count| count.tally.bytes);
    }

    fn verdict(&self, rejects: bool) -> &'static str {
        match (rejects, self.wish) {
            (false, _) => "pass",
            // Enforced, it would be dropped.
            (true, Wish::Observe) => "reject",
            (true, Wish::Enforce) => "drop",
        }
    }
}

impl Members {
    fn expect<'a>(&mut self, hosts: impl Iterator<Item = &'a str>) {
        let mut before = std::mem::take(&mut self.hosts);
        for host in hosts {
            let known = match host.parse::<IpAddr>() {
                // Where a node listens everywhere, it is called nothing.
                Ok(address) if address.is_unspecified() => continue,
                Ok(address) => BTreeSet::from([address]),
                Err(_) => before.remove(host).unwrap_or_default(),
            };
            self.hosts.insert(host.to_owned(), known);
        }
    }

    /// Is anything new? A name that is not found stays where it was.
    fn found(&mut self, host: &str, addresses: BTreeSet<IpAddr>) -> bool {
        match self.hosts.get_mut(host) {
            Some(known) if !addresses.is_empty() && *known != addresses => {
                *known = addresses;
                true
            }
            _ => false,
        }
    }

    fn names(&self) -> Vec<String> {
        self.hosts.keys().filter(|host| host.parse::<IpAddr>().is_err()).cloned().collect()
    }

    fn all_known(&self) -> bool {
        self.hosts.values().all(|addresses| !addresses.is_empty())
    }

    fn addresses(&self) -> BTreeSet<IpAddr> {
        self.hosts.values().flatten().copied().collect()
    }
}

/// The program in the kernel, proven and told its ports.
fn prepared(config: &Config) -> Result<(Guard, Vec<Trial>), Off> {
    let (guard, trials) = probe::guard()?;
    let unresolved = |key: &str, error: &std::io::Error| Off::Configuration(format!("{key}: {error}"));
    let listen = match &config.listen {
        Address::Tcp(address) => Some(address.resolve().map_err(|error| unresolved("listen", &error))?),
        Address::Unix(_) => None,
    };
    let dyn_listen = config.dyn_listen.resolve().map_err(|error| unresolved("dyn_listen", &error))?;
    let stats_listen = config.stats_listen.resolve().map_err(|error| unresolved("stats_listen", &error))?;
    let listeners: [Option<SocketAddr>; 3] = [listen, Some(dyn_listen), Some(stats_listen)];
    let mode = match config.kernel.guard {
        Wish::Observe => Mode::Observe,
        Wish::Enforce => Mode::Enforce,
    };
    guard
        .set_rules(listeners, config.kernel.guard_syn_rate)
        .and_then(|()| guard.set_mode(mode))
        .map_err(|error| Off::Load(crate::kernel::LoadError::NotMapped(error)))?;
    Ok((guard, trials))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> BTreeSet<IpAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn members_are_known_when_every_name_was_found() {
        let mut members = Members::default();
        members.expect(["0.0.0.0", "10.0.0.1", "one", "two"].into_iter());
        assert_eq!((members.names(), members.all_known()), (vec!["one".into(), "two".into()], false));
        assert!(members.found("one", addresses(&["10.0.0.2", "fd00::2"])));
        assert!(!members.found("two", addresses(&[])));
        assert!(!members.all_known());
        assert!(members.found("two", addresses(&["10.0.0.3"])));
        assert!(members.all_known());
        assert_eq!(members.addresses(), addresses(&["10.0.0.1", "10.0.0.2", "fd00::2", "10.0.0.3"]));
    }

    #[test]
    fn a_name_that_is_not_found_again_stays_where_it_was() {
        let mut members = Members::default();
        members.expect(["one"].into_iter());
        assert!(members.found("one", addresses(&["10.0.0.2"])));
        assert!(!members.found("one", addresses(&[])) && !members.found("one", addresses(&["10.0.0.2"])));
        members.expect(["one", "10.0.0.9"].into_iter());
        assert_eq!(members.addresses(), addresses(&["10.0.0.2", "10.0.0.9"]));
        members.expect(["10.0.0.9"].into_iter());
        assert!(members.all_known() && !members.found("one", addresses(&["10.0.0.4"])));
        assert_eq!(members.addresses(), addresses(&["10.0.0.9"]));
    }
}
