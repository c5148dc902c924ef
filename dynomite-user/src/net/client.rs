//! One client's connection: bytes in, replies out, and whether it may be read.
//! A peer's connection that asks us is a client too; its replies carry headers (`Role::Peer`).

use mio::{Interest, Registry, Token};
use rustix::event::epoll::{self, EventData, EventFlags};

use super::buffer::{Inbox, Outbox, Pool, read_once};
use super::stream::Stream;
use super::worker::Kernel;
use crate::kernel::{More, push};
use crate::protocol::codec::Decoder;

pub struct Client {
    pub stream: Stream,
    pub token: Token,
    pub inbox: Inbox,
    pub outbox: Outbox,
    /// Away while its requests are handled. A peer's connection has another one.
    pub decoder: Option<Decoder>,
    /// How many bytes the request at the head of the inbox needs before it can be whole.
    pub need: usize,
    /// The socket may hold bytes that were not read: no event will come for them.
    pub readable: bool,
    /// The other end has said all it will say, or is gone: read on to find out which.
    pub read_closed: bool,
    /// The coordinator wants earlier requests answered before it hears the next.
    pub held: bool,
    /// Not read because too much is outstanding or queued.
    pub paused: bool,
    /// Queued for the flush at the end of this wake-up.
    pub dirty: bool,
    /// Queued to be looked at again though no event comes.
    pub queued: bool,
    /// Close when the outbox is empty.
    pub closing: bool,
    /// No more requests are taken from it.
    pub deaf: bool,
    /// It said what is no request: its end is an error.
    pub broken: bool,
    waits_to_write: bool,
    /// The kernel looks at what comes, and says what is for the daemon: the poll tells only of the end.
    minds_kernel: bool,
    /// Its own datastore connection, by index.
    pub private: Option<usize>,
    pub role: super::peer_in::Role,
    /// Bytes read so far.
    pub received: u64,
    /// What the kernel does for it.
    pub kernel: Kernel,
}

/// What one read brought.
pub struct Read {
    pub count: usize,
    /// Its room was filled: then there may be more.
    pub filled: bool,
    /// It is in the scratch space, which starts with so many bytes, and the inbox is empty; else it is in the inbox.
    pub in_scratch: Option<usize>,
}

impl Client {
    pub fn new(stream: Stream, token: Token, decoder: Option<Decoder>, role: super::peer_in::Role) -> Client {
        Client {
            stream,
            token,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            decoder,
            need: 0,
            readable: false,
            read_closed: false,
            held: false,
            paused: false,
            dirty: false,
            queued: false,
            closing: false,
            deaf: false,
            broken: false,
            waits_to_write: false,
            minds_kernel: false,
            private: None,
            role,
            received: 0,
            kernel: Kernel::default(),
        }
    }

    /// Reads once. Into `scratch` if nothing is incomplete, or if there is so much that a copy of what is incomplete is
    /// worth it.
    pub fn read(&mut self, scratch: &mut [u8], is_much: bool, pool: &mut Pool) -> std::io::Result<Read> {
        let kept = self.inbox.len();
        if kept > 0 && !(is_much && kept.max(self.need) <= scratch.len() / 2) {
            self.inbox.make_room(self.need, pool);
            let (count, filled) = self.inbox.read_from(&mut self.stream)?;
            return Ok(Read { count, filled, in_scratch: None });
        }
        let (before, room) = scratch.split_at_mut(kept);
        let count = read_once(&mut self.stream, room)?;
        before.copy_from_slice(self.inbox.bytes());
        self.inbox.clear();
        Ok(Read { count, filled: count == room.len(), in_scratch: Some(kept + count) })
    }

    /// Queues bytes; see `Outbox::write_or_push`.
    pub fn push(&mut self, bytes: &[u8], pool: &mut Pool) {
        let may_write = !self.waits_to_write && !self.kernel.has_leg();
        self.outbox.write_or_push(bytes, may_write.then_some(&mut self.stream), pool);
    }

    /// `Ok(true)`: everything is out.
    pub fn flush(&mut self, registry: &Registry, pool: &mut Pool) -> std::io::Result<bool> {
        let all = self.outbox.flush(&mut self.stream, pool)?;
        self.wait_to_write(!all, registry)?;
        Ok(all)
    }

    /// The same, but the last bytes stay in the socket until they are pushed (`kernel::push`).
    pub fn flush_held(&mut self, registry: &Registry, pool: &mut Pool) -> std::io::Result<bool> {
        let all = self.outbox.flush(&mut More(&self.stream), pool)?;
        if !all {
            push(&self.stream)?;
        }
        self.wait_to_write(!all, registry)?;
        Ok(all)
    }

    fn wait_to_write(&mut self, wait: bool, registry: &Registry) -> std::io::Result<()> {
        if wait != self.waits_to_write {
            self.waits_to_write = wait;
            self.listen(registry)?;
        }
        Ok(())
    }

    /// Afterwards bytes may be there that no event will come for.
    pub fn mind_kernel(&mut self, minds: bool, registry: &Registry) -> std::io::Result<()> {
        if minds != self.minds_kernel {
            self.minds_kernel = minds;
            self.listen(registry)?;
        }
        Ok(())
    }

    pub fn minds_kernel(&self) -> bool {
        self.minds_kernel
    }

    fn listen(&mut self, registry: &Registry) -> std::io::Result<()> {
        if self.minds_kernel && !self.waits_to_write {
            // The kernel wakes a poll for readable bytes even if its program sends them elsewhere, so the poll must not ask
            // for them; mio has no word for that.
            let events = EventFlags::RDHUP | EventFlags::ET;
            return Ok(epoll::modify(registry, &self.stream, EventData::new_u64(self.token.0 as u64), events)?);
        }
        let interest = if self.waits_to_write { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        registry.reregister(&mut self.stream, self.token, interest)
    }
}
