//! What a configuration says of the world outside the file: host names and files.
//! Kept apart from `check`, because the answers depend on the machine, and asking a resolver may take its time.

use std::fs;
use std::net::IpAddr;

use super::Loaded;
use super::problem::Problem;
use super::value::{Address, HostPort, Secure};

/// What is looked up beside listeners and files, without which no node starts.
#[derive(Clone, Copy, Debug)]
pub struct Lookup {
    pub datastore: bool,
    /// A node starts without its peers and keeps looking for them.
    pub seeds: bool,
}

pub(super) fn look_up(loaded: &mut Loaded, problems: &mut Vec<Problem>, wanted: Lookup) {
    let config = &loaded.config;
    let listen = ("listen", tcp(&config.listen));
    let datastore = ("servers", tcp(&config.datastore.address).filter(|_| wanted.datastore));
    let others = [("dyn_listen", Some(&config.dyn_listen)), ("stats_listen", Some(&config.stats_listen))];
    for (key, address) in [listen, datastore].into_iter().chain(others) {
        let error = address.and_then(unresolved);
        let text = |error| format!("directive \"{key}\" has an invalid value: {error}");
        problems.extend(error.map(|error| Problem { line: loaded.line(key), text: text(error) }));
    }
    problems.extend(unreadable_key(loaded));
    problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
    if wanted.seeds {
        for seed in &config.seeds {
            let text = |error| format!("directive \"dyn_seeds\" has a host that cannot be found now: {error}");
            loaded.warnings.extend(unresolved(&seed.address()).map(|error| Problem::at(seed.line, text(error))));
        }
        loaded.warnings.sort_by_key(|warning| warning.line.unwrap_or(usize::MAX));
    }
}

fn tcp(address: &Address) -> Option<&HostPort> {
    match address {
        Address::Tcp(address) => Some(address),
        Address::Unix(_) => None,
    }
}

fn unresolved(address: &HostPort) -> Option<String> {
    // Not given, or not understood: that was said.
    if address.host.is_empty() || address.host.parse::<IpAddr>().is_ok() {
        return None;
    }
    let error = address.resolve().err()?;
    Some(format!("{}: {error}", address.host))
}

/// The key file, when links are encrypted.
fn unreadable_key(loaded: &Loaded) -> Option<Problem> {
    let config = &loaded.config;
    if config.secure == Secure::None {
        return None;
    }
    let error = fs::read(&config.pem_key_file).err()?;
    let line = loaded.line("pem_key_file").or(loaded.line("secure_server_option"));
    Some(Problem { line, text: format!("Error: file {} cannot be read: {error}", config.pem_key_file.display()) })
}
