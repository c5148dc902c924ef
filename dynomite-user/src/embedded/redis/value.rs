//! What a key holds.

use std::cmp::Ordering;
use std::collections::{BTreeSet, VecDeque};

use crate::embedded::dict::Dict;

#[derive(Clone, Debug)]
pub enum Value {
    Text(Vec<u8>),
    List(VecDeque<Vec<u8>>),
    Hash(Dict<Vec<u8>>),
    Set(Dict<()>),
    Sorted(SortedSet),
}

impl Value {
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Text(_) => "string",
            Value::List(_) => "list",
            Value::Hash(_) => "hash",
            Value::Set(_) => "set",
            Value::Sorted(_) => "zset",
        }
    }

    pub fn is_empty(&self) -> bool {
        match self {
            Value::Text(_) => false,
            Value::List(list) => list.is_empty(),
            Value::Hash(hash) => hash.is_empty(),
            Value::Set(set) => set.is_empty(),
            Value::Sorted(sorted) => sorted.is_empty(),
        }
    }
}

/// Members by score, and scores by member.
#[derive(Clone, Debug, Default)]
pub struct SortedSet {
    scores: Dict<f64>,
    order: BTreeSet<Ranked>,
}

/// A member at its place: by score, members of one score by their bytes.
#[derive(Clone, Debug)]
pub struct Ranked {
    pub score: f64,
    pub member: Vec<u8>,
}

impl Ord for Ranked {
    fn cmp(&self, other: &Ranked) -> Ordering {
        // Never NaN; and the two zeros are one place.
        let scores = self.score.partial_cmp(&other.score).unwrap_or(Ordering::Equal);
        scores.then_with(|| self.member.cmp(&other.member))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Ranked) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Ranked) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Ranked {}

impl SortedSet {
    pub fn len(&self) -> usize {
        self.scores.len()
    }

    pub fn is_empty(&self) -> bool {
        self.scores.is_empty()
    }

    pub fn score(&self, member: &[u8]) -> Option<f64> {
        self.scores.get(member).copied()
    }

    /// Returns the score that the member had.
    pub fn insert(&mut self, member: &[u8], score: f64) -> Option<f64> {
        // Redis keeps small sets' scores as integers where they are: there is one zero.
        let score = if score == 0.0 { 0.0 } else { score };
        let before = self.scores.insert(member, score);
        if let Some(before) = before {
            self.order.remove(&Ranked { score: before, member: member.to_vec() });
        }
        self.order.insert(Ranked { score, member: member.to_vec() });
        before
    }

    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let score = self.scores.remove(member)?;
        self.order.remove(&Ranked { score, member: member.to_vec() });
        Some(score)
    }

    pub fn pop_first(&mut self) -> Option<Ranked> {
        let first = self.order.pop_first()?;
        self.scores.remove(&first.member);
        Some(first)
    }

    pub fn pop_last(&mut self) -> Option<Ranked> {
        let last = self.order.pop_last()?;
        self.scores.remove(&last.member);
        Some(last)
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Ranked> + Clone {
        self.order.iter()
    }

    /// From the first with at least this score on.
    pub fn at_least(&self, score: f64) -> impl DoubleEndedIterator<Item = &Ranked> + Clone {
        self.order.range(Ranked { score, member: Vec::new() }..)
    }

    pub fn rank(&self, member: &[u8]) -> Option<usize> {
        let score = self.score(member)?;
        Some(self.order.range(..Ranked { score, member: member.to_vec() }).count())
    }

    pub fn by_member(&self) -> &Dict<f64> {
        &self.scores
    }
}

impl FromIterator<(Vec<u8>, f64)> for SortedSet {
    fn from_iter<I: IntoIterator<Item = (Vec<u8>, f64)>>(members: I) -> SortedSet {
        let mut sorted = SortedSet::default();
        members.into_iter().for_each(|(member, score)| _ = sorted.insert(&member, score));
        sorted
    }
}
