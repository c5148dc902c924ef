//! Reply order: what each client asked, and what it may be told next.
//! Owns: a queue of places for every client. Knows nothing of: owners, votes, sockets.

use std::collections::VecDeque;

use super::effects::{ClientId, Effects};
use super::in_flight::Ticket;

/// A place in a client's reply order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub client: ClientId,
    number: u64,
}

#[derive(Debug)]
enum Slot {
    Waiting(Option<Ticket>),
    Ready(Vec<u8>),
}

/// Replies of one client, first asked first said.
#[derive(Debug, Default)]
pub struct Order {
    /// The number of the first slot.
    head: u64,
    slots: VecDeque<Slot>,
    /// Close behind the last slot.
    closing: bool,
}

/// Slots that a queue may keep allocated while nothing is asked.
const SLOTS_KEPT: usize = 64;

impl Order {
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// Takes the next place; `ticket` will answer it.
    pub fn take(&mut self, client: ClientId) -> Place {
        let number = self.head + self.slots.len() as u64;
        self.slots.push_back(Slot::Waiting(None));
        Place { client, number }
    }

    pub fn set_ticket(&mut self, place: Place, ticket: Ticket) {
        if let Some(slot) = self.slot_mut(place) {
            *slot = Slot::Waiting(Some(ticket));
        }
    }

    /// Says `reply` now if it is its turn, with all that was waiting behind it; keeps it otherwise.
    pub fn settle(&mut self, place: Place, reply: &[u8], spare: &mut Spare, effects: &mut impl Effects) {
        if place.number != self.head {
            if let Some(slot) = self.slot_mut(place) {
                *slot = Slot::Ready(spare.copy_of(reply));
            }
            return;
        }
        effects.to_client(place.client, reply);
        self.pop();
        while let Some(Slot::Ready(reply)) = self.slots.front_mut() {
            let reply = std::mem::take(reply);
            effects.to_client(place.client, &reply);
            spare.keep(reply);
            self.pop();
        }
        if self.slots.is_empty() && self.closing {
            effects.close(place.client);
        }
    }

    /// Nothing will be asked any more; closes when everything asked is answered.
    pub fn close(&mut self, client: ClientId, effects: &mut impl Effects) {
        self.closing = true;
        if self.slots.is_empty() {
            effects.close(client);
        }
    }

    /// The client is gone: the tickets that nobody waits for any more.
    pub fn abandon(&mut self) -> impl Iterator<Item = Ticket> + '_ {
        self.slots.drain(..).filter_map(|slot| match slot {
            Slot::Waiting(ticket) => ticket,
            Slot::Ready(_) => None,
        })
    }

    fn slot_mut(&mut self, place: Place) -> Option<&mut Slot> {
        self.slots.get_mut(usize::try_from(place.number.checked_sub(self.head)?).ok()?)
    }

    fn pop(&mut self) {
        self.slots.pop_front();
        self.head += 1;
        if self.slots.is_empty() && self.slots.capacity() > SLOTS_KEPT {
            self.slots = VecDeque::new();
        }
    }
}

/// Buffers for replies that came before their turn, used again.
#[derive(Debug, Default)]
pub struct Spare {
    buffers: Vec<Vec<u8>>,
}

const SPARE_BUFFERS: usize = 128;
const SPARE_BYTES: usize = 16 << 10;

impl Spare {
    pub fn empty(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_default()
    }

    pub fn copy_of(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut buffer = self.empty();
        buffer.extend_from_slice(bytes);
        buffer
    }

    pub fn keep(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= SPARE_BYTES && self.buffers.len() < SPARE_BUFFERS {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }
}
