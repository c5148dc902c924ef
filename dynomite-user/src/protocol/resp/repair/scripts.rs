//! Our scripts: their texts as they are sent, and the digests that name them.
//! Owns: the texts. What a script does stands in its file; `rules.rs` says which request becomes which.

use std::fmt::Write;
use std::sync::LazyLock;

use sha1::{Digest, Sha1};

use crate::protocol::resp::encode;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Script {
    Get,
    GetField,
    Set,
    SetMany,
    Remove,
    Put,
    RemoveFields,
    Run,
    Stamp,
    Clean,
}

/// Hexadecimal.
pub type Sha = [u8; 40];

/// How long a removal is remembered that not every replica has confirmed. A replica that was away for longer may bring
/// back what was removed meanwhile: it is to be warmed up, not just started.
pub const REMEMBERED_MILLIS: u64 = 24 * 60 * 60 * 1000;

impl Script {
    pub const ALL: [Script; 10] = [
        Script::Get,
        Script::GetField,
        Script::Set,
        Script::SetMany,
        Script::Remove,
        Script::Put,
        Script::RemoveFields,
        Script::Run,
        Script::Stamp,
        Script::Clean,
    ];

    /// What is behind EVAL.
    pub fn text(self) -> &'static str {
        &BODIES[self as usize].0
    }

    /// What is behind EVALSHA.
    pub fn sha(self) -> &'static Sha {
        &BODIES[self as usize].1
    }

    /// The request that makes a datastore know it.
    pub fn load(self) -> Vec<u8> {
        let mut frame = Vec::new();
        encode::array_head(3, &mut frame);
        [b"SCRIPT", &b"LOAD"[..], self.text().as_bytes()].iter().for_each(|word| encode::bulk(word, &mut frame));
        frame
    }

    pub fn of_sha(sha: &[u8]) -> Option<Script> {
        Script::ALL.into_iter().find(|script| script.sha().eq_ignore_ascii_case(sha))
    }

    pub fn of_text(text: &[u8]) -> Option<Script> {
        Script::ALL.into_iter().find(|script| script.text().as_bytes() == text)
    }

    /// Answers with a status, a time and a value, and changes nothing that a client can see.
    pub fn is_read(self) -> bool {
        matches!(self, Script::Get | Script::GetField)
    }

    fn source(self) -> &'static str {
        match self {
            Script::Get => include_str!("get.lua"),
            Script::GetField => include_str!("get_field.lua"),
            Script::Set => include_str!("set.lua"),
            Script::SetMany => include_str!("set_many.lua"),
            Script::Remove => include_str!("remove.lua"),
            Script::Put => include_str!("put.lua"),
            Script::RemoveFields => include_str!("remove_fields.lua"),
            Script::Run => include_str!("run.lua"),
            Script::Stamp => include_str!("stamp.lua"),
            Script::Clean => include_str!("clean.lua"),
        }
    }
}

static BODIES: LazyLock<[(String, Sha); Script::ALL.len()]> = LazyLock::new(|| {
    Script::ALL.map(|script| {
        let heads = match script {
            Script::Get | Script::GetField | Script::Clean => [include_str!("common.lua"), ""],
            _ => [include_str!("common.lua"), include_str!("write.lua")],
        };
        let text = lean(heads.iter().chain([&script.source()]).flat_map(|part| part.lines()));
        let sha = sha(text.as_bytes());
        (text, sha)
    })
});

/// Comments and indentation are for us: C peers get the text with every request.
fn lean<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let lines = lines.map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("--"));
    let text = lines.collect::<Vec<_>>().join("\n");
    text.replace("DAY", &REMEMBERED_MILLIS.to_string())
}

/// What EVALSHA calls a script.
pub fn sha(text: &[u8]) -> Sha {
    hex(&Sha1::digest(text))
}

fn hex(digest: &[u8]) -> Sha {
    let mut text = String::new();
    for byte in digest {
        // A String takes everything.
        let _ = write!(text, "{byte:02x}");
    }
    text.into_bytes().try_into().unwrap_or([b'0'; 40])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_found_by_its_text_and_by_its_digest() {
        for script in Script::ALL {
            assert_eq!(Script::of_text(script.text().as_bytes()), Some(script));
            assert_eq!(Script::of_sha(script.sha()), Some(script));
            assert!(!script.text().contains("--") && !script.text().contains("DAY"), "{}", script.text());
        }
        assert_eq!(Script::of_text(b"return 1"), None);
        assert_eq!(Script::of_sha(b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db"), None);
    }

    #[test]
    fn digests_are_those_that_redis_makes() {
        assert_eq!(&sha(b"return 1"), b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
    }
}
