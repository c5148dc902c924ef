//! Clients that the kernel answers, as their worker sees them: when one is taken in, what is done with what the kernel
//! passes up, when one leaves.
//! Owns: the order of these steps. What may be done when is decided in `kernel::turn` and `kernel::habit`.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::time::Duration;

use mio::Interest;
use socket2::SockRef;

use super::super::stream::Stream;
use super::*;
use crate::kernel::crowd::Crowd;
use crate::kernel::habit::{Habit, Seen};
use crate::kernel::{
    Descriptors, Flow, Hand, Owed, Progress as FlowProgress, Refused, Released, Reset, Turn, View, push,
};
use crate::net::perform::HELLO_3;
use crate::protocol::commands::Command;
use crate::protocol::commands::Routing;
use crate::protocol::reply::write_error;
use crate::protocol::resp::encode::Version;

/// A worker's part of the fast path.
pub struct Fast {
    hand: Hand,
    /// Slot → client.
    slots: HashMap<u32, usize>,
    events: Vec<u32>,
    pub(super) crowd: Crowd,
}

/// A client's part.
#[derive(Default)]
pub struct Kernel {
    habit: Habit,
    leg: Option<Box<Leg>>,
}

/// A flow and what is going on with it.
struct Leg {
    flow: Flow,
    /// The datastore owes an answer that must come first; nothing is read meanwhile.
    is_waiting: bool,
    /// A relayed reply is being written on; `relay_ended` when all of it is in the outbox.
    is_relaying: bool,
    relay_ended: bool,
    /// The client has said all it will say.
    is_ended: bool,
    /// To be taken out at the next quiet moment.
    is_leaving: bool,
    /// A segment overlapped: to be reset when what came before is answered.
    is_cut: bool,
    /// Tries that were refused because the client was not quiet.
    refusals: u32,
    /// Requests that the kernel had answered at the daemon's last read.
    sent: u64,
    seen: View,
    seen_at: Moment,
}

/// A request larger than this is none for the kernel, which looks at the first 512 bytes.
const SMALL_BYTES: usize = 512;
/// A client that is not quiet at this many of its replies is not one that asks one thing at a time.
const REFUSALS_MAX: u32 = 8;
/// So many flows leave at once when descriptors run out: whoever is accepted next takes a low number, and tells nothing.
const GIVE_WAY: usize = 16;
/// A client that has asked nothing for so long gives its slot and its datastore connection back.
const IDLE: Duration = Duration::from_secs(60);

impl Fast {
    pub fn new(hand: Hand) -> Fast {
        Fast { hand, slots: HashMap::new(), events: Vec::new(), crowd: Crowd::default() }
    }

    /// Is there anything to be looked after now and then?
    pub fn has_flows(&self) -> bool {
        !self.slots.is_empty()
    }
}

impl Kernel {
    pub fn is_adopted(&self) -> bool {
        self.leg.as_ref().is_some_and(|leg| leg.flow.is_adopted())
    }

    /// Are replies to be held until the flush, which is when the kernel is told of them?
    pub fn has_leg(&self) -> bool {
        self.leg.is_some()
    }
}

impl Worker {
    /// A read from a client was handled: `requests` are unanswered, the last of them a `command`.
    pub(super) fn note_read(
        &mut self,
        index: usize,
        requests: usize,
        command: Option<&'static Command>,
        is_whole: bool,
        bytes: usize,
    ) {
        let Some(fast) = &mut self.fast else { return };
        let Some(client) = self.io.clients.get_mut(index) else { return };
        if !matches!(client.role, Role::Client) {
            return;
        }
        fast.crowd.hear();
        let seen = match command {
            Some(command) if requests == 1 && is_whole && bytes <= SMALL_BYTES => match command.routing {
                // All others may make another client of it.
                Routing::Node if !matches!(command.name, "ping" | "echo") => Seen::Unfit,
                Routing::Private(_) => Seen::Unfit,
                // What the kernel passed up although it knows the command, it had a reason for.
                _ if client.kernel.is_adopted() => Seen::Other,
                _ if command.fast || command.fast_alone && self.coordinator.topology().is_alone() => Seen::Routable,
                _ => Seen::Other,
            },
            _ => Seen::Unfit,
        };
        let routed = client.kernel.leg.as_mut().map_or(0, |leg| {
            let sent = leg.flow.view().sent;
            let routed = sent - leg.sent;
            leg.sent = sent;
            routed
        });
        client.kernel.habit.on_read(seen, routed);
        let is_open = fast.hand.path().is_open();
        match &mut client.kernel.leg {
            Some(leg) => {
                let fits = is_open && self.coordinator.kernel_may_answer(ClientId(index as u32)).is_some();
                leg.is_leaving |= leg.flow.is_adopted() && (!fits || client.kernel.habit.wants_out());
            }
            None if is_open && client.kernel.habit.wants_in(self.io.now) && !fast.crowd.is_many() => self.court(index),
            None => {}
        }
    }

    /// Dials a datastore connection for a client that fits.
    fn court(&mut self, index: usize) {
        let (Some(fast), Some(client)) = (&mut self.fast, self.io.clients.get_mut(index)) else { return };
        let Some(version) = self.coordinator.kernel_may_answer(ClientId(index as u32)) else { return };
        if !matches!(client.stream, Stream::Tcp(_)) || client.private.is_some() {
            return client.kernel.habit.left(self.io.now);
        }
        let mut greetings: Vec<&[u8]> = self.settings.io.greeting.iter().map(Vec::as_slice).collect();
        if version == Version::Resp3 {
            greetings.push(HELLO_3);
        }
        let path = fast.hand.path();
        let taken = self.control.clients() as u64 + u64::from(path.flows_now());
        let dialled = match path.descriptors().are_few(taken) {
            true => Err(Refused::Descriptors),
            false => fast.hand.dial(&greetings),
        };
        let flow = dialled.and_then(|mut flow| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            let token = Source::Kernel(index).token();
            self.io.registry.register(flow.source(), token, interest).map_err(Refused::System)?;
            Ok(flow)
        });
        match flow {
            Ok(flow) => {
                fast.slots.insert(flow.slot(), index);
                client.kernel.leg = Some(Box::new(Leg {
                    flow,
                    is_waiting: false,
                    is_relaying: false,
                    relay_ended: false,
                    is_ended: false,
                    is_leaving: false,
                    is_cut: false,
                    refusals: 0,
                    sent: 0,
                    seen: View::default(),
                    seen_at: self.io.now,
                }));
            }
            Err(error) => {
                tracing::debug!(%error, "a client stays with the daemon");
                fast.hand.path().counts().refused();
                client.kernel.habit.left(self.io.now);
            }
        }
    }

    /// Takes the flow away from a client, whose socket is an ordinary one or about to be closed.
    pub(super) fn part(&mut self, index: usize) {
        let (Some(fast), Some(client)) = (&mut self.fast, self.io.clients.get_mut(index)) else { return };
        let Some(mut leg) = client.kernel.leg.take() else { return };
        fast.slots.remove(&leg.flow.slot());
        let _ = self.io.registry.deregister(leg.flow.source());
        client.kernel.habit.left(self.io.now);
        if let Err(error) = client.mind_kernel(false, &self.io.registry) {
            tracing::warn!(%error, "a client is not heard any more");
            client.closing = true;
        }
        client.readable = true;
        drop(leg);
        // What it held back is looked at again.
        self.io.queue_client(index);
    }

    pub(super) fn take_hand(&mut self, hand: Hand) {
        self.io.kernel = Some(hand.share());
        self.fast = Some(Fast::new(hand));
    }

    /// Some flows leave their descriptors to others, who need them more.
    pub(super) fn give_way(&mut self) {
        let Some(fast) = &self.fast else { return };
        let stays = |index: &usize| {
            let leg = self.io.clients.get(*index).and_then(|client| client.kernel.leg.as_deref());
            leg.is_some_and(|leg| !leg.is_leaving)
        };
        let leaving: Vec<usize> = fast.slots.values().copied().filter(stays).take(GIVE_WAY).collect();
        for index in leaving {
            let Some(leg) = self.leg(index) else { continue };
            leg.is_leaving = true;
            match leg.flow.is_adopted() {
                true => self.io.mark_client(index),
                false => self.part(index),
            }
        }
    }

    /// Somebody was accepted: flows make room for the next, when there is little.
    pub(super) fn make_room(&mut self, accepted: &Stream) {
        let taken = Descriptors::taken(accepted);
        if self.fast.as_ref().is_some_and(|fast| fast.hand.path().descriptors().run_out(taken)) {
            self.give_way();
        }
    }

    fn leg(&mut self, index: usize) -> Option<&mut Leg> {
        self.io.clients.get_mut(index)?.kernel.leg.as_deref_mut()
    }

    fn set_waiting(&mut self, index: usize, is_waiting: bool) {
        if let Some(leg) = self.leg(index) {
            leg.is_waiting = is_waiting;
        }
    }

    /// Reads an adopted client, and handles what came when it is the daemon's turn.
    pub(super) fn serve_adopted(&mut self, index: usize) {
        for _ in 0..READS_PER_WAKEUP {
            if !self.handle_adopted(index) {
                return;
            }
            let may_read = self.may_read(index);
            let Some(client) = self.io.clients.get_mut(index) else { return };
            if !client.readable || !may_read || !client.kernel.is_adopted() {
                return;
            }
            client.inbox.make_room(client.need, &mut self.io.pool);
            match client.inbox.read_from(&mut client.stream) {
                Ok((0, _)) => {
                    client.readable = false;
                    if let Some(leg) = self.leg(index) {
                        leg.is_ended = true;
                        leg.flow.shut();
                    }
                    self.handle_adopted(index);
                    return;
                }
                Ok((count, filled)) => {
                    client.readable = filled || client.read_closed;
                    client.received += count as u64;
                    self.stats.add(Stat::client_bytes_in, count as u64);
                    if let Some(leg) = self.leg(index) {
                        leg.flow.on_read(count);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let closed = client.read_closed;
                    (client.readable, client.read_closed) = (false, false);
                    client.inbox.settle(&mut self.io.pool);
                    if closed && Flow::is_dead(client.stream.as_fd()) {
                        self.drop_client(index, Stat::client_err);
                    }
                    return;
                }
                Err(error) => {
                    tracing::debug!(%error, "client lost");
                    self.drop_client(index, Stat::client_err);
                    return;
                }
            }
        }
        if self.handle_adopted(index) {
            self.io.queue_client(index);
        }
    }

    /// Handles the inbox of an adopted client if it is the daemon's turn. `false`: not now, do not read on.
    fn handle_adopted(&mut self, index: usize) -> bool {
        let Some(client) = self.io.clients.get_mut(index) else { return false };
        let Some(leg) = client.kernel.leg.as_deref_mut() else { return true };
        if !leg.flow.is_adopted() {
            return true;
        }
        match leg.flow.turn(client.stream.as_fd()) {
            Turn::Act => self.set_waiting(index, false),
            Turn::Wait => {
                self.set_waiting(index, true);
                return false;
            }
            Turn::Relay => {
                leg.is_relaying = true;
                self.set_waiting(index, true);
                self.relay(index);
                return false;
            }
            Turn::Cut { bytes } => {
                tracing::debug!(bytes, "a segment overlapped");
                leg.is_cut = true;
                client.inbox.cut(bytes as usize);
                self.set_waiting(index, false);
            }
            Turn::Reset => {
                self.reset_client(index, Reset::Spoiled);
                return false;
            }
        }
        let Some(client) = self.io.clients.get_mut(index) else { return false };
        if !client.inbox.is_empty() && !client.held {
            self.handle_inbox(index);
        }
        // The flush tells the kernel, takes the client out, or resets it; even if there is nothing to write.
        self.io.mark_client(index);
        let Some(leg) = self.leg(index) else { return true };
        if leg.is_cut {
            self.io.clients[index].deaf = true;
        } else if leg.is_ended {
            self.io.clients[index].deaf = true;
            self.coordinator.finish(ClientId(index as u32), &mut self.io);
        }
        true
    }

    /// The connection cannot go on: whoever is at the other end must notice.
    fn reset_client(&mut self, index: usize, why: Reset) {
        if let (Some(fast), Some(client)) = (&self.fast, self.io.clients.get(index)) {
            let view = client.kernel.leg.as_ref().map(|leg| leg.flow.view());
            tracing::warn!(?why, ?view, "a client of the kernel's is reset");
            fast.hand.path().counts().reset(why);
            let _ = SockRef::from(&client.stream).set_linger(Some(Duration::ZERO));
        }
        self.drop_client(index, Stat::client_err);
    }

    /// Writes on what the datastore says, as fast as the client takes it.
    fn relay(&mut self, index: usize) {
        let mut scratch = std::mem::take(&mut self.scratch);
        while let Some(client) = self.io.clients.get_mut(index) {
            let Some(leg) = client.kernel.leg.as_deref_mut() else { break };
            if leg.relay_ended || client.outbox.len() > OUTPUT_HIGH_WATER {
                break;
            }
            match leg.flow.relay(&mut scratch) {
                Ok(Some((count, is_end))) => {
                    leg.relay_ended = is_end;
                    // The kernel has counted the reply, and cannot count its bytes. (Long replies are those of reads.)
                    self.stats.add(Stat::read_response_bytes, count as u64);
                    client.outbox.push(&scratch[..count], &mut self.io.pool);
                    self.io.mark_client(index);
                }
                Ok(None) => break,
                Err(error) => {
                    self.scratch = scratch;
                    return self.lose_flow(index, &error.to_string());
                }
            }
        }
        self.scratch = scratch;
    }

    /// The mailbox of the kernel's events.
    pub(super) fn take_kernel_events(&mut self) {
        let Some(fast) = &mut self.fast else { return };
        let mut events = std::mem::take(&mut fast.events);
        fast.hand.take_events(&mut events);
        for slot in events.drain(..) {
            if let Some(&index) = self.fast.as_ref().and_then(|fast| fast.slots.get(&slot)) {
                self.hear(index);
                self.serve_adopted(index);
            }
        }
        if let Some(fast) = &mut self.fast {
            fast.events = events;
        }
    }

    /// An adopted client has said something to the daemon: from now on it is heard directly.
    fn hear(&mut self, index: usize) {
        let Some(client) = self.io.clients.get_mut(index) else { return };
        let Some(leg) = client.kernel.leg.as_deref_mut() else { return };
        if !leg.flow.has_unread() {
            return;
        }
        client.readable = true;
        let hears = client.mind_kernel(false, &self.io.registry).is_ok();
        if let Some(leg) = self.leg(index) {
            leg.flow.polls(hears);
        }
    }

    /// The kernel answers an adopted client, so let it say when there is something for the daemon.
    fn mind_kernel(&mut self, index: usize) {
        let Some(client) = self.io.clients.get_mut(index) else { return };
        let Some(leg) = client.kernel.leg.as_deref_mut() else { return };
        leg.flow.polls(false);
        let hears = client.mind_kernel(true, &self.io.registry).is_err();
        let Some(leg) = client.kernel.leg.as_deref_mut() else { return };
        leg.flow.polls(hears);
        // What came before the kernel knew.
        client.readable |= leg.flow.has_unread();
    }

    /// Something happened on a flow's datastore connection.
    pub(super) fn on_flow(&mut self, index: usize) {
        let Some(client) = self.io.clients.get_mut(index) else { return };
        let Some(leg) = client.kernel.leg.as_deref_mut() else { return };
        match leg.flow.on_event() {
            FlowProgress::Same | FlowProgress::Ready => {}
            FlowProgress::Speaks if leg.is_relaying => self.relay(index),
            FlowProgress::Speaks => {
                // A reply to be relayed may be here before its event.
                if leg.flow.turn(client.stream.as_fd()) == Turn::Relay {
                    self.serve_adopted(index);
                } else {
                    self.lose_flow(index, "it speaks unasked");
                }
            }
            FlowProgress::Lost(error) => self.lose_flow(index, &error.to_string()),
        }
    }

    /// A flow's datastore connection is no more, or does not answer. Its client goes on with the daemon.
    fn lose_flow(&mut self, index: usize, why: &str) {
        let Some(client) = self.io.clients.get_mut(index) else { return };
        let Some(leg) = client.kernel.leg.as_deref_mut() else { return };
        tracing::debug!(why, "a flow's datastore connection is lost");
        // The datastore gives up a connection whose client is gone.
        if Flow::is_dead(client.stream.as_fd()) {
            return self.drop_client(index, Stat::client_err);
        }
        if !leg.flow.is_adopted() {
            return self.part(index);
        }
        let owed = leg.flow.give_up();
        (leg.is_relaying, leg.relay_ended, leg.is_leaving) = (false, false, true);
        match owed {
            Owed::Nothing => {}
            Owed::OneAnswer => {
                self.stats.bump(Stat::server_dropped_requests);
                let mut error = Vec::new();
                write_error(self.settings.protocol, Fault::DatastoreRefused.text(), &mut error);
                client.push(&error, &mut self.io.pool);
            }
            Owed::Rest => return self.reset_client(index, Reset::Spoiled),
        }
        self.set_waiting(index, false);
        self.io.mark_client(index);
        self.io.queue_client(index);
    }

    /// Before a client's replies are written is the moment to take it in or out: until it has them, it says nothing.
    /// `true`: when everything is written, the kernel is to be told.
    pub(super) fn before_flush(&mut self, index: usize) -> bool {
        let Some(client) = self.io.clients.get_mut(index) else { return false };
        let Some(leg) = client.kernel.leg.as_deref_mut() else { return false };
        let id = ClientId(index as u32);
        let is_settled = self.coordinator.outstanding(id) == 0
            && client.inbox.is_empty()
            && !(leg.is_waiting || leg.is_relaying || leg.is_ended || leg.is_cut);
        if !is_settled || client.closing {
            return false;
        }
        if leg.flow.is_ready() {
            return self.take_in(index);
        }
        if leg.is_leaving {
            match leg.flow.release(client.stream.as_fd()) {
                Released::Yes => {
                    // TCP counts what went to the datastore, too.
                    client.received += leg.flow.view().routed;
                    self.part(index);
                }
                // Its gate stays shut. Bytes that are not read yet are the reason, and come before long; else the next look at
                // all flows tries again.
                Released::NotYet => {}
                Released::Torn => self.reset_client(index, Reset::Torn),
            }
            return false;
        }
        leg.flow.is_adopted()
    }

    fn take_in(&mut self, index: usize) -> bool {
        let Some(client) = self.io.clients.get_mut(index) else { return false };
        let Some(leg) = client.kernel.leg.as_deref_mut() else { return false };
        let may_answer = self.coordinator.kernel_may_answer(ClientId(index as u32)).is_some();
        if !may_answer || !client.kernel.habit.wants_in(self.io.now) || client.private.is_some() {
            self.part(index);
            return false;
        }
        match leg.flow.adopt(client.stream.as_fd(), client.received) {
            Ok(()) => {
                client.kernel.habit.came(self.io.now);
                self.mind_kernel(index);
                true
            }
            Err(Refused::Busy) if leg.refusals < REFUSALS_MAX => {
                leg.refusals += 1;
                false
            }
            Err(Refused::Torn) => {
                self.reset_client(index, Reset::Torn);
                false
            }
            Err(error) => {
                tracing::debug!(%error, "a client stays with the daemon");
                if let Some(fast) = &self.fast {
                    fast.hand.path().counts().refused();
                }
                self.part(index);
                false
            }
        }
    }

    /// So many bytes were put into a client's socket.
    pub(super) fn note_written(&mut self, index: usize, bytes: usize) {
        if let Some(leg) = self.leg(index) {
            leg.flow.on_written(bytes);
        }
    }

    /// All replies of an adopted client are in its socket, the last bytes not sent yet.
    pub(super) fn tell_kernel(&mut self, index: usize) {
        let Some(client) = self.io.clients.get_mut(index) else { return };
        if let Some(leg) = client.kernel.leg.as_deref_mut() {
            leg.flow.answered();
        }
        let _ = push(&client.stream);
    }

    /// A client's outbox is empty.
    pub(super) fn after_flush(&mut self, index: usize) {
        let Some(leg) = self.leg(index) else { return };
        if leg.relay_ended {
            (leg.relay_ended, leg.is_relaying) = (false, false);
            leg.flow.relayed();
            if let Some(fast) = &self.fast {
                fast.hand.path().counts().relayed();
            }
            self.set_waiting(index, false);
            self.io.queue_client(index);
        } else if leg.is_relaying {
            self.relay(index);
        } else if leg.is_cut {
            self.cut(index);
        }
    }

    /// Resets a client whose bytes cannot be told apart any more, when it has every answer to what came before them.
    fn cut(&mut self, index: usize) {
        let is_answered = self.coordinator.outstanding(ClientId(index as u32)) == 0;
        let patience = self.patience();
        let Some(client) = self.io.clients.get_mut(index) else { return };
        let Some(leg) = client.kernel.leg.as_deref_mut() else { return };
        // Else the reset would overtake an answer of the kernel's: at the next look at all flows, then. Who does not read
        // answers is not waited for for ever.
        let is_late = self.io.now.since(leg.seen_at) > patience;
        if is_answered && (leg.flow.is_delivered(client.stream.as_fd()) || is_late) {
            self.reset_client(index, Reset::Overlap);
        }
    }

    /// Flows that do not move, that nobody uses, that are to leave.
    pub(super) fn watch_flows(&mut self) {
        let Some(fast) = &self.fast else { return };
        let (is_open, is_crowded) = (fast.hand.path().is_open(), fast.crowd.is_many());
        let indices: Vec<usize> = fast.slots.values().copied().collect();
        let (mut waiting, mut is_answering) = (0, false);
        for &index in &indices {
            let Some(leg) = self.leg(index) else { continue };
            waiting += u32::from(!leg.flow.is_quiet());
            is_answering |= leg.flow.view().done != leg.seen.done;
        }
        if let Some(fast) = &mut self.fast {
            fast.crowd.look(waiting);
            if is_answering {
                fast.hand.path().saw_answer(self.io.now);
            }
        }
        for index in indices {
            self.watch(index, is_open, is_crowded);
        }
    }

    /// How long a flow may stand still.
    fn patience(&self) -> Duration {
        self.settings.timeout * u32::from(self.control.timeout_factor())
    }

    fn watch(&mut self, index: usize, is_open: bool, is_crowded: bool) {
        let (patience, now) = (self.patience(), self.io.now);
        let Some(client) = self.io.clients.get_mut(index) else { return };
        let minds_kernel = client.minds_kernel();
        let Some(leg) = client.kernel.leg.as_deref_mut() else { return };
        let view = leg.flow.view();
        let (routed, passed) = (view.sent - leg.seen.sent, view.passed - leg.seen.passed);
        if leg.seen != view {
            (leg.seen, leg.seen_at) = (view, now);
        }
        let still = now.since(leg.seen_at);
        if !leg.flow.is_adopted() {
            if still > patience || !is_open {
                self.part(index);
            }
            return;
        }
        if !leg.flow.is_quiet() && still > patience && !leg.is_relaying {
            if let Some(fast) = &self.fast {
                fast.hand.path().counts().tripped();
                // A datastore that hangs is not the kernel's fault.
                if fast.hand.path().answered_at().since(leg.seen_at) > patience / 2 {
                    fast.hand.path().distrust_route(now);
                }
            }
            self.stats.bump(Stat::server_timedout);
            return self.lose_flow(index, "it does not answer in time");
        }
        if leg.is_waiting && !leg.is_relaying {
            // In case its event was lost.
            return self.serve_adopted(index);
        }
        if leg.is_cut {
            return self.io.mark_client(index);
        }
        leg.is_leaving |= !is_open || still > IDLE || (is_crowded && routed > 0);
        if leg.is_leaving {
            return self.io.mark_client(index);
        }
        if leg.flow.has_unread() {
            // In case its event was lost.
            self.hear(index);
            return self.serve_adopted(index);
        }
        if routed > 0 && passed == 0 && !minds_kernel {
            self.mind_kernel(index);
            self.serve_adopted(index);
        }
    }

    /// Does the datastore owe nothing that the kernel asked it?
    pub(super) fn flows_are_quiet(&self) -> bool {
        let Some(fast) = &self.fast else { return true };
        let is_quiet = |leg: &Leg| leg.flow.is_quiet() && !leg.is_relaying;
        let mut legs = fast.slots.values().filter_map(|&index| self.io.clients.get(index)?.kernel.leg.as_deref());
        legs.all(is_quiet)
    }
}
