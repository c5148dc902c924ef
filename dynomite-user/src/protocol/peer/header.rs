//! The head of a message between nodes: its fields, and what each kind of message is for.
//!
//! `   $2014$ <id> <message> <flags> <version> <same datacenter> *<data length> <data> *<payload length>\r\n`, then the
//! payload: a request or a reply in the datastore's protocol, or gossip.

/// Where a head starts. Nodes write three blanks before it and want none.
pub const MAGIC: &[u8; 6] = b"$2014$";
/// What our nodes write into every head. C nodes write 1 and look at nobody's, so a reply tells who is at the other end.
pub const VERSION: u64 = 2;
/// Six numbers of up to twenty digits, blanks, and the largest data. What goes on for longer is no head.
pub const HEAD_BYTES_MAX: usize = 1024;
/// The session key under an RSA key of 4096 bits; C nodes send 128 bytes.
pub const DATA_BYTES_MAX: usize = 512;
/// Twice of what C nodes can take in one message.
pub const GOSSIP_BYTES_MAX: usize = 32 << 10;

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// REQ: execute on your own datastore and answer.
    Execute,
    /// REQ_FORWARD: fan out in your datacenter, answer with your own rack's reply.
    Forward,
    /// RES.
    Reply,
    /// GOSSIP_SYN. Not answered.
    Gossip,
    /// A number without a meaning here. Not answered; what follows the head is skipped up to the next head. As a reply 0
    /// stands for `Reply`.
    Other(u64),
}

impl Message {
    pub fn of_number(number: u64) -> Message {
        match number {
            3 => Message::Execute,
            4 => Message::Forward,
            5 => Message::Reply,
            7 => Message::Gossip,
            other => Message::Other(other),
        }
    }

    pub fn number(self) -> u64 {
        match self {
            Message::Execute => 3,
            Message::Forward => 4,
            Message::Reply => 5,
            Message::Gossip => 7,
            Message::Other(number) => number,
        }
    }

    /// Where requests are answered: does its payload end where the datastore's protocol says?
    pub fn is_request(self) -> bool {
        matches!(self, Message::Execute | Message::Forward)
    }

    /// Where replies are awaited.
    pub fn is_reply(self) -> bool {
        matches!(self, Message::Reply | Message::Other(0))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    pub id: u64,
    pub message: Message,
    /// Four bits.
    pub flags: u8,
    pub version: u64,
    /// The sender believes that both ends are in one datacenter. A reply repeats the digit of its request: C nodes take
    /// it for their own knowledge of the peer.
    pub same_datacenter: bool,
    /// One letter, or the session key of an encrypted connection.
    pub data: &'a [u8],
    /// Right for gossip and for what is encrypted. Otherwise C nodes that relay a message count an old head as well:
    /// only the payload itself tells where it ends.
    pub payload_len: u64,
}

impl Header<'_> {
    /// The sender is one of ours: it understands whatever we do.
    pub fn is_ours(&self) -> bool {
        self.version >= VERSION
    }

    /// The payload is encrypted. Any other combination of flags means that it is not.
    pub fn is_encrypted(&self) -> bool {
        self.flags == 1
    }
}
