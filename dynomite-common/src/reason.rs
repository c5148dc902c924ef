//! Why a verdict. The number is also the index of its counter, so numbers only grow at the end of their program's part.

macro_rules! reasons {
    ($($name:ident = $number:literal, $text:literal, $help:literal;)*) => {
        /// Why a kernel program did what it did. Every exit of every program has one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum Reason {
            $(#[doc = $help] $name = $number,)*
        }

        impl Reason {
            pub const ALL: &'static [Reason] = &[$(Reason::$name),*];

            /// As in the statistics.
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$name => $text,)* }
            }

            pub const fn help(self) -> &'static str {
                match self { $(Reason::$name => $help,)* }
            }
        }
    };
}

reasons! {
    Routed = 0, "routed", "a request went to the datastore in the kernel";
    NoFlow = 1, "no_flow", "a segment of a socket without a slot: it is just leaving";
    Unarmed = 2, "unarmed", "the daemon has not enabled the flow, or is closing it";
    Paused = 3, "paused", "topology or command table are being changed";
    DaemonBusy = 4, "daemon_busy", "the daemon has not answered all that it took";
    Outstanding = 5, "outstanding", "the datastore has not answered the request before";
    Relaying = 6, "relaying", "the daemon is writing a long reply on";
    NoRoom = 7, "no_room", "the client has not taken its replies: too little room in its send buffer";
    Incomplete = 8, "incomplete", "not a whole request in the segment";
    Several = 9, "several", "more than one request in the segment";
    Unsure = 10, "unsure", "not a request as the kernel knows them";
    TooLong = 11, "too_long", "head, key or arguments longer than the kernel looks at";
    NotEligible = 12, "not_eligible", "not a command with one owner and a short reply";
    Arguments = 13, "arguments", "a known command with a wrong number of arguments";
    NotOwner = 14, "not_owner", "another node owns the key";
    Overlap = 15, "overlap", "a segment did not start where the last one ended; the flow is broken";
    DatastoreAway = 16, "datastore_away", "the flow's datastore connection is not in the map";
    Unreadable = 17, "unreadable", "the kernel would not show the segment or its socket";
    Empty = 18, "empty", "a segment without bytes";

    Replied = 24, "replied", "a reply was completed on its way to the client";
    ReplyPart = 25, "reply_part", "a part of a reply went to the client";
    Relayed = 26, "relayed", "a reply that the daemon has to write on: long, or its head was not understood";
    RelayPart = 27, "relay_part", "more of a relayed reply";
    ClientAway = 28, "client_away", "a reply for a client that has left";
    Unasked = 29, "unasked", "bytes of the datastore that belong to no request";
    Overrun = 30, "overrun", "more bytes than the reply's head announced; the flow is broken";
    ReplyNoFlow = 31, "reply_no_flow", "a datastore socket without a slot";

    Adopted = 36, "adopted", "a datastore's socket was put into its map";
    AdoptRefused = 37, "adopt_refused", "the kernel would not put a datastore's socket into the map";
    AdoptStranger = 38, "adopt_stranger", "a connection to the datastore that is not ours";

    ShortToDatastore = 42, "short_to_datastore", "bytes of the daemon went straight to the datastore's socket";
    ShortToDaemon = 43, "short_to_daemon", "bytes of the datastore went straight to the daemon's socket";
    ShortClosed = 44, "short_closed", "a shared connection that takes no shortcut now";
    ShortFull = 45, "short_full", "more bytes on a shortcut than may be unread: over TCP, until all is read";
    ShortFallen = 46, "short_fallen", "a direction of a shortcut that has changed to TCP before";
    ShortAway = 47, "short_away", "the other end of a shared connection is gone";
    ShortNoPair = 48, "short_no_pair", "a socket without a pair: it is just leaving";
}

impl Reason {
    /// Length of the counter array.
    pub const COUNT: u32 = 64;
}

/// One counter, per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub times: u64,
    pub bytes: u64,
}
const _: () = assert!(size_of::<Tally>() == 16);

/// What the kernel did of one command, per CPU. What is relayed is counted as a reply, its bytes by the daemon.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    pub requests: u64,
    pub request_bytes: u64,
    pub replies: u64,
    pub reply_bytes: u64,
}
const _: () = assert!(size_of::<Answers>() == 32);

// SAFETY: repr(C) integers without padding; every bit pattern is a value.
#[cfg(feature = "user")]
mod pod {
    unsafe impl aya::Pod for super::Tally {}
    unsafe impl aya::Pod for super::Answers {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_counter_and_a_name_of_its_own() {
        let mut names: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::ALL.len());
        assert!(Reason::ALL.iter().all(|&reason| (reason as u32) < Reason::COUNT));
    }
}
