//! A key's position on the ring, and the hashes that the kernel can compute as well as the daemon.
//! Owns: the arithmetic. Knows nothing of: owners, configuration, the rarer hashes (`ring::hash` has those).
//!
//! Each hash is written once over `KeyBytes`. The daemon hands in a slice; a kernel program hands in a `Window`, whose
//! loops are bounded by a constant and whose indices are masked, as the verifier wants to see them.

use crate::verifier::{self, Forgotten};

/// A position on the ring: the 32-bit hash of a key, or the end of the range that a node owns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Token(pub u32);

/// The bytes of a key, wherever they are.
pub trait KeyBytes {
    /// No key of this kind is longer: the bound of every loop.
    const BYTES_MAX: usize;
    fn len(&self) -> usize;
    /// `index` is below `len()`.
    fn byte(&self, index: usize) -> u8;
    /// Four bytes from `index` on, little-endian; all four lie in the key.
    fn word(&self, index: usize) -> u32;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same index, but unknown to a verifier (`verifier::Forgotten`): said where the ways out of a loop meet.
    #[inline(always)]
    fn forget(&self, index: usize) -> usize {
        index
    }
}

impl KeyBytes for &[u8] {
    const BYTES_MAX: usize = usize::MAX;

    #[inline(always)]
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }

    #[inline(always)]
    fn byte(&self, index: usize) -> u8 {
        self[index]
    }

    #[inline(always)]
    fn word(&self, index: usize) -> u32 {
        let four = &self[index..index + 4];
        u32::from_le_bytes([four[0], four[1], four[2], four[3]])
    }
}

/// Keys longer than this are left to the daemon.
pub const KERNEL_KEY_BYTES_MAX: usize = 256;

/// A key inside a kernel program's scratch buffer. `N` is a power of two; bytes past its end wrap around, which is
/// wrong but harmless: whoever makes a window has checked `start + len <= N`.
#[derive(Clone, Copy)]
pub struct Window<'a, const N: usize> {
    bytes: &'a [u8; N],
    place: &'a Place,
}

/// Where in the buffer a window's key is, kept where a verifier forgets it.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Place {
    start: Forgotten,
    len: Forgotten,
    index: Forgotten,
    zero: u32,
}
const _: () = assert!(size_of::<Place>() == 16);

impl<'a, const N: usize> Window<'a, N> {
    const MASK: u32 = {
        assert!(N.is_power_of_two() && N <= 1 << 16);
        N as u32 - 1
    };

    /// None if the key does not lie in the buffer or is longer than the kernel hashes.
    #[inline(always)]
    pub fn new(bytes: &'a [u8; N], start: u32, len: u32, place: &'a Place) -> Option<Window<'a, N>> {
        if len as usize > KERNEL_KEY_BYTES_MAX || start > Self::MASK || len > N as u32 - start {
            return None;
        }
        place.start.set(start);
        place.len.set(len);
        Some(Window { bytes, place })
    }

    /// The part of this key that starts at `offset`; `offset + len` is at most the key's length. The key itself is gone.
    #[inline(always)]
    pub fn part(self, offset: usize, len: usize) -> Window<'a, N> {
        self.place.start.set(self.place.start.get() + offset as u32);
        self.place.len.set(len as u32);
        self
    }
}

impl<const N: usize> KeyBytes for Window<'_, N> {
    const BYTES_MAX: usize = KERNEL_KEY_BYTES_MAX;

    #[inline(always)]
    fn len(&self) -> usize {
        self.place.len.get() as usize
    }

    #[inline(always)]
    fn byte(&self, index: usize) -> u8 {
        verifier::byte(self.bytes, self.place.start.get() + index as u32)
    }

    #[inline(always)]
    fn word(&self, index: usize) -> u32 {
        u32::from_le_bytes([self.byte(index), self.byte(index + 1), self.byte(index + 2), self.byte(index + 3)])
    }

    #[inline(always)]
    fn forget(&self, index: usize) -> usize {
        self.place.index.through(index as u32) as usize
    }
}

/// The part of a key that is hashed under a hash tag: what lies between the first `open` and the first `close` behind
/// it, as (offset, length). The whole key if either is missing or nothing lies between them, so that `a{}b` has an
/// owner like any other key.
#[inline(always)]
pub fn tagged(key: impl KeyBytes, open: u8, close: u8) -> (usize, usize) {
    let find = |from: usize, wanted: u8| {
        for ahead in 0..bound(&key) {
            if from + ahead >= key.len() {
                break;
            }
            if key.byte(from + ahead) == wanted {
                return key.forget(from + ahead);
            }
        }
        key.forget(key.len())
    };
    let start = find(0, open) + 1;
    let end = find(start, close);
    if start < end && end < key.len() { (start, end - start) } else { (0, key.len()) }
}

/// MurmurHash2, 32 bits, seeded with the key's length: the default of `hash:`.
#[inline(always)]
pub fn murmur(key: impl KeyBytes) -> Token {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0xdead_beef_u32.wrapping_mul(key.len() as u32) ^ key.len() as u32;
    let mut index = 0;
    for _ in 0..bound(&key) / 4 {
        if index + 4 > key.len() {
            break;
        }
        let mut block = key.word(index).wrapping_mul(M);
        block ^= block >> 24;
        hash = hash.wrapping_mul(M) ^ block.wrapping_mul(M);
        index += 4;
    }
    let index = key.forget(index);
    if index < key.len() {
        if index + 2 < key.len() {
            hash ^= u32::from(key.byte(index + 2)) << 16;
        }
        if index + 1 < key.len() {
            hash ^= u32::from(key.byte(index + 1)) << 8;
        }
        hash = (hash ^ u32::from(key.byte(index))).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    Token(hash ^ (hash >> 15))
}

/// MurmurHash3, the 32-bit variant for x86, seed 0.
#[inline(always)]
pub fn murmur3(key: impl KeyBytes) -> Token {
    #[inline(always)]
    fn scramble(block: u32) -> u32 {
        block.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593)
    }
    let mut hash = 0_u32;
    let mut index = 0;
    for _ in 0..bound(&key) / 4 {
        if index + 4 > key.len() {
            break;
        }
        hash = (hash ^ scramble(key.word(index))).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
        index += 4;
    }
    let index = key.forget(index);
    if index < key.len() {
        let mut tail = u32::from(key.byte(index));
        if index + 1 < key.len() {
            tail |= u32::from(key.byte(index + 1)) << 8;
        }
        if index + 2 < key.len() {
            tail |= u32::from(key.byte(index + 2)) << 16;
        }
        hash ^= scramble(tail);
    }
    hash ^= key.len() as u32;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    Token(hash ^ (hash >> 16))
}

/// FNV-1, 32 bits: multiply, then xor.
#[inline(always)]
pub fn fnv1_32(key: impl KeyBytes) -> Token {
    fold(key, 2_166_136_261, |hash, byte| hash.wrapping_mul(16_777_619) ^ u32::from(byte))
}

/// FNV-1a, 32 bits: xor, then multiply.
#[inline(always)]
pub fn fnv1a_32(key: impl KeyBytes) -> Token {
    fold(key, 2_166_136_261, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(16_777_619))
}

/// `fnv1a_64` as every Dynomite cluster has it: constants and arithmetic cut to 32 bits.
#[inline(always)]
pub fn fnv1a_64(key: impl KeyBytes) -> Token {
    fold(key, 0x8422_2325, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x1b3))
}

/// FNV-1, 64 bits, the lower half of the result.
#[inline(always)]
pub fn fnv1_64(key: impl KeyBytes) -> Token {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for index in 0..bound(&key) {
        if index >= key.len() {
            break;
        }
        hash = hash.wrapping_mul(0x100_0000_01b3) ^ u64::from(key.byte(index));
    }
    Token(hash as u32)
}

/// The common CRC-32, all of it.
#[inline(always)]
pub fn crc32a(key: impl KeyBytes) -> Token {
    let Token(register) = fold(key, u32::MAX, |crc, byte| (crc >> 8) ^ CRC32_TABLE[usize::from(crc as u8 ^ byte)]);
    Token(!register)
}

/// Fifteen bits of the common CRC-32, so tokens end at 32767.
#[inline(always)]
pub fn crc32(key: impl KeyBytes) -> Token {
    let Token(crc) = crc32a(key);
    Token((crc >> 16) & 0x7fff)
}

/// Jenkins' lookup3 (`hashlittle`) with 13 as its initial value.
#[inline(always)]
pub fn jenkins(key: impl KeyBytes) -> Token {
    let start = 0xdead_beef_u32.wrapping_add(key.len() as u32).wrapping_add(13);
    let (mut a, mut b, mut c) = (start, start, start);
    if key.is_empty() {
        return Token(c);
    }
    let mut index = 0;
    for _ in 0..bound(&key) / 12 {
        if index + 12 >= key.len() {
            break;
        }
        a = a.wrapping_add(key.word(index));
        b = b.wrapping_add(key.word(index + 4));
        c = c.wrapping_add(key.word(index + 8));
        a = a.wrapping_sub(c) ^ c.rotate_left(4);
        c = c.wrapping_add(b);
        b = b.wrapping_sub(a) ^ a.rotate_left(6);
        a = a.wrapping_add(c);
        c = c.wrapping_sub(b) ^ b.rotate_left(8);
        b = b.wrapping_add(a);
        a = a.wrapping_sub(c) ^ c.rotate_left(16);
        c = c.wrapping_add(b);
        b = b.wrapping_sub(a) ^ a.rotate_left(19);
        a = a.wrapping_add(c);
        c = c.wrapping_sub(b) ^ b.rotate_left(4);
        b = b.wrapping_add(a);
        index += 12;
    }
    let index = key.forget(index);
    // The last one to twelve bytes, as three words filled up with zeros.
    for place in 0..12 {
        if index + place >= key.len() {
            break;
        }
        let byte = u32::from(key.byte(index + place)) << (8 * (place & 3));
        match place >> 2 {
            0 => a = a.wrapping_add(byte),
            1 => b = b.wrapping_add(byte),
            _ => c = c.wrapping_add(byte),
        }
    }
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    c = (c ^ b).wrapping_sub(b.rotate_left(24));
    Token(c)
}

/// How often a loop over single bytes may run: a constant in the kernel, the key's length in the daemon.
#[inline(always)]
fn bound<K: KeyBytes>(key: &K) -> usize {
    if K::BYTES_MAX == usize::MAX { key.len() } else { K::BYTES_MAX }
}

#[inline(always)]
fn fold(key: impl KeyBytes, start: u32, step: impl Fn(u32, u8) -> u32) -> Token {
    let mut hash = start;
    for index in 0..bound(&key) {
        if index >= key.len() {
            break;
        }
        hash = step(hash, key.byte(index));
    }
    Token(hash)
}

static CRC32_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    /// Both homes of the code must say the same.
    macro_rules! check {
        ($hash:ident, $key:expr, $token:expr) => {{
            let key: &[u8] = $key.as_bytes();
            assert_eq!($hash(key), Token($token), "{}", $key);
            let mut scratch = [0xa5; 512];
            for start in [0, 3, 200] {
                scratch[start..start + key.len()].copy_from_slice(key);
                let place = Place::default();
                let window = Window::new(&scratch, start as u32, key.len() as u32, &place).unwrap();
                assert_eq!($hash(window), Token($token), "{} at {start}", $key);
            }
        }};
    }

    #[test]
    fn known_tokens() {
        check!(murmur, "foo", 3_303_027_599);
        check!(murmur, "", 0);
        check!(murmur, "été", 3_664_841_419);
        check!(fnv1_32, "foo", 1_083_137_555);
        check!(fnv1a_32, "foo", 2_851_307_223);
        check!(fnv1_64, "foo", 1_805_727_027);
        check!(fnv1a_64, "foo", 4_275_688_823);
        check!(crc32, "foo", 3187);
        check!(crc32a, "foo", 2_356_372_769);
        check!(jenkins, "The quick brown fox jumps over the lazy dog", 314_054_204);
        check!(jenkins, "0123456789abcdef", 3_760_384_329);
        check!(jenkins, "", 0xdead_beef + 13);
    }

    /// Published values of MurmurHash3_x86_32 with seed 0.
    #[test]
    fn murmur3_is_the_published_one() {
        check!(murmur3, "", 0);
        check!(murmur3, "test", 0xba6b_d213);
        check!(murmur3, "Hello, world!", 0xc036_3e43);
        check!(murmur3, "The quick brown fox jumps over the lazy dog", 0x2e4f_f723);
    }

    #[test]
    fn a_window_lies_in_its_buffer() {
        let (scratch, place) = ([0; 512], Place::default());
        assert!(Window::new(&scratch, 0, 256, &place).is_some());
        assert!(Window::new(&scratch, 256, 256, &place).is_some());
        for (start, len) in [(0, 257), (257, 256), (512, 0), (u32::MAX, 1), (1, u32::MAX)] {
            assert!(Window::new(&scratch, start, len, &place).is_none(), "{start} {len}");
        }
    }

    #[test]
    fn hash_tags() {
        let tag = |key: &'static str| {
            let (start, len) = tagged(key.as_bytes(), b'{', b'}');
            let mut scratch = [0; 64];
            scratch[5..5 + key.len()].copy_from_slice(key.as_bytes());
            let place = Place::default();
            let window = Window::new(&scratch, 5, key.len() as u32, &place).unwrap();
            assert_eq!(tagged(window, b'{', b'}'), (start, len));
            assert_eq!(murmur(window.part(start, len)), murmur(&key.as_bytes()[start..start + len]));
            &key[start..start + len]
        };
        assert_eq!(tag("{foo}{bar}"), "foo");
        assert_eq!(tag("}{foo}"), "foo");
        assert_eq!(tag("a{foob"), "a{foob");
        assert_eq!(tag("a{{b}}"), "{b");
        assert_eq!(tag("foo"), "foo");
        assert_eq!(tag("a{}b"), "a{}b");
        assert_eq!(tag("a{}{b}"), "a{}{b}");
        assert_eq!(tag("{"), "{");
        assert_eq!(tag(""), "");
    }

    #[test]
    fn a_tag_may_open_and_close_with_one_letter() {
        assert_eq!(tagged(&b"a|bc|d"[..], b'|', b'|'), (2, 2));
    }
}
