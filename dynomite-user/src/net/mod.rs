//! The shell around sockets: loops, few decisions.
