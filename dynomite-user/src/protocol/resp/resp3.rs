//! RESP2 replies of the shared datastore connections → RESP3 replies for clients that said HELLO 3.
//! Owns: what Redis 7 says differently in RESP3, as values that are chosen when a request comes and kept with it.

/// How a RESP2 reply becomes a RESP3 one. Whatever does not look as foreseen (an error, a null) changes as in `Same`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Only nulls change.
    Same,
    /// A bulk string becomes a double.
    Double,
    /// A bulk string becomes text for people.
    Verbatim,
    /// An array becomes a set.
    Set,
    /// Every element of an array.
    Each(&'static Shape),
    /// The elements of an array one by one; those behind the last one stay the same.
    Tuple(&'static [Shape]),
    /// An array of keys and values in turn becomes a map; values are shaped by their key, others as `rest`.
    Map { known: &'static [(&'static str, Shape)], rest: &'static Shape },
    /// An array of keys and values in turn becomes an array of pairs.
    Pairs(&'static Shape),
    /// An array of pairs becomes a map.
    PairsToMap,
    /// The arguments decide: see `shape_of`.
    Asked(Asked),
}

/// Arguments on which a reply's shape depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// WITHSCORES among the options behind the key (and what must stand behind it).
    WithScores,
    /// WITHSCORES among the options behind counted keys.
    WithScoresBehindKeys,
    WithValues,
    /// WITHCOORD, with or without WITHDIST and WITHHASH before it.
    WithCoord,
    /// INCR of ZADD.
    Incr,
    /// IDX of LCS.
    Idx,
    /// FULL of XINFO STREAM.
    Full,
    /// A count behind the key makes the reply a set.
    SetIfCount,
    /// A count behind the key makes the reply pairs.
    PairsIfCount,
}

/// Pairs as a map, nothing special about the values.
pub const MAP: Shape = Shape::Map { known: &[], rest: &Shape::Same };
/// An array of such.
pub const MAPS: Shape = Shape::Each(&MAP);
pub const DOUBLES: Shape = Shape::Each(&Shape::Double);
pub const POSITIONS: Shape = Shape::Each(&DOUBLES);
/// Key, then members with their scores as pairs.
pub const ZMPOP: Shape = Shape::Tuple(&[Shape::Same, Shape::Each(&Shape::Tuple(&[Shape::Same, Shape::Double]))]);
/// Key, member, score.
pub const BZPOP: Shape = Shape::Tuple(&[Shape::Same, Shape::Same, Shape::Double]);
pub const FUNCTION_LIST: Shape = MAPS;
pub const FUNCTION_STATS: Shape = MAP;
pub const LATENCY_HISTOGRAM: Shape = MAP;
pub const MEMORY_STATS: Shape = MAP;
