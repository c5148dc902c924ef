//! A connection on which a peer asks us. It is read, paused, flushed and dropped like a client's; its requests come in
//! messages and its replies leave in them.

use std::collections::VecDeque;

use super::stream::Stream;
use super::worker::Worker;
use crate::coordinator::route::Origin;
use crate::coordinator::{Asker, ClientId};
use crate::protocol::codec::is_of_a_limit;
use crate::protocol::peer::order::Responder;
use crate::protocol::peer::{Heard, Hearing, Message};
use crate::stats::{Histogram, Stat, Stats};

/// Who is at the other end of a connection that we accepted.
pub enum Role {
    Client,
    /// Boxed: most connections are clients'.
    Peer(Box<PeerIn>),
}

impl Role {
    pub fn bytes_in(&self) -> Stat {
        match self {
            Role::Client => Stat::client_bytes_in,
            Role::Peer(_) => Stat::peer_bytes_in,
        }
    }

    pub fn bytes_out(&self) -> Stat {
        match self {
            Role::Client => Stat::client_bytes_out,
            Role::Peer(_) => Stat::peer_bytes_out,
        }
    }
}

pub struct PeerIn {
    /// Away while its requests are handled.
    hearing: Option<Hearing>,
    responder: Responder,
    /// The size of each request that is not yet answered.
    asked: VecDeque<u32>,
    asked_bytes: u64,
    /// The last thing heard was no message.
    is_lost: bool,
}

impl PeerIn {
    fn new(hearing: Hearing) -> PeerIn {
        PeerIn {
            hearing: Some(hearing),
            responder: Responder::default(),
            asked: VecDeque::new(),
            asked_bytes: 0,
            is_lost: false,
        }
    }

    fn book_asked(&mut self, bytes: usize, stats: &Stats) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.asked.push_back(bytes);
        self.asked_bytes += u64::from(bytes);
        stats.bump(Stat::dnode_client_out_queue);
        stats.add(Stat::dnode_client_out_queue_bytes, bytes.into());
        stats.record(Histogram::dnode_client_out_queue, self.asked.len() as u64);
    }

    /// The oldest request has its reply: writes the head for it. `false`: there is nothing to be said.
    pub fn answer(&mut self, reply: &[u8], head: &mut Vec<u8>, stats: &Stats) -> bool {
        head.clear();
        let says = self.responder.answer_head(reply.len(), head) && !reply.is_empty();
        if let Some(bytes) = self.asked.pop_front() {
            self.asked_bytes -= u64::from(bytes);
            stats.sub(Stat::dnode_client_out_queue, 1);
            stats.sub(Stat::dnode_client_out_queue_bytes, bytes.into());
        }
        says
    }

    /// The connection is gone.
    pub fn forget(&mut self, stats: &Stats) {
        stats.sub(Stat::dnode_client_out_queue, self.asked.len() as u64);
        stats.sub(Stat::dnode_client_out_queue_bytes, self.asked_bytes);
        self.asked = VecDeque::new();
        self.asked_bytes = 0;
    }
}

impl Worker {
    pub(super) fn welcome_peer(&mut self, stream: Stream) {
        if self.peers_in >= self.settings.peers_in_max {
            self.stats.bump(Stat::peer_connections_refused);
            return;
        }
        let role = Role::Peer(Box::new(PeerIn::new(Hearing::new(self.settings.protocol))));
        if self.enter(stream, None, role, Asker::Peer).is_none() {
            return;
        }
        self.peers_in += 1;
        self.stats.bump(Stat::dnode_client_connections);
    }

    /// Its connection is gone.
    pub(super) fn part_from_peer(&mut self, mut peer: PeerIn, why: Stat) {
        peer.forget(&self.stats);
        self.peers_in -= 1;
        self.stats.bump(if why == Stat::client_eof { Stat::dnode_client_eof } else { Stat::dnode_client_err });
        self.stats.sub(Stat::dnode_client_connections, 1);
    }

    /// Handles every complete message in `bytes`; returns how many bytes that were.
    pub(super) fn handle_peer(&mut self, index: usize, bytes: &[u8]) -> usize {
        let id = ClientId(index as u32);
        let Some(mut hearing) = self.peer_mut(index).and_then(|peer| peer.hearing.take()) else { return 0 };
        let (mut done, mut need) = (0, 0);
        while done < bytes.len() {
            // Closed, or dropped for its overflow: what follows is not heard.
            if self.io.clients.get(index).is_none_or(|client| client.deaf) {
                done = bytes.len();
                break;
            }
            let heard = hearing.hear(&bytes[done..], &self.settings.limits);
            let is_garbage = matches!(heard, Heard::Garbage { .. });
            match heard {
                Heard::Request { consumed, question, message, request } => {
                    self.asked_by_peer(index, question, request.frame.len());
                    let origin = if message == Message::Forward { Origin::Forward } else { Origin::Execute };
                    self.coordinator.on_peer_request(id, &request, origin, self.io.now, &mut self.io);
                    done += consumed;
                }
                Heard::Refused { consumed, question, error } => {
                    self.asked_by_peer(index, question, consumed);
                    self.refuse_peer(id, &error);
                    done += consumed;
                }
                Heard::Broken { question, error } => {
                    self.asked_by_peer(index, question, 0);
                    self.refuse_peer(id, &error);
                    self.end_peer(index);
                }
                Heard::Encrypted => {
                    tracing::debug!("a peer's message is encrypted");
                    self.end_peer(index);
                }
                Heard::Gossip { consumed, payload } => {
                    self.on_gossip(payload);
                    done += consumed;
                }
                Heard::Garbage { consumed } => {
                    self.stats.add(Stat::peer_garbage_bytes, consumed as u64);
                    done += consumed;
                }
                Heard::Incomplete { need: bytes_needed } => {
                    need = bytes_needed;
                    break;
                }
            }
            if let Some(peer) = self.peer_mut(index) {
                let was_lost = std::mem::replace(&mut peer.is_lost, is_garbage);
                self.stats.add(Stat::peer_resyncs, u64::from(is_garbage && !was_lost));
            }
        }
        if let Some(client) = self.io.clients.get_mut(index) {
            client.need = need;
            if let Role::Peer(peer) = &mut client.role {
                peer.hearing = Some(hearing);
            }
        }
        done
    }

    fn asked_by_peer(&mut self, index: usize, question: crate::protocol::peer::Question, bytes: usize) {
        let stats = self.stats.clone();
        if let Some(peer) = self.peer_mut(index) {
            peer.responder.asked(question);
            peer.book_asked(bytes, &stats);
        }
    }

    /// Nothing more is heard from it; it is closed when what it asked is answered.
    fn end_peer(&mut self, index: usize) {
        self.stats.bump(Stat::peer_protocol_errors);
        if let Some(client) = self.io.clients.get_mut(index) {
            (client.deaf, client.broken) = (true, true);
        }
        self.coordinator.finish(ClientId(index as u32), &mut self.io);
    }

    fn refuse_peer(&mut self, id: ClientId, error: &[u8]) {
        self.stats.bump(Stat::peer_refused_requests);
        self.stats.bump(Stat::peer_forward_error);
        self.stats.add(Stat::request_too_large, is_of_a_limit(error).into());
        self.coordinator.answer(id, error, &mut self.io);
    }

    /// Who is in the cluster is not ours to judge yet: what is said about it is counted and left.
    fn on_gossip(&mut self, _payload: &[u8]) {
        self.stats.bump(Stat::gossip_received);
    }

    fn peer_mut(&mut self, index: usize) -> Option<&mut PeerIn> {
        match &mut self.io.clients.get_mut(index)?.role {
            Role::Peer(peer) => Some(peer),
            Role::Client => None,
        }
    }
}
