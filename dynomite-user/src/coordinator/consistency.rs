//! How many replicas must agree before a client is answered.
//! Owns: the levels and their names. Knows nothing of: who the replicas are.

use std::fmt;
use std::str::FromStr;

/// Ordered from the weakest to the strongest: read repair asks for more than `DcOne`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ConsistencyLevel {
    /// The owner in this node's rack answers; writes go everywhere.
    #[default]
    DcOne,
    /// More than half of this datacenter's racks answer; the first answer wins when they differ.
    DcQuorum,
    /// More than half of this datacenter's racks agree.
    DcSafeQuorum,
    /// More than half of every datacenter's racks agree.
    DcEachSafeQuorum,
}

impl ConsistencyLevel {
    pub const ALL: [ConsistencyLevel; 4] = [
        ConsistencyLevel::DcOne,
        ConsistencyLevel::DcQuorum,
        ConsistencyLevel::DcSafeQuorum,
        ConsistencyLevel::DcEachSafeQuorum,
    ];

    pub fn name(self) -> &'static str {
        match self {
            ConsistencyLevel::DcOne => "DC_ONE",
            ConsistencyLevel::DcQuorum => "DC_QUORUM",
            ConsistencyLevel::DcSafeQuorum => "DC_SAFE_QUORUM",
            ConsistencyLevel::DcEachSafeQuorum => "DC_EACH_SAFE_QUORUM",
        }
    }
}

impl fmt::Display for ConsistencyLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text names no level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownLevel;

impl FromStr for ConsistencyLevel {
    type Err = UnknownLevel;

    /// The whole name, in any case.
    fn from_str(text: &str) -> Result<ConsistencyLevel, UnknownLevel> {
        ConsistencyLevel::ALL.into_iter().find(|level| text.eq_ignore_ascii_case(level.name())).ok_or(UnknownLevel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, level: Option<ConsistencyLevel>) {
        assert_eq!(text.parse().ok(), level, "{text}");
    }

    #[test]
    fn names_are_read_whole_and_in_any_case() {
        check("dc_one", Some(ConsistencyLevel::DcOne));
        check("DC_SAFE_QUORUM", Some(ConsistencyLevel::DcSafeQuorum));
        check("Dc_Each_Safe_Quorum", Some(ConsistencyLevel::DcEachSafeQuorum));
        check("dc_onefoo", None);
        check("dc", None);
        check("", None);
    }

    #[test]
    fn levels_are_ordered_by_strength() {
        assert!(ConsistencyLevel::ALL.is_sorted());
    }
}
