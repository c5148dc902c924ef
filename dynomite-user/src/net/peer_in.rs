//! A connection on which a peer asks us.

/// Who is at the other end of a connection that we accepted.
#[derive(Debug)]
pub enum Role {
    Client,
}
