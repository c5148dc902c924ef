//! What cannot be done right in a cluster like this one is refused by name, before anybody is asked.
//! Owns: what a cluster lacks for a command. What commands need stands in their table.

use super::*;
use crate::protocol::commands::Needs;
use crate::protocol::keys::sort_patterns;

impl Coordinator {
    /// Why a client's request cannot be served here, if so.
    pub(super) fn is_lacking(&self, request: &Request<'_>) -> Option<String> {
        let name = request.command.name;
        let racks = || self.topology.datacenters().iter().map(|datacenter| datacenter.racks.len()).sum::<usize>();
        match request.command.needs {
            Needs::Nothing => None,
            Needs::OneReplica if racks() < 2 => None,
            Needs::OneReplica => Some(format!(
                "Dynomite: '{name}' compares a cas unique, and each of the key's {} replicas has its own",
                racks()
            )),
            Needs::OneOwner if self.topology.is_alone() || self.patterns_stay(request) => None,
            Needs::OneOwner => Some(format!(
                "Dynomite: the patterns of '{name}' may name keys of other nodes; a hash_tag in the key and in front of the * \
                 keeps them together"
            )),
            Needs::OneDatastore if self.topology.is_alone() => None,
            Needs::OneDatastore => Some(one_datastore(name)),
        }
    }

    /// Are all keys that a SORT's patterns may name where its own key is?
    fn patterns_stay(&self, request: &Request<'_>) -> bool {
        let racks = self.topology.datacenters().iter().flat_map(|datacenter| &datacenter.racks);
        if racks.into_iter().all(|rack| rack.nodes.len() == 1) {
            return true;
        }
        let tag = |key| HashTag::of(self.settings.hash_tag, key);
        sort_patterns(request.arguments()).all(|pattern| {
            let front = pattern.split(|byte| *byte == b'*').next().unwrap_or_default();
            tag(front).len() < front.len() && request.key.is_some_and(|key| tag(key) == tag(front))
        })
    }
}

pub(super) fn one_datastore(name: &str) -> String {
    format!("Dynomite: '{name}' needs one datastore, and this cluster has several")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::testing::{Recorder, coordinator};
    use crate::protocol::codec::Decoder;
    use crate::protocol::request::{Decoded, Limits};

    /// What becomes of a client's line.
    #[track_caller]
    fn check(topology: &str, line: &str, expected: &str) {
        let protocol = if line.ends_with('|') { Protocol::Memcache } else { Protocol::Resp };
        let mut coordinator = coordinator(topology, RouteSettings::default());
        coordinator.settings.protocol = protocol;
        coordinator.settings.hash_tag = "{}".parse().ok();
        coordinator.connect(ClientId(0), Asker::Client, Moment(0));
        let line = if protocol == Protocol::Resp { format!("{line}\r\n") } else { line.replace('|', "\r\n") };
        let mut decoder = Decoder::new(protocol);
        let Decoded::Request { request, .. } = decoder.decode(line.as_bytes(), &Limits::default()) else {
            panic!("{line}")
        };
        let mut recorder = Recorder::default();
        coordinator.on_request(ClientId(0), &request, Moment(0), &mut recorder);
        assert_eq!(recorder.said.join(" | ").replace("\r\n", "|"), expected, "{line}");
    }

    const CAS: [&str; 4] = ["cas foo 0 0 1 7|x|", "ms foo 1 S1 C7|x|", "md foo q C7|", "ma foo C7 v|"];

    #[test]
    fn a_cas_unique_is_compared_where_there_is_one_replica() {
        for line in CAS {
            check("a/r1:0", line, line.trim_end_matches('|').replace(" q", "").as_str());
        }
        check("a/r1:2147483648 a/r1:4294967295", "cas foo 0 0 1 7|x|", "1:cas foo 0 0 1 7|x");
    }

    #[test]
    fn messages_are_for_one_datastore() {
        for name in ["publish", "spublish", "subscribe", "psubscribe", "ssubscribe"] {
            let line = format!("{name} c{}", if name.ends_with("publish") { " m" } else { "" });
            let why = format!("=-ERR Dynomite: '{name}' needs one datastore, and this cluster has several");
            check("a/r1:0 a/r2:0", &line, &why);
            check("a/r1:2147483648 a/r1:0", &line, &why);
            let asked = if name.ends_with("subscribe") { format!("private {line}") } else { line.clone() };
            check("a/r1:0", &line, &asked);
        }
    }

    #[test]
    fn a_sorts_patterns_must_stay_with_its_key() {
        const TWO_OWNERS: &str = "a/r1:2147483648 a/r1:4294967295";
        for name in ["sort", "sort_ro"] {
            let why = "may name keys of other nodes; a hash_tag in the key and in front of the * keeps them together";
            let refused = format!("=-ERR Dynomite: the patterns of '{name}' {why}");
            for options in
                ["bar by w_*", "bar get # get o_*->f", "{t}l by {u}w_*", "{t}l by {t}w_* get *{t}", "tl by {t}w_*"]
            {
                check(TWO_OWNERS, &format!("{name} {options}"), &refused);
                let line = format!("{name} {options}");
                check("a/r1:0", &line, &line);
                check("a/r1:0 a/r2:0", &line, &line);
            }
            for options in
                ["bar", "bar by nosort get # get x alpha limit 0 1", "{bar}l by {bar}w_*->x get # get {bar}*"]
            {
                let line = format!("{name} {options}");
                check(TWO_OWNERS, &line, &line);
            }
        }
        let refused = "=-ERR Dynomite: the patterns of 'sort store' may name keys of other nodes; a hash_tag in the key and in front of the * keeps them together";
        check(TWO_OWNERS, "sort bar by w_* store bar", refused);
    }

    #[test]
    fn a_cas_unique_is_refused_where_replicas_have_their_own() {
        for line in CAS {
            let name = line.split(' ').next().unwrap_or_default();
            let why = format!("=SERVER_ERROR Dynomite: '{name}' compares a cas unique, and each of the key's");
            check("a/r1:0 a/r2:0 a/r3:0", line, &format!("{why} 3 replicas has its own"));
            check("a/r1:0 b/x:0", line, &format!("{why} 2 replicas has its own"));
        }
        check("a/r1:0 a/r2:0", "cas foo 0 0 1 7 noreply|x|", "=");
        // What it is read with is read as before, and nothing else is refused.
        check("a/r1:0 a/r2:0", "gets foo|", "gets foo");
        check("a/r1:0 a/r2:0", "ms foo 1 c|x|", "ms foo 1 c|x | 1:ms foo 1 c|x");
    }
}
