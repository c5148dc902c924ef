//! A shared datastore connection whose bytes go straight from socket to socket, as its worker sees it: announced before it
//! is dialled, joined when it is connected; bytes change their way whenever all that was written is answered.
//! Owns: the pair's slot, while the connection lives. Knows nothing of: requests, buffers.
//! Undone by Drop, before the socket is closed.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dynomite_common::abi::Port;
use dynomite_common::limits::{SHORTCUT_BUFFER_BYTES, SHORTCUT_BYTES_MAX, SHORTCUTS_MAX};
use dynomite_common::pair::{End, Pair};
use socket2::Socket;

use super::{FastPath, LoadError, lock, sys};

pub struct Shortcut {
    path: Arc<FastPath>,
    pair: u32,
    port: u16,
    /// Is the daemon's end in the map?
    is_joined: bool,
    way: Way,
    /// Counts terms.
    term: u64,
    /// As in the slot.
    answered: u64,
    read: u64,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Tcp,
    Straight,
    /// Straight until all that was written is answered; then it is seen which way. Nothing new is begun meanwhile.
    Turning,
}

impl Shortcut {
    /// For a connection that is about to be dialled: the socket to dial with, and its shortcut. None: there is none to be
    /// had now.
    pub fn announce(path: &Arc<FastPath>, to: SocketAddr) -> Option<(Socket, Shortcut)> {
        if !path.shortcut_used.load(Ordering::Relaxed) {
            return None;
        }
        let (socket, port, datastore) = path.bound().ok()?;
        // The program tells the ends apart by the datastore's port.
        if datastore != to || port == to.port() {
            return None;
        }
        sys::force_receive_buffer(socket.as_fd(), SHORTCUT_BUFFER_BYTES).ok()?;
        let Some((pair, _)) = lock(&path.pairs).take(SHORTCUTS_MAX) else {
            path.counts.shortcut_refused();
            return None;
        };
        // Before the first packet goes out: the adopt program looks for it when the datastore's end is established.
        path.loaded.ports[usize::from(port)].set(Port::Shortcut { pair }.pack());
        let path = Arc::clone(path);
        let shortcut = Shortcut { path, pair, port, is_joined: false, way: Way::Tcp, term: 0, answered: 0, read: 0 };
        Some((socket, shortcut))
    }

    /// Connected, and nothing was written yet.
    pub fn join(&mut self, own: BorrowedFd<'_>) {
        let joined = self.path.loaded.maps().shortcuts.set(End::Daemon.place(self.pair), &own, 0);
        self.is_joined = joined.is_ok();
        match joined {
            Ok(()) => self.path.counts.shortcut_joined(),
            Err(error) => {
                tracing::debug!(%error, "a datastore connection takes no shortcut");
                self.path.counts.shortcut_refused();
            }
        }
    }

    /// Everything that was written is answered: the one moment at which the way may change. `large`: a request that is too
    /// long to go straight comes soon.
    pub fn settle(&mut self, large: bool) {
        let may = self.is_joined && !large && self.path.shortcut_is_on() && self.is_adopted();
        if !may {
            if self.way != Way::Tcp {
                self.slot().daemon.term.set(0);
                self.way = Way::Tcp;
            }
        } else if self.way != Way::Straight || self.has_fallen() {
            self.begin_term();
        }
    }

    fn begin_term(&mut self) {
        let pair = &self.path.loaded.pairs[self.pair as usize];
        self.answered = pair.to_datastore.given.get();
        self.read = pair.to_daemon.given.get();
        pair.daemon.answered.set(self.answered);
        pair.daemon.read.set(self.read);
        self.term += 1;
        pair.daemon.term.set(self.term);
        self.way = Way::Straight;
    }

    /// The way is to change: when it may, `settle` is asked for.
    pub fn turn(&mut self) {
        if self.way == Way::Straight {
            self.way = Way::Turning;
        }
    }

    pub fn is_turning(&self) -> bool {
        self.way == Way::Turning
    }

    /// The switch was moved.
    pub fn look(&mut self) {
        if !self.path.shortcut_is_on() {
            self.turn();
        }
    }

    /// How many bytes may be written, with so many written and not answered?
    pub fn allowance(&self, unanswered: u64) -> usize {
        match self.way {
            Way::Tcp => usize::MAX,
            Way::Straight | Way::Turning => SHORTCUT_BYTES_MAX.saturating_sub(unanswered) as usize,
        }
    }

    /// So many bytes were read. May there be more than one event tells of? A read takes what is parked and stops; what came
    /// over TCP behind it, and was announced by the same event, is for the next.
    pub fn on_read(&mut self, bytes: usize) -> bool {
        if self.way == Way::Tcp {
            return false;
        }
        self.read += bytes as u64;
        self.slot().daemon.read.set(self.read);
        let has_fallen = self.has_fallen();
        if has_fallen {
            self.turn();
        }
        has_fallen
    }

    /// Requests of so many bytes were answered.
    pub fn on_answered(&mut self, bytes: u64) {
        if self.way != Way::Tcp {
            self.answered += bytes;
            self.slot().daemon.answered.set(self.answered);
        }
    }

    /// The connection stood still, or what came is no reply. After a few of these the shortcut is off: it may be the
    /// datastore's fault, but who could tell?
    pub fn distrust(&self) {
        if self.way != Way::Tcp {
            self.path.counts.shortcut_tripped();
            self.path.shortcut_trips.fetch_add(1, Ordering::Relaxed);
            if self.path.shortcut_is_given_up() {
                tracing::error!("the shortcut is off: connections on it stood still");
                self.path.switch_shortcut(false);
            }
        }
    }

    /// Is the datastore's end in the map?
    pub(super) fn is_adopted(&self) -> bool {
        self.slot().adopted.datastore.get() == 1
    }

    pub(super) fn is_straight(&self) -> bool {
        self.way == Way::Straight
    }

    /// Bytes of one end that went straight.
    pub(super) fn given(&self, end: End) -> u64 {
        self.slot().lane(end).0.given.get()
    }

    fn slot(&self) -> &Pair {
        &self.path.loaded.pairs[self.pair as usize]
    }

    fn has_fallen(&self) -> bool {
        let pair = self.slot();
        pair.to_datastore.fell_in.get() == self.term || pair.to_daemon.fell_in.get() == self.term
    }
}

impl Drop for Shortcut {
    fn drop(&mut self) {
        self.slot().daemon.term.set(0);
        self.path.loaded.ports[usize::from(self.port)].set(0);
        let mut maps = self.path.loaded.maps();
        for end in [End::Daemon, End::Datastore] {
            let _ = maps.shortcuts.clear_index(&end.place(self.pair));
        }
        drop(maps);
        self.path.rest(super::Used::Pair(self.pair));
    }
}

/// So many connections may stand still.
const TRIPS_MAX: u32 = 3;

impl FastPath {
    pub fn shortcut_is_given_up(&self) -> bool {
        self.shortcut_trips.load(Ordering::Relaxed) >= TRIPS_MAX
    }

    fn shortcut_is_on(&self) -> bool {
        self.shortcut_on.load(Ordering::Relaxed)
    }

    /// On or off for connections that are and will be; each worker looks at its own at once.
    pub fn switch_shortcut(&self, on: bool) {
        self.shortcut_used.fetch_or(on, Ordering::Relaxed);
        if self.shortcut_on.swap(on, Ordering::Relaxed) != on {
            lock(&self.mailboxes).iter().for_each(|mailbox| mailbox.wake());
        }
    }

    /// What the kernel has against the program; said once.
    pub(super) fn shortcut_refused(&self) -> Result<(), LoadError> {
        std::mem::replace(&mut *lock(&self.loaded.shortcut), Ok(()))
    }

    /// Connections that take the shortcut just now.
    pub fn shortcuts_now(&self) -> u64 {
        self.loaded.pairs.iter().filter(|pair| pair.daemon.term.get() != 0).count() as u64
    }
}
