//! How many flows there may be: each takes a descriptor of this process and a connection of the datastore, which others
//! need, too.
//! Owns: the number, and what it comes from. Knows nothing of: flows.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::always;
use crate::config::Config;
use crate::kernel::Descriptors;
use crate::protocol::Protocol;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    pub flows: u32,
    /// Why these are fewer than the configuration says.
    pub why: Option<String>,
    pub told: Told,
}

/// How many connections the datastore takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Takes(u32),
    /// It does not say.
    Nothing,
    /// Nobody answers there yet.
    Nobody,
}

/// Flows before a datastore that does not say how many connections it takes: a quarter of memcached's default.
const FLOWS_UNTOLD: u32 = 256;
/// It is on this host: it answers at once, or has other troubles.
const PATIENCE: Duration = Duration::from_secs(1);

impl Room {
    /// `shared`: connections to the datastore beside flows.
    pub fn find(config: &Config, told: Told, shared: usize) -> Room {
        Room::within(config.kernel.flows_max as u32, Descriptors::of_this_process(), told, shared as u32)
    }

    fn within(wanted: u32, descriptors: Descriptors, told: Told, shared: u32) -> Room {
        let mut room = Room { flows: wanted, why: None, told };
        let share = descriptors.flows_max();
        room.limit(share, || format!("a quarter of the {} descriptors that this process may have", descriptors.max()));
        match told {
            Told::Takes(all) => room.limit((all / 2).saturating_sub(shared), || {
                format!("half of the {all} connections that the datastore takes, less {shared} that clients share")
            }),
            Told::Nothing => {
                room.limit(FLOWS_UNTOLD, || "the datastore does not say how many connections it takes".into());
            }
            Told::Nobody => {
                room.limit(FLOWS_UNTOLD, || "the datastore has yet to say how many connections it takes".into());
            }
        }
        room
    }

    fn limit(&mut self, flows: u32, why: impl FnOnce() -> String) {
        if flows < self.flows {
            (self.flows, self.why) = (flows, Some(why()));
        }
    }

    /// Says so, if it is less than the configuration asks for.
    pub fn say(&self, wanted: usize) {
        if let Some(why) = &self.why {
            always!("fast path: at most {} flows, not {wanted}: {why}", self.flows);
        }
    }
}

/// Asks the datastore, which hears `greeting` first.
pub fn ask(datastore: SocketAddr, protocol: Protocol, greeting: &[Vec<u8>]) -> Told {
    asked(datastore, protocol, greeting).unwrap_or(Told::Nobody)
}

fn asked(datastore: SocketAddr, protocol: Protocol, greeting: &[Vec<u8>]) -> io::Result<Told> {
    let give_up_at = Instant::now() + PATIENCE;
    let mut stream = TcpStream::connect_timeout(&datastore, PATIENCE)?;
    let question: &[u8] = match protocol {
        Protocol::Resp => b"*3\r\n$6\r\nCONFIG\r\n$3\r\nGET\r\n$10\r\nmaxclients\r\n",
        Protocol::Memcache => b"stats\r\n",
    };
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&[&greeting.concat(), question].concat())?;
    let mut answer = Vec::new();
    let mut space = [0; 4096];
    loop {
        let left = give_up_at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let count = stream.read(&mut space)?;
        answer.extend_from_slice(&space[..count]);
        if let Some(told) = understood(protocol, greeting.len(), &String::from_utf8_lossy(&answer)) {
            return Ok(told);
        }
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// What an answer says, behind as many lines as greetings were answered with. None: it is not complete.
fn understood(protocol: Protocol, greetings: usize, answer: &str) -> Option<Told> {
    let whole = answer.rfind("\r\n").map_or("", |end| &answer[..end]);
    let lines: Vec<&str> = whole.split("\r\n").skip(greetings).filter(|line| !line.is_empty()).collect();
    let number = |word: &str| word.parse().map_or(Told::Nothing, Told::Takes);
    match (protocol, lines.as_slice()) {
        (Protocol::Resp, ["*2", _, "maxclients", _, count, ..]) => Some(number(count)),
        (Protocol::Resp, ["*2", rest @ ..]) if rest.len() < 4 => None,
        // Ours is one too many.
        (Protocol::Resp, [line, ..]) if line.starts_with("-ERR max number of clients") => Some(Told::Nobody),
        (Protocol::Resp, [_, ..]) => Some(Told::Nothing),
        (Protocol::Memcache, lines) => {
            let is_over = lines.last().is_some_and(|line| !line.starts_with("STAT "));
            let number = |name| lines.iter().find_map(|line| line.strip_prefix(name)?.parse::<u32>().ok());
            is_over.then(|| match number("STAT max_connections ") {
                // Some of these are its threads' own.
                Some(all) => Told::Takes(all.saturating_sub(number("STAT reserved_fds ").unwrap_or(0))),
                None => Told::Nothing,
            })
        }
        (Protocol::Resp, []) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_leave_most_to_others() {
        let check = |(wanted, descriptors, told), flows, why: &str| {
            let room = Room::within(wanted, Descriptors::of(descriptors), told, 2);
            assert_eq!((room.flows, room.why.unwrap_or_default().as_str()), (flows, why));
        };
        let (many, quarter) = (1 << 20, "a quarter of the 1000 descriptors that this process may have");
        let half = "half of the 40 connections that the datastore takes, less 2 that clients share";
        check((1024, many, Told::Takes(10_000)), 1024, "");
        check((1024, 1000, Told::Takes(10_000)), 250, quarter);
        check((1024, 1000, Told::Takes(40)), 18, half);
        check((18, many, Told::Takes(40)), 18, "");
        check(
            (1024, many, Told::Takes(3)),
            0,
            "half of the 3 connections that the datastore takes, less 2 that clients share",
        );
        check((1024, many, Told::Nothing), 256, "the datastore does not say how many connections it takes");
        check((1024, many, Told::Nobody), 256, "the datastore has yet to say how many connections it takes");
        check((200, many, Told::Nobody), 200, "");
    }

    #[test]
    fn datastores_are_understood() {
        let check = |protocol, greetings, answer: &str, told: Told| {
            assert_eq!(understood(protocol, greetings, answer), Some(told), "{answer:?}");
            // Cut anywhere, it is the same or not complete.
            for cut in 0..answer.len() {
                let part = understood(protocol, greetings, &answer[..cut]);
                assert!(part.is_none() || part == Some(told), "{part:?} of {:?}", &answer[..cut]);
            }
        };
        check(Protocol::Resp, 0, "*2\r\n$10\r\nmaxclients\r\n$5\r\n10000\r\n", Told::Takes(10_000));
        check(Protocol::Resp, 1, "+OK\r\n*2\r\n$10\r\nmaxclients\r\n$2\r\n40\r\n", Told::Takes(40));
        check(Protocol::Resp, 0, "-ERR unknown command 'CONFIG'\r\n", Told::Nothing);
        check(Protocol::Resp, 0, "-ERR max number of clients reached\r\n", Told::Nobody);
        check(Protocol::Resp, 1, "-WRONGPASS\r\n-NOAUTH Authentication required.\r\n", Told::Nothing);
        check(Protocol::Resp, 0, "*0\r\n", Told::Nothing);
        let stats = "STAT pid 7\r\nSTAT max_connections 1024\r\nSTAT reserved_fds 20\r\nSTAT threads 4\r\nEND\r\n";
        check(Protocol::Memcache, 0, stats, Told::Takes(1004));
        check(Protocol::Memcache, 0, "STAT maxbytes 67108864\r\nEND\r\n", Told::Nothing);
        check(Protocol::Memcache, 0, "ERROR\r\n", Told::Nothing);
    }
}
