//! Scripts that a C node has to run. Such a node loses its place over a reply with arrays in arrays, so it gets the text of
//! a script with something around it (`c_peer::envelop`), never a digest alone.
//! Owns: the texts that were seen while C nodes were about, of all workers. Without C nodes nobody asks for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::protocol::commands::Keys;
use crate::protocol::resp::commands::find;
use crate::protocol::resp::encode;
use crate::protocol::resp::repair::{Sha, sha};

/// Clients that load more than that are told to load them again.
const TEXTS_BYTES_MAX: usize = 16 << 20;

/// Redis' words: whoever asks by digests goes on with EVAL or SCRIPT LOAD.
const UNKNOWN: &[u8] = b"-NOSCRIPT No matching script. Please use EVAL.\r\n";

#[derive(Debug, Default)]
pub struct Texts {
    by_sha: BTreeMap<Sha, Arc<[u8]>>,
    bytes: usize,
}

impl Texts {
    fn insert(&mut self, text: &[u8]) {
        let sha = sha(text);
        if self.by_sha.contains_key(&sha) {
            return;
        }
        if self.bytes + text.len() > TEXTS_BYTES_MAX {
            *self = Texts::default();
        }
        self.bytes += text.len();
        self.by_sha.insert(sha, text.into());
    }

    fn get(&self, sha: &[u8]) -> Option<Arc<[u8]>> {
        let sha: Sha = sha.to_ascii_lowercase().try_into().ok()?;
        self.by_sha.get(&sha).cloned()
    }
}

/// Is it worth a look at whom it goes to?
#[inline]
pub(super) fn concerns(request: &Request<'_>) -> bool {
    matches!(request.command.keys, Keys::Counted { count: 2 }) || request.command.routing == Routing::AllNodes
}

impl Coordinator {
    /// A client's request that may be about scripts. `true`: it was taken.
    pub(super) fn on_script(
        &mut self,
        client: ClientId,
        request: &Request<'_>,
        plan: &route::Plan,
        origin: Origin,
        now: Moment,
        effects: &mut impl Effects,
    ) -> bool {
        if !plan.targets.iter().any(|target| self.is_c(target.peer, client.0, effects)) {
            return false;
        }
        if request.command.name == "evalsha" {
            self.on_digest(client, request, origin, now, effects);
            return true;
        }
        self.remember_script(request);
        false
    }

    pub(super) fn remember_script(&self, request: &Request<'_>) {
        match (request.command.name, request.argument(1), request.argument(2)) {
            ("eval", Some(text), _) | ("script load", _, Some(text)) => self.control.scripts().insert(text),
            ("script flush", ..) => *self.control.scripts() = Texts::default(),
            _ => {}
        }
    }

    /// EVALSHA that a C node has to run: as the EVAL that it stands for.
    fn on_digest(
        &mut self,
        client: ClientId,
        request: &Request<'_>,
        origin: Origin,
        now: Moment,
        effects: &mut impl Effects,
    ) {
        let text = request.argument(1).and_then(|sha| self.control.scripts().get(sha));
        let (Some(text), Some(command)) = (text, find(b"eval")) else {
            self.stats.bump(Stat::peer_untranslatable);
            return self.answer(client, UNKNOWN, effects);
        };
        let mut frame = self.spare.empty();
        encode::array_head(request.args as usize, &mut frame);
        encode::bulk(b"eval", &mut frame);
        encode::bulk(&text, &mut frame);
        request.arguments().skip(2).for_each(|argument| encode::bulk(argument, &mut frame));
        let eval = Request { frame: &frame, command, ..*request };
        let eval = Request { key: eval.keys().next(), ..eval };
        self.on_routed(client, &eval, origin, now, effects);
        self.spare.keep(frame);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::testing::{ask, coordinator};
    use crate::protocol::request::{Decoded, Limits};

    const CLIENT: ClientId = ClientId(0);

    /// What becomes of a new client's line.
    fn asked(coordinator: &mut Coordinator, c_nodes: &[u32], line: &str) -> String {
        coordinator.connect(CLIENT, Asker::Client, Moment(0));
        ask(coordinator, c_nodes, line, |coordinator, request, recorder| {
            coordinator.on_request(CLIENT, request, Moment(0), recorder);
        })
    }

    const SHA: &str = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";

    fn enveloped(keys: &str) -> String {
        let mut frame = Vec::new();
        let line = format!("eval 'return 1' 1 {keys}\r\n");
        let mut decoder = crate::protocol::resp::decode::Decoder::default();
        let Decoded::Request { request, .. } = decoder.decode(line.as_bytes(), &Limits::default()) else { panic!() };
        crate::protocol::c_peer::envelop(&request, &mut frame);
        crate::coordinator::testing::text(&frame)
    }

    #[test]
    fn a_script_goes_to_c_nodes_in_an_envelope() {
        let mut coordinator = coordinator("a/r1:0 a/r2:0 a/r3:0 b/x:0", RouteSettings::default());
        let said = asked(&mut coordinator, &[1, 3], "eval 'return 1' 1 k");
        let c = enveloped("k");
        assert_eq!(said, format!("eval return 1 1 k | 1:{c} | 2:eval return 1 1 k | 3>{c}"));
    }

    #[test]
    fn a_digest_goes_as_the_text_it_stands_for() {
        let by_digest = format!("evalsha {} 1 k", SHA.to_uppercase());
        let none = "=-NOSCRIPT No matching script. Please use EVAL.";
        let mut coordinator = coordinator("a/r1:0 a/r2:0", RouteSettings::default());
        assert_eq!(asked(&mut coordinator, &[1], &by_digest), none);
        assert_eq!(asked(&mut coordinator, &[], &by_digest), format!("{by_digest} | 1:{by_digest}"));
        // Nothing was kept while nobody needed it.
        asked(&mut coordinator, &[], "script load 'return 1'");
        assert_eq!(asked(&mut coordinator, &[1], &by_digest), none);
        let as_text = format!("eval return 1 1 k | 1:{}", enveloped("k"));
        for loads in ["script load 'return 1'", "eval 'return 1' 1 x"] {
            asked(&mut coordinator, &[1], "script flush");
            assert_eq!(asked(&mut coordinator, &[1], &by_digest), none);
            asked(&mut coordinator, &[1], loads);
            assert_eq!(asked(&mut coordinator, &[1], &by_digest), as_text);
        }
    }

    #[test]
    fn a_script_that_a_peer_loads_here_is_known_too() {
        let mut coordinator = coordinator("a/r1:0 a/r2:0", RouteSettings::default());
        let peer = ClientId(3);
        coordinator.connect(peer, Asker::Peer, Moment(0));
        ask(&mut coordinator, &[1], "script load 'return 1'", |coordinator, request, recorder| {
            coordinator.on_peer_request(peer, request, Origin::Execute, Moment(0), recorder);
        });
        let said = asked(&mut coordinator, &[1], &format!("evalsha {SHA} 1 k"));
        assert_eq!(said, format!("eval return 1 1 k | 1:{}", enveloped("k")));
    }

    #[test]
    fn what_comes_in_an_envelope_is_told_without_it() {
        // `bar` belongs to node 1, and nobody else.
        let mut coordinator = coordinator("a/r1:4294967295 a/r1:2147483648", RouteSettings::default());
        let mut told = |reply: &str| {
            let recorder = testing::Recorder { c_nodes: vec![1], ..testing::Recorder::default() };
            let line = "eval 'return 1' 1 bar";
            let recorder = testing::ask_in(&mut coordinator, recorder, line, |coordinator, request, recorder| {
                coordinator.connect(CLIENT, Asker::Client, Moment(0));
                coordinator.on_request(CLIENT, request, Moment(0), recorder);
                recorder.said.clear();
                let reply = Reply { frame: reply.as_bytes(), is_error: reply.starts_with('-') };
                coordinator.on_reply(recorder.legs[0], reply, Moment(0), recorder);
            });
            recorder.said.join(" | ")
        };
        assert_eq!(told("*1\r\n$4\r\n*0\r\n\r\n"), "=");
        assert_eq!(told(":1\r\n"), "=:1");
        assert_eq!(told("-ERR x\r\n"), "=-ERR x");
        assert_eq!(told("$4\r\n*0\r\n\r\n"), "=$4\r\n*0");
    }

    #[test]
    fn texts_that_become_too_many_are_forgotten() {
        let mut texts = Texts::default();
        let many: Vec<Vec<u8>> = (0..3u8).map(|n| vec![n; TEXTS_BYTES_MAX / 2]).collect();
        many.iter().for_each(|text| texts.insert(text));
        assert_eq!(many.iter().filter(|text| texts.get(&sha(text)).is_some()).count(), 1);
        assert_eq!(texts.bytes, TEXTS_BYTES_MAX / 2);
    }
}
