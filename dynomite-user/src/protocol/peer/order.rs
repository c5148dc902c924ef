//! Which reply belongs to which request, at both ends of a connection between nodes.
//! Owns: the ids outstanding on one connection. Knows nothing of: what a request is, sockets, time.

use std::collections::VecDeque;

/// The asking end. Replies come in the order of the requests; peers that lose, repeat or invent one are survived.
/// `T` is what the asker wants back with a reply.
#[derive(Debug)]
pub struct Matcher<T> {
    outstanding: VecDeque<(u64, T)>,
    last_id: u64,
    /// Replies that belonged to no request, and requests whose reply was passed over: `peer_mismatch_requests`.
    pub mismatches: u64,
}

impl<T> Default for Matcher<T> {
    fn default() -> Self {
        Matcher { outstanding: VecDeque::new(), last_id: 0, mismatches: 0 }
    }
}

impl<T> Matcher<T> {
    /// A request is sent: the id for its head. Ids of one connection only grow.
    pub fn sent(&mut self, value: T) -> u64 {
        self.last_id += 1;
        self.outstanding.push_back((self.last_id, value));
        self.last_id
    }

    /// A message that nobody answers needs an id, too.
    pub fn sent_for_good(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Whose reply has `id`? Requests before it have lost theirs and are handed to `lost`, oldest first. `None` is a
    /// reply that nobody waits for, from the past or out of thin air: drop it.
    pub fn replied(&mut self, id: u64, mut lost: impl FnMut(T)) -> Option<T> {
        if self.outstanding.front().is_some_and(|(first, _)| *first == id) {
            return self.outstanding.pop_front().map(|(_, value)| value);
        }
        self.mismatches += 1;
        let at = self.outstanding.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        for (_, value) in self.outstanding.drain(..at) {
            self.mismatches += 1;
            lost(value);
        }
        // The reply itself is a match.
        self.mismatches -= 1;
        self.outstanding.pop_front().map(|(_, value)| value)
    }

    /// What `replied` would answer, without taking it: how a memcached reply ends depends on its request.
    pub fn peek(&self, id: u64) -> Option<&T> {
        let (first, value) = self.outstanding.front()?;
        if *first == id {
            return Some(value);
        }
        self.outstanding.binary_search_by_key(&id, |(id, _)| *id).ok().map(|at| &self.outstanding[at].1)
    }

    /// The connection is gone: nobody will answer these, oldest first.
    pub fn abandon(&mut self) -> impl Iterator<Item = T> + '_ {
        self.outstanding.drain(..).map(|(_, value)| value)
    }

    pub fn len(&self) -> usize {
        self.outstanding.len()
    }

    pub fn is_empty(&self) -> bool {
        self.outstanding.is_empty()
    }
}

/// The answering end: each request gets exactly one reply, in the order in which they came. A C node that gets a reply
/// it did not ask for crashes, and one that misses a reply leaves its client waiting.
#[derive(Debug, Default)]
pub struct Responder {
    asked: VecDeque<Question>,
}

/// What a reply's head repeats of its request's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    pub id: u64,
    pub same_datacenter: bool,
}

impl Responder {
    /// Exactly one `answer` will follow for it.
    pub fn asked(&mut self, question: Question) {
        self.asked.push_back(question);
    }

    /// The oldest request is answered; an empty reply says nothing (memcached's `noreply`).
    pub fn answer(&mut self, reply: &[u8], out: &mut Vec<u8>) {
        if self.answer_head(reply.len(), out) {
            out.extend_from_slice(reply);
        }
    }

    /// The same for who writes the reply elsewhere: appends its head alone. `false`, and nothing is to be sent: more
    /// replies than requests, a mistake of ours.
    pub fn answer_head(&mut self, reply_len: usize, out: &mut Vec<u8>) -> bool {
        let Some(Question { id, same_datacenter }) = self.asked.pop_front() else {
            debug_assert!(false, "a reply to nothing");
            return false;
        };
        if reply_len > 0 {
            super::encode::write_head(super::Message::Reply, id, same_datacenter, reply_len, out);
        }
        true
    }

    pub fn len(&self) -> usize {
        self.asked.len()
    }

    pub fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Requests 1 to `sent` are out, then replies come. Says what happens for each: `1` matched, `-1` lost, `?` stray.
    fn check(sent: u64, replies: &[u64], expected: &str, mismatches: u64) {
        let mut matcher = Matcher::default();
        (1..=sent).for_each(|n| assert_eq!(matcher.sent(n), n));
        let mut said = Vec::new();
        for &id in replies {
            let peeked = matcher.peek(id).copied();
            let matched = matcher.replied(id, |lost| said.push(format!("-{lost}")));
            assert_eq!(matched, peeked);
            said.push(matched.map_or("?".to_owned(), |value| value.to_string()));
        }
        said.extend(matcher.abandon().map(|left| format!("!{left}")));
        assert_eq!(said.join(" "), expected);
        assert_eq!(matcher.mismatches, mismatches);
    }

    #[test]
    fn replies_in_order() {
        check(3, &[1, 2, 3], "1 2 3", 0);
        check(3, &[1], "1 !2 !3", 0);
    }

    #[test]
    fn a_missing_reply_fails_its_request_alone() {
        check(4, &[1, 3, 4], "1 -2 3 4", 1);
        check(4, &[4], "-1 -2 -3 4", 3);
    }

    #[test]
    fn replies_nobody_waits_for() {
        check(2, &[1, 1, 2], "1 ? 2", 1);
        check(2, &[0, 1, 2], "? 1 2", 1);
        check(1, &[1, 1], "1 ?", 1);
        check(0, &[1], "?", 1);
    }

    #[test]
    fn an_id_from_the_future_harms_nobody() {
        check(2, &[u64::MAX, 9, 1, 2], "? ? 1 2", 2);
    }

    #[test]
    fn gossip_between_requests_leaves_gaps() {
        let mut matcher = Matcher::default();
        assert_eq!(matcher.sent("a"), 1);
        assert_eq!(matcher.sent_for_good(), 2);
        assert_eq!(matcher.sent("b"), 3);
        assert_eq!(matcher.replied(2, |_| panic!()), None);
        assert_eq!(matcher.replied(3, |lost| assert_eq!(lost, "a")), Some("b"));
    }

    #[test]
    fn the_responder_answers_in_order_and_repeats_the_digit() {
        let mut responder = Responder::default();
        for (id, same_datacenter) in [(7, true), (9, false), (12, true)] {
            responder.asked(Question { id, same_datacenter });
        }
        let mut out = Vec::new();
        responder.answer(b"+OK\r\n", &mut out);
        responder.answer(b"", &mut out);
        responder.answer(b":1\r\n", &mut out);
        assert_eq!(out, b"   $2014$ 7 5 0 2 1 *1 d *5\r\n+OK\r\n   $2014$ 12 5 0 2 1 *1 d *4\r\n:1\r\n");
        assert!(responder.is_empty());
    }

    proptest! {
        /// Whatever a peer replies, each request is heard of exactly once.
        #[test]
        fn each_request_ends_once(sent in 0_u64..50, replies in prop::collection::vec(0_u64..60, 0..80)) {
            let mut matcher = Matcher::default();
            (1..=sent).for_each(|n| { matcher.sent(n); });
            let mut ended = Vec::new();
            for id in replies {
                let matched = matcher.replied(id, |lost| ended.push(lost));
                prop_assert!(matched.is_none_or(|value| value == id));
                ended.extend(matched);
            }
            ended.extend(matcher.abandon());
            prop_assert_eq!(ended, (1..=sent).collect::<Vec<_>>());
        }
    }
}
