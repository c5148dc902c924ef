//! Where fields of kernel structures are, from the running kernel's own type information (BTF).
//! Owns: the reading of `/sys/kernel/btf/vmlinux`. Knows nothing of: what the fields are for.

use std::collections::HashMap;

/// The kernel's types, as far as offsets of named fields need them.
pub struct Btf {
    strings: Vec<u8>,
    types: Vec<Type>,
    structs: HashMap<Vec<u8>, u32>,
}

#[derive(Clone, Debug)]
struct Type {
    kind: u32,
    /// Of members: (name's place, type, bits from the beginning).
    members: Vec<(u32, u32, u32)>,
}

const STRUCT: u32 = 4;
const UNION: u32 = 5;

impl Btf {
    /// None if the bytes are not BTF of this machine's byte order.
    pub fn parse(bytes: &[u8]) -> Option<Btf> {
        let word = |at: usize| Some(u32::from_ne_bytes(*bytes.get(at..at + 4)?.first_chunk()?));
        if bytes.get(..2)? != 0xeb9f_u16.to_ne_bytes() {
            return None;
        }
        let head_len = word(4)? as usize;
        let [types_at, types_len, strings_at, strings_len] =
            [word(8)?, word(12)?, word(16)?, word(20)?].map(|n| n as usize);
        let strings = bytes.get(head_len + strings_at..)?.get(..strings_len)?.to_vec();
        let mut btf = Btf { strings, types: vec![Type { kind: 0, members: Vec::new() }], structs: HashMap::new() };
        let mut at = head_len + types_at;
        let end = at + types_len;
        while at < end {
            let (name, info) = (word(at)?, word(at + 4)?);
            let (kind, count, flag) = ((info >> 24) & 0x1f, (info & 0xffff) as usize, info >> 31 == 1);
            at += 12;
            let mut members = Vec::new();
            if kind == STRUCT || kind == UNION {
                for member in 0..count {
                    let [name, of, offset] =
                        [word(at + 12 * member)?, word(at + 12 * member + 4)?, word(at + 12 * member + 8)?];
                    // With the flag, the upper byte is a bit field's size.
                    members.push((name, of, if flag { offset & 0xff_ffff } else { offset }));
                }
                if kind == STRUCT {
                    let number = btf.types.len() as u32;
                    btf.structs.entry(btf.string(name).to_vec()).or_insert(number);
                }
            }
            btf.types.push(Type { kind, members });
            at += behind(kind, count)?;
        }
        Some(btf)
    }

    /// Bytes from the beginning of `struct <name>` to its field, also through unnamed inner structs and unions.
    pub fn offset_of(&self, name: &str, field: &str) -> Option<u32> {
        let bits = self.find(*self.structs.get(name.as_bytes())?, field.as_bytes(), 0)?;
        bits.is_multiple_of(8).then_some(bits / 8)
    }

    fn find(&self, number: u32, field: &[u8], depth: u32) -> Option<u32> {
        let Type { kind, members } = self.types.get(number as usize)?;
        if depth > 8 || (*kind != STRUCT && *kind != UNION) {
            return None;
        }
        members.iter().find_map(|&(name, of, bits)| match self.string(name) {
            b"" => Some(bits + self.find(of, field, depth + 1)?),
            name if name == field => Some(bits),
            _ => None,
        })
    }

    fn string(&self, at: u32) -> &[u8] {
        let rest = self.strings.get(at as usize..).unwrap_or_default();
        rest.split(|&byte| byte == 0).next().unwrap_or_default()
    }
}

/// Bytes behind the twelve that every type has.
fn behind(kind: u32, count: usize) -> Option<usize> {
    Some(match kind {
        // pointer, forward, typedef, volatile, const, restrict, function, float, type tag
        2 | 7..=12 | 16 | 18 => 0,
        // integer, variable, declaration tag
        1 | 14 | 17 => 4,
        // array
        3 => 12,
        STRUCT | UNION | 15 | 19 => 12 * count,
        // enum, function prototype
        6 | 13 => 8 * count,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// int; union { int inner; }; struct outer { int first; union …; int last }.
    fn sample() -> Vec<u8> {
        let strings = b"\0int\0inner\0outer\0first\0last\0";
        let types: &[u32] = &[
            1,
            1 << 24,
            4,
            32, // 1: int
            0,
            5 << 24 | 1,
            4,
            5,
            1,
            0, // 2: union
            11,
            4 << 24 | 3,
            12,
            17,
            1,
            0,
            0,
            2,
            32,
            23,
            1,
            64, // 3: struct outer
        ];
        let types_len = types.len() as u32 * 4;
        let mut bytes = 0xeb9f_u16.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        for word in [24, 0, types_len, types_len, strings.len() as u32].iter().chain(types) {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn fields_are_found_through_unnamed_members() {
        let btf = Btf::parse(&sample()).unwrap();
        assert_eq!(btf.offset_of("outer", "first"), Some(0));
        assert_eq!(btf.offset_of("outer", "inner"), Some(4));
        assert_eq!(btf.offset_of("outer", "last"), Some(8));
        assert_eq!(btf.offset_of("outer", "absent"), None);
        assert_eq!(btf.offset_of("absent", "first"), None);
    }

    #[test]
    fn garbage_is_refused() {
        let whole = sample();
        for cut in 0..whole.len() {
            if let Some(btf) = Btf::parse(&whole[..cut]) {
                panic!("{cut} bytes gave {:?}", btf.types);
            }
        }
    }
}
