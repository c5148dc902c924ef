//! What the daemon counts about flows, beside what the programs count by `Reason`.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counts {
    ($($name:ident $count:ident $help:literal;)*) => {
        /// Since the start; only ever more.
        #[derive(Debug, Default)]
        pub struct Counts {
            $($name: AtomicU64,)*
        }

        impl Counts {
            $(pub fn $count(&self) { self.$name.fetch_add(1, Ordering::Relaxed); })*

            pub fn forget(&self) {
                $(self.$name.store(0, Ordering::Relaxed);)*
            }

            /// (name, value, help), in the order of the table.
            pub fn all(&self) -> Vec<(&'static str, u64, &'static str)> {
                vec![$((stringify!($name), self.$name.load(Ordering::Relaxed), $help),)*]
            }
        }
    };
}

counts! {
    flows_adopted adopted "clients that were taken into the kernel";
    flows_released released "clients that left it again, alive or closed";
    flows_refused refused "clients that could not be taken in";
    flows_given_up given_up "flows whose datastore connection was lost or did not answer in time";
    flows_broken broken "connections reset because a segment overlapped another";
    flows_torn torn "connections reset because bytes came in the wrong moment of an adoption or release";
    flows_spoiled spoiled "connections reset because a reply stopped in the middle, or was not the one asked for";
    relays relayed "replies that the daemon wrote on because they were long or not understood";
    shortcuts_joined shortcut_joined "shared datastore connections whose end was taken in for the shortcut";
    shortcuts_refused shortcut_refused "shared datastore connections that could not be taken in";
    shortcuts_tripped shortcut_tripped "shared datastore connections that stood still on the shortcut";
    watchdog_trips tripped "flows that did not move for too long";
}

/// Why a client's connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// A segment began before the end of the last one.
    Overlap,
    /// Bytes came in the wrong moment of an adoption or a release.
    Torn,
    /// A reply of the kernel's is not what it should be, or never arrived.
    Spoiled,
}

impl Counts {
    pub fn reset(&self, why: Reset) {
        match why {
            Reset::Overlap => self.broken(),
            Reset::Torn => self.torn(),
            Reset::Spoiled => self.spoiled(),
        }
    }
}
