//! tell(slot): the daemon is to look at a flow.

use dynomite_common::event::Event;
use dynomite_common::flow::Slot;

use crate::maps::EVENTS;

#[inline(always)]
pub fn tell(slot: &Slot, index: u32) {
    let event = Event { slot: u64::from(index), life: slot.daemon.life.get() };
    // A full ring loses nothing but time: the daemon looks at every flow now and then.
    let _ = EVENTS.output::<Event>(event, 0);
}
