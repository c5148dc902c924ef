//! Tickets: what is asked and not yet answered, and until when.
//! Owns: a slab of entries and their deadlines. Knows nothing of: what an entry means.

use crate::moment::Moment;

const NONE: u32 = u32::MAX;

/// An entry's name: its place and how often that place was used. A late reply's ticket no longer opens anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    place: u32,
    generation: u32,
}

const GENERATION_BITS: u32 = 24;
const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;

impl Ticket {
    /// Ticket and replica in one word: 32 bits of place, 24 of generation, 8 of replica.
    pub fn leg(self, replica: u8) -> super::Leg {
        super::Leg(
            (u64::from(self.place) << 32) | (u64::from(self.generation & GENERATION_MASK) << 8) | u64::from(replica),
        )
    }

    pub fn of_leg(leg: super::Leg) -> (Ticket, u8) {
        let place = (leg.0 >> 32) as u32;
        let generation = (leg.0 >> 8) as u32 & GENERATION_MASK;
        (Ticket { place, generation }, leg.0 as u8)
    }
}

struct Slot<T> {
    generation: u32,
    deadline: Moment,
    class: u8,
    before: u32,
    after: u32,
    value: Option<T>,
}

/// Deadlines of one length, oldest first: a list through the slots.
#[derive(Clone, Copy)]
struct Line {
    first: u32,
    last: u32,
}

/// The slab. Entries of one deadline class must be opened in the order of their deadlines, or nearly so.
pub struct InFlight<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    lines: [Line; CLASSES],
    len: usize,
}

/// How many different time-outs there are: the coordinator's `CLASS_…`.
pub const CLASSES: usize = 7;
/// The class of entries without a deadline.
pub const NO_DEADLINE: u8 = u8::MAX;

impl<T> Default for InFlight<T> {
    fn default() -> Self {
        InFlight { slots: Vec::new(), free: Vec::new(), lines: [Line { first: NONE, last: NONE }; CLASSES], len: 0 }
    }
}

impl<T> InFlight<T> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn open(&mut self, value: T, class: u8, deadline: Moment) -> Ticket {
        let place = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, deadline, class, before: NONE, after: NONE, value: None });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[place as usize];
        slot.value = Some(value);
        slot.deadline = deadline;
        slot.class = class;
        let ticket = Ticket { place, generation: slot.generation };
        self.len += 1;
        self.enqueue(place);
        ticket
    }

    pub fn get_mut(&mut self, ticket: Ticket) -> Option<&mut T> {
        let slot = self.slots.get_mut(ticket.place as usize)?;
        if slot.generation != ticket.generation { None } else { slot.value.as_mut() }
    }

    pub fn get(&self, ticket: Ticket) -> Option<&T> {
        let slot = self.slots.get(ticket.place as usize)?;
        if slot.generation != ticket.generation { None } else { slot.value.as_ref() }
    }

    pub fn close(&mut self, ticket: Ticket) -> Option<T> {
        let slot = self.slots.get_mut(ticket.place as usize)?;
        if slot.generation != ticket.generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = (slot.generation + 1) & GENERATION_MASK;
        self.dequeue(ticket.place);
        self.free.push(ticket.place);
        self.len -= 1;
        Some(value)
    }

    /// Gives an entry another deadline.
    pub fn postpone(&mut self, ticket: Ticket, class: u8, deadline: Moment) {
        if self.get(ticket).is_some() {
            self.dequeue(ticket.place);
            let slot = &mut self.slots[ticket.place as usize];
            (slot.class, slot.deadline) = (class, deadline);
            self.enqueue(ticket.place);
        }
    }

    /// One entry whose deadline has passed, if there is any.
    pub fn expired(&self, now: Moment) -> Option<Ticket> {
        self.lines.iter().find_map(|line| {
            let slot = self.slots.get(line.first as usize)?;
            (slot.deadline <= now).then_some(Ticket { place: line.first, generation: slot.generation })
        })
    }

    /// When `expired` may next find something.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.lines.iter().filter_map(|line| self.slots.get(line.first as usize)).map(|slot| slot.deadline).min()
    }

    fn enqueue(&mut self, place: u32) {
        let class = self.slots[place as usize].class;
        let Some(line) = self.lines.get_mut(usize::from(class)) else { return };
        let last = std::mem::replace(&mut line.last, place);
        if last == NONE {
            line.first = place;
        } else {
            self.slots[last as usize].after = place;
        }
        let slot = &mut self.slots[place as usize];
        (slot.before, slot.after) = (last, NONE);
    }

    fn dequeue(&mut self, place: u32) {
        let Slot { class, before, after, .. } = self.slots[place as usize];
        let Some(line) = self.lines.get_mut(usize::from(class)) else { return };
        if before == NONE {
            line.first = after;
        } else {
            self.slots[before as usize].after = after;
        }
        if after == NONE {
            line.last = before;
        } else {
            self.slots[after as usize].before = before;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_reply_opens_nothing() {
        let mut in_flight = InFlight::default();
        let first = in_flight.open("first", 0, Moment(10));
        assert_eq!(in_flight.close(first), Some("first"));
        let second = in_flight.open("second", 0, Moment(20));
        assert_eq!(first.place, second.place, "the place is used again");
        assert_eq!(in_flight.get(first), None);
        assert_eq!(in_flight.close(first), None);
        assert_eq!(in_flight.get(second), Some(&"second"));
        assert_eq!(in_flight.len(), 1);
    }

    #[test]
    fn a_leg_is_its_ticket_and_replica() {
        let ticket = Ticket { place: 0xdead_beef, generation: 0xab_cdef };
        assert_eq!(Ticket::of_leg(ticket.leg(7)), (ticket, 7));
    }

    #[test]
    fn deadlines_pass_in_order_whatever_was_closed_between() {
        let mut in_flight = InFlight::default();
        let tickets: Vec<_> = (0..10).map(|n| in_flight.open(n, (n % 2) as u8, Moment(n))).collect();
        let forever = in_flight.open(99, NO_DEADLINE, Moment(0));
        for n in [0, 3, 4, 9] {
            in_flight.close(tickets[n]);
        }
        assert_eq!(in_flight.next_deadline(), Some(Moment(1)));
        let mut passed = Vec::new();
        while let Some(ticket) = in_flight.expired(Moment(8)) {
            passed.push(in_flight.close(ticket).unwrap());
        }
        passed.sort();
        assert_eq!(passed, [1, 2, 5, 6, 7, 8]);
        assert_eq!(in_flight.get(forever), Some(&99));
        assert_eq!(in_flight.next_deadline(), None);
    }
}
