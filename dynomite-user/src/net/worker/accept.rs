//! Who comes in at a worker's listeners.
//! Owns: whether there is room for them.

use mio::Interest;

use super::*;
use crate::net::buffer::write_now;

impl Worker {
    pub(super) fn accept(&mut self, index: usize) {
        while let Some(stream) =
            self.listeners.clients.get(index).and_then(|listener| next(listener, &mut self.accept_at, &self.io))
        {
            self.make_room(&stream);
            self.welcome(stream);
        }
        if self.accept_at.is_some() {
            self.give_way();
        }
    }

    pub(super) fn accept_peers(&mut self, index: usize) {
        while let Some(stream) =
            self.listeners.peers.get(index).and_then(|listener| next(listener, &mut self.accept_at, &self.io))
        {
            self.make_room(&stream);
            self.welcome_peer(stream);
        }
    }

    /// From now on it is heard. None: it has left already.
    pub(in crate::net) fn enter(
        &mut self,
        mut stream: Stream,
        decoder: Option<Decoder>,
        role: Role,
        asker: Asker,
    ) -> Option<ClientId> {
        let entry = self.io.clients.vacant_entry();
        let index = entry.key();
        let token = Source::Client(index).token();
        let registered =
            stream.tune(None).and_then(|()| self.io.registry.register(&mut stream, token, Interest::READABLE));
        if let Err(error) = registered {
            tracing::debug!(%error, ?asker, "it left before it was served");
            return None;
        }
        entry.insert(Client::new(stream, token, decoder, role));
        let id = ClientId(index as u32);
        self.coordinator.connect(id, asker, self.io.now);
        Some(id)
    }

    fn welcome(&mut self, mut stream: Stream) {
        if !self.control.let_in(self.settings.clients_max) {
            self.stats.bump(Stat::client_connections_refused);
            self.io.notices.client_refused(self.io.now);
            let mut refusal = Vec::new();
            write_error(self.settings.protocol, "max number of clients reached", &mut refusal);
            write_now(&mut stream, &refusal);
            return;
        }
        let decoder = Decoder::new(self.settings.protocol);
        let Some(id) = self.enter(stream, Some(decoder), Role::Client, Asker::Client) else {
            self.control.let_out();
            return;
        };
        self.coordinator.enroll(id, &self.io);
        self.stats.bump(Stat::client_accepted);
        self.stats.bump(Stat::client_connections);
    }
}

/// Somebody who is waiting at a listener. It cannot be accepted for want of descriptors: tried again at `accept_at`.
fn next(listener: &Listener, accept_at: &mut Option<Moment>, io: &Io) -> Option<Stream> {
    listener.accept().unwrap_or_else(|error| {
        io.notices.cannot_accept(&error, io.now);
        *accept_at = Some(io.now + HOUSEKEEPING);
        None
    })
}
