//! A Redis with its connections: transactions, watched keys, blocking commands, publish and subscribe.
//! Owns: the sessions. Knows nothing of: sockets. What is said to a session other than the one that asks goes the same way.

use std::collections::{BTreeMap, BTreeSet};

use super::arguments::{Arguments, bulk_or_null, count, is, null_array, ok};
use super::fail::{Fail, Outcome};
use super::store::Store;
use super::table;
use crate::embedded::number::parse_integer;
use crate::protocol::resp::{encode, glob};

/// One connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// What follows a command on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was answered.
    Yes,
    /// It will be answered later: hand in nothing more of this session until `is_blocked` says no.
    Blocked,
    /// It was answered, and that was the last answer.
    Close,
}

/// Where answers and messages go.
pub type Say<'a> = &'a mut dyn FnMut(SessionId, &[u8]);

#[derive(Clone, Debug, Default)]
pub struct Hub {
    store: Store,
    sessions: BTreeMap<SessionId, Session>,
    last: u64,
    channels: BTreeMap<Vec<u8>, BTreeSet<SessionId>>,
    patterns: BTreeMap<Vec<u8>, BTreeSet<SessionId>>,
    /// Blocked sessions, the one that waits longest first.
    waiting: Vec<SessionId>,
}

#[derive(Clone, Debug, Default)]
struct Session {
    name: Vec<u8>,
    /// Commands since MULTI.
    queue: Option<Vec<Vec<Vec<u8>>>>,
    /// One of them could not be queued.
    broken: bool,
    watched: BTreeSet<Vec<u8>>,
    /// A watched key was changed.
    dirty: bool,
    channels: BTreeSet<Vec<u8>>,
    patterns: BTreeSet<Vec<u8>>,
    blocked: Option<Blocked>,
}

#[derive(Clone, Debug)]
struct Blocked {
    arguments: Vec<Vec<u8>>,
    keys: Vec<Vec<u8>>,
    /// Milliseconds; nothing: for ever.
    until: Option<u64>,
}

impl Session {
    fn subscriptions(&self) -> usize {
        self.channels.len() + self.patterns.len()
    }
}

impl Hub {
    pub fn new(store: Store) -> Hub {
        Hub { store, ..Hub::default() }
    }

    /// The data, past all connections.
    pub fn store(&mut self) -> &mut Store {
        &mut self.store
    }

    pub fn connect(&mut self) -> SessionId {
        self.last += 1;
        let id = SessionId(self.last);
        self.sessions.insert(id, Session::default());
        id
    }

    pub fn disconnect(&mut self, id: SessionId) {
        self.unsubscribe_all(id);
        self.waiting.retain(|waiting| *waiting != id);
        self.sessions.remove(&id);
    }

    pub fn is_blocked(&self, id: SessionId) -> bool {
        self.sessions.get(&id).is_some_and(|session| session.blocked.is_some())
    }

    /// When `wake` has something to do.
    pub fn wakes_at(&self) -> Option<u64> {
        self.waiting.iter().filter_map(|id| self.sessions.get(id)?.blocked.as_ref()?.until).min()
    }

    /// Answers the sessions whose time is over.
    pub fn wake(&mut self, now_millis: u64, say: Say<'_>) {
        let is_over = |blocked: &Blocked| blocked.until.is_some_and(|until| until <= now_millis);
        let over: Vec<SessionId> = self
            .waiting
            .iter()
            .copied()
            .filter(|id| self.sessions.get(id).and_then(|session| session.blocked.as_ref()).is_some_and(is_over))
            .collect();
        for id in over {
            if self.unblock(id).is_some() {
                // The same for all of them, also for those that say another null when they do not block.
                say(id, b"*-1\r\n");
            }
        }
    }

    /// Executes one command of a session that is not blocked.
    pub fn execute(&mut self, id: SessionId, arguments: Arguments<'_>, now_millis: u64, say: Say<'_>) -> Taken {
        self.store.pass_time(now_millis);
        self.spread_changes(say);
        let mut out = Vec::new();
        let taken = self.take(id, arguments, say, &mut out).unwrap_or_else(|Fail(text)| {
            out.clear();
            encode::error(&text, &mut out);
            Taken::Yes
        });
        if !out.is_empty() {
            say(id, &out);
        }
        self.spread_changes(say);
        taken
    }

    fn take(&mut self, id: SessionId, arguments: Arguments<'_>, say: Say<'_>, out: &mut Vec<u8>) -> Outcome<Taken> {
        let Some(name) = arguments.first().map(|name| name.to_ascii_lowercase()) else { return Ok(Taken::Yes) };
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(Taken::Close) };
        if session.subscriptions() > 0 && !WHILE_SUBSCRIBED.contains(&name.as_slice()) {
            let name = String::from_utf8_lossy(&name).replace(['\r', '\n'], " ");
            return Err(Fail::said(format!(
                "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
            )));
        }
        if session.queue.is_some() && !AT_ONCE.contains(&name.as_slice()) {
            return match check(arguments) {
                Ok(()) => {
                    let command = arguments.iter().map(|argument| argument.to_vec()).collect();
                    session.queue.get_or_insert_default().push(command);
                    encode::status("QUEUED", out);
                    Ok(Taken::Yes)
                }
                Err(fail) => {
                    session.broken = true;
                    Err(fail)
                }
            };
        }
        check(arguments)?;
        match name.as_slice() {
            b"multi" if session.queue.is_some() => return Err(Fail::of("ERR MULTI calls can not be nested")),
            b"multi" => {
                session.queue = Some(Vec::new());
                ok(out);
            }
            b"discard" if session.queue.is_none() => return Err(Fail::of("ERR DISCARD without MULTI")),
            b"discard" => {
                self.forget(id);
                ok(out);
            }
            b"watch" if session.queue.is_some() => return Err(Fail::of("ERR WATCH inside MULTI is not allowed")),
            b"watch" => {
                session.watched.extend(arguments[1..].iter().map(|key| key.to_vec()));
                ok(out);
            }
            b"exec" if session.queue.is_none() => return Err(Fail::of("ERR EXEC without MULTI")),
            b"exec" => self.exec(id, say, out)?,
            b"quit" => {
                ok(out);
                return Ok(Taken::Close);
            }
            b"reset" => {
                self.forget(id);
                self.unsubscribe_all(id);
                self.sessions.insert(id, Session::default());
                encode::status("RESET", out);
            }
            _ => {
                self.run(id, arguments, say, out);
                if let Some(stalled) = self.store.take_stalled() {
                    let until = match stalled.timeout_millis {
                        0 => None,
                        timeout => Some(self.store.now_millis.saturating_add(timeout)),
                    };
                    let blocked = Blocked {
                        arguments: arguments.iter().map(|argument| argument.to_vec()).collect(),
                        keys: stalled.keys,
                        until,
                    };
                    out.clear();
                    if let Some(session) = self.sessions.get_mut(&id) {
                        session.blocked = Some(blocked);
                        self.waiting.push(id);
                    }
                    return Ok(Taken::Blocked);
                }
            }
        }
        Ok(Taken::Yes)
    }

    /// One command of those that a transaction may hold.
    fn run(&mut self, id: SessionId, arguments: Arguments<'_>, say: Say<'_>, out: &mut Vec<u8>) {
        let start = out.len();
        let done = match arguments[0].to_ascii_lowercase().as_slice() {
            b"unwatch" => {
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.watched.clear();
                    session.dirty = false;
                }
                ok(out);
                Ok(())
            }
            b"subscribe" => Ok(self.subscribe(id, arguments, false, out)),
            b"psubscribe" => Ok(self.subscribe(id, arguments, true, out)),
            b"unsubscribe" => Ok(self.unsubscribe(id, &arguments[1..], false, out)),
            b"punsubscribe" => Ok(self.unsubscribe(id, &arguments[1..], true, out)),
            b"publish" => Ok(self.publish(arguments[1], arguments[2], say, out)),
            b"pubsub" => self.pubsub(arguments, out),
            b"client" => self.client(id, arguments, out),
            b"hello" => hello(id, arguments, out),
            b"ping" if self.sessions.get(&id).is_some_and(|session| session.subscriptions() > 0) => {
                encode::array_head(2, out);
                encode::bulk(b"pong", out);
                encode::bulk(arguments.get(1).copied().unwrap_or_default(), out);
                Ok(())
            }
            _ => Ok(self.store.run(arguments, out)),
        };
        if let Err(Fail(text)) = done {
            out.truncate(start);
            encode::error(&text, out);
        }
    }

    fn exec(&mut self, id: SessionId, say: Say<'_>, out: &mut Vec<u8>) -> Outcome {
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        let (queue, broken, dirty) = (session.queue.take().unwrap_or_default(), session.broken, session.dirty);
        self.forget(id);
        if broken {
            return Err(Fail::of("EXECABORT Transaction discarded because of previous errors."));
        }
        if dirty {
            null_array(out);
            return Ok(());
        }
        encode::array_head(queue.len(), out);
        for command in &queue {
            let arguments: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
            self.run(id, &arguments, say, out);
            // Nothing blocks in here: what is not there is told at once.
            self.store.take_stalled();
        }
        Ok(())
    }

    /// Ends a transaction and all watching.
    fn forget(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.queue = None;
            session.broken = false;
            session.dirty = false;
            session.watched.clear();
        }
    }

    /// Tells watchers of changed keys, and lets those who wait for them try again, until nothing changes any more.
    fn spread_changes(&mut self, say: Say<'_>) {
        loop {
            let changed: BTreeSet<Vec<u8>> = self.store.take_changed().into_iter().collect();
            if changed.is_empty() {
                return;
            }
            for session in self.sessions.values_mut() {
                session.dirty |= !session.watched.is_disjoint(&changed);
            }
            for id in self.waiting.clone() {
                let Some(blocked) = self.sessions.get(&id).and_then(|session| session.blocked.as_ref()) else {
                    continue;
                };
                if blocked.keys.iter().any(|key| changed.contains(key)) {
                    self.try_again(id, say);
                }
            }
        }
    }

    fn try_again(&mut self, id: SessionId, say: Say<'_>) {
        let Some(blocked) = self.sessions.get(&id).and_then(|session| session.blocked.clone()) else { return };
        let arguments: Vec<&[u8]> = blocked.arguments.iter().map(Vec::as_slice).collect();
        let mut out = Vec::new();
        self.store.run(&arguments, &mut out);
        let stays = self.store.take_stalled().is_some();
        // A key that became something else is as good as none; a target that is something else is an error.
        let waits_for_one = blocked.keys.len() == 1 && matches!(self.store.list(&blocked.keys[0]), Ok(Some(_)));
        if !stays && (!out.starts_with(b"-WRONGTYPE") || waits_for_one) {
            self.unblock(id);
            say(id, &out);
        }
    }

    fn unblock(&mut self, id: SessionId) -> Option<Blocked> {
        self.waiting.retain(|waiting| *waiting != id);
        self.sessions.get_mut(&id)?.blocked.take()
    }

    fn subscribe(&mut self, id: SessionId, arguments: Arguments<'_>, by_pattern: bool, out: &mut Vec<u8>) {
        for name in &arguments[1..] {
            let Some(session) = self.sessions.get_mut(&id) else { return };
            let (own, all, word) = match by_pattern {
                false => (&mut session.channels, &mut self.channels, "subscribe"),
                true => (&mut session.patterns, &mut self.patterns, "psubscribe"),
            };
            own.insert(name.to_vec());
            all.entry(name.to_vec()).or_default().insert(id);
            tell_subscription(word, Some(name), session.subscriptions(), out);
        }
    }

    fn unsubscribe(&mut self, id: SessionId, names: Arguments<'_>, by_pattern: bool, out: &mut Vec<u8>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let word = if by_pattern { "punsubscribe" } else { "unsubscribe" };
        let own = if by_pattern { &session.patterns } else { &session.channels };
        let names: Vec<Vec<u8>> = match names {
            [] => own.iter().cloned().collect(),
            names => names.iter().map(|name| name.to_vec()).collect(),
        };
        if names.is_empty() {
            return tell_subscription(word, None, session.subscriptions(), out);
        }
        for name in names {
            let (own, all) = match by_pattern {
                false => (&mut session.channels, &mut self.channels),
                true => (&mut session.patterns, &mut self.patterns),
            };
            own.remove(&name);
            if let Some(subscribers) = all.get_mut(&name) {
                subscribers.remove(&id);
                if subscribers.is_empty() {
                    all.remove(&name);
                }
            }
            tell_subscription(word, Some(&name), session.subscriptions(), out);
        }
    }

    fn unsubscribe_all(&mut self, id: SessionId) {
        self.unsubscribe(id, &[], false, &mut Vec::new());
        self.unsubscribe(id, &[], true, &mut Vec::new());
    }

    fn publish(&mut self, channel: &[u8], message: &[u8], say: Say<'_>, out: &mut Vec<u8>) {
        let mut heard = 0;
        let mut frame = Vec::new();
        if let Some(subscribers) = self.channels.get(channel) {
            encode::array_head(3, &mut frame);
            [b"message", channel, message].iter().for_each(|part| encode::bulk(part, &mut frame));
            subscribers.iter().for_each(|id| say(*id, &frame));
            heard += subscribers.len();
        }
        for (pattern, subscribers) in self.patterns.iter().filter(|(pattern, _)| glob::matches(pattern, channel)) {
            frame.clear();
            encode::array_head(4, &mut frame);
            [b"pmessage", pattern.as_slice(), channel, message].iter().for_each(|part| encode::bulk(part, &mut frame));
            subscribers.iter().for_each(|id| say(*id, &frame));
            heard += subscribers.len();
        }
        count(heard, out);
    }

    fn pubsub(&self, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
        table::check_second(&[("channels", -2), ("numpat", 2), ("numsub", -2)], arguments)?;
        match arguments[1].to_ascii_lowercase().as_slice() {
            b"channels" => {
                let fits = |name: &Vec<u8>| arguments.get(2).is_none_or(|pattern| glob::matches(pattern, name));
                let found: Vec<_> = self.channels.keys().filter(|name| fits(name)).collect();
                encode::array_head(found.len(), out);
                found.iter().for_each(|name| encode::bulk(name, out));
            }
            b"numsub" => {
                encode::array_head(2 * (arguments.len() - 2), out);
                for name in &arguments[2..] {
                    encode::bulk(name, out);
                    count(self.channels.get(*name).map_or(0, BTreeSet::len), out);
                }
            }
            _ => count(self.patterns.len(), out),
        }
        Ok(())
    }

    fn client(&mut self, id: SessionId, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        let rows = [("getname", 2), ("id", 2), ("no-evict", 3), ("no-touch", 3), ("setinfo", 4), ("setname", 3)];
        table::check_second(&rows, arguments)?;
        match arguments[1].to_ascii_lowercase().as_slice() {
            b"setname" => {
                if arguments[2].iter().any(|byte| !byte.is_ascii_graphic()) {
                    return Err(Fail::of("ERR Client names cannot contain spaces, newlines or special characters."));
                }
                session.name = arguments[2].to_vec();
                ok(out);
            }
            b"getname" => {
                bulk_or_null((!session.name.is_empty()).then_some(session.name.as_slice()), out);
            }
            b"id" => encode::integer(id.0 as i64, out),
            _ => ok(out),
        }
        Ok(())
    }
}

/// What a subscriber may still ask.
const WHILE_SUBSCRIBED: &[&[u8]] =
    &[b"subscribe", b"psubscribe", b"unsubscribe", b"punsubscribe", b"ping", b"quit", b"reset"];

/// What a transaction does not hold back.
const AT_ONCE: &[&[u8]] = &[b"multi", b"exec", b"discard", b"watch", b"quit", b"reset"];

/// Commands that need a session, and their arities.
const OF_SESSIONS: &[(&str, i16)] = &[
    ("client", -2),
    ("discard", 1),
    ("exec", 1),
    ("hello", -1),
    ("multi", 1),
    ("psubscribe", -2),
    ("publish", 3),
    ("pubsub", -2),
    ("punsubscribe", -1),
    ("quit", -1),
    ("reset", 1),
    ("subscribe", -2),
    ("unsubscribe", -1),
    ("unwatch", 1),
    ("watch", -2),
];

fn check(arguments: Arguments<'_>) -> Outcome {
    match OF_SESSIONS.iter().find(|(name, _)| is(arguments[0], name)) {
        Some((_, arity)) if table::takes(*arity, arguments.len()) => Ok(()),
        Some((name, _)) => Err(Fail::arity(name)),
        None => table::check(arguments).map(|_| ()),
    }
}

fn tell_subscription(word: &str, name: Option<&[u8]>, subscriptions: usize, out: &mut Vec<u8>) {
    encode::array_head(3, out);
    encode::bulk(word.as_bytes(), out);
    bulk_or_null(name, out);
    count(subscriptions, out);
}

/// Only version 2 is spoken.
fn hello(id: SessionId, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    match arguments.get(1).map(|version| parse_integer(version)) {
        None | Some(Some(2)) => {}
        Some(Some(_)) => return Err(Fail::of("NOPROTO unsupported protocol version")),
        Some(None) => return Err(Fail::of("ERR Protocol version is not an integer or out of range")),
    }
    encode::array_head(14, out);
    for (name, value) in [("server", "redis"), ("version", "7.0.15")] {
        encode::bulk(name.as_bytes(), out);
        encode::bulk(value.as_bytes(), out);
    }
    encode::bulk(b"proto", out);
    count(2, out);
    encode::bulk(b"id", out);
    encode::integer(id.0 as i64, out);
    for (name, value) in [("mode", "standalone"), ("role", "master")] {
        encode::bulk(name.as_bytes(), out);
        encode::bulk(value.as_bytes(), out);
    }
    encode::bulk(b"modules", out);
    encode::array_head(0, out);
    Ok(())
}
