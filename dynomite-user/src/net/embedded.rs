//! The embedded datastore behind a socket of its own, on a thread of its own: what the node's workers connect to.
//! Owns: connections. The data are `redis::Hub`'s or `memcache::Store`'s.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use super::buffer::{Inbox, Outbox, Pool};
use super::stream::Stream;
use crate::embedded::memcache;
use crate::embedded::redis::{Hub, SessionId, Store, Taken, repair_scripts};
use crate::moment::epoch_millis;
use crate::protocol::Protocol;
use crate::protocol::codec::Decoder;
use crate::protocol::request::{Decoded, Limits, Request};
use crate::protocol::resp::resp3::{self, Shape};
use crate::protocol::resp::scan::ReplyScanner;

const LISTENER: Token = Token(usize::MAX);
const EVENTS: usize = 256;
/// Only this process asks, and what it lets through is the configuration's business.
const LIMITS: Limits = Limits { request_bytes_max: usize::MAX, arguments_max: u32::MAX, line_bytes_max: 64 << 10 };

/// Starts a datastore on a free port of the loopback interface. It lives as long as the process.
pub fn start(protocol: Protocol) -> io::Result<SocketAddr> {
    let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let address = listener.local_addr()?;
    let poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let model = match protocol {
        Protocol::Resp => Model::Redis(Box::new(Hub::new(Store::default().knowing(repair_scripts())))),
        Protocol::Memcache => Model::Memcache(Box::default()),
    };
    let server = Server { protocol, model, poll, listener, connections: Slab::new(), pool: Pool::default() };
    std::thread::Builder::new().name("embedded".to_owned()).spawn(move || server.run())?;
    Ok(address)
}

enum Model {
    Redis(Box<Hub>),
    Memcache(Box<memcache::Store>),
}

struct Connection {
    stream: Stream,
    session: SessionId,
    decoder: Option<Decoder>,
    inbox: Inbox,
    outbox: Outbox,
    waits_to_write: bool,
    closing: bool,
    voice: Voice,
}

/// How a connection is spoken to.
#[derive(Default)]
struct Voice {
    is_resp3: bool,
    /// Of the command that is answered next.
    shape: Option<Shape>,
    /// Of the commands since MULTI.
    queued: Vec<Shape>,
    is_queueing: bool,
}

struct Server {
    protocol: Protocol,
    model: Model,
    poll: Poll,
    listener: TcpListener,
    connections: Slab<Connection>,
    pool: Pool,
}

impl Server {
    fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            let wakes_at = match &self.model {
                Model::Redis(hub) => hub.wakes_at(),
                Model::Memcache(_) => None,
            };
            let timeout = wakes_at.map(|at| Duration::from_millis(at.saturating_sub(epoch_millis()) + 1));
            if let Err(error) = self.poll.poll(&mut events, timeout) {
                if error.kind() == io::ErrorKind::Interrupted {
                    continue;
                }
                tracing::error!(%error, "the embedded datastore ends");
                return;
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(),
                    Token(index) => self.read(index),
                }
            }
            if let Model::Redis(hub) = &mut self.model {
                let connections = &mut self.connections;
                let pool = &mut self.pool;
                hub.wake(epoch_millis(), &mut |session, bytes| say(connections, pool, session, bytes));
            }
            self.finish();
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let mut stream = Stream::Tcp(stream);
            let entry = self.connections.vacant_entry();
            // A session's number is its connection's place, so that what is said finds its way.
            let session = match &mut self.model {
                Model::Redis(hub) => hub.connect(),
                Model::Memcache(_) => SessionId(0),
            };
            let registered = stream.tune(None).and_then(|()| {
                self.poll.registry().register(&mut stream, Token(entry.key()), Interest::READABLE | Interest::WRITABLE)
            });
            if registered.is_ok() {
                entry.insert(Connection {
                    stream,
                    session,
                    decoder: Some(Decoder::new(self.protocol)),
                    inbox: Inbox::default(),
                    outbox: Outbox::default(),
                    waits_to_write: false,
                    closing: false,
                    voice: Voice::default(),
                });
            }
        }
    }

    fn read(&mut self, index: usize) {
        loop {
            let Some(connection) = self.connections.get_mut(index) else { return };
            connection.waits_to_write = false;
            connection.inbox.make_room(connection.inbox.len() + 1, &mut self.pool);
            match connection.inbox.read_from(&mut connection.stream) {
                Ok((0, _)) => return self.drop_connection(index),
                Ok(_) => self.handle(index),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.drop_connection(index),
            }
        }
    }

    /// Executes what is complete, up to a command that waits.
    fn handle(&mut self, index: usize) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        let (Some(mut decoder), session) = (connection.decoder.take(), connection.session) else { return };
        let mut inbox = std::mem::take(&mut connection.inbox);
        loop {
            let is_blocked = matches!(&self.model, Model::Redis(hub) if hub.is_blocked(session));
            if is_blocked || inbox.is_empty() || self.connections[index].closing {
                break;
            }
            let used = match decoder.decode(inbox.bytes(), &LIMITS) {
                Decoded::Request { consumed, request } => {
                    self.execute(index, &request);
                    consumed
                }
                Decoded::Refused { consumed, error } => {
                    self.refuse(index, &error);
                    consumed
                }
                Decoded::Skip { consumed } => consumed,
                Decoded::Incomplete { .. } => break,
                Decoded::Broken { error } => {
                    let connection = &mut self.connections[index];
                    connection.outbox.push(&error, &mut self.pool);
                    connection.closing = true;
                    inbox.len()
                }
            };
            inbox.advance(used);
        }
        inbox.settle(&mut self.pool);
        let connection = &mut self.connections[index];
        (connection.decoder, connection.inbox) = (Some(decoder), inbox);
    }

    fn execute(&mut self, index: usize, request: &Request<'_>) {
        let connections = &mut self.connections;
        let pool = &mut self.pool;
        match &mut self.model {
            Model::Memcache(store) => {
                let mut out = Vec::new();
                store.execute(request, epoch_millis(), &mut out);
                connections[index].closing = request.command.name == "quit";
                connections[index].outbox.push(&out, pool);
            }
            Model::Redis(hub) => {
                let connection = &mut connections[index];
                let session = connection.session;
                if request.command.name == "hello" && request.argument(1) == Some(b"3") {
                    connection.voice.is_resp3 = true;
                    return connection.outbox.push(b"%1\r\n$5\r\nproto\r\n:3\r\n", pool);
                }
                connection.voice.hear(request);
                let arguments: Vec<&[u8]> = request.arguments().collect();
                let now = epoch_millis();
                let taken = hub.execute(session, &arguments, now, &mut |to, bytes| say(connections, pool, to, bytes));
                connections[index].closing = taken == Taken::Close;
            }
        }
    }

    /// The decoder's error; a transaction that it belongs to must know of it.
    fn refuse(&mut self, index: usize, error: &[u8]) {
        if let Model::Redis(hub) = &mut self.model {
            hub.execute(self.connections[index].session, &[b"?"], epoch_millis(), &mut |_, _| {});
        }
        self.connections[index].outbox.push(error, &mut self.pool);
    }

    /// The end of a wake-up: who was waiting goes on, and everything said is written.
    fn finish(&mut self) {
        for index in 0..self.connections.capacity() {
            if self.connections.get(index).is_some_and(|connection| !connection.inbox.is_empty()) {
                self.handle(index);
            }
            let Some(connection) = self.connections.get_mut(index) else { continue };
            if connection.outbox.is_empty() || connection.waits_to_write {
                if connection.closing && connection.outbox.is_empty() {
                    self.drop_connection(index);
                }
                continue;
            }
            match connection.outbox.flush(&mut connection.stream, &mut self.pool) {
                Ok(true) if connection.closing => self.drop_connection(index),
                Ok(all) => connection.waits_to_write = !all,
                Err(_) => self.drop_connection(index),
            }
        }
    }

    fn drop_connection(&mut self, index: usize) {
        let Some(mut connection) = self.connections.try_remove(index) else { return };
        if let Model::Redis(hub) = &mut self.model {
            hub.disconnect(connection.session);
        }
        let _ = self.poll.registry().deregister(&mut connection.stream);
    }
}

fn say(connections: &mut Slab<Connection>, pool: &mut Pool, session: SessionId, bytes: &[u8]) {
    let Some((_, connection)) = connections.iter_mut().find(|(_, connection)| connection.session == session) else {
        return;
    };
    if !connection.voice.is_resp3 {
        return connection.outbox.push(bytes, pool);
    }
    let mut out = Vec::new();
    connection.voice.say(bytes, &mut out);
    connection.outbox.push(&out, pool);
}

impl Voice {
    fn hear(&mut self, request: &Request<'_>) {
        let shape = resp3::shape_of(request);
        match request.command.name {
            "multi" => (self.is_queueing, self.shape) = (true, Some(Shape::Same)),
            "exec" | "discard" => (self.is_queueing, self.shape) = (false, None),
            _ if self.is_queueing => {
                self.queued.push(shape);
                self.shape = Some(Shape::Same);
            }
            _ => self.shape = Some(shape),
        }
    }

    fn say(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if is_push(bytes) {
            out.push(b'>');
            return out.extend_from_slice(&bytes[1..]);
        }
        match self.shape {
            Some(shape) => resp3::convert(shape, bytes, out),
            None => self.say_transaction(bytes, out),
        }
    }

    /// The reply to EXEC: each element has its command's shape.
    fn say_transaction(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let shapes = std::mem::take(&mut self.queued);
        let head = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if !bytes.starts_with(b"*") || bytes.starts_with(b"*-") {
            return resp3::convert(Shape::Same, bytes, out);
        }
        out.extend_from_slice(&bytes[..head]);
        let mut rest = &bytes[head..];
        for shape in shapes {
            let crate::protocol::reply::Scanned::Reply { len, .. } = ReplyScanner::default().scan(rest) else { break };
            resp3::convert(shape, &rest[..len], out);
            rest = &rest[len..];
        }
        out.extend_from_slice(rest);
    }
}

/// A message, or the answer to a subscription: what RESP3 marks as a push.
fn is_push(bytes: &[u8]) -> bool {
    let kind = bytes.split(|byte| *byte == b'\n').nth(2).unwrap_or_default().trim_ascii_end();
    bytes.starts_with(b"*")
        && matches!(
            kind,
            b"message"
                | b"pmessage"
                | b"smessage"
                | b"subscribe"
                | b"psubscribe"
                | b"ssubscribe"
                | b"unsubscribe"
                | b"punsubscribe"
                | b"sunsubscribe"
        )
}
