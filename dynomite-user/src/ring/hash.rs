//! Key → token: every `hash:` of the configuration, and what a hash tag leaves of a key.
//! Owns: the names, and the hashes that only the daemon computes; `dynomite_common::token` has those the kernel shares.
//!
//! All of them agree with C Dynomite for every key, peculiarities included, because one ring may hold both. The exceptions:
//! - `murmur3` there computes nothing and sends every key to the smallest token of a rack. Here it is MurmurHash3 (x86,
//!   32 bits, seed 0), so a cluster that uses it must not hold both kinds of node.
//! - `hsieh` and `jenkins` of an empty key are undefined there; here they are what their authors wrote.
//! - A key with an empty hash tag (`a{}b`) goes there to whichever node was asked. Here it is hashed whole.

use std::str::FromStr;

use dynomite_common::token::{self, Token};
use md5::{Digest, Md5};

/// How keys become tokens. One for the whole cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HashKind {
    OneAtATime,
    Md5,
    Crc16,
    Crc32,
    Crc32a,
    Fnv1_64,
    Fnv1a64,
    Fnv1_32,
    Fnv1a32,
    Hsieh,
    #[default]
    Murmur,
    Jenkins,
    Murmur3,
}

impl HashKind {
    /// Every kind with its name in the configuration.
    pub const NAMES: [(&'static str, HashKind); 13] = [
        ("one_at_a_time", HashKind::OneAtATime),
        ("md5", HashKind::Md5),
        ("crc16", HashKind::Crc16),
        ("crc32", HashKind::Crc32),
        ("crc32a", HashKind::Crc32a),
        ("fnv1_64", HashKind::Fnv1_64),
        ("fnv1a_64", HashKind::Fnv1a64),
        ("fnv1_32", HashKind::Fnv1_32),
        ("fnv1a_32", HashKind::Fnv1a32),
        ("hsieh", HashKind::Hsieh),
        ("murmur", HashKind::Murmur),
        ("jenkins", HashKind::Jenkins),
        ("murmur3", HashKind::Murmur3),
    ];

    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize].0
    }

    /// The token of `key`, all of whose bytes count: apply `HashTag::of` first.
    #[inline]
    pub fn token(self, key: &[u8]) -> Token {
        match self {
            HashKind::Murmur => token::murmur(key),
            HashKind::Murmur3 => token::murmur3(key),
            HashKind::Fnv1_64 => token::fnv1_64(key),
            HashKind::Fnv1a64 => token::fnv1a_64(key),
            HashKind::Fnv1_32 => token::fnv1_32(key),
            HashKind::Fnv1a32 => token::fnv1a_32(key),
            HashKind::Crc32 => token::crc32(key),
            HashKind::Crc32a => token::crc32a(key),
            HashKind::Jenkins => token::jenkins(key),
            HashKind::OneAtATime => one_at_a_time(key),
            HashKind::Md5 => md5(key),
            HashKind::Crc16 => crc16(key),
            HashKind::Hsieh => hsieh(key),
        }
    }
}

/// The name is not one of `HashKind::NAMES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownHash;

impl FromStr for HashKind {
    type Err = UnknownHash;

    fn from_str(name: &str) -> Result<HashKind, UnknownHash> {
        Self::NAMES.iter().find(|row| row.0 == name).map(|row| row.1).ok_or(UnknownHash)
    }
}

/// `hash_tag: "XY"`: only what lies between the first X of a key and the first Y behind it is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HashTag {
    pub open: u8,
    pub close: u8,
}

impl HashTag {
    /// The part of `key` to hash: all of it unless both marks are there with something between them.
    #[inline]
    pub fn of(tag: Option<HashTag>, key: &[u8]) -> &[u8] {
        let Some(HashTag { open, close }) = tag else { return key };
        let (start, len) = token::tagged(key, open, close);
        &key[start..start + len]
    }
}

/// The text is not two bytes long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotTwoBytes;

impl FromStr for HashTag {
    type Err = NotTwoBytes;

    fn from_str(text: &str) -> Result<HashTag, NotTwoBytes> {
        match *text.as_bytes() {
            [open, close] => Ok(HashTag { open, close }),
            _ => Err(NotTwoBytes),
        }
    }
}

/// Jenkins' one-at-a-time over bytes that count as signed.
fn one_at_a_time(key: &[u8]) -> Token {
    let mut hash = 0_u32;
    for &byte in key {
        hash = hash.wrapping_add(byte as i8 as u32);
        hash = hash.wrapping_add(hash << 10);
        hash ^= hash >> 6;
    }
    hash = hash.wrapping_add(hash << 3);
    hash ^= hash >> 11;
    Token(hash.wrapping_add(hash << 15))
}

fn md5(key: &[u8]) -> Token {
    let digest = Md5::digest(key);
    Token(u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]]))
}

/// CCITT's CRC-16 in a register of 32 bits that nobody masks: what is shifted out of the lower half stays in the token.
fn crc16(key: &[u8]) -> Token {
    Token(key.iter().fold(0_u32, |crc, &byte| (crc << 8) ^ CRC16_TABLE[usize::from((crc >> 8) as u8 ^ byte)]))
}

static CRC16_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u32) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc << 1) ^ if crc & 0x8000 != 0 { 0x1021 } else { 0 };
            bit += 1;
        }
        table[byte] = crc & 0xffff;
        byte += 1;
    }
    table
};

/// Hsieh's SuperFastHash, started at 0 instead of the key's length, with unsigned tail bytes.
fn hsieh(key: &[u8]) -> Token {
    let half = |bytes: &[u8]| u32::from(u16::from_le_bytes([bytes[0], bytes[1]]));
    let mut hash = 0_u32;
    let (blocks, tail) = key.as_chunks::<4>();
    for block in blocks {
        hash = hash.wrapping_add(half(block));
        hash = (hash << 16) ^ (half(&block[2..]) << 11) ^ hash;
        hash = hash.wrapping_add(hash >> 11);
    }
    match *tail {
        [_, _, third] => {
            hash = hash.wrapping_add(half(tail));
            hash ^= hash << 16;
            hash ^= u32::from(third) << 18;
            hash = hash.wrapping_add(hash >> 11);
        }
        [_, _] => {
            hash = hash.wrapping_add(half(tail));
            hash ^= hash << 11;
            hash = hash.wrapping_add(hash >> 17);
        }
        [only] => {
            hash = hash.wrapping_add(u32::from(only));
            hash ^= hash << 10;
            hash = hash.wrapping_add(hash >> 1);
        }
        _ => {}
    }
    hash ^= hash << 3;
    hash = hash.wrapping_add(hash >> 5);
    hash ^= hash << 4;
    hash = hash.wrapping_add(hash >> 17);
    hash ^= hash << 25;
    Token(hash.wrapping_add(hash >> 6))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hashes in the order of the columns below.
    const COLUMNS: [HashKind; 12] = [
        HashKind::OneAtATime,
        HashKind::Md5,
        HashKind::Crc16,
        HashKind::Crc32,
        HashKind::Crc32a,
        HashKind::Fnv1_64,
        HashKind::Fnv1a64,
        HashKind::Fnv1_32,
        HashKind::Fnv1a32,
        HashKind::Hsieh,
        HashKind::Murmur,
        HashKind::Jenkins,
    ];

    fn check(key: &str, tokens: [u32; 12]) {
        for (kind, token) in COLUMNS.into_iter().zip(tokens) {
            assert_eq!(kind.token(key.as_bytes()), Token(token), "{} of {key}", kind.name());
        }
    }

    #[test]
    #[rustfmt::skip]
    fn tokens_that_every_cluster_agrees_on() {
        check("a", [3392050242, 3111502092, 31879, 26807, 3904355907, 2248259518, 2248273036, 84696446, 3826002220, 2472816263, 1262581116, 3768813200]);
        check("foo", [596015325, 3675831724, 205303702, 3187, 2356372769, 1805727027, 4275688823, 1083137555, 2851307223, 1993659431, 3303027599, 2583187353]);
        check("bar", [2151715081, 421377335, 1276220357, 30463, 1996459178, 1806514304, 322520602, 513390112, 1991736602, 2197238083, 516654467, 2006320315]);
        check("key:1", [2729841284, 1018217594, 1880267265, 2927, 191839212, 4257821445, 2519685833, 2305095589, 1477709737, 2159826137, 3691594071, 2193389018]);
        check("user:1000", [3043211087, 781738503, 3781445233, 8052, 2675185635, 3550362913, 2927313545, 2796551329, 1350311305, 3723237737, 2384768711, 76303748]);
        check("Hello, World!", [847757641, 2112006245, 3778432982, 27722, 3964322768, 331434118, 3431300180, 1116842118, 1525479220, 3229888754, 558941468, 1237476389]);
        check("0123456789abcdef", [4028760775, 2377069120, 3596871845, 26820, 1757737011, 998436033, 3853346685, 2652598081, 2277258045, 3097489547, 43138349, 3760384329]);
        check("The quick brown fox jumps over the lazy dog", [1369346549, 2642219166, 581169352, 16719, 1095738169, 2112060110, 3890508048, 3922226286, 76545936, 471461527, 818385189, 314054204]);
        check("été", [2144029493, 510308318, 3861292903, 17617, 1154575572, 3487848983, 2293569623, 299274903, 4290086935, 3432339831, 3664841419, 2303093779]);
    }

    #[test]
    fn empty_keys() {
        let token = |kind: HashKind| kind.token(b"").0;
        assert_eq!(token(HashKind::Murmur), 0);
        assert_eq!(token(HashKind::Murmur3), 0);
        assert_eq!(token(HashKind::Fnv1_32), 2_166_136_261);
        assert_eq!(token(HashKind::Md5), 3_649_838_548);
        assert_eq!([HashKind::Crc16, HashKind::Crc32, HashKind::Crc32a].map(token), [0; 3]);
        assert_eq!(token(HashKind::OneAtATime), 0);
        assert_eq!(token(HashKind::Hsieh), 0);
        assert_eq!(token(HashKind::Jenkins), 0xdead_beef + 13);
    }

    #[test]
    fn names_go_both_ways() {
        for (name, kind) in HashKind::NAMES {
            assert_eq!(name.parse(), Ok(kind));
            assert_eq!(kind.name(), name);
        }
        assert_eq!("Murmur".parse::<HashKind>(), Err(UnknownHash));
        assert_eq!("".parse::<HashKind>(), Err(UnknownHash));
    }

    #[test]
    fn hash_tags() {
        let tag = "{}".parse().ok();
        for (key, hashed) in
            [("{foo}{bar}", "foo"), ("}{foo}", "foo"), ("a{foob", "a{foob"), ("a{}b", "a{}b"), ("foo", "foo"), ("", "")]
        {
            assert_eq!(HashTag::of(tag, key.as_bytes()), hashed.as_bytes(), "{key}");
            assert_eq!(HashTag::of(None, key.as_bytes()), key.as_bytes());
        }
        assert_eq!("{".parse::<HashTag>(), Err(NotTwoBytes));
        assert_eq!("{x}".parse::<HashTag>(), Err(NotTwoBytes));
    }
}
