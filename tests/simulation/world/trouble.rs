//! Faults carried out: what begins, and what ends.

use std::time::Duration;

use super::{Member, World, place};
use crate::faults::Fault;
use crate::network::{Holder, Place, Port};
use crate::store::Mood;

impl World {
    pub(super) fn begin(&mut self, fault: Fault) {
        self.tell(|_| format!("begins: {fault:?}"));
        let now = self.now;
        for (one, row) in self.troubled.iter_mut().enumerate() {
            row.iter_mut().enumerate().for_each(|(other, troubled)| *troubled |= fault.troubles(one, other));
        }
        match &fault {
            Fault::Crash { node, .. } => self.kill(*node),
            Fault::Partition { nodes, .. } => {
                for (one, other) in self.across(nodes) {
                    self.network.cut(one, other);
                }
            }
            Fault::Cut { nodes: (one, other), .. } => {
                if one != other {
                    self.network.cut(place(*one), place(*other));
                }
            }
            Fault::Delay { from, to, by, .. } => self.network.slow(place(*from), place(*to), *by),
            Fault::DatastoreSlow { node, takes, .. } => self.members[*node].store.mood = Mood::Slow(*takes),
            Fault::DatastoreHangs { node, .. } => self.members[*node].store.mood = Mood::Hung,
            Fault::DatastoreDies { node, .. } => {
                self.members[*node].store.die(now);
                self.network.close_all(Holder::Datastore(*node), now);
            }
            Fault::Reset { pick } => {
                let open = self.network.open();
                if !open.is_empty() {
                    let conn = open[pick % open.len()];
                    let [one, other] = self.network.places(conn).map(|place| usize::from(place.0));
                    // A node's own datastore is everybody's way to it.
                    for member in 0..self.members.len() {
                        let is_own = one == other;
                        self.troubled[one][member] |= is_own || member == other;
                        self.troubled[member][one] |= is_own || member == other;
                    }
                    self.network.reset(conn, now);
                }
            }
            Fault::Clock { node, skew, .. } => {
                if let Some(node) = &mut self.members[*node].node {
                    node.skew(*skew);
                }
            }
            Fault::ClientLeaves { client } => self.client_leaves(*client),
            Fault::Stranger { node, bytes } => {
                let conn = self.network.dial(place(*node), Holder::Stranger, place(*node), Port::Peers(*node), now);
                self.network.send(conn, 0, bytes.clone(), now);
            }
        }
        self.members.iter_mut().for_each(Member::look_ahead);
        if let Some(until) = fault.until() {
            self.ends.push((until.max(now), fault));
        }
    }

    pub(super) fn end(&mut self, fault: Fault) {
        self.tell(|_| format!("ends: {fault:?}"));
        match fault {
            Fault::Crash { node, .. } => {
                if self.members[node].node.is_none() {
                    self.start(node);
                }
            }
            Fault::Partition { nodes, .. } => {
                for (one, other) in self.across(&nodes) {
                    self.network.heal(one, other, self.now);
                }
            }
            Fault::Cut { nodes: (one, other), .. } => {
                if one != other {
                    self.network.heal(place(one), place(other), self.now);
                }
            }
            Fault::Delay { from, to, .. } => self.network.slow(place(from), place(to), Duration::ZERO),
            Fault::DatastoreSlow { node, .. }
            | Fault::DatastoreHangs { node, .. }
            | Fault::DatastoreDies { node, .. } => {
                self.members[node].store.mood = Mood::Well;
                self.members[node].look_ahead();
            }
            Fault::Clock { node, .. } => {
                let Member { node, skew, .. } = &mut self.members[node];
                if let Some(node) = node {
                    node.skew(*skew);
                }
            }
            Fault::Reset { .. } | Fault::ClientLeaves { .. } | Fault::Stranger { .. } => {}
        }
    }

    /// Pairs of places, one among these nodes and one not.
    fn across(&self, nodes: &[usize]) -> Vec<(Place, Place)> {
        let all = 0..self.members.len();
        let pairs = all.clone().filter(|one| nodes.contains(one));
        let pairs =
            pairs.flat_map(|one| all.clone().filter(|other| !nodes.contains(other)).map(move |other| (one, other)));
        pairs.map(|(one, other)| (place(one), place(other))).collect()
    }
}
