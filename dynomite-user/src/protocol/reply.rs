//! A reply as a frame of bytes, and the errors that we say ourselves.

use super::Protocol;

/// One complete reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    pub frame: &'a [u8],
    /// `-…` in RESP; `ERROR`, `CLIENT_ERROR`, `SERVER_ERROR` in memcached.
    pub is_error: bool,
}

/// What a reply scanner found at the head of an inbox. Scanners are resumable: they never look twice at a byte.
#[derive(Debug, PartialEq, Eq)]
pub enum Scanned {
    /// The first `len` bytes of the inbox are one reply.
    Reply { len: usize, is_error: bool },
    /// Nothing more can be known before the inbox holds `need` bytes.
    Incomplete { need: usize },
    /// Not a reply. The connection's place is lost.
    Broken,
}

/// Our own errors. `text()` is what follows `-ERR ` or `SERVER_ERROR `; clients and managers match on these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// No datastore connection, or it died or did not answer in time. The request may have been executed.
    DatastoreRefused,
    /// No connection to the owner. Nothing was sent.
    PeerNotConnected,
    /// The connection to the owner died or did not answer in time. The request may have been executed.
    PeerRefused,
    /// The node's state (standby, writes only, …) forbids it.
    State,
    AdminMode,
    /// Replicas answered, but not enough of them alike.
    NoQuorum,
    KeysSpanNodes,
    /// A limit of this node was reached; the request was shed, not executed.
    Busy,
}

impl Fault {
    pub fn text(self) -> &'static str {
        match self {
            Fault::DatastoreRefused => "Storage: Datastore refused connection",
            Fault::PeerNotConnected => "Peer: Peer Node is not connected",
            Fault::PeerRefused => "Peer: Peer Node refused connection",
            Fault::State => "Dynomite: Dynomite's current state does not allow this request",
            Fault::AdminMode => "Dynomite: Invalid request in Dynomite's admin mode",
            Fault::NoQuorum => "Dynomite: Failed to achieve Quorum",
            Fault::KeysSpanNodes => "Dynomite: Keys in the script cannot span multiple nodes",
            Fault::Busy => "Dynomite: Too many outstanding requests",
        }
    }

    /// The error that another node said because it had no answer, if the reply is one: its datastore or its own peer was
    /// away, or it sheds load. What the datastore itself says is none of these. Our nodes say more behind the text.
    pub fn of_reply(reply: &Reply<'_>) -> Option<Fault> {
        const WITHOUT_ANSWER: [Fault; 5] =
            [Fault::DatastoreRefused, Fault::PeerNotConnected, Fault::PeerRefused, Fault::State, Fault::Busy];
        if !reply.is_error {
            return None;
        }
        let frame = reply.frame;
        let text = frame.strip_prefix(b"-ERR ").or_else(|| frame.strip_prefix(b"SERVER_ERROR "))?;
        WITHOUT_ANSWER.into_iter().find(|fault| text.starts_with(fault.text().as_bytes()))
    }

    /// The request was surely not executed.
    pub fn is_unsent(self) -> bool {
        !matches!(self, Fault::DatastoreRefused | Fault::PeerRefused | Fault::NoQuorum)
    }
}

/// What a request is told whose reply is longer than `reply_bytes_max`. It was executed.
pub fn reply_too_large(protocol: Protocol) -> Reply<'static> {
    let frame: &[u8] = match protocol {
        Protocol::Resp => b"-ERR Dynomite: The reply is longer than reply_bytes_max\r\n",
        Protocol::Memcache => b"SERVER_ERROR Dynomite: The reply is longer than reply_bytes_max\r\n",
    };
    Reply { frame, is_error: true }
}

/// Appends an error reply in the client's protocol. `text` must hold no line end.
pub fn write_error(protocol: Protocol, text: &str, out: &mut Vec<u8>) {
    let prefix: &[u8] = match protocol {
        Protocol::Resp => b"-ERR ",
        Protocol::Memcache => b"SERVER_ERROR ",
    };
    out.extend_from_slice(prefix);
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// What tells where a request's reply ends: kept beside each request on a connection. RESP says it by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    Resp,
    /// memcached: one line (`STORED`, a number, `VERSION …`, an error).
    Line,
    /// memcached: `VALUE` lines with their data, then `END`; or an error line.
    Values,
    /// memcached: lines up to `END`, or one line that stands alone (`RESET`, `OK`, an error).
    Stats,
    /// memcached meta commands: one line, and data behind `VA <bytes>`.
    Meta,
}
