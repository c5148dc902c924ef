//! The rows of memcached's commands.
//! Owns: what is particular to a command of this protocol; decoder, rewriting, scanner and silence read it here.

use crate::protocol::commands::{Across, Command, Keys, Kind, Needs, Routing, Tally, Verb};
use crate::protocol::reply::Expect;

/// A command, and what only this protocol needs to know of it.
#[derive(Debug)]
pub struct Row {
    pub command: Command,
    /// How its line is read and written again.
    pub form: Form,
    /// Words behind the name, `noreply` counted. Fewer or more is `ERROR`, as memcached says it.
    pub words: (u32, u32),
    pub expect: Expect,
}

/// The shape of a command line. The names are those of memcached's protocol description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `<key>+`
    Get,
    /// `<exptime> <key>+`
    GetAndTouch,
    /// `<key> <flags> <exptime> <bytes> [noreply]` and data.
    Store,
    /// `<key> <flags> <exptime> <bytes> <cas unique> [noreply]` and data.
    Cas,
    /// `<key> <value> [noreply]`
    Arithmetic,
    /// `<key> <exptime> [noreply]`
    Touch,
    /// `<key> [0] [noreply]`
    Delete,
    /// `<key> <flag>*`
    Meta,
    /// `<key> <bytes> <flag>*` and data.
    MetaStore,
    /// `<key> [b]`
    MetaDebug,
    /// `[delay] [noreply]`
    Flush,
    /// `<argument> [noreply]`
    Setting,
    /// Whatever follows is the datastore's business.
    Open,
    /// Nothing follows that matters.
    Bare,
}

impl Form {
    /// May its last word be `noreply`?
    pub fn may_be_quiet(self) -> bool {
        use Form::{Arithmetic, Cas, Delete, Flush, Setting, Store, Touch};
        matches!(self, Store | Cas | Arithmetic | Touch | Delete | Flush | Setting)
    }
}

impl Row {
    const fn new(verb: u16, name: &'static str, form: Form, words: (u32, u32), kind: Kind, expect: Expect) -> Row {
        let keys = match form {
            Form::Get => Keys::Range { first: 1, but_last: 0, step: 1 },
            Form::GetAndTouch => Keys::Range { first: 2, but_last: 0, step: 1 },
            Form::Flush | Form::Setting | Form::Open | Form::Bare => Keys::None,
            _ => Keys::At(1),
        };
        let across = match form {
            Form::Get | Form::GetAndTouch => Across::Values,
            Form::Flush => Across::Ok,
            _ => Across::OneOwner,
        };
        Row {
            command: Command { verb: Verb(verb), kind, across, ..Command::read(name, -(words.0 as i16 + 1), keys) },
            form,
            words,
            expect,
        }
    }

    const fn routed(self, routing: Routing) -> Row {
        Row { command: self.command.routing(routing), ..self }
    }

    const fn needs(self, needs: Needs) -> Row {
        Row { command: self.command.needs(needs), ..self }
    }

    /// What a C peer's parser takes: so many words behind the name.
    const fn c_peer(self, words: u8) -> Row {
        Row { command: self.command.c(words, words as u32), ..self }
    }

    const fn tally(self, tally: Tally) -> Row {
        Row { command: self.command.tally(tally), ..self }
    }

    const fn fast(self) -> Row {
        Row { command: self.command.fast(), ..self }
    }
}

use Expect::{Line, Meta, Stats, Values};
use Kind::{Read, Write};

const MANY: u32 = u32::MAX;

/// The rows, each at the place that its verb says.
pub static ROWS: [Row; COUNT] = [
    // A C peer crashes on any get or gets (quirks Q-C1): it is never sent one.
    Row::new(GET, "get", Form::Get, (1, MANY), Read, Values).fast().tally(Tally::Get),
    // cas ids are a replica's own: only one replica's can be compared with later.
    Row::new(GETS, "gets", Form::Get, (1, MANY), Read, Values).routed(Routing::OwnRack).tally(Tally::Get),
    Row::new(GAT, "gat", Form::GetAndTouch, (1, MANY), Write, Values).tally(Tally::Get),
    Row::new(GATS, "gats", Form::GetAndTouch, (1, MANY), Write, Values).tally(Tally::Get),
    Row::new(SET, "set", Form::Store, (4, 5), Write, Line).c_peer(4).tally(Tally::Set),
    Row::new(ADD, "add", Form::Store, (4, 5), Write, Line).c_peer(4).tally(Tally::Set),
    Row::new(REPLACE, "replace", Form::Store, (4, 5), Write, Line).c_peer(4).tally(Tally::Set),
    Row::new(APPEND, "append", Form::Store, (4, 5), Write, Line).c_peer(4).tally(Tally::Set),
    Row::new(PREPEND, "prepend", Form::Store, (4, 5), Write, Line).c_peer(4).tally(Tally::Set),
    Row::new(CAS, "cas", Form::Cas, (5, 6), Write, Line).c_peer(5).needs(Needs::OneReplica).tally(Tally::Set),
    Row::new(INCR, "incr", Form::Arithmetic, (2, 3), Write, Line).c_peer(2).tally(Tally::IncrDecr),
    Row::new(DECR, "decr", Form::Arithmetic, (2, 3), Write, Line).c_peer(2).tally(Tally::IncrDecr),
    Row::new(TOUCH, "touch", Form::Touch, (2, 3), Write, Line).c_peer(2),
    Row::new(DELETE, "delete", Form::Delete, (1, 3), Write, Line).c_peer(1).tally(Tally::Del),
    Row::new(MG, "mg", Form::Meta, (1, MANY), Read, Meta).tally(Tally::Get),
    // `mg` that asks for what is a replica's own: cas id, hits, access time, remaining time.
    Row::new(MG_OWN, "mg", Form::Meta, (1, MANY), Read, Meta).routed(Routing::OwnRack).tally(Tally::Get),
    // `mg` that changes the item: touch, vivify, win a recache.
    Row::new(MG_WRITE, "mg", Form::Meta, (1, MANY), Write, Meta).tally(Tally::Get),
    Row::new(MS, "ms", Form::MetaStore, (1, MANY), Write, Meta).tally(Tally::Set),
    Row::new(MD, "md", Form::Meta, (1, MANY), Write, Meta).tally(Tally::Del),
    Row::new(MA, "ma", Form::Meta, (1, MANY), Write, Meta).tally(Tally::IncrDecr),
    // `ms`, `md` and `ma` that compare a cas unique.
    Row::new(MS_CAS, "ms", Form::MetaStore, (1, MANY), Write, Meta).needs(Needs::OneReplica).tally(Tally::Set),
    Row::new(MD_CAS, "md", Form::Meta, (1, MANY), Write, Meta).needs(Needs::OneReplica).tally(Tally::Del),
    Row::new(MA_CAS, "ma", Form::Meta, (1, MANY), Write, Meta).needs(Needs::OneReplica).tally(Tally::IncrDecr),
    Row::new(ME, "me", Form::MetaDebug, (0, MANY), Read, Meta).routed(Routing::OwnRack),
    // The barrier: said in its turn, when everything before it was answered.
    Row::new(MN, "mn", Form::Bare, (0, MANY), Read, Meta).routed(Routing::Node),
    Row::new(VERSION, "version", Form::Bare, (0, MANY), Read, Line).routed(Routing::Local),
    Row::new(VERBOSITY, "verbosity", Form::Setting, (1, 2), Read, Line).routed(Routing::Local),
    Row::new(STATS, "stats", Form::Open, (0, MANY), Read, Stats).routed(Routing::Local),
    Row::new(FLUSH_ALL, "flush_all", Form::Flush, (0, 2), Write, Line).routed(Routing::EveryOwner),
    Row::new(CACHE_MEMLIMIT, "cache_memlimit", Form::Setting, (1, 2), Read, Line).routed(Routing::Local),
    Row::new(QUIT, "quit", Form::Bare, (0, MANY), Read, Line).routed(Routing::Node).tally(Tally::Other),
    refused(SHUTDOWN, "shutdown", "shutdown not enabled"),
    // These steer one memcached process or turn the connection into a log: nothing for a connection that clients share.
    refused(WATCH, "watch", "watch is not served through Dynomite, ask the datastore itself"),
    refused(SLABS, "slabs", "slabs is not served through Dynomite, ask the datastore itself"),
    refused(LRU, "lru", "lru is not served through Dynomite, ask the datastore itself"),
    refused(LRU_CRAWLER, "lru_crawler", "lru_crawler is not served through Dynomite, ask the datastore itself"),
    refused(EXTSTORE, "extstore", "extstore is not served through Dynomite, ask the datastore itself"),
    refused(REFRESH_CERTS, "refresh_certs", "refresh_certs is not served through Dynomite, ask the datastore itself"),
];

const fn refused(verb: u16, name: &'static str, why: &'static str) -> Row {
    Row::new(verb, name, Form::Bare, (0, MANY), Read, Line).routed(Routing::Refused(why))
}

macro_rules! verbs {
    ($($name:ident)*) => {
        verbs!(@at 0u16; $($name)*);
    };
    (@at $at:expr; $name:ident $($rest:ident)*) => {
        pub const $name: u16 = $at;
        verbs!(@at $at + 1; $($rest)*);
    };
    (@at $at:expr;) => {
        const COUNT: usize = $at as usize;
    };
}

verbs! {
    GET GETS GAT GATS SET ADD REPLACE APPEND PREPEND CAS INCR DECR TOUCH DELETE
    MG MG_OWN MG_WRITE MS MD MA MS_CAS MD_CAS MA_CAS ME MN VERSION VERBOSITY STATS FLUSH_ALL CACHE_MEMLIMIT QUIT
    SHUTDOWN WATCH SLABS LRU LRU_CRAWLER EXTSTORE REFRESH_CERTS
}

/// The row of a command of this protocol.
pub fn row(command: &Command) -> &'static Row {
    &ROWS[usize::from(command.verb.0)]
}

/// The row of a name as a client spells it: lower case, as memcached insists.
pub fn find(name: &[u8]) -> Option<&'static Row> {
    macro_rules! by_word {
        ($($verb:ident $spelled:literal)*) => {{
            mod words {
                $(pub const $verb: u64 = super::word($spelled);)*
            }
            match word(name) {
                $(words::$verb => Some($verb),)*
                _ => None,
            }
        }};
    }
    // Names of up to eight bytes are compared as one number; the others are rare.
    let short = by_word! {
        GET b"get"
        GETS b"gets"
        GAT b"gat"
        GATS b"gats"
        SET b"set"
        ADD b"add"
        REPLACE b"replace"
        APPEND b"append"
        PREPEND b"prepend"
        CAS b"cas"
        INCR b"incr"
        DECR b"decr"
        TOUCH b"touch"
        DELETE b"delete"
        MG b"mg"
        MS b"ms"
        MD b"md"
        MA b"ma"
        ME b"me"
        MN b"mn"
        VERSION b"version"
        STATS b"stats"
        QUIT b"quit"
        SHUTDOWN b"shutdown"
        WATCH b"watch"
        SLABS b"slabs"
        LRU b"lru"
        EXTSTORE b"extstore"
    };
    let verb = short.or(match name {
        b"verbosity" => Some(VERBOSITY),
        b"flush_all" => Some(FLUSH_ALL),
        b"cache_memlimit" => Some(CACHE_MEMLIMIT),
        b"lru_crawler" => Some(LRU_CRAWLER),
        b"refresh_certs" => Some(REFRESH_CERTS),
        _ => None,
    })?;
    Some(&ROWS[usize::from(verb)])
}

/// A short name as a number; 0 for what is longer.
const fn word(name: &[u8]) -> u64 {
    let (mut number, mut at) = (0, 0);
    if name.len() > 8 {
        return 0;
    }
    while at < name.len() {
        number = number << 8 | name[at] as u64;
        at += 1;
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_stands_at_its_verb_and_is_found_by_its_name() {
        for (place, row) in ROWS.iter().enumerate() {
            assert_eq!(usize::from(row.command.verb.0), place, "{}", row.command.name);
            let found = find(row.command.name.as_bytes()).expect(row.command.name);
            // Rows of a meta command share a name; the decoder chooses among them by the flags.
            assert_eq!(found.command.name, row.command.name);
        }
        assert!(find(b"GET").is_none());
        assert!(find(b"").is_none());
    }
}
