//! The row type of the command tables. Parser, router, merge, RESP3, stats, help and docs all read the row.
//! The rows are in `resp/commands.rs` and `memcache/commands.rs`.

use super::resp::resp3::Shape;

/// One command: what it is called, where its keys are, who answers it and how answers of many owners join.
#[derive(Debug)]
pub struct Command {
    /// Lower case; two-word commands are rows of their own with a blank between (`"script load"`).
    pub name: &'static str,
    pub verb: Verb,
    /// Arguments with the name(s), as Redis counts: `n` exactly, `-n` at least. Checked by the decoder.
    pub arity: i16,
    pub keys: Keys,
    pub kind: Kind,
    pub routing: Routing,
    pub across: Across,
    /// How a RESP2 reply becomes a RESP3 one.
    pub shape: Shape,
    /// What a C Dynomite peer does with it (quirks A.1).
    pub c_peer: CPeer,
    /// Reads of one owner whose reply is one element: the kernel may serve them.
    pub fast: bool,
    /// Which `redis_req_*` counter it belongs to.
    pub tally: Tally,
}

/// The row's place in its table: an index for counters and `match`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Verb(pub u16);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Read,
    Write,
}

/// Where the keys stand among the arguments; the name is argument 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    None,
    /// Exactly one, argument `n`.
    At(u8),
    /// From argument `first` to the last-but-`but_last`, every `step`-th: `mget` is `{1, 0, 1}`, `mset` is `{1, 0, 2}`, `blpop` is `{1, 1, 1}`.
    Range {
        first: u8,
        but_last: u8,
        step: u8,
    },
    /// The two arguments from `first` on (`rpoplpush`, `smove`, `copy`, …).
    Pair {
        first: u8,
    },
    /// Argument `count` says how many follow behind it (`eval`: 2, `zunion`: 1, `lmpop`: 1).
    Counted {
        count: u8,
    },
    /// A destination at argument 1, then counted sources (`zunionstore`: count at 2).
    DestinationCounted {
        count: u8,
    },
    /// Behind the word STREAMS, the first half of what is left (`xread`, `xreadgroup`).
    Streams,
    /// First argument, plus what follows STORE or STOREDIST if there is such (`sort`, `georadius`); then it is a write.
    FirstAndStore,
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routing {
    /// The key's owners, at the connection's consistency level.
    Normal,
    /// The key's owner in our own rack, one answer whatever the level.
    OwnRack,
    /// Our own datastore.
    Local,
    /// Every node of every rack and datacenter; the answer is our own datastore's.
    AllNodes,
    /// Every owner of our rack, answers joined by `across`; writes go to every rack (`keys`, `dbsize`, `flushall`, `scan`).
    EveryOwner,
    /// This node itself, at once (`ping`, `hello`, `client …`, `quit`, …): `resp::session`.
    Node,
    /// A datastore connection of the client's own, for as long as there is state on it (`multi`, `blpop`, `subscribe`, …).
    Private(Private),
    /// Never served: the text says why, behind `-ERR `.
    Refused(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Private {
    /// Opens a transaction or a watch: MULTI, WATCH.
    Open,
    /// Ends it: EXEC, DISCARD, UNWATCH.
    End,
    /// One reply, may take long: BLPOP and its kind.
    Blocking,
    /// Replies come on their own from here on: SUBSCRIBE and its kind.
    Subscribe,
    Unsubscribe,
}

/// How the answers of several owners become one, when keys have several owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Across {
    /// Must be one owner; keys that span owners are refused by name.
    OneOwner,
    /// Arrays joined in the order of the keys (`mget`).
    Array,
    /// `+OK` when all say so (`mset`, `flushall`).
    Ok,
    /// Integers added (`del`, `exists`, `dbsize`).
    Sum,
    /// Arrays strung together in any order (`keys`).
    Concat,
    /// A cursor that walks all owners (`scan`).
    Cursor,
    /// memcached `get`: VALUE blocks in the order of the keys, one END.
    Values,
}

/// What a C Dynomite peer can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CPeer {
    /// Its parser takes it with this many arguments behind the name.
    Args { min: u8, max: u32 },
    /// It would close the connection.
    Never,
}

/// The `redis_req_*` families of the stats document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tally {
    Get,
    Set,
    Del,
    IncrDecr,
    Keys,
    Mget,
    Scan,
    Sort,
    Lreqm,
    Sunion,
    Ping,
    Lists,
    Sets,
    Hashes,
    SortedSets,
    Other,
}
