//! What peers answer: replies are handed to the coordinator, and whatever goes wrong with a link fails what was asked on it.

use std::io;

use mio::event::Event;

use super::buffer::Inbox;
use super::link::Progress;
use super::worker::Worker;
use crate::protocol::peer::Said;
use crate::protocol::reply::{Fault, reply_too_large};
use crate::stats::Stat;

impl Worker {
    pub(super) fn on_peer(&mut self, index: usize, event: &Event) {
        let Some(link) = self.io.peers.links.get_mut(index) else { return };
        match link.link.on_event(&self.io.registry, self.io.now) {
            Progress::Lost => return self.lose_peer(index, Stat::peer_err),
            Progress::Connected => {
                self.stats.bump(Stat::peer_connects);
                self.stats.bump(Stat::peer_connections);
                self.io.peers.greet(index, self.io.now, &mut self.io.pool, &self.stats);
            }
            Progress::Same => {}
        }
        if event.is_writable() {
            self.io.peers.mark(index);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read_peer(index, event.is_read_closed() || event.is_error());
        }
    }

    fn read_peer(&mut self, index: usize, closed: bool) {
        loop {
            let Some(link) = self.io.peers.links.get_mut(index) else { return };
            match link.link.read(link.need, &mut self.io.pool) {
                Ok(None) => return,
                Ok(Some((count, filled))) => {
                    self.stats.add(Stat::peer_bytes_in, count as u64);
                    if !self.handle_peer_replies(index) {
                        self.stats.bump(Stat::peer_protocol_errors);
                        return self.lose_peer(index, Stat::peer_err);
                    }
                    if !filled && !closed {
                        return;
                    }
                }
                Err(error) => {
                    let why = match error.kind() {
                        io::ErrorKind::UnexpectedEof => Stat::peer_eof,
                        _ => Stat::peer_err,
                    };
                    return self.lose_peer(index, why);
                }
            }
        }
    }

    /// Hands on every complete reply in the inbox. `false`: nothing that comes on this link can be trusted any more.
    fn handle_peer_replies(&mut self, index: usize) -> bool {
        let now = self.io.now;
        let Some(link) = self.io.peers.links.get_mut(index) else { return true };
        if link.link.inbox.len() < link.need {
            return true;
        }
        let mut inbox: Inbox = std::mem::take(&mut link.link.inbox);
        let bytes = inbox.bytes();
        let (mut done, mut need, mut sound) = (0, 0, true);
        let mut passed_over = Vec::new();
        while done < bytes.len() && sound {
            let link = &mut self.io.peers.links[index];
            let mismatches = link.asking.mismatches();
            let said = link.asking.hear(&bytes[done..], |sent| passed_over.push(sent));
            match said {
                Said::Reply { consumed, value: sent, reply, is_ours } => {
                    done += consumed;
                    link.book_answered(sent, Some(reply), now, &self.stats);
                    link.heard_from(is_ours);
                    link.link.proved();
                    let is_too_large = reply.frame.len() > self.settings.reply_bytes_max;
                    self.stats.add(Stat::reply_too_large, u64::from(is_too_large));
                    let reply = if is_too_large { reply_too_large(self.settings.protocol) } else { reply };
                    if let Some(leg) = sent.leg {
                        self.stats.add(Stat::peer_late_replies, u64::from(!self.coordinator.awaits(leg)));
                        self.coordinator.on_reply(leg, reply, now, &mut self.io);
                    }
                }
                Said::Garbage { consumed } => {
                    done += consumed;
                    let is_reply = link.asking.mismatches() > mismatches;
                    self.stats.add(Stat::peer_unknown_replies, u64::from(is_reply));
                    self.stats.add(Stat::peer_garbage_bytes, if is_reply { 0 } else { consumed as u64 });
                }
                Said::Incomplete { need: bytes_needed } => {
                    need = bytes_needed;
                    sound = bytes_needed <= self.settings.reply_bytes_max;
                    if !sound {
                        self.stats.bump(Stat::reply_too_large);
                    }
                    break;
                }
                Said::Broken => sound = false,
            }
            let link = &mut self.io.peers.links[index];
            self.stats.add(Stat::peer_mismatch_requests, link.asking.mismatches() - mismatches);
            for sent in passed_over.drain(..) {
                self.io.peers.links[index].book_answered(sent, None, now, &self.stats);
                if let Some(leg) = sent.leg {
                    self.coordinator.on_lost(leg, Fault::PeerRefused, now, &mut self.io);
                }
            }
        }
        inbox.advance(done);
        if let Some(link) = self.io.peers.links.get_mut(index) {
            link.link.inbox = inbox;
            link.link.relax();
            link.need = need;
        }
        sound
    }

    /// Everything asked on the link is lost; it is dialled again by and by.
    pub(super) fn lose_peer(&mut self, index: usize, why: Stat) {
        let Some(link) = self.io.peers.links.get_mut(index) else { return };
        let lost = link.lose(&self.io.peers.board, &self.io.registry, self.io.now, &self.stats);
        self.stats.bump(why);
        self.stats.set(Stat::peer_ejected_at, crate::moment::epoch_millis());
        for (leg, fault) in lost {
            self.coordinator.on_lost(leg, fault, self.io.now, &mut self.io);
        }
    }

    /// Writes what was queued for peers. `true`: there was something.
    pub(super) fn flush_peers(&mut self) -> bool {
        let mut any = false;
        while let Some(index) = self.io.peers.dirty.pop() {
            any = true;
            let io = &mut self.io;
            if io.peers.flush(index, &io.registry, io.now, &mut io.pool, &io.stats).is_err() {
                self.lose_peer(index, Stat::peer_err);
            }
        }
        any
    }

    pub(super) fn look_after_peers(&mut self) {
        let (now, timeout) = (self.io.now, self.settings.timeout * u32::from(self.control.timeout_factor()));
        for index in 0..self.io.peers.links.capacity() {
            let Some(link) = self.io.peers.links.get_mut(index) else { continue };
            if link.link.give_up(&self.io.registry, now) {
                self.lose_peer(index, Stat::peer_err);
            } else if link.is_stuck(timeout, now) {
                link.book_stuck(&self.stats);
                self.lose_peer(index, Stat::peer_err);
            } else {
                link.keep(&self.io.registry, now);
                self.io.peers.prove(index, now, &mut self.io.pool, &self.stats);
            }
        }
    }

    /// Links that are not wanted any more, or to be dialled anew.
    pub(super) fn drop_peer_links(&mut self, links: Vec<usize>, for_good: bool) {
        for index in links {
            if let Some(link) = self.io.peers.links.get_mut(index) {
                link.link.hurry(self.io.now);
                self.lose_peer(index, Stat::peer_err);
                if for_good {
                    self.io.peers.links.remove(index);
                }
            }
        }
    }
}
