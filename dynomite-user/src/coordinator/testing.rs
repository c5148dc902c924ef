//! A world that only remembers what it was asked.

use super::*;
use crate::control::NodeState;
use crate::protocol::request::{Decoded, Limits};
use crate::protocol::resp::decode::Decoder;
use crate::ring::topology::sketch;

pub fn coordinator(topology: &str, route: RouteSettings) -> Coordinator {
    let one = ConsistencyLevel::DcOne;
    let control = Arc::new(Control::new(one, one, false, NodeState::Normal));
    let settings = Settings {
        protocol: Protocol::Resp,
        hash: HashKind::Murmur,
        hash_tag: None,
        timeout: Duration::from_secs(1),
        requirepass: None,
        outstanding_max: 100,
        route,
    };
    Coordinator::new(settings, sketch(topology).into(), control, Stats::alone())
}

/// What becomes of a line, in a world with these C nodes. The key `foo` has the token 3303027599, `bar` 516654467.
pub fn ask(
    coordinator: &mut Coordinator,
    c_nodes: &[u32],
    line: &str,
    ask: impl FnOnce(&mut Coordinator, &Request<'_>, &mut Recorder),
) -> String {
    let recorder = Recorder { c_nodes: c_nodes.to_vec(), ..Recorder::default() };
    ask_in(coordinator, recorder, line, ask).said.join(" | ")
}

/// The same in a given world.
pub fn ask_in(
    coordinator: &mut Coordinator,
    mut recorder: Recorder,
    line: &str,
    ask: impl FnOnce(&mut Coordinator, &Request<'_>, &mut Recorder),
) -> Recorder {
    let mut decoder = Decoder::default();
    let line = format!("{line}\r\n");
    let Decoded::Request { request, .. } = decoder.decode(line.as_bytes(), &Limits::default()) else {
        panic!("{line}")
    };
    ask(coordinator, &request, &mut recorder);
    recorder
}

pub struct Recorder {
    /// In order: what the datastore was asked (the frame), what peers were asked (`1:` or `1>` before it), and what
    /// clients were told (`=` before it).
    pub said: Vec<String>,
    /// What clients were told, as it was told.
    pub told: Vec<u8>,
    /// The legs of what was asked, in the same order.
    pub legs: Vec<Leg>,
    pub datastore_is_down: bool,
    pub down: Vec<u32>,
    pub c_nodes: Vec<u32>,
    pub epoch_micros: u64,
    /// What was counted of peers, in order.
    pub counted: Vec<String>,
}

impl Default for Recorder {
    fn default() -> Recorder {
        Recorder {
            said: Vec::new(),
            told: Vec::new(),
            legs: Vec::new(),
            datastore_is_down: false,
            down: Vec::new(),
            c_nodes: Vec::new(),
            epoch_micros: 1_000_000,
            counted: Vec::new(),
        }
    }
}

impl Effects for Recorder {
    fn to_datastore(&mut self, _lane: u32, outgoing: Outgoing<'_>) -> Result<(), SendError> {
        if self.datastore_is_down {
            return Err(SendError::Down);
        }
        self.legs.push(outgoing.leg);
        self.said.push(text(outgoing.frame));
        Ok(())
    }

    fn to_peer(&mut self, peer: PeerId, ask: Ask, _lane: u32, outgoing: Outgoing<'_>) -> Result<(), SendError> {
        if self.down.contains(&peer.0) {
            return Err(SendError::Down);
        }
        self.legs.push(outgoing.leg);
        let how = if ask == Ask::Forward { '>' } else { ':' };
        self.said.push(format!("{}{how}{}", peer.0, text(outgoing.frame)));
        Ok(())
    }

    fn to_private(&mut self, _: ClientId, _: bool, _: Option<Leg>, frame: &[u8]) -> Result<(), SendError> {
        if self.datastore_is_down {
            return Err(SendError::Down);
        }
        self.said.push(format!("private {}", text(frame)));
        Ok(())
    }

    fn drop_private(&mut self, _: ClientId) {}

    fn to_client(&mut self, _: ClientId, reply: &[u8]) {
        self.told.extend_from_slice(reply);
        self.said.push(format!("={}", text(reply)));
    }

    fn close(&mut self, _: ClientId) {
        self.said.push("close".to_owned());
    }

    fn resume(&mut self, _: ClientId) {}

    fn count(&mut self, peer: PeerId, stat: PeerStat) {
        self.counted.push(format!("{} {stat:?}", peer.0));
    }

    fn addresses(&self, client: ClientId) -> (String, String) {
        (format!("client:{}", client.0), "here:0".to_owned())
    }

    fn epoch_micros(&self) -> u64 {
        self.epoch_micros
    }

    fn is_up(&self, peer: PeerId) -> bool {
        if peer == PeerId::SELF { !self.datastore_is_down } else { !self.down.contains(&peer.0) }
    }

    fn kin(&self, peer: PeerId, _lane: u32) -> Kin {
        if self.c_nodes.contains(&peer.0) { Kin::C } else { Kin::Ours }
    }
}

/// An array of bulks as its words; anything else as it is, without its line end.
pub fn text(frame: &[u8]) -> String {
    let text = String::from_utf8_lossy(frame);
    match text.starts_with('*') {
        true => text.split("\r\n").skip(2).step_by(2).collect::<Vec<_>>().join(" "),
        false => text.trim_end().to_owned(),
    }
}
