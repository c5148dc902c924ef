//! Why a request was lost, in one line: the words that C nodes have for it first, since clients match on them; then the
//! level, what it needed and got, and who is missing.

use std::fmt::Write;

use super::consistency::ConsistencyLevel;
use super::gather::Gather;
use crate::protocol::Protocol;
use crate::protocol::reply::{Fault, write_error};
use crate::ring::Topology;

/// Names of missing replicas in one error: a line that a log can hold.
const MISSING_MAX: usize = 8;

pub(super) fn write(
    gather: &Gather,
    datacenter: u8,
    level: ConsistencyLevel,
    topology: &Topology,
    protocol: Protocol,
    out: &mut Vec<u8>,
) {
    let tally = gather.tally(datacenter);
    let mut details = String::new();
    // A node that is alone has nobody to name.
    if tally.asked > 1 || !topology.is_alone() {
        details = format!(" ({level} needs {} of {} racks", tally.needed, tally.racks);
        if let Some(datacenter) = topology.datacenters().get(usize::from(datacenter)) {
            let _ = write!(details, " of {}", datacenter.name);
        }
        let _ = write!(details, ", {} answered", tally.good);
        if tally.waiting > 0 {
            let _ = write!(details, ", {} not yet", tally.waiting);
        }
        if tally.different > 1 {
            let _ = write!(details, " in {} different ways", tally.different);
        }
        if tally.first_error.is_some() {
            details.push_str(", others with an error");
        }
        for (n, (peer, _)) in gather.missing(datacenter).enumerate() {
            let Some(node) = topology.node(peer) else { continue };
            match n {
                0 => details.push_str("; missing: "),
                MISSING_MAX => {
                    details.push_str(" and more");
                    break;
                }
                _ => details.push_str(", "),
            }
            let _ = write!(details, "{} {}:{}", node.rack, node.host, node.port);
        }
        details.push(')');
        // Names come from outside, too.
        details.retain(|letter| !letter.is_control());
    }
    if tally.good < tally.needed {
        // A datastore's error in its own words. A memcached client takes what is behind `ERROR` for noise or worse.
        if let Some(error) = tally.first_error {
            out.extend_from_slice(error.frame.trim_ascii_end());
            if protocol == Protocol::Resp || error.frame.starts_with(b"SERVER_ERROR ") {
                out.extend_from_slice(details.as_bytes());
            }
            out.extend_from_slice(b"\r\n");
            return;
        }
    }
    let fault = gather.missing(datacenter).next().map(|(_, fault)| fault).filter(|_| tally.good < tally.needed);
    write_error(protocol, &format!("{}{details}", fault.unwrap_or(Fault::NoQuorum).text()), out);
}
