//! What the texts of a configuration mean: addresses, the datastore, seeds, choices.
//! Owns: the types that a `Config` is made of, and how each is read. Knows nothing of: which key a text stood behind.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use dynomite_common::token::Token;

use crate::ring::token;

/// Why a text is no value. Stands behind `directive "key"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    Of(String),
    /// A sentence of its own, known to those who search their logs for it.
    Whole(String),
}

impl Reason {
    pub fn of(text: impl Into<String>) -> Reason {
        Reason::Of(text.into())
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    pub host: String,
    pub port: u16,
}

impl HostPort {
    /// The first address the resolver knows. Blocks while it asks.
    pub fn resolve(&self) -> io::Result<SocketAddr> {
        let mut addresses = (self.host.as_str(), self.port).to_socket_addrs()?;
        addresses.next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
    }

    /// Listens everywhere.
    pub fn is_wildcard(&self) -> bool {
        matches!(self.host.as_str(), "0.0.0.0" | "::" | "*")
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Where a socket is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    Tcp(HostPort),
    Unix(PathBuf),
}

impl Default for Address {
    fn default() -> Address {
        Address::Tcp(HostPort::default())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => path.display().fmt(f),
        }
    }
}

/// `host:port`, cut at the last colon, so that IPv6 needs no brackets (and may have them).
pub fn host_port(text: &str) -> Result<HostPort, Reason> {
    let (host, port_text) =
        text.rsplit_once(':').ok_or_else(|| Reason::of("has an invalid \"hostname:port\" format string"))?;
    let port = port(port_text).ok_or_else(|| Reason::of("has an invalid port in \"hostname:port\" format string"))?;
    Ok(HostPort { host: host_text(host).ok_or_else(|| Reason::of("has an invalid value"))?, port })
}

pub fn address(text: &str) -> Result<Address, Reason> {
    match text.starts_with('/') {
        true => Ok(Address::Unix(text.into())),
        false => host_port(text).map(Address::Tcp),
    }
}

fn port(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten().filter(|port| *port != 0)
}

fn host_text(text: &str) -> Option<String> {
    let host = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    (!host.is_empty() && !host.contains(char::is_whitespace)).then(|| host.to_owned())
}

/// Our own store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Datastore {
    pub address: Address,
    /// What the stats document calls it.
    pub name: String,
}

/// `host:port:weight [name]` or `/path:weight [name]`. The weight is for other programs.
pub fn datastore(text: &str) -> Result<Datastore, Reason> {
    let format = || {
        Reason::of("has an invalid \"hostname:port:weight [name]\"or \"/path/unix_socket:weight [name]\" format string")
    };
    let (place, name) = match text.split_once(char::is_whitespace) {
        Some((place, name)) => (place, Some(name.trim())),
        None => (text, None),
    };
    let (place, weight) = place.rsplit_once(':').ok_or_else(format)?;
    if weight.is_empty() || place.is_empty() {
        return Err(format());
    }
    if place.starts_with('/') {
        // The colon belongs to the name that dashboards know.
        let name = name.map_or_else(|| format!("{place}:"), str::to_owned);
        return Ok(Datastore { address: Address::Unix(place.into()), name });
    }
    let (host, port_text) = place.rsplit_once(':').ok_or_else(format)?;
    let port = port(port_text)
        .ok_or_else(|| Reason::of("has an invalid port in \"hostname:port:weight [name]\" format string"))?;
    let host = host_text(host).ok_or_else(format)?;
    let name = name.map_or_else(|| format!("{host}:{port}"), str::to_owned);
    Ok(Datastore { address: Address::Tcp(HostPort { host, port }), name })
}

/// Another node, as the configuration knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    pub host: String,
    pub port: u16,
    pub rack: String,
    pub datacenter: String,
    /// The last one written comes first: the only one that gossip and C nodes know.
    pub tokens: Vec<Token>,
    /// What `/peer/…` on the stats port calls it: its name up to the last colon, or its host.
    pub name: String,
    pub line: usize,
}

impl Seed {
    pub fn address(&self) -> HostPort {
        HostPort { host: self.host.clone(), port: self.port }
    }
}

/// `host:port:rack:dc:tokens [name]`, read from the right.
pub fn seed(text: &str) -> Result<Seed, Reason> {
    let format = || Reason::of("has an invalid format must match \"hostname:port:rack:dc:tokens [name]\"");
    let (place, name) = match text.rsplit_once(' ') {
        Some((place, name)) => (place.trim_end(), Some(name)),
        None => (text, None),
    };
    let mut parts = place.rsplitn(5, ':');
    let mut part = || parts.next().filter(|part| !part.is_empty()).ok_or_else(format);
    let (tokens, datacenter, rack, port_text, host) = (part()?, part()?, part()?, part()?, part()?);
    let port = port(port_text)
        .ok_or_else(|| Reason::of("has an invalid port in \"hostname:port:weight [name]\" format string"))?;
    let host = host_text(host).ok_or_else(format)?;
    let name = name.map_or(host.as_str(), |name| name.rsplit_once(':').map_or(name, |(name, _)| name)).to_owned();
    Ok(Seed {
        port,
        rack: rack.to_owned(),
        datacenter: datacenter.to_owned(),
        tokens: tokens_of(tokens)?,
        name,
        host,
        line: 0,
    })
}

/// `1,200,3000`. Refuses what a cluster would read as some other number than the one that was written.
pub fn tokens_of(text: &str) -> Result<Vec<Token>, Reason> {
    let list = token::parse_list(text).map_err(|_| Reason::of("has an invalid value"))?;
    if let Some(odd) = text.split(',').find(|text| !token::parse(text).is_ok_and(|token| token.plain)) {
        return Err(Reason::of(format!(
            "has an invalid value: the token '{odd}' is not a number from 0 to {}",
            u32::MAX
        )));
    }
    Ok(list.into_iter().map(|token| token.token).collect())
}

macro_rules! choices {
    ($($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_meta])* $variant,)* }

        impl $name {
            pub const NAMES: &[&str] = &[$($text,)*];

            pub fn name(self) -> &'static str {
                Self::NAMES[self as usize]
            }

            pub fn parse(text: &str) -> Option<$name> {
                match text {
                    $($text => Some($name::$variant),)*
                    _ => None,
                }
            }
        }
    )*};
}

choices! {
    /// Which links to peers are encrypted.
    Secure {
        #[default]
        None = "none",
        /// To other racks and other datacenters.
        Rack = "rack",
        /// To other datacenters.
        Datacenter = "datacenter",
        All = "all",
    }
    /// Who else is asked for a read when the owner in this rack is away.
    ReadFailover {
        /// Nobody.
        Off = "off",
        #[default]
        Racks = "racks",
        Datacenters = "datacenters",
    }
    KernelMode {
        /// Whatever the probe proves.
        #[default]
        Auto = "auto",
        Off = "off",
        /// Not without: the node refuses to start.
        Required = "required",
    }
    Xdp {
        /// Native, else generic.
        #[default]
        Auto = "auto",
        Native = "native",
        Generic = "generic",
        Off = "off",
    }
    Guard {
        /// Count only.
        #[default]
        Observe = "observe",
        /// Drop what the guard rejects.
        Enforce = "enforce",
    }
}

impl Secure {
    /// Is the link from a node to a peer encrypted, given whether both share their datacenter and their rack's name?
    pub fn covers(self, same_datacenter: bool, same_rack: bool) -> bool {
        match self {
            Secure::None => false,
            Secure::Rack => !same_datacenter || !same_rack,
            Secure::Datacenter => !same_datacenter,
            Secure::All => true,
        }
    }
}

/// Where seeds come from, besides the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SeedProvider {
    #[default]
    Simple,
    Florida,
    Dns,
    /// A name that nobody knows: as good as `Simple`.
    Unknown,
}

impl SeedProvider {
    /// By its beginning, but for the one that is none.
    pub fn parse(text: &str) -> SeedProvider {
        match text {
            _ if text.starts_with("florida_provider") => SeedProvider::Florida,
            _ if text.starts_with("dns_provider") => SeedProvider::Dns,
            "simple_provider" => SeedProvider::Simple,
            _ => SeedProvider::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_address(text: &str, wanted: Result<&str, &str>) {
        match (address(text), wanted) {
            (Ok(address), Ok(wanted)) => assert_eq!(format!("{address:?}"), wanted, "{text}"),
            (Err(Reason::Of(reason)), Err(wanted)) => assert_eq!(reason, wanted, "{text}"),
            (got, _) => panic!("{text}: {got:?}"),
        }
    }

    #[test]
    fn addresses() {
        check_address("0.0.0.0:8102", Ok(r#"Tcp(HostPort { host: "0.0.0.0", port: 8102 })"#));
        check_address("::1:8102", Ok(r#"Tcp(HostPort { host: "::1", port: 8102 })"#));
        check_address("[::1]:8102", Ok(r#"Tcp(HostPort { host: "::1", port: 8102 })"#));
        check_address("/tmp/s.sock", Ok(r#"Unix("/tmp/s.sock")"#));
        let format = Err("has an invalid \"hostname:port\" format string");
        let port = Err("has an invalid port in \"hostname:port\" format string");
        check_address("localhost", format);
        check_address("localhost:", port);
        check_address("localhost:0", port);
        check_address("localhost:65536", port);
        check_address("localhost:+1", port);
        check_address(":8102", Err("has an invalid value"));
    }

    fn check_datastore(text: &str, address: &str, name: &str) {
        let datastore = datastore(text).unwrap_or_else(|reason| panic!("{text}: {reason:?}"));
        assert_eq!((datastore.address.to_string().as_str(), datastore.name.as_str()), (address, name), "{text}");
    }

    #[test]
    fn datastores() {
        check_datastore("127.0.0.1:6379:1", "127.0.0.1:6379", "127.0.0.1:6379");
        check_datastore("127.0.0.1:6379:1 redis", "127.0.0.1:6379", "redis");
        check_datastore("::1:6379:1", "::1:6379", "::1:6379");
        check_datastore("127.0.0.1:11211:1", "127.0.0.1:11211", "127.0.0.1:11211");
        check_datastore("/tmp/redis.sock:1", "/tmp/redis.sock", "/tmp/redis.sock:");
        check_datastore("/tmp/redis.sock:1 redis", "/tmp/redis.sock", "redis");
        for text in ["127.0.0.1", "127.0.0.1:6379", "127.0.0.1:6379:", ":6379:1", "/tmp/redis.sock", "a:0:1", "a:b:1"] {
            assert!(datastore(text).is_err(), "{text}");
        }
    }

    fn check_seed(text: &str, wanted: &str) {
        let shown = seed(text).map(|seed| {
            let tokens: Vec<u32> = seed.tokens.iter().map(|token| token.0).collect();
            format!("{} {} {} {} {tokens:?} {}", seed.host, seed.port, seed.rack, seed.datacenter, seed.name)
        });
        assert_eq!(shown.as_deref().unwrap_or("refused"), wanted, "{text}");
    }

    #[test]
    fn seeds() {
        check_seed("127.0.0.2:8101:rack1:dc1:100", "127.0.0.2 8101 rack1 dc1 [100] 127.0.0.2");
        check_seed("::1:8101:rack1:dc1:100", "::1 8101 rack1 dc1 [100] ::1");
        check_seed("h:8101:r:d:100 other:8101", "h 8101 r d [100] other");
        check_seed("h:8101:r:d:100 other", "h 8101 r d [100] other");
        check_seed("h:8101:r:d:1,2", "h 8101 r d [2, 1] h");
        for text in ["h:8101:r:d", "h:0:r:d:1", "h:8101::d:1", "h:8101:r:d:", "h:8101:r:d:x", ":8101:r:d:1", ""] {
            check_seed(text, "refused");
        }
    }

    #[test]
    fn tokens_are_numbers() {
        assert_eq!(tokens_of("1,4294967295"), Ok(vec![Token(u32::MAX), Token(1)]));
        assert_eq!(tokens_of("00"), Ok(vec![Token(0)]));
        for text in ["", "1,", "a", "-5", "4294967296", "1 2"] {
            assert!(tokens_of(text).is_err(), "{text}");
        }
    }

    #[test]
    fn encryption_follows_the_distance() {
        let covers =
            |secure: Secure| [(true, true), (true, false), (false, true)].map(|(dc, rack)| secure.covers(dc, rack));
        assert_eq!(covers(Secure::None), [false, false, false]);
        assert_eq!(covers(Secure::Datacenter), [false, false, true]);
        assert_eq!(covers(Secure::Rack), [false, true, true]);
        assert_eq!(covers(Secure::All), [true, true, true]);
    }
}
