//! Racks and their owners as every node counts them, whichever it heard of first: by names, and by tokens.
//! Owns: the numbering. What it is good for: what a client brings from one node to another, SCAN's cursor for one.

use std::collections::HashMap;

use super::PeerId;
use super::topology::{Datacenter, Rack, Topology};

/// A rack of a topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Among `Topology::datacenters`; 0 is ours.
    pub datacenter: usize,
    rack: usize,
}

impl Topology {
    pub fn rack(&self, place: Place) -> Option<&Rack> {
        self.datacenters().get(place.datacenter)?.racks.get(place.rack).map(|rack| &**rack)
    }

    /// Every rack, in the order of the names of datacenters and racks.
    pub fn places(&self) -> Vec<Place> {
        let mut datacenters: Vec<usize> = (0..self.datacenters().len()).collect();
        datacenters.sort_by_key(|datacenter| &self.datacenters()[*datacenter].name);
        let racks = |datacenter: usize| 0..self.datacenters()[datacenter].racks.len();
        datacenters
            .iter()
            .flat_map(|&datacenter| racks(datacenter).map(move |rack| Place { datacenter, rack }))
            .collect()
    }

    /// Every rack, our own first, then those of our datacenter, then the others'.
    pub fn places_from_nearest(&self) -> Vec<Place> {
        let datacenters = self.datacenters().iter().enumerate();
        let places = datacenters.flat_map(|(datacenter, Datacenter { racks, nearest, .. })| {
            (0..racks.len()).map(move |n| Place { datacenter, rack: (nearest + n) % racks.len() })
        });
        places.collect()
    }
}

impl Rack {
    /// By the first token of each.
    pub fn owners(&self) -> Vec<PeerId> {
        let mut owners = Vec::new();
        self.numbered(|owner, number| {
            if number == owners.len() {
                owners.push(owner);
            }
        });
        owners
    }

    /// Does the owner of the same number hold the same keys in both racks?
    pub fn is_cut_like(&self, other: &Rack) -> bool {
        let shape = |rack: &Rack| {
            let mut shape: Vec<usize> = Vec::new();
            rack.numbered(|_, number| shape.push(number));
            shape
        };
        let tokens = |rack: &Rack| rack.continuum.entries().map(|(token, _)| token).collect::<Vec<_>>();
        self.continuum.len() == other.continuum.len() && tokens(self) == tokens(other) && shape(self) == shape(other)
    }

    /// Tells every range's owner, and that one's number.
    fn numbered(&self, mut tell: impl FnMut(PeerId, usize)) {
        let mut numbers: HashMap<PeerId, usize> = HashMap::new();
        for (_, owner) in self.continuum.entries() {
            let next = numbers.len();
            tell(owner, *numbers.entry(owner).or_insert(next));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::topology::sketch;

    fn name(topology: &Topology, place: Place) -> String {
        format!("{}/{}", topology.datacenters()[place.datacenter].name, topology.rack(place).unwrap().name)
    }

    #[test]
    fn racks_are_counted_alike_wherever_one_stands() {
        for text in ["a/r1:9 a/r2:9 b/x:9 a/r3:9", "b/x:9 a/r3:9 a/r1:9 a/r2:9"] {
            let topology = sketch(text);
            let names: Vec<_> = topology.places().into_iter().map(|place| name(&topology, place)).collect();
            assert_eq!(names, ["a/r1", "a/r2", "a/r3", "b/x"], "{text}");
        }
        let topology = sketch("b/y:9 a/r1:9 b/x:9 a/r2:9 b/z:9");
        let names: Vec<_> = topology.places_from_nearest().into_iter().map(|place| name(&topology, place)).collect();
        assert_eq!(names, ["b/y", "b/z", "b/x", "a/r2", "a/r1"]);
    }

    #[test]
    fn owners_are_counted_by_their_tokens() {
        let topology = sketch("a/r1:50 a/r1:9 a/r2:20,70 a/r2:10,60");
        let owners = |n: usize| -> Vec<u32> {
            topology.rack(topology.places()[n]).unwrap().owners().iter().map(|owner| owner.0).collect()
        };
        assert_eq!(owners(0), [1, 0]);
        assert_eq!(owners(1), [3, 2]);
    }

    #[test]
    fn racks_that_cut_the_ring_alike() {
        let check = |text: &str, expected: bool| {
            let topology = sketch(text);
            let racks = &topology.own_datacenter().racks;
            assert_eq!(racks[0].is_cut_like(&racks[1]), expected, "{text}");
        };
        check("a/r1:50 a/r1:9 a/r2:9 a/r2:50", true);
        check("a/r1:50,70 a/r1:9,60 a/r2:9,60 a/r2:50,70", true);
        check("a/r1:50,70 a/r1:9,60 a/r2:9,70 a/r2:50,60", false);
        check("a/r1:50 a/r1:9 a/r2:9 a/r2:51", false);
        check("a/r1:50 a/r1:9 a/r2:50", false);
    }
}
