//! Where keys live, in words: what `dynomite hash KEY…` prints.

use std::fmt::Write;

use super::PeerId;
use super::hash::{HashKind, HashTag};
use super::topology::Topology;

/// A paragraph for each key: its token, then its owner in every rack.
pub fn describe<'k>(
    topology: &Topology,
    hash: HashKind,
    tag: Option<HashTag>,
    keys: impl IntoIterator<Item = &'k [u8]>,
) -> String {
    let mut text = String::new();
    for key in keys {
        let hashed = HashTag::of(tag, key);
        let token = hash.token(hashed);
        let part = if hashed == key { String::new() } else { format!(" of \"{}\"", hashed.escape_ascii()) };
        write_line(&mut text, format_args!("{}  {}{part} = {}", key.escape_ascii(), hash.name(), token.0));
        for (datacenter, rack, owner) in topology.owners(token) {
            let Some(node) = topology.node(owner) else { continue };
            let own = if owner == PeerId::SELF { "  (this node)" } else { "" };
            let place = format!("{}/{}", datacenter.name, rack.name);
            let address = format!("{}:{}", node.host, node.port);
            let name = if node.name == node.host { String::new() } else { format!("  {}", node.name) };
            write_line(&mut text, format_args!("  {place:<24} {address}{name}{own}"));
        }
    }
    text
}

fn write_line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::topology::sketch;

    #[test]
    fn keys_tokens_and_owners() {
        let topology = sketch("dc1/r1:2147483647 dc1/r1:4294967295 dc1/r2:0 dc2/x:0");
        let keys: [&[u8]; 3] = [b"foo", b"a{bar}c", b"\xff {}"];
        let text = describe(&topology, HashKind::Murmur, "{}".parse().ok(), keys);
        let expected = "\
foo  murmur = 3303027599
  dc1/r1                   127.0.0.2:8101  n1
  dc1/r2                   127.0.0.3:8101  n2
  dc2/x                    127.0.0.4:8101  n3
a{bar}c  murmur of \"bar\" = 516654467
  dc1/r1                   127.0.0.1:8101  n0  (this node)
  dc1/r2                   127.0.0.3:8101  n2
  dc2/x                    127.0.0.4:8101  n3
\\xff {}  murmur = 4262433333
  dc1/r1                   127.0.0.2:8101  n1
  dc1/r2                   127.0.0.3:8101  n2
  dc2/x                    127.0.0.4:8101  n3
";
        assert_eq!(text, expected);
    }
}
