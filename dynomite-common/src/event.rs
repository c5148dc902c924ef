//! Records that the kernel sends up through the ring buffer.

/// Something happened on a flow that the daemon may be waiting for: it looks at the slot's counters to see what.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub slot: u64,
    /// The slot's `life` when it happened: an event of an earlier flow in the same slot is dropped.
    pub life: u64,
}
const _: () = assert!(size_of::<Event>() == 16);

impl Event {
    /// From the bytes of a record; None if they are not one.
    pub fn read(bytes: &[u8]) -> Option<Event> {
        let (slot, life) = bytes.split_first_chunk()?;
        Some(Event { slot: u64::from_ne_bytes(*slot), life: u64::from_ne_bytes(life.try_into().ok()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_sixteen_bytes() {
        let mut bytes = [0; 17];
        (bytes[0], bytes[8]) = (1, 2);
        assert_eq!(Event::read(&bytes[..16]), Some(Event { slot: 1, life: 2 }));
        for len in [0, 7, 8, 15, 17] {
            assert_eq!(Event::read(&bytes[..len]), None);
        }
    }
}
