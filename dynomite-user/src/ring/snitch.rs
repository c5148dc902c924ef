//! Nearest first: in which order the owners of a token are asked.
//! Owns: the order. Knows nothing of: who is alive; that is for whoever asks.

use dynomite_common::token::Token;

use super::PeerId;
use super::topology::{Datacenter, Topology};

/// The token's owners in our datacenter: our rack's, then the other racks' by name, beginning behind ours. So when a
/// rack is gone, its neighbours' requests do not all land on the first rack.
#[inline]
pub fn near(topology: &Topology, token: Token) -> impl Iterator<Item = PeerId> + '_ {
    owners(topology.own_datacenter(), token)
}

/// The token's owners in every other datacenter: an iterator for each, beginning with its preselected rack.
#[inline]
pub fn far(topology: &Topology, token: Token) -> impl Iterator<Item = impl Iterator<Item = PeerId> + '_> + '_ {
    topology.datacenters()[1..].iter().map(move |datacenter| owners(datacenter, token))
}

#[inline]
fn owners(datacenter: &Datacenter, token: Token) -> impl Iterator<Item = PeerId> + '_ {
    datacenter.racks_from_nearest().filter_map(move |rack| rack.continuum.owner(token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::topology::sketch;

    fn check(topology: &str, expected: &str) {
        let topology = sketch(topology);
        let ids =
            |owners: &mut dyn Iterator<Item = PeerId>| owners.map(|id| id.0.to_string()).collect::<Vec<_>>().join(" ");
        let mut lines = vec![ids(&mut near(&topology, Token(5)))];
        lines.extend(far(&topology, Token(5)).map(|mut owners| ids(&mut owners)));
        assert_eq!(lines.join(" | "), expected);
    }

    #[test]
    fn our_rack_then_those_behind_it() {
        check("a/r2:9 a/r1:9 a/r3:9 a/r4:9", "0 2 3 1");
        check("a/r1:9 a/r1:1", "0");
        check("a/r1:1 a/r1:9", "1");
    }

    #[test]
    fn other_datacenters_in_turn_each_from_its_preselected_rack() {
        check("a/r2:9 a/r1:9 b/x:9 b/y:9 b/z:9 c/w:9", "0 1 | 3 4 2 | 5");
    }
}
