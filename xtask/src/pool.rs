//! The little that `run` must know of a configuration: where the node will listen and where it looks for its datastore.
//! The daemon's own `config` is the judge of the file; here a file that cannot be read is left to it.

use std::fs;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_yaml::Value;

#[derive(Debug, PartialEq, Eq)]
pub struct Pool {
    pub listen: Place,
    pub stats: Place,
    pub datastore: Place,
    pub memcache: bool,
    pub password: Option<String>,
}

/// Where something listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Tcp(String, u16),
    Unix(String),
}

impl Pool {
    pub fn read(file: &Path) -> Result<Pool> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        Pool::parse(&text).with_context(|| format!("cannot use {}", file.display()))
    }

    fn parse(text: &str) -> Result<Pool> {
        let document: Value = serde_yaml::from_str(text)?;
        let pools = document.as_mapping().context("no pool in it")?;
        let (_, pool) = pools.iter().next().context("no pool in it")?;
        let word = |key: &str| match &pool[key] {
            Value::Sequence(list) => list.last().and_then(scalar),
            value => scalar(value),
        };
        let listen = word("listen").context("no `listen` in it")?;
        let datastore = word("servers").context("no `servers` in it")?;
        // `host:port:weight name`: the weight and the name are nobody's business here.
        let datastore = datastore
            .split_whitespace()
            .next()
            .and_then(|entry| entry.rsplit_once(':'))
            .context("`servers` has no weight")?
            .0;
        Ok(Pool {
            listen: Place::parse(&listen)?,
            stats: Place::parse(word("stats_listen").as_deref().unwrap_or("0.0.0.0:22222"))?,
            datastore: Place::parse(datastore)?,
            memcache: word("data_store").as_deref() == Some("1"),
            password: word("requirepass"),
        })
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

impl Place {
    fn parse(text: &str) -> Result<Place> {
        if text.starts_with('/') {
            return Ok(Place::Unix(text.to_string()));
        }
        let Some((host, port)) = text.rsplit_once(':') else { bail!("`{text}` is not host:port") };
        Ok(Place::Tcp(host.to_string(), port.parse().with_context(|| format!("`{text}` has no port"))?))
    }

    /// Does somebody accept connections there now?
    pub fn answers(&self) -> bool {
        match self {
            Place::Unix(path) => UnixStream::connect(path).is_ok(),
            Place::Tcp(..) => self
                .addresses()
                .iter()
                .any(|address| TcpStream::connect_timeout(address, Duration::from_secs(2)).is_ok()),
        }
    }

    /// May we start something that listens there?
    pub fn is_local(&self) -> bool {
        matches!(self, Place::Unix(_)) || self.addresses().iter().any(|address| address.ip().is_loopback())
    }

    /// How somebody on this machine reaches it.
    pub fn to_reach(&self) -> (String, u16) {
        match self {
            Place::Unix(path) => (path.clone(), 0),
            Place::Tcp(host, port) if host == "0.0.0.0" || host == "::" => ("127.0.0.1".into(), *port),
            Place::Tcp(host, port) => (host.clone(), *port),
        }
    }

    fn addresses(&self) -> Vec<std::net::SocketAddr> {
        let (host, port) = self.to_reach();
        (host.as_str(), port).to_socket_addrs().map(Iterator::collect).unwrap_or_default()
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Unix(path) => write!(f, "{path}"),
            Place::Tcp(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let said = match Pool::parse(text) {
            Ok(Pool { listen, stats, datastore, memcache, password }) => {
                format!("{listen} {stats} {datastore} {memcache} {}", password.as_deref().unwrap_or("-"))
            }
            Err(error) => format!("{error:#}"),
        };
        assert_eq!(said, expected);
    }

    #[test]
    fn what_run_needs_is_found() {
        let start = "dyn_o_mite:\n  listen: 127.0.0.1:8102\n";
        check(
            &format!("{start}  servers:\n  - 127.0.0.1:6379:1 redis\n"),
            "127.0.0.1:8102 0.0.0.0:22222 127.0.0.1:6379 false -",
        );
        check(
            &format!("{start}  servers: ::1:6379:1\n  data_store: 1\n"),
            "127.0.0.1:8102 0.0.0.0:22222 ::1:6379 true -",
        );
        check(
            &format!("{start}  stats_listen: a:1\n  servers:\n  - /run/r.sock:1\n  requirepass: secret\n"),
            "127.0.0.1:8102 a:1 /run/r.sock false secret",
        );
        check(start, "no `servers` in it");
        check("[]", "no pool in it");
    }
}
