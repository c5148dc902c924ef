//! An adopted client as a value: its slot, its own datastore connection, and the few system calls of adoption and
//! release. What may be done when is `turn`'s; what the bytes mean is the caller's.
//! Undone by Drop, whatever stage it is in.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dynomite_common::abi::{FlowKey, Port};
use dynomite_common::flow::{Armed, Slot};
use dynomite_common::limits::SEND_BUFFER_BYTES;
use mio::net::TcpStream;
use socket2::SockRef;

use super::relay::{Asked, Fed, Relay};
use super::sys::{self, Hush};
use super::turn::{Turn, Turns, View};
use super::{Descriptors, FastPath, Language, Refused};

pub struct Flow {
    path: Arc<FastPath>,
    slot: u32,
    port: u16,
    /// Registered with the worker's poll by the worker.
    datastore: TcpStream,
    stage: Stage,
}

enum Stage {
    /// Connecting, then exchanging greetings, the next one last in `greetings`.
    Dialing {
        greetings: Vec<Vec<u8>>,
        is_asked: bool,
    },
    Ready,
    Adopted(Adopted),
    /// Out of the maps.
    Over,
}

struct Adopted {
    turns: Turns,
    key: FlowKey,
    relay: Option<Relay>,
    /// Has anything of the reply that is being relayed been handed out?
    relay_begun: bool,
    /// The datastore connection is lost; what it owed was answered by the daemon.
    forgiven: bool,
    /// What `sys::written` said at adoption, and what the daemon has written since.
    written_before: u64,
    written: u64,
    /// Replies of the kernel that are known to be in the client's socket.
    delivered: u64,
    /// Since when one is on its way there.
    undelivered_since: Option<Instant>,
    /// Not to be opened again.
    is_shut: bool,
}

/// Are the kernel's replies where the daemon's may follow them?
enum Delivery {
    Done,
    /// A reply is on its way still.
    Due,
    /// It has been for longer than a machine stands still.
    Lost,
}

impl Adopted {
    /// The reply program counts a reply when it sends it on its way; the kernel puts it into the client's socket when the
    /// program has returned. Until then nothing of the daemon's may go there, or it would overtake the reply.
    fn delivery(&mut self, view: &View, client: BorrowedFd<'_>) -> Delivery {
        if self.delivered == view.done {
            return Delivery::Done;
        }
        // More than that: the kernel has gone on answering since the look, if the daemon has nothing of the client's.
        let all = self.written_before + self.written + view.out;
        if wait_until(DELIVERY_SPIN, || sys::written(client).is_ok_and(|written| written >= all)) {
            self.delivered = view.done;
            self.undelivered_since = None;
            return Delivery::Done;
        }
        let since = *self.undelivered_since.get_or_insert_with(Instant::now);
        if since.elapsed() > DELIVERY_LIMIT { Delivery::Lost } else { Delivery::Due }
    }
}

/// A reply is on its way for microseconds, unless whoever writes it lost the processor just then.
const DELIVERY_SPIN: Duration = Duration::from_millis(1);
const DELIVERY_LIMIT: Duration = Duration::from_secs(10);

/// What an event on the datastore connection means.
#[derive(Debug)]
pub enum Progress {
    /// Nothing yet.
    Same,
    /// Connected, greeted, adopted by the kernel: the client may be, at its next quiet moment.
    Ready,
    /// An adopted flow's datastore has something to say: ask `turn`.
    Speaks,
    /// Not to be used; drop it, or if a client is adopted, `give_up`.
    Lost(io::Error),
}

/// What a flow leaves behind whose datastore connection is lost or does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owed {
    Nothing,
    /// One request of the client that the kernel sent was not answered: the daemon says so.
    OneAnswer,
    /// A part of an answer was delivered: the client's connection cannot go on.
    Rest,
}

/// How a client leaves the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// It is an ordinary socket again.
    Yes,
    /// Not at this moment: bytes are to be read, or the datastore owes an answer.
    NotYet,
    /// Bytes were lost. The connection is to be reset.
    Torn,
}

impl Flow {
    /// Dials the datastore for one client. `greetings` are what a new connection says first (AUTH, HELLO), each of which
    /// is answered once.
    pub(super) fn dial(path: &Arc<FastPath>, slot: u32, greetings: &[&[u8]]) -> Result<Flow, Refused> {
        let (socket, port, datastore) = path.bound().map_err(Refused::Dial)?;
        if path.descriptors.are_few(Descriptors::taken(&socket)) {
            return Err(Refused::Descriptors);
        }
        // Before the first packet goes out: the adopt program looks for it when the datastore's end is established.
        path.loaded.ports[usize::from(port)].set(Port::Flow { slot }.pack());
        let undo = |error| {
            path.loaded.ports[usize::from(port)].set(0);
            Refused::Dial(error)
        };
        match socket.connect(&datastore.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(undo(error)),
        }
        let datastore = TcpStream::from_std(socket.into());
        let greetings = greetings.iter().rev().map(|greeting| greeting.to_vec()).collect();
        let stage = Stage::Dialing { greetings, is_asked: false };
        Ok(Flow { path: Arc::clone(path), slot, port, datastore, stage })
    }

    /// To be registered, readable and writable.
    pub fn source(&mut self) -> &mut TcpStream {
        &mut self.datastore
    }

    pub fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready)
    }

    pub fn is_adopted(&self) -> bool {
        matches!(self.stage, Stage::Adopted(_))
    }

    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// Has the adopt program seen the datastore's end?
    pub(super) fn is_seen(&self) -> bool {
        self.slot_state().adopted.datastore.get() != 0
    }

    /// After an event on the datastore connection.
    pub fn on_event(&mut self) -> Progress {
        match self.stage {
            Stage::Dialing { .. } => match self.greet() {
                Ok(true) => {
                    self.stage = Stage::Ready;
                    Progress::Ready
                }
                Ok(false) => Progress::Same,
                Err(error) => Progress::Lost(error),
            },
            Stage::Ready | Stage::Adopted(_) => match self.datastore.peek(&mut [0]) {
                Ok(0) => Progress::Lost(ErrorKind::UnexpectedEof.into()),
                // An idle connection is not spoken to, unless to be told that it is closed.
                Ok(_) if matches!(self.stage, Stage::Ready) => Progress::Lost(ErrorKind::InvalidData.into()),
                Ok(_) => Progress::Speaks,
                Err(error) if error.kind() == ErrorKind::WouldBlock => match self.datastore.take_error() {
                    Ok(None) => Progress::Same,
                    Ok(Some(error)) | Err(error) => Progress::Lost(error),
                },
                Err(error) => Progress::Lost(error),
            },
            Stage::Over => Progress::Same,
        }
    }

    /// `Ok(true)`: connected, in the map, and every greeting answered well.
    fn greet(&mut self) -> io::Result<bool> {
        if let Some(error) = self.datastore.take_error()? {
            return Err(error);
        }
        match self.datastore.peer_addr() {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(false),
            Err(error) => return Err(error),
        }
        let Stage::Dialing { greetings, is_asked } = &mut self.stage else { return Ok(true) };
        while let Some(greeting) = greetings.last() {
            if !*is_asked {
                // A new connection takes a line at once.
                self.datastore.write_all(greeting)?;
                *is_asked = true;
            }
            let mut space = [0; 4096];
            match self.datastore.read(&mut space) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                // Answers to these are short and come in one piece from every datastore there is.
                Ok(count) if space[0] == b'-' => {
                    return Err(io::Error::other(String::from_utf8_lossy(&space[..count]).trim().to_owned()));
                }
                Ok(_) => {
                    greetings.pop();
                    *is_asked = false;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        match self.path.loaded.slots[self.slot as usize].adopted.datastore.get() {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(io::Error::other("the kernel would not adopt the datastore's socket")),
        }
    }

    /// Takes a client in. `read` bytes have been read from it, and nothing of it is with anybody: no request unanswered
    /// but those whose replies are about to be written. From the next `answered` on the kernel answers what it can.
    ///
    /// Before the last reply is the moment: a client that asks one thing at a time says nothing until it has it.
    pub fn adopt(&mut self, client: BorrowedFd<'_>, read: u64) -> Result<(), Refused> {
        if !self.is_ready() {
            return Err(Refused::NotReady);
        }
        let key = flow_key(client).map_err(Refused::System)?;
        let slot = &self.path.loaded.slots[self.slot as usize];
        let is_quiet = || sys::traffic(client).map(|now| now.received == read && now.state == ESTABLISHED);
        // Asked twice: what a hushed socket misses comes again only after a while, so not unless there is a good chance.
        if !is_quiet().map_err(Refused::System)? {
            return Err(Refused::Busy);
        }
        let hush = Hush::new(client).map_err(Refused::System)?;
        if !is_quiet().map_err(Refused::System)? {
            return Err(Refused::Busy);
        }
        let written_before = sys::written(client).map_err(Refused::System)?;
        sys::force_send_buffer(client, SEND_BUFFER_BYTES).map_err(Refused::System)?;
        slot.daemon.base_seq.set(u64::from(sys::receive_sequence(client).map_err(Refused::System)?));
        slot.daemon.armed.set(Armed::Watching as u64);
        {
            let mut maps = self.path.loaded.maps();
            maps.flows.insert(key, self.slot, 0).map_err(Refused::map)?;
            if let Err(error) = maps.clients.set(self.slot, &client, 0) {
                let _ = maps.flows.remove(&key);
                return Err(Refused::map(error));
            }
        }
        self.stage = Stage::Adopted(Adopted {
            turns: Turns::new(read),
            key,
            relay: None,
            relay_begun: false,
            forgiven: false,
            written_before,
            written: 0,
            delivered: 0,
            undelivered_since: None,
            is_shut: false,
        });
        let is_quiet = is_quiet().map_err(Refused::System)?;
        drop(hush);
        if !is_quiet {
            // A segment that had passed the filter before it was there. Nobody can tell how the socket took it.
            return Err(Refused::Torn);
        }
        self.path.counts.adopted();
        Ok(())
    }

    pub fn on_read(&mut self, bytes: usize) {
        if let Stage::Adopted(adopted) = &mut self.stage {
            adopted.turns.on_read(bytes as u64);
        }
    }

    /// Bytes that the daemon has put into the client's socket.
    pub fn on_written(&mut self, bytes: usize) {
        if let Stage::Adopted(adopted) = &mut self.stage {
            adopted.written += bytes as u64;
        }
    }

    /// What may be done with what was read. To be asked before acting on anything that was.
    pub fn turn(&mut self, client: BorrowedFd<'_>) -> Turn {
        let view = self.view();
        let Stage::Adopted(adopted) = &mut self.stage else { return Turn::Act };
        if adopted.forgiven {
            return Turn::Act;
        }
        if adopted.turns.quiet(&view) && !view.spoiled {
            match adopted.delivery(&view, client) {
                Delivery::Done => {}
                Delivery::Due => return Turn::Wait,
                Delivery::Lost => return Turn::Reset,
            }
        }
        adopted.turns.turn(&view)
    }

    /// Everything that was read is answered, and the answers are in the socket: the kernel may go on.
    pub fn answered(&mut self) {
        let slot = &self.path.loaded.slots[self.slot as usize];
        let Stage::Adopted(adopted) = &mut self.stage else { return };
        if let Some(acked) = adopted.turns.on_answered() {
            slot.daemon.acked.set(acked);
        }
        if !adopted.is_shut && slot.daemon.armed.get() == Armed::Watching as u64 {
            slot.daemon.armed.set(Armed::Open as u64);
        }
    }

    /// Reads more of the reply that the kernel has left to the daemon. (bytes in `space`, was that the end). `Ok(None)`:
    /// nothing there now.
    pub fn relay(&mut self, space: &mut [u8]) -> io::Result<Option<(usize, bool)>> {
        let key_len = self.slot_state().route.key_len();
        let Stage::Adopted(adopted) = &mut self.stage else { return Ok(None) };
        let relay = adopted.relay.get_or_insert_with(|| {
            Relay::new(match self.path.language() {
                Language::Resp => Asked::Resp,
                Language::Memcache => Asked::Memcache { key_len },
            })
        });
        let count = match self.datastore.read(space) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(None),
            Err(error) => return Err(error),
        };
        match relay.feed(&space[..count]) {
            Fed::More => {
                adopted.relay_begun = true;
                Ok(Some((count, false)))
            }
            Fed::End => {
                adopted.relay_begun = true;
                adopted.relay = None;
                Ok(Some((count, true)))
            }
            Fed::Broken => Err(ErrorKind::InvalidData.into()),
        }
    }

    /// The relayed reply is in the socket, to its last byte.
    pub fn relayed(&mut self) {
        if let Stage::Adopted(adopted) = &mut self.stage {
            adopted.relay_begun = false;
            let acked = adopted.turns.on_relayed();
            self.path.loaded.slots[self.slot as usize].daemon.relay_acked.set(acked);
        }
    }

    /// From now on everything passes, and an event comes when the datastore has answered what it owes.
    pub fn shut(&mut self) {
        if let Stage::Adopted(adopted) = &mut self.stage {
            adopted.is_shut = true;
        }
        let slot = self.slot_state();
        if slot.daemon.armed.get() == Armed::Open as u64 {
            slot.daemon.armed.set(Armed::Watching as u64);
            wait_until(PROGRAM_LIMIT, || slot.route.entered.get() == slot.route.left.get());
        }
    }

    /// Has the kernel passed bytes that the daemon has not read?
    pub fn has_unread(&self) -> bool {
        match &self.stage {
            Stage::Adopted(adopted) => !adopted.turns.has_read(&self.view()),
            _ => false,
        }
    }

    /// Does the daemon's poll tell it of every segment? If not, the kernel says when it passes one; what it has passed
    /// before it knew is to be asked for (`has_unread`).
    pub fn polls(&self, polls: bool) {
        self.slot_state().daemon.polls.set(polls.into());
    }

    /// Is nothing of this client with the datastore?
    pub fn is_quiet(&self) -> bool {
        match &self.stage {
            Stage::Adopted(adopted) => adopted.forgiven || adopted.turns.quiet(&self.view()),
            _ => true,
        }
    }

    /// Has every answer of the kernel's left the client's socket, or will it never come there?
    pub fn is_delivered(&mut self, client: BorrowedFd<'_>) -> bool {
        let view = self.view();
        if let Stage::Adopted(adopted) = &mut self.stage
            && let Delivery::Due = adopted.delivery(&view, client)
        {
            return false;
        }
        // On 5.10 they may wait there for more.
        let _ = push(&client);
        sys::unsent(client).is_ok_and(|bytes| bytes == 0)
    }

    /// Takes the client out of the kernel, if nothing of it is there. The caller has read until nothing was left, and may
    /// hold requests unanswered.
    pub fn release(&mut self, client: BorrowedFd<'_>) -> Released {
        self.shut();
        let view = self.view();
        let Stage::Adopted(adopted) = &mut self.stage else { return Released::Yes };
        let is_forgiven = adopted.forgiven;
        let here = |turns: &Turns, view: &View| if is_forgiven { turns.read_all(view) } else { turns.all_here(view) };
        if !here(&adopted.turns, &view) {
            return Released::NotYet;
        }
        match adopted.delivery(&view, client) {
            Delivery::Done => {}
            Delivery::Due => return Released::NotYet,
            Delivery::Lost => return Released::Torn,
        }
        let turns = &adopted.turns;
        let whole = |slot: &Slot| {
            let view = View::read(slot);
            sys::traffic(client).is_ok_and(|traffic| {
                traffic.received == turns.received(&view) && traffic.state == ESTABLISHED && here(turns, &view)
            })
        };
        let slot = &self.path.loaded.slots[self.slot as usize];
        if !whole(slot) {
            return Released::NotYet;
        }
        let Ok(hush) = Hush::new(client) else { return Released::NotYet };
        if !whole(slot) {
            return Released::NotYet;
        }
        {
            let mut maps = self.path.loaded.maps();
            let _ = maps.flows.remove(&adopted.key);
            let _ = maps.clients.clear_index(&self.slot);
        }
        let is_whole = whole(slot);
        drop(hush);
        self.stage = Stage::Over;
        self.path.counts.released();
        if is_whole { Released::Yes } else { Released::Torn }
    }

    /// The datastore connection is lost or does not answer: what is the client owed? Afterwards it can be released.
    pub fn give_up(&mut self) -> Owed {
        match &self.stage {
            Stage::Adopted(adopted) if !adopted.forgiven => self.path.counts.given_up(),
            _ => return Owed::Nothing,
        }
        self.shut();
        let slot = &self.path.loaded.slots[self.slot as usize];
        let _ = self.path.loaded.maps().datastores.clear_index(&self.slot);
        let _ = SockRef::from(&self.datastore).set_linger(Some(Duration::ZERO));
        let _ = self.datastore.shutdown(std::net::Shutdown::Both);
        wait_until(PROGRAM_LIMIT, || slot.reply.entered.get() == slot.reply.left.get());
        let view = View::read(slot);
        let Stage::Adopted(adopted) = &mut self.stage else { return Owed::Nothing };
        adopted.forgiven = true;
        if adopted.turns.quiet(&view) {
            return Owed::Nothing;
        }
        let untouched = view.rest == 0 && !adopted.relay_begun && !view.spoiled;
        if untouched { Owed::OneAnswer } else { Owed::Rest }
    }

    /// After a reset an adopted socket may say "nothing yet" for ever, although it is closed.
    pub fn is_dead(client: BorrowedFd<'_>) -> bool {
        sys::traffic(client).is_ok_and(|traffic| traffic.state == CLOSED)
    }

    /// One reading of the slot, for whoever watches whether anything moves.
    pub fn view(&self) -> View {
        View::read(self.slot_state())
    }

    fn slot_state(&self) -> &Slot {
        &self.path.loaded.slots[self.slot as usize]
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        if self.is_quiet() {
            // Reset, not closed: nothing is on its way, and a port that rests for a minute (TIME_WAIT) is one fewer to dial from.
            let _ = SockRef::from(&self.datastore).set_linger(Some(Duration::ZERO));
        }
        let slot = &self.path.loaded.slots[self.slot as usize];
        slot.daemon.armed.set(Armed::Off as u64);
        let mut maps = self.path.loaded.maps();
        if let Stage::Adopted(adopted) = &self.stage {
            let _ = maps.flows.remove(&adopted.key);
            let _ = maps.clients.clear_index(&self.slot);
            self.path.counts.released();
        }
        let _ = maps.datastores.clear_index(&self.slot);
        drop(maps);
        self.path.loaded.ports[usize::from(self.port)].set(0);
        self.path.rest(super::Used::Flow(self.slot));
    }
}

/// Writes to an adopted client without sending the last bytes yet. The last answer goes out in three steps: written here,
/// `Flow::answered`, `push`. The order of answers is fixed when they are in the socket, so the kernel may be told then;
/// told after the client can have read them, it would find the gate still shut when the next request comes, a few
/// microseconds later, and that client would stay with the daemon.
pub struct More<T>(pub T);

impl<T: AsFd> Write for More<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        SockRef::from(&self.0).send_with_flags(bytes, libc::MSG_MORE | libc::MSG_NOSIGNAL)
    }

    fn flush(&mut self) -> io::Result<()> {
        push(&self.0)
    }
}

/// Sends what `More` held back.
pub fn push(client: &impl AsFd) -> io::Result<()> {
    SockRef::from(client).set_tcp_nodelay(true)
}

const ESTABLISHED: u8 = 1;
const CLOSED: u8 = 7;

/// Programs run for microseconds; the limit is for machines that stop in the middle of one.
const PROGRAM_LIMIT: Duration = Duration::from_secs(5);

/// Did it come to hold?
fn wait_until(limit: Duration, condition: impl Fn() -> bool) -> bool {
    let give_up_at = Instant::now() + limit;
    let mut tries = 0_u32;
    while !condition() {
        tries += 1;
        if tries > 100 {
            if Instant::now() > give_up_at {
                return false;
            }
            std::thread::yield_now();
        }
        std::hint::spin_loop();
    }
    true
}

/// A client socket's two ends, as the route program will see them.
fn flow_key(client: BorrowedFd<'_>) -> io::Result<FlowKey> {
    let socket = SockRef::from(&client);
    let ends = (socket.peer_addr()?.as_socket(), socket.local_addr()?.as_socket());
    let (Some(remote), Some(local)) = ends else { return Err(ErrorKind::Unsupported.into()) };
    Ok(FlowKey {
        remote_ip: address_words(remote),
        local_ip: address_words(local),
        remote_port: u32::from(remote.port()),
        local_port: u32::from(local.port()),
    })
}

/// An address as the kernel has it: four words in network order, IPv4 in six's clothes.
pub(super) fn address_words(address: SocketAddr) -> [u32; 4] {
    match address {
        SocketAddr::V4(address) => FlowKey::mapped(u32::from_ne_bytes(address.ip().octets())),
        SocketAddr::V6(address) => {
            let bytes = address.ip().octets();
            std::array::from_fn(|word| {
                u32::from_ne_bytes([bytes[4 * word], bytes[4 * word + 1], bytes[4 * word + 2], bytes[4 * word + 3]])
            })
        }
    }
}

impl AsFd for Flow {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.datastore.as_fd()
    }
}

impl AsRawFd for Flow {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.datastore.as_raw_fd()
    }
}
