//! The memcached text protocol as a test sees it: whole replies as text.

use crate::client::Client;

/// A reply's bytes, data blocks included.
pub type Reply = Vec<u8>;

impl Client {
    /// Sends one command (without its line end) and reads its reply.
    #[track_caller]
    pub fn memcache(&mut self, command: &str) -> String {
        self.send(format!("{command}\r\n").as_bytes());
        String::from_utf8_lossy(&self.memcache_reply()).into_owned()
    }

    /// The next reply: lines up to the one that ends it, with the data blocks that lines announce.
    #[track_caller]
    pub fn memcache_reply(&mut self) -> Reply {
        let mut reply = Vec::new();
        loop {
            let line = self.line();
            reply.extend_from_slice(line.as_bytes());
            reply.extend_from_slice(b"\r\n");
            let words: Vec<&str> = line.split(' ').collect();
            let block = match words.as_slice() {
                ["VALUE", _, _, len, ..] | ["VA", len, ..] => Some(len.parse::<usize>().expect("a length")),
                _ => None,
            };
            if let Some(len) = block {
                reply.extend_from_slice(&self.bytes(len + 2));
            }
            if !matches!(words[0], "VALUE" | "STAT" | "ITEM") {
                return reply;
            }
        }
    }
}
