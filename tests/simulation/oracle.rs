//! What may be answered, and what must be true in the end.
//! Owns: every key's history. Knows nothing of: nodes' insides.
//!
//! A write has a version; a key's versions grow in the order in which they were asked, and each replica gets them in that
//! order. A write that was acknowledged at a quorum is held by a majority from then on, so a read that asks a majority
//! cannot miss it.

use dynomite_tests::random::Random;
use dynomite_tests::resp::Value;
use dynomite_user::coordinator::ConsistencyLevel;
use dynomite_user::moment::Moment;

use crate::node::Levels;
use crate::workload::{Asked, Style, What};

pub type KeyId = usize;

/// Where a node stands, for what it promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stand {
    pub datacenter: usize,
    pub rack: usize,
}

struct Key {
    name: String,
    /// The node that its writer asks.
    node: usize,
    /// The last version that was asked for, and the last that was acknowledged.
    asked: u64,
    acknowledged: u64,
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
    /// Reads that were held to a version, and reads that were not.
    pub held: u64,
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
        }
    }

    pub fn over(&mut self) {
        self.is_over = true;
    }

    pub fn new_key(&mut self, client: usize, node: usize) -> KeyId {
        let number = self.keys.len();
        self.keys.push(Key { name: format!("key{number}:client{client}"), node, asked: 0, acknowledged: 0 });
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

    pub fn begin_write(&mut self, key: KeyId) -> u64 {
        self.keys[key].asked += 1;
        self.keys[key].asked
    }

    /// The oldest version that a read through `node`, asked now, may find.
    pub fn floor(&self, key: KeyId, node: usize) -> u64 {
        use ConsistencyLevel::*;
        let Key { node: writer, acknowledged, .. } = self.keys[key];
        let (here, there) = (self.stands[node], self.stands[writer]);
        let Levels { read, write } = self.levels;
        let has_majority = write > DcOne && (here.datacenter == there.datacenter || write == DcEachSafeQuorum);
        let held = match read {
            DcSafeQuorum | DcEachSafeQuorum => has_majority,
            // A quorum whose answers differ may take any of them; but in calm all answer, and a majority has it.
            DcQuorum => self.is_calm && has_majority,
            // One answer, of the rack that acknowledged the write.
            DcOne => self.is_calm && write == DcOne && here == there,
        };
        if held { acknowledged } else { 0 }
    }

    /// Is the reply in order? `Err` says why not.
    pub fn judge(&mut self, asked: &Asked, reply: &Value, _node: usize, _now: Moment) -> Result<(), String> {
        self.answers += 1;
        if let Value::Error(text) = reply {
            self.errors += 1;
            return self.judge_error(text);
        }
        match (&asked.what, reply) {
            (What::Echo(word), Value::Bulk(back)) if back == word.as_bytes() => Ok(()),
            (What::Write(keys), Value::Simple(ok)) if ok == "OK" => {
                self.acknowledged += 1;
                for &(key, version) in keys {
                    let key = &mut self.keys[key];
                    key.acknowledged = key.acknowledged.max(version);
                }
                Ok(())
            }
            (What::Read(keys, Style::Get), value) => self.judge_value(keys[0], value),
            (What::Read(keys, Style::Mget), Value::Array(values)) if values.len() == keys.len() => {
                keys.iter().zip(values).try_for_each(|(key, value)| self.judge_value(*key, value))
            }
            _ => Err("that is no answer to it".to_owned()),
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

    fn judge_value(&mut self, (key, floor): (KeyId, u64), value: &Value) -> Result<(), String> {
        let Key { name, asked, .. } = &self.keys[key];
        let version = match value {
            Value::Null => 0,
            Value::Bulk(bytes) => version_of(name, bytes).ok_or("the value of another key")?,
            _ => return Err("no value".to_owned()),
        };
        // While a later write is on its way there may be no majority.
        let is_held = floor > 0 && (self.levels.read != ConsistencyLevel::DcQuorum || *asked == floor);
        self.held += u64::from(is_held);
        if version < floor && is_held {
            return Err(format!("{name} had version {floor} acknowledged before"));
        }
        if version > *asked {
            return Err(format!("{name} was never given version {version}"));
        }
        Ok(())
    }

    /// In the end, with each rack's owner's value for the key: `Err` if an acknowledged write is lost.
    pub fn judge_replicas(&self, key: KeyId, replicas: &[(Stand, Option<&[u8]>)]) -> Result<(), String> {
        let Key { name, node, asked, acknowledged } = &self.keys[key];
        let there = self.stands[*node];
        let versions: Vec<(Stand, u64)> = replicas
            .iter()
            .map(|(stand, value)| {
                Ok((
                    *stand,
                    value
                        .map_or(Ok(0), |value| version_of(name, value).ok_or("a replica holds another key's value"))?,
                ))
            })
            .collect::<Result<_, String>>()?;
        let wrong = |what: &str| {
            Err(format!(
                "{name}: {what}; acknowledged {acknowledged}, asked {asked}, writer in {there:?}, replicas {versions:?}"
            ))
        };
        let datacenters = versions.iter().map(|(stand, _)| stand.datacenter).max().map_or(0, |last| last + 1);
        for datacenter in 0..datacenters {
            let racks = versions.iter().filter(|(stand, _)| stand.datacenter == datacenter);
            let have = racks.clone().filter(|(_, version)| version >= acknowledged).count();
            let all = racks.count();
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
        }
        Ok(())
    }

    pub fn say(&self, what: &What) -> String {
        let keys = |keys: &[(KeyId, u64)]| {
            keys.iter()
                .map(|(key, version)| format!("{} (version {version})", self.name(*key)))
                .collect::<Vec<_>>()
                .join(", ")
        };
        match what {
            What::Echo(word) => format!("to echo {word}"),
            What::Read(all, style) => format!("to {style:?} {}", keys(all)),
            What::Write(all) => format!("to write {}", keys(all)),
        }
    }
}

/// Values are `<key>=<version>=<padding>`.
fn version_of(name: &str, value: &[u8]) -> Option<u64> {
    let value = std::str::from_utf8(value).ok()?;
    let (version, padding) = value.strip_prefix(name)?.strip_prefix('=')?.split_once('=')?;
    padding.bytes().all(|byte| byte == b'.').then_some(())?;
    version.parse().ok()
}
