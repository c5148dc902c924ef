//! Which keys of one request may travel together: those that have the same owner in every rack that may be asked. Racks
//! may cut the ring at different places; a fragment that suits one of them need not suit the next.

use std::collections::HashMap;

use dynomite_common::token::Token;
use smallvec::SmallVec;

use super::topology::Topology;
use super::{PeerId, snitch};

/// Whose racks must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Our datacenter's: a read that stays here.
    Near,
    /// Everybody's.
    All,
}

/// The number of each key's group, by first appearance from 0, and how many groups there are.
pub fn together(
    topology: &Topology,
    tokens: impl Iterator<Item = Token>,
    reach: Reach,
) -> (SmallVec<[u32; 16]>, usize) {
    let mut groups: HashMap<SmallVec<[PeerId; 8]>, u32> = HashMap::new();
    let mut numbers = SmallVec::new();
    for token in tokens {
        let mut owners: SmallVec<[PeerId; 8]> = snitch::near(topology, token).collect();
        if reach == Reach::All {
            owners.extend(snitch::far(topology, token).flatten());
        }
        let next = groups.len() as u32;
        numbers.push(*groups.entry(owners).or_insert(next));
    }
    (numbers, groups.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::topology::sketch;

    fn check(topology: &str, reach: Reach, tokens: &[u32], expected: &[u32]) {
        let (numbers, groups) = together(&sketch(topology), tokens.iter().copied().map(Token), reach);
        assert_eq!(&numbers[..], expected, "{topology}");
        assert_eq!(groups, expected.iter().max().map_or(0, |last| *last as usize + 1));
    }

    #[test]
    fn one_owner_one_group() {
        check("a/r1:9 a/r2:9", Reach::All, &[1, 5, 7], &[0, 0, 0]);
        check("a/r1:9", Reach::All, &[], &[]);
    }

    #[test]
    fn groups_are_numbered_as_they_appear() {
        check("a/r1:10 a/r1:20", Reach::Near, &[15, 5, 16, 99], &[0, 1, 0, 1]);
    }

    #[test]
    fn racks_that_cut_the_ring_elsewhere_make_more_groups() {
        let topology = "a/r1:10 a/r1:20 a/r2:5 a/r2:15 b/x:12 b/x:20";
        check(topology, Reach::Near, &[3, 7, 12, 17], &[0, 1, 2, 3]);
        check("a/r1:10 a/r1:20 b/x:12 b/x:20", Reach::Near, &[11, 13], &[0, 0]);
        check("a/r1:10 a/r1:20 b/x:12 b/x:20", Reach::All, &[11, 13], &[0, 1]);
    }
}
