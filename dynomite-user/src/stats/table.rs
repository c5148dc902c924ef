//! Every counter and gauge, one row each: name, kind, scope, and the words that `-D` and `/metrics` print.
//! The order of the rows is the order of the stats document; names and words of the pool and server scopes are those
//! that monitoring already knows. A new stat is a row in the node scope, and nothing else.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Milliseconds since 1970; zero: never.
    Timestamp,
}

/// Where a stat stands in the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Beside the histograms, at the top.
    Process,
    /// In the pool's object.
    Pool,
    /// In the datastore's object, inside the pool's.
    Server,
    /// In `node`, behind what older tools expect.
    Node,
}

pub struct Row {
    pub name: &'static str,
    pub kind: Kind,
    pub scope: Scope,
    pub help: &'static str,
}

macro_rules! stats {
    ($($scope:ident { $($name:ident, $kind:ident, $help:literal;)* })*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(non_camel_case_types, reason = "the names are those of the stats document")]
        pub enum Stat { $($($name,)*)* }

        impl Stat {
            pub const ALL: &[Stat] = &[$($(Stat::$name,)*)*];
            pub const COUNT: usize = Stat::ALL.len();

            pub fn row(self) -> &'static Row { &ROWS[self as usize] }
        }

        const ROWS: [Row; Stat::COUNT] =
            [$($(Row { name: stringify!($name), kind: Kind::$kind, scope: Scope::$scope, help: $help },)*)*];
    };
}

stats! {
    Process {
        alloc_msgs, Gauge, "requests of clients and peers that are not yet answered";
        free_msgs, Gauge, "always 0: nothing is kept for reuse";
        alloc_mbufs, Gauge, "always 0: buffers have no fixed size here";
        free_mbufs, Gauge, "always 0: buffers have no fixed size here";
    }
    Pool {
        client_eof, Counter, "# eof on client connections";
        client_err, Counter, "# errors on client connections";
        client_connections, Gauge, "# active client connections";
        client_read_requests, Counter, "# client read requests";
        client_write_requests, Counter, "# client write responses";
        client_dropped_requests, Counter, "# client dropped requests";
        client_non_quorum_w_responses, Counter, "# client non quorum write responses";
        client_non_quorum_r_responses, Counter, "# client non quorum read responses";
        server_ejects, Counter, "# times backend server was ejected";
        dnode_client_eof, Counter, "# eof on dnode client connections";
        dnode_client_err, Counter, "# errors on dnode client connections";
        dnode_client_connections, Gauge, "# active dnode client connections";
        dnode_client_in_queue, Gauge, "# dnode client requests in incoming queue (always 0: what is read is worked on at once)";
        dnode_client_in_queue_bytes, Gauge, "current dnode client request bytes in incoming queue (always 0, too)";
        dnode_client_out_queue, Gauge, "# dnode client requests in outgoing queue";
        dnode_client_out_queue_bytes, Gauge, "current dnode client request bytes in outgoing queue";
        peer_dropped_requests, Counter, "# local dc peer dropped requests";
        peer_timedout_requests, Counter, "# local dc peer timedout requests";
        remote_peer_dropped_requests, Counter, "# remote dc peer dropped requests";
        remote_peer_timedout_requests, Counter, "# remote dc peer timedout requests";
        remote_peer_failover_requests, Counter, "# remote dc peer failover requests";
        peer_eof, Counter, "# eof on peer connections";
        peer_err, Counter, "# errors on peer connections";
        peer_timedout, Counter, "# timeouts on local dc peer connections";
        remote_peer_timedout, Counter, "# timeouts on remote dc peer connections";
        peer_connections, Gauge, "# active peer connections";
        peer_forward_error, Gauge, "# times we encountered a peer forwarding error";
        peer_requests, Counter, "# peer requests";
        peer_request_bytes, Counter, "total peer request bytes";
        peer_responses, Counter, "# peer respones";
        peer_response_bytes, Counter, "total peer response bytes";
        peer_ejected_at, Timestamp, "timestamp when peer was ejected";
        peer_ejects, Counter, "# times a peer was ejected (always 0: a peer is dialled again and again)";
        peer_in_queue, Gauge, "# local dc peer requests in incoming queue";
        remote_peer_in_queue, Gauge, "# remote dc peer requests in incoming queue";
        peer_in_queue_bytes, Gauge, "current peer request bytes in incoming queue";
        remote_peer_in_queue_bytes, Gauge, "current peer request bytes in incoming queue to remote DC";
        peer_out_queue, Gauge, "# local dc peer requests in outgoing queue";
        remote_peer_out_queue, Gauge, "# remote dc peer requests in outgoing queue";
        peer_out_queue_bytes, Gauge, "current peer request bytes in outgoing queue";
        remote_peer_out_queue_bytes, Gauge, "current peer request bytes in outgoing queue to remote DC";
        peer_mismatch_requests, Counter, "current dnode peer mismatched messages";
        forward_error, Counter, "# times we encountered a forwarding error";
        fragments, Counter, "# fragments created from a multi-vector request";
        stats_count, Counter, "# stats request";
    }
    Server {
        server_eof, Counter, "# eof on server connections";
        server_err, Counter, "# errors on server connections";
        server_timedout, Counter, "# timeouts on server connections";
        server_ejected_at, Timestamp, "timestamp when server was ejected in msec since epoch";
        server_dropped_requests, Counter, "# server dropped requests";
        server_timedout_requests, Counter, "# server timedout requests";
        read_requests, Counter, "# read requests";
        read_request_bytes, Counter, "total read request bytes";
        write_requests, Counter, "# write requests";
        write_request_bytes, Counter, "total write request bytes";
        read_responses, Counter, "# read respones";
        read_response_bytes, Counter, "total read response bytes";
        write_responses, Counter, "# write respones";
        write_response_bytes, Counter, "total write response bytes";
        in_queue, Gauge, "# requests in incoming queue";
        in_queue_bytes, Gauge, "current request bytes in incoming queue";
        out_queue, Gauge, "# requests in outgoing queue";
        out_queue_bytes, Gauge, "current request bytes in outgoing queue";
        redis_req_get, Counter, "# Redis get";
        redis_req_set, Counter, "# Redis set";
        redis_req_del, Counter, "# Redis del";
        redis_req_incr_decr, Counter, "# Redis incr or decr";
        redis_req_keys, Counter, "# Redis keys";
        redis_req_mget, Counter, "# Redis mget";
        redis_req_scan, Counter, "# Redis scan";
        redis_req_sort, Counter, "# Redis sort";
        redis_req_lreqm, Counter, "# Redis lreqm";
        redis_req_sunion, Counter, "# Redis sunion";
        redis_req_ping, Counter, "# Redis ping";
        redis_req_lists, Counter, "# Redis lists";
        redis_req_sets, Counter, "# Redis sets";
        redis_req_hashes, Counter, "# Redis hashes";
        redis_req_sortedsets, Counter, "# Redis sortedsets";
        redis_req_other, Counter, "# Redis other";
    }
    Node {
        client_accepted, Counter, "client connections accepted";
        client_connections_refused, Counter, "client connections closed at once: client_connections reached";
        client_requests, Counter, "requests read from clients, of any kind; what could not be understood is one, too";
        client_replies, Counter, "requests of clients answered: in the end all, but client_dropped_requests";
        client_pushes, Counter, "what subscribers are told without asking just then";
        client_bytes_in, Counter, "bytes read from clients";
        client_bytes_out, Counter, "bytes written to clients";
        client_shed, Counter, "requests answered busy: max_msgs reached";
        client_output_overflow, Counter, "clients closed: client_output_bytes_max reached";
        client_protocol_errors, Counter, "clients closed: their bytes were no request";
        client_refused_commands, Counter, "requests answered with an error that names the command";
        request_too_large, Counter, "requests refused: request_bytes_max or another limit on one request reached";
        reply_too_large, Counter, "replies refused: reply_bytes_max reached";
        client_wakeups, Counter, "times a worker woke up, for whatever reason";
        client_flushes, Counter, "writes to client sockets";
        datastore_connections, Gauge, "connections to the datastore that are up";
        datastore_connects, Counter, "connections to the datastore that came up";
        datastore_connects_failed, Counter, "connections to the datastore that did not come about";
        datastore_own_connections, Gauge, "connections that serve one client's stateful commands";
        datastore_timeouts, Counter, "requests the datastore did not answer within timeout";
        datastore_shed, Counter, "requests refused: no connection to the datastore, or its queue is full";
        datastore_flushes, Counter, "writes to the datastore's sockets";
        datastore_bytes_in, Counter, "bytes read from the datastore";
        datastore_bytes_out, Counter, "bytes written to the datastore";
        datastore_protocol_errors, Counter, "datastore connections closed: their bytes were no reply";
        late_replies, Counter, "replies that came after their request had been answered with an error";
        peer_connections_refused, Counter, "peers' connections closed at once: there are too many";
        peer_connects, Counter, "outgoing peer connections that came up";
        peer_bytes_in, Counter, "bytes read from peers";
        peer_bytes_out, Counter, "bytes written to peers";
        peer_shed, Counter, "requests refused: the link's queue is full";
        peer_late_replies, Counter, "replies of peers that came after their request had been given up";
        peer_unknown_replies, Counter, "replies of peers with an id that nobody waits for";
        peer_garbage_bytes, Counter, "bytes of peers skipped while looking for the next frame";
        peer_resyncs, Counter, "times a peer's stream had to be found again";
        peer_protocol_errors, Counter, "peer connections closed: their bytes were no frames";
        peer_refused_requests, Counter, "requests of peers answered with an error";
        peer_untranslatable, Counter, "requests refused because the owner's version could not digest them";
        state_refused, Counter, "requests refused: the node's state keeps them from its datastore";
        writes_parked, Gauge, "writes that wait for the node's state to let them at its datastore";
        reads_failed_over, Counter, "reads sent to another rack or datacenter because the first choice failed or was slow";
        reads_failed_over_dc, Counter, "of these, sent to another datacenter";
        writes_missed, Counter, "writes that a replica did not confirm, though others were asked: it was away, failed, or was late";
        split_requests, Counter, "requests split over several owners";
        quorum_reads_widened, Counter, "replicas asked beyond a quorum: one of it failed, was slow, or said something else";
        quorum_agreed, Counter, "requests whose replicas agreed";
        quorum_mismatches, Counter, "requests whose replicas answered differently";
        quorum_lost, Counter, "requests answered with an error: their level could not be met";
        stragglers, Counter, "replies that came after their request was decided";
        read_repairs, Counter, "replicas repaired after a read";
        read_repairs_failed, Counter, "repairs that a replica did not accept";
        write_retries, Counter, "writes sent again with a later time: another node's clock was ahead";
        gossip_received, Counter, "gossip messages of other nodes, which are left unread";
        peers_up, Gauge, "peers believed up";
        peers_down, Gauge, "peers believed down";
        topology_epoch, Gauge, "number of the topology in use";
        topology_changes, Counter, "topologies taken into use";
        admin_requests, Counter, "requests on the stats port";
        admin_refused, Counter, "connections or requests refused on the stats port";
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::stats::{Histogram, PeerStat};

    #[test]
    fn names_are_unique_and_rows_match_their_stats() {
        let mut names: Vec<_> = Stat::ALL.iter().map(|stat| stat.row().name).collect();
        assert_eq!(names.last(), Some(&"admin_refused"));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Stat::COUNT);
        assert!(Stat::ALL.iter().all(|stat| format!("{stat:?}") == stat.row().name));
    }

    /// Names that monitoring knows and that can mean nothing here; their words say so.
    const ALWAYS_ZERO: &[Stat] = &[
        Stat::free_msgs,
        Stat::alloc_mbufs,
        Stat::free_mbufs,
        Stat::dnode_client_in_queue,
        Stat::dnode_client_in_queue_bytes,
        Stat::peer_ejects,
    ];

    /// Everything but this directory, as text. A test that asks for a stat does not count it, so tests are left out.
    fn sources(directory: &Path, text: &mut String) {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.ends_with("stats") {
                sources(&path, text);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
                let source = fs::read_to_string(&path).expect("a source");
                text.push_str(source.split("\nmod tests {").next().unwrap_or_default());
            }
        }
    }

    #[test]
    fn every_row_is_counted_or_says_that_it_is_not() {
        let mut text = String::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut text);
        let words: HashSet<&str> = text.split(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | ':')).collect();
        for stat in Stat::ALL {
            let is_counted = words.contains(format!("Stat::{stat:?}").as_str());
            let says_not = stat.row().help.contains("always 0");
            assert_eq!((is_counted, says_not), (!says_not, ALWAYS_ZERO.contains(stat)), "{stat:?}");
        }
        for histogram in Histogram::ALL {
            assert!(words.contains(format!("Histogram::{histogram:?}").as_str()), "{histogram:?}");
        }
        for stat in PeerStat::ALL {
            assert!(words.contains(format!("PeerStat::{stat:?}").as_str()), "{stat:?}");
        }
    }

    #[test]
    fn scopes_are_not_mixed_and_have_their_known_sizes() {
        let count = |scope| Stat::ALL.iter().filter(|stat| stat.row().scope == scope).count();
        assert_eq!((count(Scope::Process), count(Scope::Pool), count(Scope::Server)), (4, 45, 34));
        assert!(Stat::ALL.is_sorted_by_key(|stat| stat.row().scope as u8));
    }
}
