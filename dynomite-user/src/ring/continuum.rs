//! One rack's tokens in order, and who owns the range below each.
//! Owns: the search. Knows nothing of: racks, names, other racks.

use dynomite_common::token::Token;

use super::PeerId;

/// A rack's ring. A node owns what lies above the token before its own, up to and with its own; what lies above the last
/// token belongs to the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Continuum {
    tokens: Vec<Token>,
    owners: Vec<PeerId>,
    /// Where in `tokens` the search for a token may start, by the token's upper bits; one more at the end. With as many
    /// starts as tokens an even ring needs about one comparison, and a ring whose tokens huddle together (`crc32` has
    /// only 32768 of them) falls back to a binary search between two starts.
    starts: Vec<u32>,
    /// How far a token is shifted to find its start.
    shift: u32,
}

impl Continuum {
    /// Of tokens in any order. If a token comes twice the smaller id owns it; who builds a `Topology` has checked that
    /// already.
    pub fn new(mut entries: Vec<(Token, PeerId)>) -> Continuum {
        entries.sort_unstable();
        entries.dedup_by_key(|entry| entry.0);
        let bits = (entries.len().next_power_of_two().trailing_zeros() + 1).min(20);
        let shift = u32::BITS - bits;
        let mut starts = Vec::with_capacity((1 << bits) + 1);
        let mut at = 0;
        for bucket in 0..1_u64 << bits {
            while entries.get(at).is_some_and(|entry| u64::from(entry.0.0) < bucket << shift) {
                at += 1;
            }
            starts.push(at as u32);
        }
        starts.push(entries.len() as u32);
        let (tokens, owners) = entries.into_iter().unzip();
        Continuum { tokens, owners, starts, shift }
    }

    /// Whose range `token` lies in. `None` for an empty ring.
    #[inline]
    pub fn owner(&self, token: Token) -> Option<PeerId> {
        self.range_of(token).map(|at| self.owners[at])
    }

    /// The range that `token` lies in, as (above, up to and with); the first one wraps around the end.
    pub fn range(&self, token: Token) -> Option<(Token, Token)> {
        let at = self.range_of(token)?;
        let before = at.checked_sub(1).unwrap_or(self.tokens.len() - 1);
        Some((self.tokens[before], self.tokens[at]))
    }

    /// Every token with its owner, smallest first.
    pub fn entries(&self) -> impl Iterator<Item = (Token, PeerId)> + '_ {
        self.tokens.iter().copied().zip(self.owners.iter().copied())
    }

    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    #[inline]
    fn range_of(&self, token: Token) -> Option<usize> {
        if self.tokens.is_empty() {
            return None;
        }
        let bucket = (token.0 >> self.shift) as usize;
        let (from, to) = (self.starts[bucket] as usize, self.starts[bucket + 1] as usize);
        let at = from + self.tokens[from..to].partition_point(|end| *end < token);
        Some(if at == self.tokens.len() { 0 } else { at })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ring(tokens: &[u32]) -> Continuum {
        Continuum::new(tokens.iter().enumerate().map(|(n, token)| (Token(*token), PeerId(n as u32))).collect())
    }

    fn check(tokens: &[u32], token: u32, owner: u32) {
        assert_eq!(ring(tokens).owner(Token(token)), Some(PeerId(owner)), "{token} in {tokens:?}");
    }

    #[test]
    fn a_token_belongs_to_the_next_entry_and_wraps() {
        let tokens = [100, 4_294_967_295, 2_000_000_000];
        check(&tokens, 0, 0);
        check(&tokens, 99, 0);
        check(&tokens, 100, 0);
        check(&tokens, 101, 2);
        check(&tokens, 2_000_000_000, 2);
        check(&tokens, 2_000_000_001, 1);
        check(&tokens, 4_294_967_295, 1);
        check(&[100, 200], 201, 0);
        check(&[7], 0, 0);
        check(&[7], u32::MAX, 0);
        check(&[0], 1, 0);
    }

    #[test]
    fn what_the_wire_shows() {
        // A peer whose token is the key's hash gets it; one below, the key wraps to the other node.
        let foo = 3_303_027_599;
        check(&[0, foo], foo, 1);
        check(&[0, foo - 1], foo, 0);
    }

    #[test]
    fn equal_tokens_belong_to_the_smaller_id() {
        check(&[9, 9, 9], 9, 0);
        assert_eq!(ring(&[9, 9, 9]).len(), 1);
    }

    #[test]
    fn an_empty_ring_owns_nothing() {
        assert_eq!(ring(&[]).owner(Token(1)), None);
        assert_eq!(ring(&[]).range(Token(1)), None);
    }

    #[test]
    fn ranges() {
        let ring = ring(&[10, 20]);
        assert_eq!(ring.range(Token(15)), Some((Token(10), Token(20))));
        assert_eq!(ring.range(Token(21)), Some((Token(20), Token(10))));
    }

    /// The definition, word for word.
    fn by_definition(ring: &[(Token, PeerId)], token: Token) -> PeerId {
        ring.iter().filter(|entry| entry.0 >= token).min().or(ring.iter().min()).unwrap().1
    }

    proptest! {
        #[test]
        fn the_search_agrees_with_the_definition(
            spread in 0_u32..32,
            tokens in prop::collection::btree_set(any::<u32>(), 1..200),
            keys in prop::collection::vec(any::<u32>(), 50),
        ) {
            let entries: Vec<_> =
                tokens.iter().enumerate().map(|(n, token)| (Token(token >> spread), PeerId(n as u32))).collect();
            let ring = Continuum::new(entries.clone());
            let near = tokens.iter().flat_map(|token| [token >> spread, (token >> spread).wrapping_add(1)]);
            for key in keys.iter().map(|key| key >> spread).chain(near).map(Token) {
                prop_assert_eq!(ring.owner(key), Some(by_definition(&entries, key)));
            }
        }
    }
}
