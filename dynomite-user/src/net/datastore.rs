//! A connection to the local datastore: what was asked on it, in order, and the end of each answer.
//! Shared by all clients of a worker, or one client's own.

use std::collections::VecDeque;
use std::time::Duration;

use mio::Registry;

use super::buffer::Pool;
use super::link::Link;
use crate::coordinator::{ClientId, Leg, Outgoing, SendError};
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
    pub bytes: u32,
    pub is_write: bool,
}

pub struct Datastore {
    pub link: Link,
    pub sent: VecDeque<Sent>,
    pub scanner: ReplyScanner,
    /// Whose own connection this is; `None`: shared.
    pub owner: Option<ClientId>,
    /// Queued for the flush at the end of this wake-up?
    pub dirty: bool,
    /// How many bytes the reply at the head needs before it can be whole.
    pub need: usize,
    /// When the datastore last said anything, or was first asked after a silence.
    pub heard_at: Moment,
}

/// More than this outstanding on one connection is refused.
pub const SENT_MAX: usize = 1 << 20;

impl Datastore {
    pub fn new(link: Link, scanner: ReplyScanner, owner: Option<ClientId>) -> Datastore {
        Datastore { link, sent: VecDeque::new(), scanner, owner, dirty: false, need: 0, heard_at: Moment(0) }
    }

    /// Makes sure that frames may be queued, dialling if it is time; says `greeting` first on a new connection.
    pub fn ready(&mut self, registry: &Registry, greeting: &[Vec<u8>], now: Moment, pool: &mut Pool) -> bool {
        let was_down = self.link.is_down();
        if !self.link.ready(registry, now) {
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
        self.say(frame, false, now, pool);
    }

    /// The same, but the datastore may refuse it.
    pub fn offer(&mut self, frame: &[u8], now: Moment, pool: &mut Pool) {
        self.say(frame, true, now, pool);
    }

    fn say(&mut self, frame: &[u8], may_fail: bool, now: Moment, pool: &mut Pool) {
        self.link.push(frame, pool);
        self.sent.push_back(Sent { leg: None, may_fail, expect: Expect::Resp, at: now, bytes: 0, is_write: false });
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
        stats.bump(Stat::out_queue);
        if self.sent.is_empty() {
            self.heard_at = now;
        }
        self.link.push(outgoing.frame, pool);
        self.sent.push_back(Sent {
            leg: Some(outgoing.leg),
            may_fail: false,
            expect: outgoing.expect,
            at: now,
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            is_write: outgoing.is_write,
        });
        Ok(())
    }

    /// What the inbox starts with: an answer to the oldest frame, or not enough.
    pub fn scan(scanner: &mut ReplyScanner, sent: &VecDeque<Sent>, bytes: &[u8]) -> Scanned {
        let expect = sent.front().map_or(Expect::Resp, |sent| sent.expect);
        scanner.scan(expect, bytes)
    }

    /// Books the answer to `sent`.
    pub fn answered(&mut self, sent: Sent, reply_bytes: usize, now: Moment, stats: &Stats) {
        let (responses, response_bytes) = match sent.is_write {
            true => (Stat::write_responses, Stat::write_response_bytes),
            false => (Stat::read_responses, Stat::read_response_bytes),
        };
        stats.bump(responses);
        stats.add(response_bytes, reply_bytes as u64);
        stats.sub(Stat::out_queue, 1);
        stats.record(Histogram::server_latency, micros(now.since(sent.at)));
        self.heard_at = now;
    }

    /// The connection is gone: everything asked on it, and a fresh start for the next one.
    pub fn forget(&mut self, fresh: ReplyScanner, stats: &Stats) -> VecDeque<Sent> {
        self.scanner = fresh;
        self.need = 0;
        let sent = std::mem::take(&mut self.sent);
        stats.sub(Stat::out_queue, sent.iter().filter(|sent| sent.leg.is_some()).count() as u64);
        sent
    }

    /// Has it been silent for this long though something is asked?
    pub fn is_stuck(&self, patience: Duration, now: Moment) -> bool {
        !self.sent.is_empty() && self.heard_at + patience <= now
    }
}

pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
