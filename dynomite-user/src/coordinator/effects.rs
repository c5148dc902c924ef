//! What the coordinator may ask of the world. `net` performs it; simulation and tests record it.

use crate::protocol::reply::Expect;
use crate::ring::PeerId;
use crate::stats::PeerStat;

/// One replica's part in one request: a ticket and the replica's place in its plan, as an opaque number.
/// The shell keeps it beside the frame it sent and hands it back with the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Leg(pub u64);

/// A client connection, or a peer's connection that asks us: an index that the shell chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub u32);

/// How a peer is asked: by itself alone, or for its whole datacenter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// REQ: execute on the peer's own datastore.
    Execute,
    /// REQ_FORWARD: fan out in the peer's datacenter, answer with its own rack's reply.
    Forward,
}

/// A frame as it is to be sent, and what will tell the end of its reply.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    pub leg: Leg,
    pub frame: &'a [u8],
    pub expect: Expect,
    pub is_write: bool,
}

/// Why a frame was not taken. Nothing of it was sent; another replica may be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    Down,
    /// The link's queue is full.
    Full,
    /// The node's state does not let anybody at its datastore.
    Forbidden,
}

/// What a peer understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kin {
    /// Whatever we do. So does a peer without a working link: it will not be sent anything.
    Ours,
    /// What C Dynomite does: see `protocol::c_peer`.
    C,
}

pub trait Effects {
    /// Queues a frame for our own datastore. Frames of one `lane` keep their order.
    fn to_datastore(&mut self, lane: u32, outgoing: Outgoing<'_>) -> Result<(), SendError>;
    /// Queues a frame for a peer. Frames of one `lane` keep their order.
    fn to_peer(&mut self, peer: PeerId, ask: Ask, lane: u32, outgoing: Outgoing<'_>) -> Result<(), SendError>;
    /// Queues a frame on the client's own datastore connection, dialling it first if need be; it speaks RESP3 there if
    /// the client does. Without a leg, whatever comes back is a push.
    fn to_private(&mut self, client: ClientId, is_resp3: bool, leg: Option<Leg>, frame: &[u8])
    -> Result<(), SendError>;
    /// Closes the client's own datastore connection, and forgets the state on it.
    fn drop_private(&mut self, client: ClientId);
    /// Says one whole reply, the next in the client's order. An empty one keeps the order but says nothing.
    fn to_client(&mut self, client: ClientId, reply: &[u8]);
    /// Says what the client did not ask for just now: it listens.
    fn push(&mut self, client: ClientId, frame: &[u8]) {
        self.to_client(client, frame);
    }
    /// Nothing more will be said: close when what was said is out.
    fn close(&mut self, client: ClientId);
    /// The client was held and may be read again.
    fn resume(&mut self, client: ClientId);
    /// Is there a working link to this peer? For `PeerId::SELF`: to our own datastore.
    fn is_up(&self, peer: PeerId) -> bool;
    /// Who is at the other end of the link that a frame of this lane would take?
    fn kin(&self, _peer: PeerId, _lane: u32) -> Kin {
        Kin::Ours
    }
    /// What became of a request to this peer, beyond what its link sees.
    fn count(&mut self, _peer: PeerId, _stat: PeerStat) {}
    /// The addresses of a client's two ends, its own first, as people read them.
    fn addresses(&self, client: ClientId) -> (String, String);
    /// The time of day: microseconds since 1970.
    fn epoch_micros(&self) -> u64;
}
