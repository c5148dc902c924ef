//! The keys, their values and when they end.
//! Owns: the keyspace and what a command changed in it. Knows nothing of: connections; see `hub`.

use std::collections::{BTreeSet, VecDeque};

use super::arguments::Arguments;
use super::fail::{Fail, Outcome, WRONG_TYPE};
use super::script::Script;
use super::table;
use super::value::{SortedSet, Value};
use crate::embedded::dict::Dict;
use crate::protocol::resp::encode;

#[derive(Clone, Debug)]
pub struct Entry {
    pub value: Value,
    pub expires_at: Option<u64>,
}

/// A Redis without its connections.
#[derive(Clone, Debug)]
pub struct Store {
    entries: Dict<Entry>,
    /// Every time of `entries`, earliest first.
    expiries: BTreeSet<(u64, Vec<u8>)>,
    pub(super) now_millis: u64,
    random: u64,
    pub(super) scripts: &'static [Script],
    /// Digests of those whose text was seen.
    pub(super) loaded: BTreeSet<&'static str>,
    /// Keys that this command changed: whoever watches them or waits for them has to hear of it.
    changed: Vec<Vec<u8>>,
    /// Set by a blocking command that found nothing.
    stalled: Option<Stalled>,
    pub(super) commands_processed: u64,
}

/// What a blocking command waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stalled {
    pub keys: Vec<Vec<u8>>,
    /// 0: for ever.
    pub timeout_millis: u64,
}

impl Default for Store {
    fn default() -> Store {
        Store::with_seed(1)
    }
}

macro_rules! typed {
    ($($kind:ident, $type:ty: $read:ident, $make:ident $(, $write:ident)?;)*) => {
        $(
            pub(super) fn $read(&self, key: &[u8]) -> Outcome<Option<&$type>> {
                match self.entries.get(key).map(|entry| &entry.value) {
                    Some(Value::$kind(value)) => Ok(Some(value)),
                    Some(_) => Err(WRONG_TYPE),
                    None => Ok(None),
                }
            }

            $(pub(super) fn $write(&mut self, key: &[u8]) -> Outcome<Option<&mut $type>> {
                match self.entries.get_mut(key).map(|entry| &mut entry.value) {
                    Some(Value::$kind(value)) => Ok(Some(value)),
                    Some(_) => Err(WRONG_TYPE),
                    None => Ok(None),
                }
            })?

            /// Makes an empty one if there is none; `changed` or `drop_if_empty` has to follow.
            pub(super) fn $make(&mut self, key: &[u8]) -> Outcome<&mut $type> {
                let entry = self.entries.get_or_insert_with(key, || Entry {
                    value: Value::$kind(<$type>::default()),
                    expires_at: None,
                });
                match &mut entry.value {
                    Value::$kind(value) => Ok(value),
                    _ => Err(WRONG_TYPE),
                }
            }
        )*
    };
}

impl Store {
    /// Whatever is random about it comes from `seed`.
    pub fn with_seed(seed: u64) -> Store {
        Store {
            entries: Dict::default(),
            expiries: BTreeSet::new(),
            now_millis: 0,
            random: seed ^ 0x9e37_79b9_7f4a_7c15,
            scripts: &[],
            loaded: BTreeSet::new(),
            changed: Vec::new(),
            stalled: None,
            commands_processed: 0,
        }
    }

    /// Scripts that EVAL knows.
    #[must_use]
    pub fn knowing(self, scripts: &'static [Script]) -> Store {
        Store { scripts, ..self }
    }

    /// Executes one command as if there were one connection, and appends its reply. A blocking command does not block: it
    /// says what it says when its time is over.
    pub fn execute(&mut self, arguments: Arguments<'_>, now_millis: u64, out: &mut Vec<u8>) {
        self.pass_time(now_millis);
        self.changed.clear();
        self.stalled = None;
        self.run(arguments, out);
    }

    /// Time never goes back: a clock that does would bring expired keys to life.
    pub(super) fn pass_time(&mut self, now_millis: u64) {
        self.now_millis = self.now_millis.max(now_millis);
        while let Some((at, key)) = self.expiries.first().filter(|(at, _)| *at < self.now_millis).cloned() {
            self.expiries.remove(&(at, key.clone()));
            self.entries.remove(&key);
            self.changed.push(key);
        }
    }

    pub(super) fn run(&mut self, arguments: Arguments<'_>, out: &mut Vec<u8>) {
        let start = out.len();
        if let Err(Fail(text)) = table::call(self, arguments, out) {
            out.truncate(start);
            encode::error(&text, out);
        }
    }

    typed! {
        Text, Vec<u8>: text, text_or_new;
        List, VecDeque<Vec<u8>>: list, list_or_new, list_mut;
        Hash, Dict<Vec<u8>>: hash, hash_or_new, hash_mut;
        Set, Dict<()>: set, set_or_new, set_mut;
        Sorted, SortedSet: sorted, sorted_or_new, sorted_mut;
    }

    pub(super) fn entry(&self, key: &[u8]) -> Option<&Entry> {
        self.entries.get(key)
    }

    pub(super) fn value(&self, key: &[u8]) -> Option<&Value> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    pub(super) fn contains(&self, key: &[u8]) -> bool {
        self.entries.contains(key)
    }

    /// Puts a value where there may be another, with no time or one in which it ends.
    pub(super) fn put(&mut self, key: &[u8], value: Value, expires_at: Option<u64>) {
        let before = self.entries.insert(key, Entry { value, expires_at });
        self.note_expiry(key, before.and_then(|entry| entry.expires_at), expires_at);
        self.changed(key);
    }

    /// Puts a text in place of what there was and keeps the time it has left.
    pub(super) fn put_text_in_place(&mut self, key: &[u8], text: Vec<u8>) {
        let expires_at = self.entries.get(key).and_then(|entry| entry.expires_at);
        self.put(key, Value::Text(text), expires_at);
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        self.note_expiry(key, entry.expires_at, None);
        self.changed(key);
        Some(entry)
    }

    /// Empty collections do not exist.
    pub(super) fn drop_if_empty(&mut self, key: &[u8]) {
        if self.entries.get(key).is_some_and(|entry| entry.value.is_empty()) {
            self.remove(key);
        }
    }

    pub(super) fn set_expiry(&mut self, key: &[u8], expires_at: Option<u64>) {
        if let Some(entry) = self.entries.get_mut(key) {
            let before = std::mem::replace(&mut entry.expires_at, expires_at);
            self.note_expiry(key, before, expires_at);
            self.changed(key);
        }
    }

    fn note_expiry(&mut self, key: &[u8], before: Option<u64>, after: Option<u64>) {
        if before != after {
            if let Some(before) = before {
                self.expiries.remove(&(before, key.to_vec()));
            }
            if let Some(after) = after {
                self.expiries.insert((after, key.to_vec()));
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.changed.extend(self.entries.keys().map(<[u8]>::to_vec));
        self.entries = Dict::default();
        self.expiries.clear();
    }

    pub(super) fn entries(&self) -> &Dict<Entry> {
        &self.entries
    }

    pub(super) fn changed(&mut self, key: &[u8]) {
        self.changed.push(key.to_vec());
    }

    pub(super) fn take_changed(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.changed)
    }

    pub(super) fn stall(&mut self, keys: Arguments<'_>, timeout_millis: u64) {
        self.stalled = Some(Stalled { keys: keys.iter().map(|key| key.to_vec()).collect(), timeout_millis });
    }

    pub(super) fn take_stalled(&mut self) -> Option<Stalled> {
        self.stalled.take()
    }

    /// xorshift64*: its order is the seed's.
    pub(super) fn random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}
