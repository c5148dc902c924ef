//! A connection that we open: dialled, lost and dialled again, with bytes in and out. What the bytes mean is its owner's
//! business (`datastore`, `peer`).
//! Owns: the socket, its buffers, the pause between attempts.

use std::io;
use std::time::Duration;

use mio::{Interest, Registry, Token};

use super::buffer::{Inbox, Outbox, Pool};
use super::stream::{Address, Stream};
use crate::moment::Moment;

#[derive(Clone, Debug)]
pub struct Settings {
    /// `None`: not known yet. It is not dialled before `point_at`.
    pub address: Option<Address>,
    /// The first pause after a failure; doubled with each further one.
    pub pause_first: Duration,
    pub pause_max: Duration,
    /// After this many failures in a row the other end is ejected: left alone for `pause_ejected`.
    pub eject_after: Option<u32>,
    pub pause_ejected: Duration,
    pub connect_timeout: Duration,
}

enum State {
    /// Not connected; not tried again before `retry_at`.
    Down {
        retry_at: Moment,
    },
    /// Bytes may be queued already.
    Dialing {
        stream: Stream,
        give_up_at: Moment,
    },
    Up {
        stream: Stream,
    },
}

pub struct Link {
    settings: Settings,
    token: Token,
    state: State,
    failures: u32,
    /// Why it could not be connected the last time.
    failure: Option<io::Error>,
    /// Is writability asked for? Only while the socket is full.
    waits_to_write: bool,
    pub inbox: Inbox,
    pub outbox: Outbox,
}

/// What an event did to a link.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    Same,
    /// Just connected: greet, then flush.
    Connected,
    /// Just lost, or could not be connected: everything queued or asked on it is lost.
    Lost,
}

const INBOX_BYTES: usize = 128 << 10;
const OUTBOX_BYTES: usize = 256 << 10;

impl Link {
    pub fn new(settings: Settings, token: Token) -> Link {
        Link {
            settings,
            token,
            state: State::Down { retry_at: Moment(0) },
            failures: 0,
            failure: None,
            waits_to_write: false,
            inbox: Inbox::default(),
            outbox: Outbox::keeping(OUTBOX_BYTES),
        }
    }

    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    pub fn is_down(&self) -> bool {
        matches!(self.state, State::Down { .. })
    }

    /// Where it is dialled the next time.
    pub fn point_at(&mut self, address: Address) {
        self.settings.address = Some(address);
    }

    /// Forgets earlier failures: it may be dialled at once.
    pub fn hurry(&mut self, now: Moment) {
        self.failures = 0;
        if let State::Down { retry_at } = &mut self.state {
            *retry_at = now;
        }
    }

    pub fn token(&self) -> Token {
        self.token
    }

    pub fn stream(&self) -> Option<&Stream> {
        match &self.state {
            State::Up { stream } | State::Dialing { stream, .. } => Some(stream),
            State::Down { .. } => None,
        }
    }

    /// Up, or on the way, or not tried for a while.
    pub fn may_be_tried(&self, now: Moment) -> bool {
        match self.state {
            State::Down { retry_at } => retry_at <= now,
            State::Dialing { .. } | State::Up { .. } => true,
        }
    }

    /// When this link wants to be looked at, though nothing comes from its socket.
    pub fn wakes_at(&self) -> Option<Moment> {
        match self.state {
            State::Down { retry_at } => Some(retry_at),
            State::Dialing { give_up_at, .. } => Some(give_up_at),
            State::Up { .. } => None,
        }
    }

    /// May bytes be queued? Dials if it is time to.
    pub fn ready(&mut self, registry: &Registry, now: Moment) -> bool {
        self.ready_by(registry, now, Stream::dial)
    }

    /// The same, with another way to dial.
    pub fn ready_by(
        &mut self,
        registry: &Registry,
        now: Moment,
        dial: impl FnOnce(&Address, Duration) -> io::Result<Stream>,
    ) -> bool {
        match self.state {
            State::Down { retry_at } if retry_at <= now => self.dial(registry, now, dial),
            State::Down { .. } => false,
            State::Dialing { .. } | State::Up { .. } => true,
        }
    }

    /// Gives up a dial that takes too long. `true`: it was lost.
    pub fn give_up(&mut self, registry: &Registry, now: Moment) -> bool {
        match self.state {
            State::Dialing { give_up_at, .. } if give_up_at <= now => {
                self.failure = Some(io::Error::new(io::ErrorKind::TimedOut, "it cannot be connected in time"));
                self.lose(registry, now);
                true
            }
            _ => false,
        }
    }

    fn dial(
        &mut self,
        registry: &Registry,
        now: Moment,
        dial: impl FnOnce(&Address, Duration) -> io::Result<Stream>,
    ) -> bool {
        let Some(address) = &self.settings.address else {
            self.failed(true, now);
            return false;
        };
        let dialled = dial(address, self.settings.connect_timeout).and_then(|mut stream| {
            registry.register(&mut stream, self.token, Interest::READABLE | Interest::WRITABLE)?;
            Ok(stream)
        });
        match dialled {
            Ok(stream) => {
                self.waits_to_write = true;
                self.state = State::Dialing { stream, give_up_at: now + self.settings.connect_timeout };
                true
            }
            Err(error) => {
                tracing::debug!(%address, %error, "dial failed");
                self.failure = Some(error);
                self.failed(true, now);
                false
            }
        }
    }

    /// A writable, readable or error event while dialling.
    pub fn on_event(&mut self, registry: &Registry, now: Moment) -> Progress {
        let State::Dialing { stream, .. } = &self.state else { return Progress::Same };
        match stream.take_error() {
            Ok(None) if stream.is_connected() => {}
            Ok(None) => return Progress::Same,
            Ok(Some(error)) | Err(error) => {
                tracing::debug!(address = ?self.settings.address, %error, "could not connect");
                self.failure = Some(error);
                self.lose(registry, now);
                return Progress::Lost;
            }
        }
        let State::Dialing { stream, .. } = std::mem::replace(&mut self.state, State::Down { retry_at: now }) else {
            unreachable!("checked above")
        };
        self.state = State::Up { stream };
        self.inbox = Inbox::with_space(INBOX_BYTES);
        Progress::Connected
    }

    pub fn take_failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }

    /// The other end answered sensibly: earlier failures are forgotten.
    pub fn proved(&mut self) {
        self.failures = 0;
    }

    /// Reads once into the inbox. `Ok(None)`: nothing there.
    pub fn read(&mut self, need: usize, pool: &mut Pool) -> io::Result<Option<(usize, bool)>> {
        let State::Up { stream } = &mut self.state else { return Ok(None) };
        self.inbox.make_room(need, pool);
        match self.inbox.read_from(stream) {
            Ok((0, _)) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => Ok(Some(read)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives back what a large frame made the inbox grow to.
    pub fn relax(&mut self) {
        self.inbox.shrink(INBOX_BYTES);
    }

    /// Queues bytes; see `Outbox::write_or_push`.
    pub fn push(&mut self, bytes: &[u8], pool: &mut Pool) {
        let sink = match &mut self.state {
            State::Up { stream } if !self.waits_to_write => Some(stream),
            _ => None,
        };
        self.outbox.write_or_push(bytes, sink, pool);
    }

    /// Queues bytes, and leaves them there.
    pub fn queue(&mut self, bytes: &[u8], pool: &mut Pool) {
        self.outbox.push(bytes, pool);
    }

    pub fn flush(&mut self, registry: &Registry, pool: &mut Pool) -> io::Result<()> {
        self.flush_part(usize::MAX, registry, pool)
    }

    /// Writes at most the first `limit` bytes of what is queued; the rest waits for another call.
    pub fn flush_part(&mut self, limit: usize, registry: &Registry, pool: &mut Pool) -> io::Result<()> {
        let State::Up { stream } = &mut self.state else { return Ok(()) };
        let all = self.outbox.flush_part(limit, stream, pool)?;
        if all == self.waits_to_write {
            let interest = if all { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
            registry.reregister(stream, self.token, interest)?;
            self.waits_to_write = !all;
        }
        Ok(())
    }

    /// Drops the connection and everything queued on it.
    pub fn lose(&mut self, registry: &Registry, now: Moment) {
        self.inbox = Inbox::default();
        self.outbox = Outbox::keeping(OUTBOX_BYTES);
        if self.is_down() {
            // Counted when it went down.
            return;
        }
        let is_away = matches!(self.state, State::Dialing { .. });
        if let State::Up { mut stream } | State::Dialing { mut stream, .. } =
            std::mem::replace(&mut self.state, State::Down { retry_at: now })
        {
            let _ = registry.deregister(&mut stream);
        }
        self.failed(is_away, now);
    }

    /// The same for a connection that is replaced: what was written and did not get through must not arrive behind what
    /// goes over the next one.
    pub fn break_off(&mut self, registry: &Registry, now: Moment) {
        if let Some(stream) = self.stream() {
            stream.forget_unsent();
        }
        self.lose(registry, now);
    }

    /// Who cannot be connected is looked for again soon: to be back is all it has to be. Who can be and fails is left alone.
    fn failed(&mut self, is_away: bool, now: Moment) {
        self.failures = self.failures.saturating_add(1);
        let pause = match self.settings.eject_after {
            Some(limit) if self.failures >= limit && !is_away => self.settings.pause_ejected,
            _ => {
                let doubled = self.settings.pause_first.saturating_mul(1 << (self.failures - 1).min(16));
                doubled.min(self.settings.pause_max)
            }
        };
        self.state = State::Down { retry_at: now + pause };
    }
}
