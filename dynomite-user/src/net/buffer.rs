//! Bytes on their way in and out. Buffers are lent by a pool and go back when empty, so that an idle connection has none.

use std::io::{self, ErrorKind, Read, Write};

/// Buffers of one worker that nobody needs just now. All their bytes are initialised.
#[derive(Debug, Default)]
pub struct Pool {
    buffers: Vec<Vec<u8>>,
    /// Their bytes, all together.
    held: usize,
}

/// A lent buffer starts at this size.
const LENT_BYTES: usize = 16 << 10;
/// A buffer that grew beyond this is given back to the allocator instead.
const KEPT_BYTES: usize = 64 << 10;
/// All that is kept for later: enough for every connection that is busy in one wake-up, mostly.
const HELD_BYTES: usize = 2 << 20;

impl Pool {
    fn lend(&mut self) -> Vec<u8> {
        match self.buffers.pop() {
            Some(buffer) => {
                self.held -= buffer.capacity();
                buffer
            }
            None => vec![0; LENT_BYTES],
        }
    }

    fn take_back(&mut self, buffer: Vec<u8>) {
        if (1..=KEPT_BYTES).contains(&buffer.capacity()) && self.held < HELD_BYTES {
            self.held += buffer.capacity();
            self.buffers.push(buffer);
        }
    }
}

/// What was read and not yet understood.
#[derive(Debug, Default)]
pub struct Inbox {
    /// Initialised space; what was read is `start..end`.
    space: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    pub fn bytes(&self) -> &[u8] {
        &self.space[self.start..self.end]
    }

    pub fn len(&self) -> usize {
        self.end - self.start
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub fn with_space(bytes: usize) -> Inbox {
        Inbox { space: vec![0; bytes], start: 0, end: 0 }
    }

    /// Makes room so that the inbox can hold `need` bytes in one piece, and some more to read.
    pub fn make_room(&mut self, need: usize, pool: &mut Pool) {
        if self.space.is_empty() {
            self.space = pool.lend();
        }
        let free_behind = self.space.len() - self.end;
        if free_behind >= LENT_BYTES / 4 && self.space.len() - self.start >= need {
            return;
        }
        if self.start > 0 {
            self.space.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let wanted = need.max(self.end + LENT_BYTES / 4);
        if self.space.len() < wanted {
            // What is announced may never come: space grows with what has come, at most fourfold ahead of it.
            let step = (self.end * 4).max(LENT_BYTES);
            self.space.resize(wanted.min(step).max(self.end + LENT_BYTES / 4), 0);
        }
    }

    /// Reads once. Returns the bytes read and whether the room was filled (then there may be more).
    pub fn read_from(&mut self, source: &mut impl Read) -> io::Result<(usize, bool)> {
        let room = &mut self.space[self.end..];
        let count = read_once(source, room)?;
        let filled = count == room.len();
        self.end += count;
        Ok((count, filled))
    }

    pub fn push(&mut self, bytes: &[u8], pool: &mut Pool) {
        if self.space.is_empty() {
            self.space = pool.lend();
        }
        if self.space.len() - self.end < bytes.len() {
            self.space.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            let wanted = self.end + bytes.len();
            if self.space.len() < wanted {
                self.space.resize(wanted, 0);
            }
        }
        self.space[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    pub fn advance(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Gives the buffer back if nothing is in it.
    pub fn settle(&mut self, pool: &mut Pool) {
        if self.is_empty() && !self.space.is_empty() {
            pool.take_back(std::mem::take(&mut self.space));
        }
    }

    /// For inboxes that keep their space: gives back what a large frame made it grow to.
    pub fn shrink(&mut self, bytes: usize) {
        if self.is_empty() && self.space.len() > bytes {
            self.space = vec![0; bytes];
        }
    }

    pub fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Forgets the newest bytes.
    pub fn cut(&mut self, count: usize) {
        self.end -= count.min(self.len());
    }
}

/// One read, retried when interrupted. `WouldBlock` stays an error.
pub fn read_once(source: &mut impl Read, room: &mut [u8]) -> io::Result<usize> {
    loop {
        match source.read(room) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Smaller ones are worth a copy: what else this wake-up brings goes out with them.
const WRITE_NOW_BYTES: usize = 48 << 10;

/// What is to be written.
#[derive(Debug, Default)]
pub struct Outbox {
    /// What is to be written is `start..end`; what lies behind has been once.
    space: Vec<u8>,
    start: usize,
    end: usize,
    /// A buffer up to this size stays here when all is written.
    keeps: usize,
    /// Bytes that have left since somebody asked.
    written: u64,
}

impl Outbox {
    /// For connections that are few and carry much.
    pub fn keeping(keeps: usize) -> Outbox {
        Outbox { keeps, ..Outbox::default() }
    }

    pub fn len(&self) -> usize {
        self.end - self.start
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub fn push(&mut self, bytes: &[u8], pool: &mut Pool) {
        if self.space.capacity() - self.end < bytes.len() {
            self.make_room(pool);
        }
        let (over, beyond) = bytes.split_at(bytes.len().min(self.space.len() - self.end));
        self.space[self.end..self.end + over.len()].copy_from_slice(over);
        self.space.extend_from_slice(beyond);
        self.end += bytes.len();
    }

    /// Queues bytes. Large ones go out at once if there is a sink and nothing is queued before them, which saves a copy.
    pub fn write_or_push(&mut self, bytes: &[u8], sink: Option<&mut impl Write>, pool: &mut Pool) {
        let mut rest = bytes;
        if let Some(sink) = sink
            && self.is_empty()
            && bytes.len() >= WRITE_NOW_BYTES
        {
            let count = write_now(sink, bytes);
            self.written += count as u64;
            rest = &bytes[count..];
        }
        if !rest.is_empty() {
            self.push(rest, pool);
        }
    }

    #[cold]
    fn make_room(&mut self, pool: &mut Pool) {
        if self.space.is_empty() {
            self.space = pool.lend();
        } else if self.start > 0 {
            self.space.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
    }

    /// Writes what can be written now. `Ok(true)`: all of it.
    pub fn flush(&mut self, sink: &mut impl Write, pool: &mut Pool) -> io::Result<bool> {
        self.flush_part(usize::MAX, sink, pool)
    }

    /// The same for the first `limit` bytes.
    pub fn flush_part(&mut self, limit: usize, sink: &mut impl Write, pool: &mut Pool) -> io::Result<bool> {
        let end = self.end.min(self.start.saturating_add(limit));
        while self.start < end {
            match sink.write(&self.space[self.start..end]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.start += count;
                    self.written += count as u64;
                    // A short write means a full socket: asking again would only say so.
                    if self.start < end {
                        return Ok(false);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        if self.start == self.end {
            self.clear(pool);
        }
        Ok(true)
    }

    /// How many bytes have left since this was last asked.
    pub fn take_written(&mut self) -> u64 {
        std::mem::take(&mut self.written)
    }

    pub fn clear(&mut self, pool: &mut Pool) {
        (self.start, self.end) = (0, 0);
        if self.space.capacity() > self.keeps {
            pool.take_back(std::mem::take(&mut self.space));
        }
    }
}

/// Writes `bytes` at once as far as the socket takes them; how many it took. Errors are left to the next flush.
pub fn write_now(sink: &mut impl Write, bytes: &[u8]) -> usize {
    loop {
        match sink.write(bytes) {
            Ok(count) => return count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes at most so many bytes at once.
    struct Narrow(Vec<u8>, usize);

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.1);
            self.0.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_pushed_leaves_in_order_however_little_the_sink_takes() {
        let mut pool = Pool::default();
        for keeps in [0, 64 << 10] {
            let (mut outbox, mut pushed, mut sink) = (Outbox::keeping(keeps), Vec::new(), Narrow(Vec::new(), 0));
            for turn in 0..50usize {
                let bytes: Vec<u8> = (0..turn * 997 % 40_000).map(|at| (at * 31 + turn) as u8).collect();
                outbox.push(&bytes, &mut pool);
                pushed.extend_from_slice(&bytes);
                sink.1 = turn * 7_919 % 50_000 + 1;
                let all = outbox.flush(&mut sink, &mut pool).unwrap();
                assert_eq!(all, outbox.is_empty());
                assert_eq!(sink.0.len() + outbox.len(), pushed.len());
            }
            sink.1 = usize::MAX;
            assert!(outbox.flush(&mut sink, &mut pool).unwrap());
            assert!(sink.0 == pushed);
            assert_eq!(outbox.take_written(), pushed.len() as u64);
        }
        assert!(pool.held <= HELD_BYTES + KEPT_BYTES);
        assert_eq!(pool.held, pool.buffers.iter().map(Vec::capacity).sum::<usize>());
    }
}
