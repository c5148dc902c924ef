//! Proof on this very host, before the first client: every habit of a client and a datastore that the kernel could get
//! wrong, on loopback connections of our own.
//! Owns: both ends of everything it tests with. Knows nothing of: the real datastore.

mod shortcut;
mod trials;

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use dynomite_common::abi::{CommandRow, Name};

use super::{FastPath, Flow, Hand, Language, More, Progress, Routing, Turn, push, slots};

/// One thing that was tried.
#[derive(Clone, Debug)]
pub struct Trial {
    pub name: &'static str,
    pub took: Duration,
    /// What was not as it should be.
    pub fault: Option<String>,
}

type Outcome = Result<(), Fault>;

/// What went wrong, and where in this file.
#[derive(Debug)]
pub struct Fault(String);

impl<E: fmt::Display> From<E> for Fault {
    #[track_caller]
    fn from(error: E) -> Fault {
        let at = std::panic::Location::caller();
        Fault(format!("{error} ({}:{})", file(at), at.line()))
    }
}

fn file(at: &std::panic::Location<'_>) -> String {
    at.file().rsplit('/').next().unwrap_or_default().to_owned()
}

/// Err with the words, unless the condition holds.
macro_rules! hold {
    ($condition:expr, $($words:tt)*) => {
        if !$condition {
            return Err(Fault::from(format!($($words)*)));
        }
    };
}

use hold;

/// Nothing here takes longer, unless it never ends. A machine that is busy when the node starts is slow, not broken.
const PATIENCE: Duration = Duration::from_secs(20);
/// A socket is seen when it is established, or never: then the node is not to wait long before it serves without.
const SIGHT: Duration = Duration::from_secs(3);
/// So often a daemon looks although nothing woke it.
const GLANCE: Duration = Duration::from_millis(200);

/// Every trial of `route`, or those up to the first fault.
pub fn run(path: &Arc<FastPath>) -> Vec<Trial> {
    let store = match TcpListener::bind((Ipv4Addr::LOCALHOST, 0)) {
        Ok(store) => store,
        Err(error) => return vec![unable(&error)],
    };
    let (wake, heard) = channel();
    let hand = path.join(Box::new(move || _ = wake.send(())));
    let rig = &Rig { hand, store, heard };
    // It has slots of its own.
    let flows_max = path.flows_max();
    path.allow_flows(slots::SPARE);
    let trials = each(trials::TRIALS.iter().map(|(language, name, trial)| {
        let trial = move || rig.speak(*language).and_then(|()| trial(rig));
        (*name, trial)
    }));
    path.publish(None);
    path.allow_flows(flows_max);
    trials
}

/// Every trial of the shortcut, or those up to the first fault.
pub fn run_shortcut(path: &Arc<FastPath>) -> Vec<Trial> {
    let aimed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|store| {
        path.aim(store.local_addr()?, Language::Resp)?;
        Ok(store)
    });
    let store = match aimed {
        Ok(store) => store,
        Err(error) => return vec![unable(&error)],
    };
    let rig = &shortcut::Rig::new(Arc::clone(path), store);
    let trials = each(shortcut::TRIALS.iter().map(|(name, trial)| {
        let trial = move || {
            path.switch_shortcut(true);
            trial(rig)
        };
        (*name, trial)
    }));
    path.switch_shortcut(false);
    trials
}

fn unable(error: &io::Error) -> Trial {
    Trial { name: "listen", took: Duration::ZERO, fault: Some(error.to_string()) }
}

fn each(all: impl Iterator<Item = (&'static str, impl FnOnce() -> Outcome)>) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (name, trial) in all {
        let start = Instant::now();
        let fault = trial().err().map(|Fault(words)| words);
        let failed = fault.is_some();
        trials.push(Trial { name, took: start.elapsed(), fault });
        if failed {
            break;
        }
    }
    trials
}

struct Rig {
    hand: Hand,
    store: TcpListener,
    heard: Receiver<()>,
}

/// A client, the node's end of its connection, the flow, and the datastore's end of that.
struct Line {
    client: TcpStream,
    node: TcpStream,
    flow: Flow,
    store: TcpStream,
}

impl Rig {
    /// From now on clients and datastore speak this, and every key is ours.
    fn speak(&self, language: Language) -> Outcome {
        let path = self.hand.path();
        path.aim(self.store.local_addr()?, language)?;
        path.publish(Some(&Routing { keys: None, commands: commands() }));
        Ok(())
    }

    fn pair() -> io::Result<(TcpStream, TcpStream)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let client = TcpStream::connect(listener.local_addr()?)?;
        let (node, _) = listener.accept()?;
        client.set_read_timeout(Some(PATIENCE))?;
        client.set_write_timeout(Some(PATIENCE))?;
        client.set_nodelay(true)?;
        node.set_nodelay(true)?;
        node.set_nonblocking(true)?;
        Ok((client, node))
    }

    /// A flow whose datastore connection is up, and the datastore's end.
    fn flow(&self) -> Result<(Flow, TcpStream), Fault> {
        let mut flow = self.hand.dial(&[])?;
        let (store, _) = self.store.accept()?;
        store.set_read_timeout(Some(PATIENCE))?;
        store.set_write_timeout(Some(PATIENCE))?;
        store.set_nodelay(true)?;
        until_within(SIGHT, UNSEEN, || match flow.on_event() {
            Progress::Ready => Ok(true),
            Progress::Lost(error) => Err(error.into()),
            Progress::Same | Progress::Speaks => Ok(false),
        })?;
        Ok((flow, store))
    }

    fn line(&self) -> Result<Line, Fault> {
        let (client, node) = Rig::pair()?;
        let (mut flow, store) = self.flow()?;
        flow.adopt(node.as_fd(), 0)?;
        flow.answered();
        Ok(Line { client, node, flow, store })
    }

    /// Waits for an event about this flow.
    fn event(&self, flow: &Flow) -> Outcome {
        let give_up_at = Instant::now() + PATIENCE;
        loop {
            let mut slots = Vec::new();
            self.hand.take_events(&mut slots);
            if slots.contains(&flow.slot()) {
                return Ok(());
            }
            hold!(Instant::now() < give_up_at, "no event came");
            let _ = self.heard.recv_timeout(Duration::from_millis(100));
        }
    }
}

impl Line {
    /// The client asks, the datastore is asked the same, and what it answers comes to the client.
    fn routed(&mut self, request: &[u8], reply: &[u8]) -> Outcome {
        self.asks(request)?;
        self.store.write_all(reply)?;
        self.hears(reply)
    }

    /// The client asks, and the datastore is asked the same.
    fn asks(&mut self, request: &[u8]) -> Outcome {
        let sent = self.flow.view().sent;
        self.client.write_all(request)?;
        let mut got = vec![0; request.len()];
        self.store.read_exact(&mut got)?;
        hold!(got == request, "the datastore was asked {:?}", words(&got));
        hold!(self.flow.view().sent == sent + 1, "counted {} requests", self.flow.view().sent);
        Ok(())
    }

    fn hears(&mut self, reply: &[u8]) -> Outcome {
        let mut got = vec![0; reply.len()];
        self.client.read_exact(&mut got)?;
        hold!(got == reply, "the client heard {:?}", words(&got));
        Ok(())
    }

    fn turn(&mut self) -> Turn {
        self.flow.turn(self.node.as_fd())
    }

    /// The daemon reads exactly this, and it is its turn.
    fn passed(&mut self, bytes: &[u8]) -> Outcome {
        self.reads(bytes)?;
        let turn = self.turn();
        hold!(turn == Turn::Act, "{turn:?} where the daemon should act");
        Ok(())
    }

    fn reads(&mut self, bytes: &[u8]) -> Outcome {
        // Woken as the daemon would be, not by asking again and again.
        let mut got = Vec::new();
        while got.len() < bytes.len() {
            wait_readable(&self.node)?;
            let mut space = vec![0; 1 << 16];
            loop {
                match self.node.read(&mut space) {
                    Ok(0) => return Err(Fault::from("the connection ended")),
                    Ok(count) => {
                        self.flow.on_read(count);
                        got.extend_from_slice(&space[..count]);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        hold!(got == bytes, "the daemon read {:?}", words(&got));
        Ok(())
    }

    /// The daemon answers all that it has read.
    fn answers(&mut self, reply: &[u8]) -> Outcome {
        answer_all(&self.node, &mut self.flow, reply)?;
        self.hears(reply)
    }

    /// The client hears `first`, which the kernel delivered, and then the daemon's answer.
    fn answers_after(&mut self, first: &[u8], reply: &[u8]) -> Outcome {
        answer_all(&self.node, &mut self.flow, reply)?;
        self.hears(first)?;
        self.hears(reply)
    }

    /// Hands the relayed reply on, to its end.
    fn relays(&mut self) -> Outcome {
        let mut space = vec![0; 1 << 16];
        let give_up_at = Instant::now() + PATIENCE;
        loop {
            hold!(Instant::now() < give_up_at, "the relayed reply does not end");
            let Some((count, is_end)) = self.flow.relay(&mut space)? else {
                wait_readable(&self.flow)?;
                continue;
            };
            let mut at = 0;
            while at < count {
                match self.node.write(&space[at..count]) {
                    Ok(written) => {
                        self.flow.on_written(written);
                        at += written;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                    Err(error) => return Err(error.into()),
                }
            }
            if is_end {
                self.flow.relayed();
                return Ok(());
            }
        }
    }
}

/// Writes all answers, and tells the kernel so before the client can have read the last of them.
fn answer_all(node: &TcpStream, flow: &mut Flow, reply: &[u8]) -> Outcome {
    let mut at = 0;
    while at < reply.len() {
        let written = More(node).write(&reply[at..])?;
        flow.on_written(written);
        at += written;
    }
    flow.answered();
    push(node)?;
    Ok(())
}

fn wait_readable(socket: &impl AsFd) -> Outcome {
    hold!(is_readable(socket, PATIENCE)?, "nothing woke the daemon");
    Ok(())
}

/// Is there something to read, within this time?
fn is_readable(socket: &impl AsFd, patience: Duration) -> Result<bool, Fault> {
    let mut poll = mio::Poll::new()?;
    let fd = socket.as_fd().as_raw_fd();
    poll.registry().register(&mut mio::unix::SourceFd(&fd), mio::Token(0), mio::Interest::READABLE)?;
    let mut events = mio::Events::with_capacity(1);
    poll.poll(&mut events, Some(patience))?;
    Ok(!events.is_empty())
}

fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned()
}

fn get(key: &str) -> Vec<u8> {
    format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len()).into_bytes()
}

fn set(key: &str, value: &str) -> Vec<u8> {
    format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n{value}\r\n", key.len(), value.len()).into_bytes()
}

fn bulk(value: &str) -> Vec<u8> {
    format!("${}\r\n{value}\r\n", value.len()).into_bytes()
}

const UNSEEN: &str = "the datastore's socket was not seen by the adopt program";

#[track_caller]
fn until(what: &str, condition: impl FnMut() -> Result<bool, Fault>) -> Outcome {
    until_within(PATIENCE, what, condition)
}

#[track_caller]
fn until_within(patience: Duration, what: &str, mut condition: impl FnMut() -> Result<bool, Fault>) -> Outcome {
    let give_up_at = Instant::now() + patience;
    loop {
        // Looked at once more when the time is over: this thread may have lost the processor for all of it.
        let is_late = Instant::now() > give_up_at;
        if condition()? {
            return Ok(());
        }
        if is_late {
            return Err(Fault::from(what));
        }
        std::thread::yield_now();
    }
}

fn commands() -> Vec<(Name, CommandRow)> {
    let row = CommandRow { args_min: 2, args_max: 2, number: 0 };
    ["get", "strlen"].into_iter().filter_map(Name::new).map(|name| (name, row)).collect()
}
