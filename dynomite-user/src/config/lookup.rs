//! What a configuration says of the world outside the file: host names and files.
//! Kept apart from `check`, because the answers depend on the machine, and asking a resolver may take its time.

use std::fs;
use std::net::IpAddr;

use super::Loaded;
use super::problem::Problem;
use super::value::{Address, HostPort, Secure};

/// Listeners that no socket can be made for: the node cannot start.
pub fn listeners(loaded: &Loaded) -> Vec<Problem> {
    let config = &loaded.config;
    let listen = match &config.listen {
        Address::Tcp(address) => Some(("listen", address)),
        Address::Unix(_) => None,
    };
    let others = [("dyn_listen", &config.dyn_listen), ("stats_listen", &config.stats_listen)];
    listen.into_iter().chain(others).filter_map(|(key, address)| unresolved(key, address, loaded.line(key))).collect()
}

/// The datastore and the seeds: a node starts without them and keeps asking, but a file is tested for them.
pub fn others(loaded: &Loaded) -> Vec<Problem> {
    let config = &loaded.config;
    let datastore = match &config.datastore.address {
        Address::Tcp(address) => unresolved("servers", address, loaded.line("servers")),
        Address::Unix(_) => None,
    };
    let seeds = config.seeds.iter().filter_map(|seed| unresolved("dyn_seeds", &seed.address(), Some(seed.line)));
    datastore.into_iter().chain(seeds).collect()
}

/// The key file, when links are encrypted: the node cannot start without.
pub fn files(loaded: &Loaded) -> Vec<Problem> {
    let config = &loaded.config;
    if config.secure == Secure::None {
        return Vec::new();
    }
    let line = loaded.line("pem_key_file").or(loaded.line("secure_server_option"));
    let unreadable = fs::read(&config.pem_key_file).err();
    let problem = unreadable.map(|error| Problem {
        line,
        text: format!("Error: file {} cannot be read: {error}", config.pem_key_file.display()),
    });
    problem.into_iter().collect()
}

fn unresolved(key: &str, address: &HostPort, line: Option<usize>) -> Option<Problem> {
    if address.host.parse::<IpAddr>().is_ok() {
        return None;
    }
    let error = address.resolve().err()?;
    Some(Problem { line, text: format!("directive \"{key}\" has an invalid value: {}: {error}", address.host) })
}
