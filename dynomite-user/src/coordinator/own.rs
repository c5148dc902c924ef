//! Our own datastore, as far as the node's state lets anybody at it: clients and peers alike.
//! Owns: writes that wait for the state to change. Knows nothing of: who asked, and whether anybody still waits.
//!
//! A node that is being warmed up (STANDBY) serves nothing. WRITES_ONLY keeps the writes for later, RESUMING lets them
//! out, in their order; reads are refused until NORMAL. A write that waited too long for its client is executed all the
//! same: the other replicas have it.

use std::collections::VecDeque;

use super::*;
use crate::control::NodeState;

/// Bytes and writes that may wait, of one worker; a warm-up that takes longer is refused further writes.
const PARKED_BYTES_MAX: usize = 256 << 20;
const PARKED_MAX: usize = 1 << 20;

pub(super) struct Own {
    control: Arc<Control>,
    stats: Arc<Stats>,
    parked: VecDeque<Parked>,
    bytes: usize,
}

struct Parked {
    lane: u32,
    leg: Leg,
    frame: Vec<u8>,
    expect: Expect,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Serve,
    Park,
    Refuse,
}

impl Own {
    pub fn new(control: Arc<Control>, stats: Arc<Stats>) -> Own {
        Own { control, stats, parked: VecDeque::new(), bytes: 0 }
    }

    /// Is the datastore to be asked for this at once?
    pub fn serves(&self, kind: Kind) -> bool {
        access(self.control.state(), kind == Kind::Write) == Access::Serve
    }

    pub fn is_parking(&self) -> bool {
        !self.parked.is_empty()
    }

    pub fn ask(&mut self, lane: u32, outgoing: Outgoing<'_>, effects: &mut impl Effects) -> Result<(), SendError> {
        let mut access = access(self.control.state(), outgoing.is_write);
        if !self.parked.is_empty() {
            self.release(effects);
            if access == Access::Serve && outgoing.is_write && !self.parked.is_empty() {
                access = Access::Park;
            }
        }
        match access {
            Access::Serve => effects.to_datastore(lane, outgoing),
            Access::Park if self.parked.len() < PARKED_MAX && self.bytes < PARKED_BYTES_MAX => {
                self.bytes += outgoing.frame.len();
                self.stats.bump(Stat::writes_parked);
                let (leg, expect) = (outgoing.leg, outgoing.expect);
                self.parked.push_back(Parked { lane, leg, frame: outgoing.frame.to_vec(), expect });
                Ok(())
            }
            Access::Park | Access::Refuse => {
                self.stats.bump(Stat::state_refused);
                Err(SendError::Forbidden)
            }
        }
    }

    /// Lets waiting writes out, as far as the state and the datastore take them.
    pub fn release(&mut self, effects: &mut impl Effects) {
        if access(self.control.state(), true) != Access::Serve {
            return;
        }
        while let Some(Parked { lane, leg, frame, expect }) = self.parked.front() {
            let outgoing = Outgoing { leg: *leg, frame, expect: *expect, is_write: true };
            if effects.to_datastore(*lane, outgoing).is_err() {
                return;
            }
            self.bytes -= frame.len();
            self.stats.sub(Stat::writes_parked, 1);
            self.parked.pop_front();
        }
        self.parked = VecDeque::new();
    }
}

fn access(state: NodeState, is_write: bool) -> Access {
    match (state, is_write) {
        (NodeState::Standby, _) | (NodeState::WritesOnly | NodeState::Resuming, false) => Access::Refuse,
        (NodeState::WritesOnly, true) => Access::Park,
        _ => Access::Serve,
    }
}

impl Coordinator {
    /// The node's state has changed, or the datastore is back: what waited for that goes on.
    pub fn on_state(&mut self, effects: &mut impl Effects) {
        self.own.release(effects);
    }

    /// Does anything wait for `on_state`?
    pub fn is_parking(&self) -> bool {
        self.own.is_parking()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::testing::Recorder;

    /// Words in order: a state's name is entered; `r1` and `w1` ask; `down` and `up` are the datastore's; `!` releases.
    /// Says what the datastore was asked, and `-w1` for what was refused.
    fn check(words: &str, expected: &str) {
        let one = ConsistencyLevel::DcOne;
        let control = Arc::new(Control::new(one, one, false, NodeState::Normal));
        let stats = Stats::alone();
        let mut own = Own::new(control.clone(), stats.clone());
        let mut recorder = Recorder::default();
        for word in words.split_whitespace() {
            if let Some(state) = NodeState::ALL.into_iter().find(|state| state.name() == word) {
                control.set_state(state);
            } else if word == "!" {
                own.release(&mut recorder);
            } else if matches!(word, "up" | "down") {
                recorder.datastore_is_down = word == "down";
            } else {
                let is_write = word.starts_with('w');
                let outgoing = Outgoing { leg: Leg(0), frame: word.as_bytes(), expect: Expect::Resp, is_write };
                if own.ask(0, outgoing, &mut recorder).is_err() {
                    recorder.said.push(format!("-{word}"));
                }
            }
        }
        assert_eq!(recorder.said.join(" "), expected, "{words}");
        assert_eq!(stats.get(Stat::writes_parked), own.parked.len() as u64);
        assert_eq!(own.bytes, own.parked.iter().map(|parked| parked.frame.len()).sum::<usize>());
    }

    #[test]
    fn most_states_serve() {
        check("r1 w1 JOINING r2 w2 DOWN r3 w3 INIT r4 RESET w4", "r1 w1 r2 w2 r3 w3 r4 w4");
    }

    #[test]
    fn standby_serves_nothing() {
        check("STANDBY r1 w1 NORMAL r2", "-r1 -w1 r2");
    }

    #[test]
    fn writes_wait_and_go_out_in_order() {
        check("WRITES_ONLY w1 r1 w2 RESUMING w3 r2 NORMAL r3", "-r1 w1 w2 w3 -r2 r3");
        check("WRITES_ONLY w1 w2 NORMAL !", "w1 w2");
        check("WRITES_ONLY w1 STANDBY w2 ! NORMAL r1", "-w2 w1 r1");
        check("WRITES_ONLY w1 !", "");
    }

    #[test]
    fn a_datastore_that_is_down_does_not_change_the_order() {
        check("WRITES_ONLY w1 w2 NORMAL down ! w3 r1 up w4", "-r1 w1 w2 w3 w4");
    }
}
