//! What goes to C nodes: requests as they are, in other words, or not at all.
//! Owns: that a request is refused before any of it is sent, if an owner could not digest it. What that is stands in
//! `protocol::c_peer`.

use std::fmt::Write;

use super::route::{Need, Part, Plan};
use super::*;
use crate::protocol::c_peer::{self, Digest};
use crate::protocol::codec::Decoder;
use crate::protocol::request::{Decoded, Limits};

/// What C nodes get instead of a frame. Found out when the first of them is asked: most clusters have none.
#[derive(Debug, Default)]
pub(super) enum ForC {
    #[default]
    Unknown,
    Same,
    Other(Vec<u8>),
    /// Its reply comes in an envelope.
    Enveloped(Vec<u8>),
    Nothing,
}

impl ForC {
    fn of(request: &Request<'_>) -> ForC {
        match c_peer::digest(request) {
            Digest::AsItIs => ForC::Same,
            Digest::Wrapped => {
                let mut frame = Vec::new();
                c_peer::wrap(request, &mut frame);
                ForC::Other(frame)
            }
            Digest::Enveloped => {
                let mut frame = Vec::new();
                c_peer::envelop(request, &mut frame);
                ForC::Enveloped(frame)
            }
            Digest::Never => ForC::Nothing,
        }
    }

    /// The frame for a C node, of one that was meant for ours.
    pub fn frame<'a>(&'a mut self, frame: &'a [u8], protocol: Protocol) -> Result<&'a [u8], SendError> {
        if let ForC::Unknown = self {
            let limits = Limits { request_bytes_max: usize::MAX, arguments_max: u32::MAX, line_bytes_max: usize::MAX };
            *self = match Decoder::new(protocol).decode(frame, &limits) {
                Decoded::Request { request, .. } => ForC::of(&request),
                _ => ForC::Nothing,
            };
        }
        match self {
            ForC::Same => Ok(frame),
            ForC::Other(other) | ForC::Enveloped(other) => Ok(other),
            ForC::Unknown | ForC::Nothing => Err(SendError::Down),
        }
    }

    /// Do replies to `frame` come in envelopes?
    pub fn is_enveloped(&self) -> bool {
        matches!(self, ForC::Enveloped(_))
    }
}

impl Coordinator {
    pub(super) fn is_c(&self, peer: PeerId, lane: u32, effects: &impl Effects) -> bool {
        peer != PeerId::SELF && effects.kin(peer, lane) == Kin::C
    }

    /// The same for a request that goes as a script, or not: a script is digested where its keys are.
    pub(super) fn suit_rewritten(
        &self,
        request: &Request<'_>,
        repair: Option<&Repair>,
        plan: &mut Plan,
        lane: u32,
        effects: &impl Effects,
    ) -> Result<(), String> {
        if repair.is_some_and(|repair| !repair.rewrite.follows()) && request.keys().all(c_peer::fits) {
            return Ok(());
        }
        self.suit(request, plan, lane, effects)
    }

    /// Makes the plan one that can be carried out: where one answer is enough, C nodes that cannot give it are not asked.
    /// An error says why nothing may be sent.
    pub(super) fn suit(
        &self,
        request: &Request<'_>,
        plan: &mut Plan,
        lane: u32,
        effects: &impl Effects,
    ) -> Result<(), String> {
        let is_c = |target: &route::Target| self.is_c(target.peer, lane, effects);
        if !plan.targets.iter().any(is_c) || c_peer::digest(request) != Digest::Never {
            return Ok(());
        }
        let culprit = plan.targets.iter().copied().find(is_c);
        if request.command.kind == Kind::Read && plan.need == Need::One {
            plan.targets.retain(|target| !is_c(target));
            if let Some(first) = plan.targets.first_mut() {
                first.part = Part::Vote;
                return Ok(());
            }
        } else {
            // Who only stands in for the receiver of a copy is not needed. Who is held back for a quorum may be.
            let stands_in = |target: &route::Target| target.part == Part::Spare && target.datacenter != 0;
            plan.targets.retain(|target| !stands_in(target) || !is_c(target));
            if !plan.targets.iter().any(is_c) {
                return Ok(());
            }
        }
        Err(self.not_sent(request, culprit.map(|target| target.peer)))
    }

    /// Why nothing was sent, because of a C node.
    pub(super) fn not_sent(&self, request: &Request<'_>, culprit: Option<PeerId>) -> String {
        self.stats.bump(Stat::peer_untranslatable);
        self.stats.bump(Stat::client_refused_commands);
        let mut text = format!("Dynomite: '{}' was not sent: ", request.command.name);
        if let Some(node) = culprit.and_then(|peer| self.topology.node(peer)) {
            let _ = write!(text, "{}:{} in rack {} of {}", node.host, node.port, node.rack, node.datacenter);
        }
        text.push_str(" runs C Dynomite, which has no such command, or not with these arguments");
        text.retain(|letter| !letter.is_control());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::testing::{ask, coordinator};

    fn check(c_nodes: &[u32], level: &str, line: &str, expected: &str) {
        let mut coordinator = coordinator("a/r1:0 a/r2:0 a/r3:0 b/x:0 b/y:0", RouteSettings::default());
        let level = level.parse().unwrap();
        coordinator.control.set_read_consistency(level);
        coordinator.control.set_write_consistency(level);
        let client = ClientId(0);
        coordinator.connect(client, Asker::Client, Moment(0));
        let said = ask(&mut coordinator, c_nodes, line, |coordinator, request, recorder| {
            coordinator.on_request(client, request, Moment(0), recorder);
        });
        assert_eq!(said, expected, "{line}");
        let refused = expected.starts_with('=');
        assert_eq!(coordinator.stats.get(Stat::peer_untranslatable), u64::from(refused), "{line}");
    }

    #[test]
    fn what_c_nodes_know_goes_to_all_alike() {
        check(&[1, 3], "dc_one", "set k v", "set k v | 1:set k v | 2:set k v | 3>set k v");
        check(&[1, 2], "dc_quorum", "hget h f", "hget h f | 1:hget h f");
    }

    #[test]
    fn what_they_do_not_know_goes_in_other_words() {
        let script = "eval return redis.pcall(unpack(ARGV)) 1 h hset h a 1 b 2";
        check(
            &[1, 3],
            "dc_one",
            "hset h a 1 b 2",
            &format!("hset h a 1 b 2 | 1:{script} | 2:hset h a 1 b 2 | 3>{script}"),
        );
    }

    #[test]
    fn what_they_cannot_digest_is_refused_whole() {
        let why = "was not sent: 127.0.0.2:8101 in rack r2 of a runs C Dynomite, which has no such command, or not with these arguments";
        check(&[1], "dc_one", "lpop l 2", &format!("=-ERR Dynomite: 'lpop' {why}"));
        check(&[1, 3], "dc_quorum", "zpopmin z", &format!("=-ERR Dynomite: 'zpopmin' {why}"));
        check(&[1], "dc_quorum", "lpos l x", &format!("=-ERR Dynomite: 'lpos' {why}"));
        check(
            &[2],
            "dc_quorum",
            "lpos l x",
            "=-ERR Dynomite: 'lpos' was not sent: 127.0.0.3:8101 in rack r3 of a runs C Dynomite, which has no such command, or not with these arguments",
        );
        // A C node that is only there to stand in for another one.
        check(&[4], "dc_one", "lpop l 2", "lpop l 2 | 1:lpop l 2 | 2:lpop l 2 | 3>lpop l 2");
    }

    #[test]
    fn one_answer_is_asked_of_who_can_give_it() {
        check(&[1, 2], "dc_one", "lpos l x", "lpos l x");
        let mut coordinator = coordinator("a/r1:4294967295 a/r1:2147483648 a/r2:0 a/r3:0", RouteSettings::default());
        coordinator.connect(ClientId(0), Asker::Client, Moment(0));
        // `bar` belongs to node 1 in our rack.
        let mut check = |c_nodes: &[u32], expected: &str| {
            let said = ask(&mut coordinator, c_nodes, "lpos bar x", |coordinator, request, recorder| {
                coordinator.on_request(ClientId(0), request, Moment(0), recorder);
            });
            assert_eq!(said, expected);
        };
        check(&[], "1:lpos bar x");
        check(&[1], "2:lpos bar x");
        check(&[1, 2], "3:lpos bar x");
    }

    #[test]
    fn a_split_request_is_refused_before_any_part_is_sent() {
        let mut coordinator = coordinator("a/r1:4294967295 a/r1:2147483648", RouteSettings::default());
        coordinator.connect(ClientId(0), Asker::Client, Moment(0));
        let many = "k ".repeat(7000);
        let said = ask(&mut coordinator, &[1], &format!("unlink foo bar {many}"), |coordinator, request, recorder| {
            coordinator.on_request(ClientId(0), request, Moment(0), recorder);
        });
        assert!(said.starts_with("=-ERR Dynomite: 'unlink' was not sent: 127.0.0.2:8101"), "{said}");
        let said = ask(&mut coordinator, &[1], "unlink foo bar", |coordinator, request, recorder| {
            coordinator.on_request(ClientId(0), request, Moment(0), recorder);
        });
        assert_eq!(said, "unlink foo | 1:eval return redis.pcall(unpack(ARGV)) 1 bar unlink bar");
    }
}
