//! A connection to the local datastore: what was asked on it, in order, and the end of each answer.
//! Shared by all clients of a worker, or one client's own.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use mio::Registry;

use super::buffer::Pool;
use super::link::Link;
use super::stream::{Address, Stream};
use crate::coordinator::{ClientId, Leg, Outgoing, SendError};
use crate::kernel::{FastPath, SHORTCUT_FRAME_BYTES_MAX, Shortcut};
use crate::moment::Moment;
use crate::protocol::codec::ReplyScanner;
use crate::protocol::reply::{Expect, Scanned};
use crate::stats::{Histogram, Stat, Stats};

/// One frame that was queued and is not yet answered.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// `None`: our own greeting, whose answer only has to be a good one.
    pub leg: Option<Leg>,
    /// A greeting whose answer need not even be that.
    pub may_fail: bool,
    pub expect: Expect,
    pub at: Moment,
    pub bytes: u64,
    pub is_write: bool,
}

pub struct Datastore {
    pub link: Link,
    pub sent: VecDeque<Sent>,
    pub scanner: ReplyScanner,
    /// Whose own connection this is; `None`: shared.
    pub owner: Option<ClientId>,
    /// Its bytes may go past TCP.
    shortcut: Option<Shortcut>,
    /// Bytes of what is in `sent`.
    unanswered: u64,
    queue: Queue,
    /// Frames among these that are too long for the shortcut.
    large: u32,
    /// It has given a good answer.
    pub proven: bool,
    /// Queued for the flush at the end of this wake-up?
    pub dirty: bool,
    /// How many bytes the reply at the head needs before it can be whole.
    pub need: usize,
    /// Bytes of that reply that were thrown away: it is too large.
    pub passed_over: usize,
    /// When the datastore last said anything, or was first asked after a silence.
    pub heard_at: Moment,
}

/// How many of the frames in `sent` are not written, and what the gauges were told.
#[derive(Default)]
struct Queue {
    waiting: usize,
    waiting_bytes: u64,
    booked: [u64; GAUGES.len()],
}

const GAUGES: [Stat; 4] = [Stat::in_queue, Stat::in_queue_bytes, Stat::out_queue, Stat::out_queue_bytes];
/// Where `out_queue` stands among them.
const ASKED: usize = 2;

impl Queue {
    /// Forgets what was written, now that `queued` bytes wait; how many frames these are.
    fn settle(&mut self, sent: &VecDeque<Sent>, queued: u64) -> usize {
        if queued == 0 {
            (self.waiting, self.waiting_bytes) = (0, 0);
        }
        // A datastore may answer what it has not read to its end.
        self.waiting = self.waiting.min(sent.len());
        while let Some(oldest) = sent.get(sent.len() - self.waiting)
            && let Some(rest) = self.waiting_bytes.checked_sub(oldest.bytes).filter(|rest| *rest >= queued)
        {
            (self.waiting, self.waiting_bytes) = (self.waiting - 1, rest);
        }
        self.waiting
    }

    fn tell(&mut self, values: [u64; GAUGES.len()], stats: &Stats) {
        for ((gauge, told), value) in GAUGES.into_iter().zip(&mut self.booked).zip(values) {
            stats.add(gauge, value.wrapping_sub(*told));
            *told = value;
        }
    }
}

/// More than this outstanding on one connection is refused.
pub const SENT_MAX: usize = 1 << 20;

impl Datastore {
    pub fn new(link: Link, scanner: ReplyScanner, owner: Option<ClientId>) -> Datastore {
        Datastore {
            link,
            sent: VecDeque::new(),
            scanner,
            owner,
            shortcut: None,
            unanswered: 0,
            queue: Queue::default(),
            large: 0,
            proven: false,
            dirty: false,
            need: 0,
            passed_over: 0,
            heard_at: Moment(0),
        }
    }

    /// Makes sure that frames may be queued, dialling if it is time; says `greeting` first on a new connection.
    pub fn ready(
        &mut self,
        registry: &Registry,
        greeting: &[Vec<u8>],
        kernel: Option<&Arc<FastPath>>,
        now: Moment,
        pool: &mut Pool,
    ) -> bool {
        let was_down = self.link.is_down();
        let kernel = kernel.filter(|_| self.owner.is_none());
        if !self.link.ready_by(registry, now, |to, patience| dial(to, patience, kernel, &mut self.shortcut)) {
            return false;
        }
        if was_down {
            for frame in greeting {
                self.greet(frame, now, pool);
            }
            self.heard_at = now;
        }
        true
    }

    /// Says something of our own, whose answer must be a good one.
    pub fn greet(&mut self, frame: &[u8], now: Moment, pool: &mut Pool) {
        self.say(frame, Expect::Resp, false, now, pool);
    }

    /// The same, but the datastore may refuse it.
    pub fn offer(&mut self, frame: &[u8], expect: Expect, now: Moment, pool: &mut Pool) {
        self.say(frame, expect, true, now, pool);
    }

    fn say(&mut self, frame: &[u8], expect: Expect, may_fail: bool, now: Moment, pool: &mut Pool) {
        self.push(frame, pool);
        self.sent.push_back(Sent { leg: None, may_fail, expect, at: now, bytes: frame.len() as u64, is_write: false });
    }

    pub fn send(
        &mut self,
        outgoing: Outgoing<'_>,
        now: Moment,
        pool: &mut Pool,
        stats: &Stats,
    ) -> Result<(), SendError> {
        if self.sent.len() >= SENT_MAX {
            return Err(SendError::Full);
        }
        let bytes = outgoing.frame.len();
        let (requests, request_bytes) = match outgoing.is_write {
            true => (Stat::write_requests, Stat::write_request_bytes),
            false => (Stat::read_requests, Stat::read_request_bytes),
        };
        stats.bump(requests);
        stats.add(request_bytes, bytes as u64);
        if self.sent.is_empty() {
            self.heard_at = now;
        }
        self.push(outgoing.frame, pool);
        self.sent.push_back(Sent {
            leg: Some(outgoing.leg),
            may_fail: false,
            expect: outgoing.expect,
            at: now,
            bytes: bytes as u64,
            is_write: outgoing.is_write,
        });
        Ok(())
    }

    /// What the inbox starts with: an answer to the oldest frame, or not enough.
    pub fn scan(scanner: &mut ReplyScanner, sent: &VecDeque<Sent>, bytes: &[u8]) -> Scanned {
        let expect = sent.front().map_or(Expect::Resp, |sent| sent.expect);
        scanner.scan(expect, bytes)
    }

    /// The connection is established, and nothing was written.
    pub fn connected(&mut self) {
        if let (Some(shortcut), Some(stream)) = (&mut self.shortcut, self.link.stream()) {
            shortcut.join(stream.as_fd());
            shortcut.settle(self.large > 0);
        }
    }

    /// So many bytes were read. May there be more, although no event will tell?
    pub fn on_read(&mut self, bytes: usize) -> bool {
        self.shortcut.as_mut().is_some_and(|shortcut| shortcut.on_read(bytes))
    }

    /// Replies were handled. May more be written than before?
    pub fn goes_on(&mut self) -> bool {
        self.settle();
        self.shortcut.is_some() && !self.link.outbox.is_empty()
    }

    /// The shortcut was switched on or off, perhaps. May more be written than before?
    pub fn look(&mut self) -> bool {
        if let Some(shortcut) = &mut self.shortcut {
            shortcut.look();
        }
        self.goes_on()
    }

    fn settle(&mut self) {
        if self.shortcut.is_some()
            && self.link.is_up()
            && self.written() == 0
            && let Some(shortcut) = &mut self.shortcut
        {
            shortcut.settle(self.large > 0);
        }
    }

    /// Bytes that are written and not answered.
    fn written(&self) -> u64 {
        self.unanswered - self.link.outbox.len() as u64
    }

    fn allowance(&self) -> usize {
        let Some(shortcut) = &self.shortcut else { return usize::MAX };
        let written = self.written();
        let allowance = shortcut.allowance(written);
        if shortcut.is_turning() { allowance.min(self.rest_of_begun(written)) } else { allowance }
    }

    /// What is missing of the frame that is partly written.
    fn rest_of_begun(&self, written: u64) -> usize {
        let mut end = 0;
        let ends = self.sent.iter().map(|sent| {
            end += sent.bytes;
            end
        });
        let end = ends.take_while(|_| written > 0).find(|&end| end >= written);
        end.map_or(0, |end| (end - written) as usize)
    }

    /// It stood still, or what it says is no reply.
    pub fn distrust(&self) {
        if let Some(shortcut) = &self.shortcut {
            shortcut.distrust();
        }
    }

    /// Writes what may be written now; what may not waits for answers.
    pub fn flush(&mut self, registry: &Registry, now: Moment, pool: &mut Pool, stats: &Stats) -> io::Result<()> {
        let limit = self.allowance();
        let waiting = self.queue.waiting;
        let oldest = self.sent.len().checked_sub(waiting).and_then(|index| self.sent.get(index)).map(|sent| sent.at);
        let flushed = self.link.flush_part(limit, registry, pool);
        stats.bump(Stat::datastore_flushes);
        stats.add(Stat::datastore_bytes_out, self.link.outbox.take_written());
        self.book(stats);
        if let Some(oldest) = oldest {
            stats.record(Histogram::server_in_queue, waiting as u64);
            stats.record(Histogram::server_out_queue, self.queue.booked[ASKED]);
            if self.queue.waiting < waiting {
                stats.record(Histogram::server_queue_wait, micros(now.since(oldest)));
            }
        }
        flushed
    }

    /// Tells the gauges what waits here and what is asked: after each write and each read, not with each request.
    pub fn book(&mut self, stats: &Stats) {
        let queued = self.link.outbox.len() as u64;
        let waiting = self.queue.settle(&self.sent, queued) as u64;
        let asked = (self.sent.len() as u64).saturating_sub(waiting);
        self.queue.tell([waiting, queued, asked, self.unanswered.saturating_sub(queued)], stats);
    }

    fn push(&mut self, frame: &[u8], pool: &mut Pool) {
        let bytes = frame.len() as u64;
        if bytes > SHORTCUT_FRAME_BYTES_MAX {
            self.large += 1;
            if let Some(shortcut) = &mut self.shortcut {
                shortcut.turn();
            }
            self.settle();
        }
        match frame.len() <= self.allowance() {
            true => self.link.push(frame, pool),
            false => self.link.queue(frame, pool),
        }
        self.unanswered += bytes;
        self.queue.waiting += 1;
        self.queue.waiting_bytes += bytes;
    }

    /// Books the answer to `sent`; what we say ourselves is nobody's request.
    pub fn answered(&mut self, sent: Sent, reply_bytes: usize, now: Moment, stats: &Stats) {
        let (responses, response_bytes) = match sent.is_write {
            true => (Stat::write_responses, Stat::write_response_bytes),
            false => (Stat::read_responses, Stat::read_response_bytes),
        };
        let bytes = sent.bytes;
        self.unanswered -= bytes;
        self.large -= u32::from(bytes > SHORTCUT_FRAME_BYTES_MAX);
        if let Some(shortcut) = &mut self.shortcut {
            shortcut.on_answered(bytes);
        }
        self.heard_at = now;
        if sent.leg.is_some() {
            stats.bump(responses);
            stats.add(response_bytes, reply_bytes as u64);
            stats.record(Histogram::server_latency, micros(now.since(sent.at)));
        }
    }

    /// The connection is gone: everything asked on it, and a fresh start for the next one.
    pub fn forget(&mut self, fresh: ReplyScanner, stats: &Stats) -> VecDeque<Sent> {
        self.shortcut = None;
        (self.unanswered, self.large) = (0, 0);
        self.scanner = fresh;
        (self.need, self.passed_over, self.proven) = (0, 0, false);
        self.queue.tell([0; GAUGES.len()], stats);
        self.queue = Queue::default();
        std::mem::take(&mut self.sent)
    }

    /// Has it been silent for this long though something is asked?
    pub fn is_stuck(&self, patience: Duration, now: Moment) -> bool {
        !self.sent.is_empty() && self.heard_at + patience <= now
    }
}

/// By the shortcut, if there is one to be had.
fn dial(
    to: &Address,
    patience: Duration,
    kernel: Option<&Arc<FastPath>>,
    shortcut: &mut Option<Shortcut>,
) -> io::Result<Stream> {
    *shortcut = None;
    let (Some(kernel), Address::Tcp(address)) = (kernel, to) else { return Stream::dial(to, patience) };
    let Some((socket, announced)) = Shortcut::announce(kernel, *address) else { return Stream::dial(to, patience) };
    let stream = Stream::dial_from(socket, *address, patience)?;
    *shortcut = Some(announced);
    Ok(stream)
}

pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::link;
    use crate::protocol::Protocol;

    fn down() -> Datastore {
        let settings = link::Settings {
            address: None,
            pause_first: Duration::ZERO,
            pause_max: Duration::ZERO,
            eject_after: None,
            pause_ejected: Duration::ZERO,
            connect_timeout: Duration::ZERO,
        };
        let link = Link::new(settings, mio::Token(0));
        Datastore::new(link, ReplyScanner::new(Protocol::Resp), None)
    }

    #[test]
    fn the_rest_of_a_frame_that_is_partly_written() {
        let mut datastore = down();
        let mut pool = Pool::default();
        for len in [10, 20, 30] {
            datastore.greet(&vec![b'x'; len], Moment(0), &mut pool);
        }
        for (written, rest) in [(0, 0), (1, 9), (9, 1), (10, 0), (11, 19), (30, 0), (31, 29), (60, 0)] {
            assert_eq!(datastore.rest_of_begun(written), rest, "{written} written");
        }
        assert_eq!(datastore.written(), 0);
    }

    /// Four requests of 10 bytes, of which so many bytes could be written.
    fn check_gauges(written: usize, gauges: [u64; 4]) {
        let (mut pool, stats) = (Pool::default(), Stats::alone());
        let mut datastore = down();
        for _ in 0..4 {
            datastore.greet(&[b'x'; 10], Moment(0), &mut pool);
        }
        datastore.link.outbox.flush_part(written, &mut Vec::new(), &mut pool).expect("a vector takes all");
        datastore.book(&stats);
        assert_eq!(GAUGES.map(|gauge| stats.get(gauge)), gauges, "{written} written");
        let sent = datastore.sent.pop_front().expect("four were sent");
        datastore.answered(sent, 5, Moment(0), &stats);
        datastore.book(&stats);
        datastore.forget(ReplyScanner::new(Protocol::Resp), &stats);
        assert_eq!(GAUGES.map(|gauge| stats.get(gauge)), [0; 4]);
    }

    #[test]
    fn gauges_tell_what_waits_and_what_is_asked() {
        check_gauges(0, [4, 40, 0, 0]);
        check_gauges(9, [4, 31, 0, 9]);
        check_gauges(10, [3, 30, 1, 10]);
        check_gauges(35, [1, 5, 3, 35]);
        check_gauges(40, [0, 0, 4, 40]);
    }
}
