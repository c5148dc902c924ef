//! What the datastore answers: replies are handed to the coordinator, and whatever goes wrong with a connection fails what
//! was asked on it. The same for peers: `peer_out`.

use std::io;

use mio::event::Event;

use super::buffer::Inbox;
use super::datastore::{Datastore, Sent};
use super::link::Progress;
use super::perform::patience;
use super::worker::Worker;
use crate::coordinator::Effects as _;
use crate::protocol::codec::ReplyScanner;
use crate::protocol::reply::{Fault, Reply, Scanned, reply_too_large};
use crate::stats::Stat;

impl Worker {
    pub(super) fn on_datastore(&mut self, index: usize, event: &Event) {
        let Some(datastore) = self.io.datastores.get_mut(index) else { return };
        match datastore.link.on_event(&self.io.registry, self.io.now) {
            Progress::Lost => {
                self.io.note_failure(index);
                return self.lose_datastore(index, Stat::server_err);
            }
            Progress::Connected => {
                self.stats.bump(Stat::datastore_connects);
                self.stats.bump(Stat::datastore_connections);
                datastore.connected();
                self.io.mark_datastore(index);
            }
            Progress::Same => {}
        }
        if event.is_writable() {
            self.io.mark_datastore(index);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read_datastore(index, event.is_read_closed() || event.is_error());
        }
    }

    fn read_datastore(&mut self, index: usize, closed: bool) {
        loop {
            let Some(datastore) = self.io.datastores.get_mut(index) else { return };
            match datastore.link.read(datastore.need, &mut self.io.pool) {
                // An adopted socket may say "nothing yet" for ever after a reset.
                Ok(None) if closed => {
                    self.io.miss_datastore(index, &"it closed the connection");
                    return self.lose_datastore(index, Stat::server_eof);
                }
                Ok(None) => return,
                Ok(Some((count, filled))) => {
                    let more = filled | datastore.on_read(count);
                    self.stats.add(Stat::datastore_bytes_in, count as u64);
                    if !self.handle_replies(index) {
                        return self.lose_datastore(index, Stat::server_err);
                    }
                    if !more && !closed {
                        return;
                    }
                }
                Err(error) => {
                    match error.kind() {
                        io::ErrorKind::UnexpectedEof => self.io.miss_datastore(index, &"it closed the connection"),
                        _ => self.io.miss_datastore(index, &error),
                    }
                    let why = match error.kind() {
                        io::ErrorKind::UnexpectedEof => Stat::server_eof,
                        _ => Stat::server_err,
                    };
                    return self.lose_datastore(index, why);
                }
            }
        }
    }

    /// Hands on every complete reply in the inbox. `false`: the bytes are no replies.
    fn handle_replies(&mut self, index: usize) -> bool {
        let Some(datastore) = self.io.datastores.get_mut(index) else { return true };
        if datastore.link.inbox.len() < datastore.need {
            return true;
        }
        let mut inbox: Inbox = std::mem::take(&mut datastore.link.inbox);
        let mut scanner = std::mem::replace(&mut datastore.scanner, ReplyScanner::new(self.settings.protocol));
        let bytes = inbox.bytes();
        let mut done = 0;
        let mut need = 0;
        let mut sound = true;
        let bytes_max = self.settings.reply_bytes_max;
        while done < bytes.len() {
            let datastore = &mut self.io.datastores[index];
            match Datastore::scan(&mut scanner, &datastore.sent, &bytes[done..]) {
                Scanned::Reply { len, is_error } => {
                    let frame = &bytes[done..done + len];
                    done += len;
                    let whole = std::mem::take(&mut datastore.passed_over) + len;
                    self.stats.add(Stat::reply_too_large, u64::from(whole > bytes_max));
                    let Some(sent) = datastore.sent.pop_front() else {
                        // Nobody asked. What comes on its own on a client's own connection is the client's, which would not
                        // learn of one that is left out.
                        if whole > bytes_max {
                            sound = false;
                            break;
                        }
                        if let Some(owner) = datastore.owner {
                            self.coordinator.on_push(owner, frame, self.io.now, &mut self.io);
                        }
                        continue;
                    };
                    datastore.answered(sent, whole, self.io.now, &self.stats);
                    match sent.leg {
                        Some(leg) => {
                            let reply = match whole > bytes_max {
                                true => reply_too_large(self.settings.protocol),
                                false => Reply { frame, is_error },
                            };
                            self.coordinator.on_reply(leg, reply, self.io.now, &mut self.io);
                        }
                        None if is_error && !sent.may_fail => {
                            if let Some(address) = &self.io.settings.datastore.address {
                                self.io.notices.refuses(address, frame);
                            }
                            sound = false;
                            break;
                        }
                        None => {}
                    }
                }
                Scanned::Incomplete { need: bytes_needed } if datastore.passed_over + bytes_needed > bytes_max => {
                    // Too large: what is here of it is thrown away, and what comes as it comes; the connection is others', too.
                    let passed = scanner.pass_over(&bytes[done..]);
                    done += passed;
                    datastore.passed_over += passed;
                    // A line without end cannot be passed over.
                    if datastore.sent.is_empty() || bytes.len() - done > bytes_max {
                        self.io.miss_datastore(index, &"it said a line without end");
                        self.stats.bump(Stat::reply_too_large);
                        sound = false;
                    }
                    break;
                }
                Scanned::Incomplete { need: bytes_needed } => {
                    need = bytes_needed;
                    break;
                }
                Scanned::Broken => {
                    self.stats.bump(Stat::datastore_protocol_errors);
                    self.io.datastores[index].distrust();
                    self.io.miss_datastore(index, &"what it says is no reply");
                    sound = false;
                    break;
                }
            }
        }
        inbox.advance(done);
        let mut is_news = false;
        if let Some(datastore) = self.io.datastores.get_mut(index) {
            // Who refuses our greeting has answered, too, and is not to be asked again at once.
            if done > 0 && sound {
                datastore.link.proved();
                is_news = !std::mem::replace(&mut datastore.proven, true);
            }
            datastore.link.inbox = inbox;
            datastore.link.relax();
            datastore.book(&self.stats);
            datastore.scanner = scanner;
            datastore.need = need;
            if datastore.goes_on() {
                self.io.mark_datastore(index);
            }
        }
        if is_news {
            self.io.find_datastore(index);
        }
        sound
    }

    /// Everything asked on the connection is answered with an error; it is dialled again by and by.
    pub(super) fn lose_datastore(&mut self, index: usize, why: Stat) {
        let fresh = self.io.scanner();
        let Some(datastore) = self.io.datastores.get_mut(index) else { return };
        if datastore.link.is_up() {
            self.stats.sub(Stat::datastore_connections, 1);
        }
        let owner = datastore.owner;
        let sent = datastore.forget(fresh, &self.stats);
        datastore.link.break_off(&self.io.registry, self.io.now);
        self.stats.bump(why);
        self.stats.bump(Stat::server_ejects);
        self.stats.set(Stat::server_ejected_at, crate::moment::epoch_millis());
        self.fail_all(sent);
        if let Some(owner) = owner {
            self.coordinator.on_private_lost(owner, self.io.now, &mut self.io);
            // Who asks for one again gets a fresh one, and does not wait for this one's next attempt.
            self.io.drop_private(owner);
        }
    }

    /// Dials that take too long, and connections that stand still.
    pub(super) fn look_after_datastores(&mut self) {
        let patience = patience(self.settings.timeout);
        for index in 0..self.io.datastores.capacity() {
            let Some(datastore) = self.io.datastores.get_mut(index) else { continue };
            let is_stuck = datastore.is_stuck(patience, self.io.now);
            if is_stuck {
                datastore.distrust();
            }
            let gave_up = datastore.link.give_up(&self.io.registry, self.io.now);
            if gave_up || is_stuck {
                match gave_up {
                    true => self.io.note_failure(index),
                    false => self.io.miss_datastore(index, &"it does not answer"),
                }
                self.stats.bump(Stat::server_timedout);
                self.lose_datastore(index, Stat::server_err);
            }
        }
    }

    pub(super) fn fail_all(&mut self, sent: impl IntoIterator<Item = Sent>) {
        for leg in sent.into_iter().filter_map(|sent| sent.leg) {
            self.stats.bump(Stat::server_dropped_requests);
            self.coordinator.on_lost(leg, Fault::DatastoreRefused, self.io.now, &mut self.io);
        }
    }
}
