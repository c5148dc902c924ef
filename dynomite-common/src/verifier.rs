//! What a kernel program does for the verifier's sake alone. In the daemon these are what they look like.

use core::cell::UnsafeCell;

/// `at % N` for a power of two, as an index into an array of `N` that every verifier believes.
///
/// LLVM knows from the lines before that the index is small and drops a plain `&`; the verifier does not know, and says
/// "unbounded memory access" or "offset is outside of the packet" (5.10 to 6.18). So the instruction is spelled out.
#[inline(always)]
pub fn within<const N: usize>(at: u32) -> usize {
    const { assert!(N.is_power_of_two() && N <= 1 << 16) };
    #[cfg(target_arch = "bpf")]
    {
        let mut at = u64::from(at);
        // SAFETY: arithmetic on one register.
        unsafe { core::arch::asm!("{0} &= {1}", inout(reg) at, const N - 1) };
        at as usize
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        at as usize & (N - 1)
    }
}

/// The byte at `at % N`.
#[inline(always)]
pub fn byte<const N: usize>(bytes: &[u8; N], at: u32) -> u8 {
    // SAFETY: within the array. The compiler cannot see it through the spelled-out instruction, and its own check would
    // bring a panic into the program.
    unsafe { *bytes.get_unchecked(within::<N>(at)) }
}

/// A number kept in a map's memory and read back, so that a verifier forgets which of many values it can have, and what
/// comparisons have told about it: with all that known, it walks the rest of the program once for every combination of,
/// say, digits in the lengths of a request.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Forgotten(UnsafeCell<u32>);

impl Forgotten {
    #[inline(always)]
    pub fn get(&self) -> u32 {
        // SAFETY: ours to read; not Sync, so nobody writes meanwhile.
        unsafe { self.0.get().read_volatile() }
    }

    #[inline(always)]
    pub fn set(&self, value: u32) {
        // SAFETY: ours to write; no reference to the inside is ever given out.
        unsafe { self.0.get().write_volatile(value) }
    }

    /// The same value, unknown.
    #[inline(always)]
    pub fn through(&self, value: u32) -> u32 {
        self.set(value);
        self.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_stay_within() {
        for (at, index) in [(0, 0), (511, 511), (512, 0), (513, 1), (u32::MAX, 511)] {
            assert_eq!(within::<512>(at), index);
            let mut bytes = [0; 512];
            bytes[index] = 7;
            assert_eq!(byte(&bytes, at), 7);
        }
    }
}
