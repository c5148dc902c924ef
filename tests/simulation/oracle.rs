//! What may be answered, and what must be true in the end.
//! Owns: every key's history. Knows nothing of: nodes' insides.
//!
//! A write has a version; a key's versions grow in the order in which they were asked, and each replica gets them in that
//! order. A write that was acknowledged at a quorum is held by a majority from then on, so a read that asks a majority
//! cannot miss it. Only what was not answered before its client went elsewhere may take effect at any later time.

use std::collections::BTreeSet;

use dynomite_tests::random::Random;
use dynomite_tests::resp::Value;
use dynomite_user::coordinator::ConsistencyLevel;

use crate::node::Levels;
use crate::workload::{Asked, Span, Style, Wanted, What};

pub type KeyId = usize;

/// Where a node stands, for what it promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stand {
    pub datacenter: usize,
    pub rack: usize,
}

struct Key {
    name: String,
    /// A field of a hash, in place of a key of its own.
    is_field: bool,
    /// The node that its writer asks.
    node: usize,
    /// The last version that was asked for, and the last that was acknowledged.
    asked: u64,
    acknowledged: u64,
    /// Through which node.
    acknowledged_by: usize,
    /// Versions that are removals.
    removals: BTreeSet<u64>,
    /// Versions that were refused after they had perhaps been executed, later than the last one acknowledged.
    refused: BTreeSet<u64>,
    /// Versions that may take effect whenever they like.
    loose: BTreeSet<u64>,
}

/// What is held under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    Nothing,
    Version(u64),
}

/// One replica of a key, in the end.
#[derive(Clone, Debug)]
pub struct Replica {
    pub stand: Stand,
    pub reply: Vec<u8>,
    /// Nothing ever came between it and the key's writer's node.
    pub was_reached: bool,
    /// The key was read through this datacenter when everything was well.
    pub was_read: bool,
}

pub struct Oracle {
    levels: Levels,
    /// Nothing goes wrong in this run: every replica gets everything.
    is_calm: bool,
    /// Nothing goes wrong any more: everybody can be reached, and no error is in order but that replicas differ.
    is_over: bool,
    stands: Vec<Stand>,
    keys: Vec<Key>,
    pub answers: u64,
    pub errors: u64,
    pub acknowledged: u64,
    /// Reads that were held to a version.
    pub held: u64,
    /// Replicas that had to hold what was acknowledged.
    pub compared: u64,
}

impl Oracle {
    pub fn new(levels: Levels, is_calm: bool, stands: Vec<Stand>) -> Oracle {
        Oracle {
            levels,
            is_calm,
            is_over: is_calm,
            stands,
            keys: Vec::new(),
            answers: 0,
            errors: 0,
            acknowledged: 0,
            held: 0,
            compared: 0,
        }
    }

    pub fn over(&mut self) {
        self.is_over = true;
    }

    pub fn new_key(&mut self, client: usize, node: usize) -> KeyId {
        let number = self.keys.len();
        self.keys.push(Key {
            name: format!("key{number}:client{client}"),
            is_field: number % 3 == 2,
            node,
            asked: 0,
            acknowledged: 0,
            acknowledged_by: node,
            removals: BTreeSet::new(),
            refused: BTreeSet::new(),
            loose: BTreeSet::new(),
        });
        number
    }

    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    pub fn any_key(&self, random: &mut Random) -> KeyId {
        random.below(self.keys.len())
    }

    pub fn name(&self, key: KeyId) -> &str {
        &self.keys[key].name
    }

    /// The node that acknowledged the last version.
    pub fn acknowledged_by(&self, key: KeyId) -> usize {
        self.keys[key].acknowledged_by
    }

    pub fn is_text(&self, key: KeyId) -> bool {
        !self.keys[key].is_field
    }

    /// What reads it.
    pub fn read(&self, key: KeyId) -> Vec<&[u8]> {
        let Key { name, is_field, .. } = &self.keys[key];
        if *is_field { vec![b"HGET", name.as_bytes(), b"f"] } else { vec![b"GET", name.as_bytes()] }
    }

    /// What makes this version of it.
    pub fn write<'a>(&'a self, key: KeyId, version: u64, value: &'a str) -> Vec<&'a [u8]> {
        let Key { name, is_field, removals, .. } = &self.keys[key];
        match (is_field, removals.contains(&version)) {
            (false, false) => vec![b"SET", name.as_bytes(), value.as_bytes()],
            (false, true) => vec![b"DEL", name.as_bytes()],
            (true, false) => vec![b"HSET", name.as_bytes(), b"f", value.as_bytes()],
            (true, true) => vec![b"HDEL", name.as_bytes(), b"f"],
        }
    }

    pub fn begin_write(&mut self, key: KeyId, removes: bool) -> u64 {
        let key = &mut self.keys[key];
        key.asked += 1;
        if removes {
            key.removals.insert(key.asked);
        }
        key.asked
    }

    /// These were asked on a connection that is gone.
    pub fn lost_sight(&mut self, keys: &[(KeyId, u64)]) {
        keys.iter().for_each(|&(key, version)| _ = self.keys[key].loose.insert(version));
    }

    /// Of all that was asked, is this version alone not acknowledged?
    pub fn awaits_only(&self, key: KeyId, version: u64) -> bool {
        let Key { asked, acknowledged, .. } = self.keys[key];
        asked == version && acknowledged + 1 == version
    }

    /// May its writer go on through this node? What is acknowledged in another datacenter is not acknowledged here.
    pub fn moves_to(&self, key: KeyId, node: usize) -> bool {
        self.stands[node].datacenter == self.stands[self.keys[key].node].datacenter
    }

    pub fn move_to(&mut self, key: KeyId, node: usize) {
        let key = &mut self.keys[key];
        // The next one's time is another clock's.
        if key.node != node {
            key.loose.append(&mut key.refused);
        }
        key.node = node;
    }

    /// Is what is read compared with what replicas hold?
    pub fn is_held_to_replicas(&self) -> bool {
        self.levels.read == ConsistencyLevel::DcOne
    }

    /// The oldest version that a read through `node`, asked now, may find.
    pub fn floor(&self, key: KeyId, node: usize, style: Style) -> u64 {
        use ConsistencyLevel::*;
        let Key { acknowledged_by: writer, acknowledged, .. } = self.keys[key];
        let (here, there) = (self.stands[node], self.stands[writer]);
        let Levels { read, write, repairs } = self.levels;
        let has_majority = write > DcOne && (here.datacenter == there.datacenter || write == DcEachSafeQuorum);
        let held = match read {
            DcSafeQuorum | DcEachSafeQuorum => has_majority,
            // A quorum whose answers differ may take any of them, unless they have times; but in calm all answer, and a
            // majority has it.
            DcQuorum => (self.is_calm || repairs && style == Style::Get) && has_majority,
            // One answer, of the rack that acknowledged the write.
            DcOne => self.is_calm && write == DcOne && here == there,
        };
        if held { acknowledged } else { 0 }
    }

    /// Is the reply in order? `Err` says why not.
    pub fn judge(&mut self, asked: &Asked, reply: &Value, node: usize, span: Span<'_>) -> Result<(), String> {
        self.answers += 1;
        if let Value::Error(text) = reply {
            self.errors += 1;
            if let What::Write(keys) = &asked.what {
                keys.iter().for_each(|&(key, version)| _ = self.keys[key].refused.insert(version));
            }
            return self.judge_error(text);
        }
        match (&asked.what, reply) {
            (What::Echo(word), Value::Bulk(back)) if back == word.as_bytes() => Ok(()),
            (What::Write(keys), reply) if self.is_done(keys, reply) => {
                self.acknowledged += 1;
                for &(key, version) in keys {
                    let key = &mut self.keys[key];
                    if version > key.acknowledged {
                        (key.acknowledged, key.acknowledged_by) = (version, node);
                    }
                    key.refused.retain(|refused| *refused > version);
                }
                Ok(())
            }
            (What::Read(keys, Style::Get), value) => self.judge_value(keys[0], Style::Get, value, span),
            (What::Read(keys, style), Value::Array(values)) if values.len() == keys.len() => {
                keys.iter().zip(values).try_for_each(|(key, value)| self.judge_value(*key, *style, value, span))
            }
            _ => Err("that is no answer to it".to_owned()),
        }
    }

    fn is_done(&self, keys: &[(KeyId, u64)], reply: &Value) -> bool {
        let is_count = |(key, version): (KeyId, u64)| {
            let key = &self.keys[key];
            key.is_field || key.removals.contains(&version)
        };
        match reply {
            Value::Simple(ok) => ok == "OK" && !is_count(keys[0]),
            Value::Integer(0 | 1) => keys.len() == 1 && is_count(keys[0]),
            _ => false,
        }
    }

    fn judge_error(&self, text: &str) -> Result<(), String> {
        let known = ["ERR Peer: ", "ERR Storage: ", "ERR Dynomite: Failed to achieve Quorum"];
        let may_differ = self.levels.read >= ConsistencyLevel::DcSafeQuorum;
        match known.iter().position(|known| text.starts_with(known)) {
            None => Err("an error that nobody expects".to_owned()),
            // Replicas that are being written may differ for a moment.
            Some(2) if may_differ => Ok(()),
            Some(_) if self.is_over => Err("an error, though nothing is wrong".to_owned()),
            Some(_) => Ok(()),
        }
    }

    fn judge_value(&mut self, wanted: Wanted, style: Style, value: &Value, span: Span<'_>) -> Result<(), String> {
        let Wanted { floor, lowest, .. } = wanted;
        let key = &self.keys[wanted.key];
        let seen = match value {
            Value::Null => Seen::Nothing,
            Value::Bulk(bytes) => Seen::Version(version_of(&key.name, bytes).ok_or("the value of another key")?),
            _ => return Err("no value".to_owned()),
        };
        if let Seen::Version(version) = seen
            && (version > key.asked || key.removals.contains(&version))
        {
            return Err(format!("{} was never given version {version}", key.name));
        }
        // While a later write is on its way there may be no majority; times decide without one.
        let decides = self.levels.read != ConsistencyLevel::DcQuorum || self.levels.repairs && style == Style::Get;
        let is_held = floor > 0 && (decides || key.asked == floor);
        self.held += u64::from(is_held);
        if is_held && !key.may_be(seen, floor) {
            return Err(format!("{} had version {floor} acknowledged before; loose {:?}", key.name, key.loose));
        }
        if self.is_held_to_replicas() {
            let version = if let Seen::Version(version) = seen { version } else { 0 };
            let highest = span(&key.name).1;
            if version < lowest || version > highest {
                return Err(format!("no replica of {} held it: only versions {lowest} to {highest}", key.name));
            }
        }
        Ok(())
    }

    /// In the end, of each rack's owner: `Err` if an acknowledged write is lost, or replicas differ that may not.
    pub fn judge_replicas(&mut self, key: KeyId, replicas: &[Replica]) -> Result<(), String> {
        let Key { name, acknowledged_by, acknowledged, asked, loose, .. } = &self.keys[key];
        let there = self.stands[*acknowledged_by];
        let mut seen = Vec::new();
        for replica in replicas {
            let value = Value::parse(&replica.reply).map(|(value, _)| value);
            seen.push(match value {
                Some(Value::Null) => Seen::Nothing,
                Some(Value::Bulk(bytes)) => {
                    Seen::Version(version_of(name, &bytes).ok_or("a replica holds another key's value")?)
                }
                other => return Err(format!("a replica of {name} says {other:?}")),
            });
        }
        let wrong = |what: &str| {
            let replicas: Vec<_> = replicas.iter().zip(&seen).map(|(replica, seen)| (replica.stand, seen)).collect();
            Err(format!(
                "{name}: {what}; acknowledged {acknowledged}, asked {asked}, loose {loose:?}, writer in {there:?}, replicas {replicas:?}"
            ))
        };
        let has_it = |seen: Seen| *acknowledged == 0 || self.keys[key].may_be(seen, *acknowledged);
        let datacenters = replicas.iter().map(|replica| replica.stand.datacenter).max().map_or(0, |last| last + 1);
        let mut compared = 0;
        for datacenter in 0..datacenters {
            let racks = || replicas.iter().zip(&seen).filter(|(replica, _)| replica.stand.datacenter == datacenter);
            let have = racks().filter(|(_, seen)| has_it(**seen)).count();
            let all = racks().count();
            let needed = match self.levels.write {
                _ if self.is_calm => all,
                ConsistencyLevel::DcEachSafeQuorum => all / 2 + 1,
                _ if datacenter != there.datacenter => 0,
                ConsistencyLevel::DcOne => 1,
                _ => all / 2 + 1,
            };
            if have < needed {
                return wrong("an acknowledged write is lost");
            }
            for (replica, seen) in racks().filter(|(replica, _)| replica.was_reached) {
                compared += 1;
                if !has_it(*seen) {
                    return wrong(&format!("{:?} was always reached and does not have it", replica.stand));
                }
            }
            let read: Vec<_> = racks().filter(|(replica, _)| replica.was_read).collect();
            compared += read.len() as u64;
            if needed > 0 && read.iter().any(|(_, seen)| !has_it(**seen)) {
                return wrong("what was acknowledged was read and not repaired");
            }
            // What only a few have was not acknowledged; nothing says that the others did not forget its removal.
            let is_like = |one: &Replica| read.iter().filter(|(other, _)| other.reply == one.reply).count();
            let most = read.iter().find(|(replica, _)| is_like(replica) > all / 2);
            if most.is_some_and(|(most, seen)| **seen != Seen::Nothing && is_like(most) < read.len()) {
                return wrong("what most replicas have was read and others were not repaired");
            }
        }
        self.compared += compared;
        Ok(())
    }

    pub fn say(&self, what: &What) -> String {
        let list = |keys: Vec<String>| keys.join(", ");
        let write = |(key, version): &(KeyId, u64)| {
            let key = &self.keys[*key];
            let how = if key.removals.contains(version) { ", a removal" } else { "" };
            format!("{} (version {version}{how})", key.name)
        };
        match what {
            What::Echo(word) => format!("to echo {word}"),
            What::Read(all, style) => {
                let read = |wanted: &Wanted| format!("{} (version {})", self.name(wanted.key), wanted.floor);
                format!("to {style:?} {}", list(all.iter().map(read).collect()))
            }
            What::Write(all) => format!("to write {}", list(all.iter().map(write).collect())),
        }
    }
}

impl Key {
    /// May this be there after that version was acknowledged?
    fn may_be(&self, seen: Seen, floor: u64) -> bool {
        match seen {
            Seen::Version(version) => version >= floor || self.loose.contains(&version),
            Seen::Nothing => self.removals.iter().any(|version| *version >= floor || self.loose.contains(version)),
        }
    }
}

/// The version of what a replica says; 0 if it holds nothing.
pub fn version_held(name: &str, reply: &[u8]) -> u64 {
    match Value::parse(reply) {
        Some((Value::Bulk(bytes), _)) => version_of(name, &bytes).unwrap_or_default(),
        _ => 0,
    }
}

/// Values are `<key>=<version>=<padding>`.
fn version_of(name: &str, value: &[u8]) -> Option<u64> {
    let value = std::str::from_utf8(value).ok()?;
    let (version, padding) = value.strip_prefix(name)?.strip_prefix('=')?.split_once('=')?;
    padding.bytes().all(|byte| byte == b'.').then_some(())?;
    version.parse().ok()
}
