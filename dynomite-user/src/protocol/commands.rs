//! The row type of the command tables. Parser, router, merge, RESP3, stats, help and docs all read the row.
//! The rows are in `resp/commands.rs` and `memcache/commands.rs`.

use super::resp::resp3::Shape;
use crate::stats::Stat;

/// One command: what it is called, where its keys are, who answers it and how answers of many owners join.
/// Rows are written with `read`, `write` and the setters, so that a row says only what is special about it.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// Lower case; two-word commands are rows of their own with a blank between (`"script load"`). So are the few
    /// commands that an option turns into something else (`"sort store"`, a write; `"xread block"`, which waits).
    pub name: &'static str,
    pub verb: Verb,
    /// Arguments with the name(s), as Redis counts: `n` exactly, `-n` at least. Checked by the decoder.
    pub arity: i16,
    pub keys: Keys,
    pub kind: Kind,
    pub routing: Routing,
    /// What a cluster must be like for it; elsewhere it is refused by name.
    pub needs: Needs,
    pub across: Across,
    /// How a RESP2 reply becomes a RESP3 one.
    pub shape: Shape,
    /// What a C Dynomite peer does with it (quirks A.1).
    pub c_peer: CPeer,
    /// Reads of one owner whose reply is one element: the kernel may serve them (with one key, where several may be given).
    pub fast: bool,
    /// Writes of one key whose reply is one element: the kernel may serve them where this node holds the only replica.
    pub fast_alone: bool,
    /// Which `redis_req_*` counter it belongs to.
    pub tally: Tally,
}

/// What most commands have in common: one key behind the name.
pub const ONE: Keys = Keys::At(1);

impl Command {
    /// A read: of one owner, its reply the same in RESP2 and RESP3, nothing for C peers. The verb is numbered by the table.
    pub const fn read(name: &'static str, arity: i16, keys: Keys) -> Command {
        Command {
            name,
            verb: Verb(0),
            arity,
            keys,
            kind: Kind::Read,
            routing: Routing::Normal,
            needs: Needs::Nothing,
            across: Across::OneOwner,
            shape: Shape::Same,
            c_peer: CPeer::Never,
            fast: false,
            fast_alone: false,
            tally: Tally::Other,
        }
    }

    pub const fn write(name: &'static str, arity: i16, keys: Keys) -> Command {
        Command { kind: Kind::Write, ..Command::read(name, arity, keys) }
    }

    pub const fn routing(self, routing: Routing) -> Command {
        Command { routing, ..self }
    }

    pub const fn needs(self, needs: Needs) -> Command {
        Command { needs, ..self }
    }

    pub const fn across(self, across: Across) -> Command {
        Command { across, ..self }
    }

    pub const fn shape(self, shape: Shape) -> Command {
        Command { shape, ..self }
    }

    pub const fn tally(self, tally: Tally) -> Command {
        Command { tally, ..self }
    }

    /// C peers take it with `min` to `max` arguments behind the name(s).
    pub const fn c(self, min: u8, max: u32) -> Command {
        Command { c_peer: CPeer::Args { min, max }, ..self }
    }

    /// One element is the reply: the kernel may serve it (a write only where nobody else holds a replica).
    pub const fn fast(self) -> Command {
        match self.kind {
            Kind::Read => Command { fast: true, ..self },
            Kind::Write => Command { fast_alone: true, ..self },
        }
    }

    /// The rows of a table with their verbs: each row's place.
    pub const fn numbered<const N: usize>(rows: &[Command]) -> [Command; N] {
        let mut numbered = [rows[0]; N];
        let mut at = 0;
        while at < N {
            numbered[at] = rows[at];
            numbered[at].verb = Verb(at as u16);
            at += 1;
        }
        numbered
    }
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
    /// First argument, and what follows STORE or STOREDIST among the options, which begin at argument `options`
    /// (`sort store`, `georadius store`).
    FirstAndStore {
        options: u8,
    },
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

/// What a command means only where a cluster is no larger than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    Nothing,
    /// One replica of its key: it compares what is each replica's own (memcached's cas uniques).
    OneReplica,
    /// One owner of all keys, if it names some by patterns (SORT with BY or GET).
    OneOwner,
    /// One datastore: who listens to it is known to no other one.
    OneDatastore,
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
    /// Its parser takes it with this many arguments behind the name(s). `c_peer::takes` looks closer.
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

impl Tally {
    pub fn stat(self) -> Stat {
        match self {
            Tally::Get => Stat::redis_req_get,
            Tally::Set => Stat::redis_req_set,
            Tally::Del => Stat::redis_req_del,
            Tally::IncrDecr => Stat::redis_req_incr_decr,
            Tally::Keys => Stat::redis_req_keys,
            Tally::Mget => Stat::redis_req_mget,
            Tally::Scan => Stat::redis_req_scan,
            Tally::Sort => Stat::redis_req_sort,
            Tally::Lreqm => Stat::redis_req_lreqm,
            Tally::Sunion => Stat::redis_req_sunion,
            Tally::Ping => Stat::redis_req_ping,
            Tally::Lists => Stat::redis_req_lists,
            Tally::Sets => Stat::redis_req_sets,
            Tally::Hashes => Stat::redis_req_hashes,
            Tally::SortedSets => Stat::redis_req_sortedsets,
            Tally::Other => Stat::redis_req_other,
        }
    }
}
