//! Whose turn is it? The daemon's side of the protocol between route program, reply program and daemon, as decisions
//! about numbers: bytes read, counters seen → what the daemon may do now.
//! Owns: what the daemon has read and answered of one adopted client. Knows nothing of: sockets, maps, time.

use dynomite_common::flow::Slot;

/// One reading of a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    pub passed: u64,
    pub routed: u64,
    pub sent: u64,
    pub done: u64,
    pub out: u64,
    pub rest: u64,
    pub relayed: u64,
    pub broken_at: Option<u64>,
    pub spoiled: bool,
}

impl View {
    /// Replies before requests: `sent` can only be newer than `done`, never the other way round.
    pub fn read(slot: &Slot) -> View {
        let (relayed, done, rest, out) =
            (slot.reply.relayed.get(), slot.reply.done.get(), slot.reply.rest.get(), slot.reply.out.get());
        let (spoiled, sent) = (slot.reply.spoiled.get() != 0, slot.route.sent.get());
        let broken_at = (slot.route.broken.get() != 0).then(|| slot.route.broken_at.get());
        let (routed, passed) = (slot.route.routed.get(), slot.route.passed.get());
        View { passed, routed, sent, done, out, rest, relayed, broken_at, spoiled }
    }
}

/// What the daemon may do with what it has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Serve it.
    Act,
    /// The datastore has not answered what the kernel sent it. An event comes when it has.
    Wait,
    /// The reply to what the kernel sent is on the flow's datastore connection: write it on first.
    Relay,
    /// Throw away so many of the newest bytes, serve what is complete before them, then reset the connection.
    Cut { bytes: u64 },
    /// Reset the connection: its replies are not what the datastore was asked for.
    Reset,
}

/// One adopted client, as the daemon counts it.
#[derive(Debug)]
pub struct Turns {
    /// Bytes that were read before adoption, and all that were read since.
    before: u64,
    read: u64,
    /// What was told to the kernel.
    acked: u64,
    relay_acked: u64,
    /// Bytes behind an overlap: read, thrown away.
    cut: u64,
}

impl Turns {
    /// `read`: bytes read from the client so far, which is all that came.
    pub fn new(read: u64) -> Turns {
        Turns { before: read, read, acked: 0, relay_acked: 0, cut: 0 }
    }

    pub fn on_read(&mut self, bytes: u64) {
        self.read += bytes;
    }

    /// Asked after every read, before anything is done with the bytes, and again after an event.
    pub fn turn(&mut self, view: &View) -> Turn {
        if view.spoiled || view.done + self.relay_acked > view.sent {
            return Turn::Reset;
        }
        if view.relayed != self.relay_acked {
            return Turn::Relay;
        }
        if view.sent != view.done + self.relay_acked {
            return Turn::Wait;
        }
        match view.broken_at {
            Some(at) if self.read - self.cut > self.before + at => {
                let bytes = self.read - self.cut - (self.before + at);
                self.cut += bytes;
                Turn::Cut { bytes }
            }
            _ => Turn::Act,
        }
    }

    /// Everything read is answered and the answers are in the socket. The new `acked`, if there is one.
    pub fn on_answered(&mut self) -> Option<u64> {
        let acked = self.read - self.before;
        let moved = acked != self.acked;
        self.acked = acked;
        moved.then_some(acked)
    }

    /// The relayed reply is in the socket. The new `relay_acked`.
    pub fn on_relayed(&mut self) -> u64 {
        self.relay_acked += 1;
        self.relay_acked
    }

    /// Nothing of this client is anywhere but with the daemon: with the gate shut, it may leave the maps.
    pub fn all_here(&self, view: &View) -> bool {
        self.quiet(view) && self.read_all(view)
    }

    /// Has the daemon read all that was passed to it, and was all of that what the client wrote?
    pub fn read_all(&self, view: &View) -> bool {
        view.broken_at.is_none() && self.read == self.before + view.passed
    }

    /// Has the daemon read all that was passed to it?
    pub fn has_read(&self, view: &View) -> bool {
        self.read >= self.before + view.passed
    }

    /// Nothing is with the datastore or on its way from there.
    pub fn quiet(&self, view: &View) -> bool {
        view.relayed == self.relay_acked && view.sent == view.done + self.relay_acked
    }

    /// What TCP must have counted as received if nothing was lost or is on its way.
    pub fn received(&self, view: &View) -> u64 {
        self.read + view.routed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: View = View {
        passed: 100,
        routed: 500,
        sent: 20,
        done: 18,
        out: 0,
        rest: 0,
        relayed: 2,
        broken_at: None,
        spoiled: false,
    };

    /// A client of which 1 000 bytes were read before adoption and 100 since, with two relays done.
    fn turns() -> Turns {
        let mut turns = Turns::new(1000);
        turns.on_read(100);
        turns.on_relayed();
        turns.on_relayed();
        turns
    }

    #[test]
    fn the_datastore_answers_first() {
        let check = |view: View, turn| assert_eq!(turns().turn(&view), turn, "{view:?}");
        check(QUIET, Turn::Act);
        check(View { sent: 21, ..QUIET }, Turn::Wait);
        check(View { sent: 21, relayed: 3, ..QUIET }, Turn::Relay);
        check(View { done: 19, ..QUIET }, Turn::Reset);
        check(View { spoiled: true, ..QUIET }, Turn::Reset);
    }

    #[test]
    fn bytes_behind_an_overlap_are_cut_once() {
        let mut turns = turns();
        let view = View { broken_at: Some(70), ..QUIET };
        assert_eq!(turns.turn(&view), Turn::Cut { bytes: 30 });
        assert_eq!(turns.turn(&view), Turn::Act);
        turns.on_read(5);
        assert_eq!(turns.turn(&view), Turn::Cut { bytes: 5 });
        // What was sent before the overlap is answered first.
        turns.on_read(5);
        assert_eq!(turns.turn(&View { sent: 21, ..view }), Turn::Wait);
    }

    #[test]
    fn bytes_before_an_overlap_are_served() {
        assert_eq!(turns().turn(&View { broken_at: Some(100), ..QUIET }), Turn::Act);
        assert_eq!(turns().turn(&View { broken_at: Some(200), ..QUIET }), Turn::Act);
    }

    #[test]
    fn answers_are_told_once() {
        let mut turns = turns();
        assert_eq!(turns.on_answered(), Some(100));
        assert_eq!(turns.on_answered(), None);
        turns.on_read(1);
        assert_eq!(turns.on_answered(), Some(101));
    }

    #[test]
    fn a_client_leaves_with_all_its_bytes() {
        assert!(turns().all_here(&QUIET));
        assert_eq!(turns().received(&QUIET), 1600);
        assert!(!turns().all_here(&View { passed: 101, ..QUIET }));
        assert!(!turns().all_here(&View { sent: 21, ..QUIET }));
        assert!(!turns().all_here(&View { broken_at: Some(100), ..QUIET }));
    }
}
