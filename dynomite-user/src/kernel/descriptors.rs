//! What of this process's descriptors flows may have: clients, peers and the stats port need theirs, and without a flow a
//! client is served all the same.
//! Owns: the shares. Knows nothing of: who has which descriptor.

use std::os::fd::{AsFd, AsRawFd};

use nix::sys::resource::{Resource, getrlimit};

/// The limit on open files, as it was at the start. Descriptors are numbered from the lowest that is free, so a high number
/// tells that most are taken; a low one tells nothing.
#[derive(Clone, Copy, Debug)]
pub struct Descriptors {
    max: u64,
}

impl Descriptors {
    pub fn of_this_process() -> Descriptors {
        let limit = getrlimit(Resource::RLIMIT_NOFILE);
        Descriptors::of(limit.map_or(u64::MAX, |(soft, _)| soft))
    }

    pub fn of(max: u64) -> Descriptors {
        Descriptors { max }
    }

    pub fn max(&self) -> u64 {
        self.max
    }

    pub fn flows_max(&self) -> u32 {
        u32::try_from(self.max / 4).unwrap_or(u32::MAX)
    }

    /// With so many taken: should there be no more flows? Far enough from `run_out`, whose flows would come back at once,
    /// although neither number tells of everything that is taken.
    pub fn are_few(&self, taken: u64) -> bool {
        taken >= self.max - self.max / 8 * 3
    }

    /// With so many taken: are flows to leave theirs to others?
    pub fn run_out(&self, taken: u64) -> bool {
        taken >= self.max - self.max / 8
    }

    /// So many are taken at least, if this is one of them.
    pub fn taken(one: &impl AsFd) -> u64 {
        u64::try_from(one.as_fd().as_raw_fd()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_have_most_of_them() {
        let descriptors = Descriptors::of(1024);
        assert_eq!(descriptors.flows_max(), 256);
        let says = |taken| (descriptors.are_few(taken), descriptors.run_out(taken));
        assert_eq!(says(639), (false, false));
        assert_eq!(says(640), (true, false));
        assert_eq!(says(895), (true, false));
        assert_eq!(says(896), (true, true));
        let unlimited = Descriptors::of(u64::MAX);
        assert_eq!((unlimited.flows_max(), unlimited.are_few(1 << 40)), (u32::MAX, false));
    }
}
