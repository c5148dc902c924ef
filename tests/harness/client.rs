//! A client that decides about every byte: what is written when, in which pieces, and what is read.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::resp::{self, Value};
use crate::until::TIMEOUT;

pub struct Client {
    stream: TcpStream,
    /// Read but not yet looked at: `inbox[start..]`.
    inbox: Vec<u8>,
    start: usize,
}

pub struct Writer {
    stream: TcpStream,
}

impl Writer {
    /// Sends in pieces, cut at the given places (in order), each a segment of its own.
    pub fn send_cut(&mut self, bytes: &[u8], cuts: &[usize]) -> std::io::Result<()> {
        let mut from = 0;
        for cut in cuts.iter().copied().chain([bytes.len()]) {
            self.stream.write_all(&bytes[from..cut])?;
            from = cut;
        }
        Ok(())
    }
}

impl Client {
    #[track_caller]
    pub fn connect(to: SocketAddr) -> Client {
        Client::try_connect(to).unwrap_or_else(|error| panic!("cannot connect to {to}: {error}"))
    }

    pub fn try_connect(to: SocketAddr) -> std::io::Result<Client> {
        let stream = TcpStream::connect_timeout(&to, TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Client { stream, inbox: Vec::new(), start: 0 })
    }

    /// Sends words as one request and reads one reply.
    #[track_caller]
    pub fn ask(&mut self, line: &str) -> Value {
        self.call(line.split_whitespace())
    }

    /// Sends arguments as one request and reads one reply.
    #[track_caller]
    pub fn call<A: AsRef<[u8]>>(&mut self, args: impl IntoIterator<Item = A>) -> Value {
        self.send(&resp::request(args));
        self.reply()
    }

    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("send");
    }

    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends in pieces, cut at the given places, each a segment of its own.
    #[track_caller]
    pub fn send_cut(&mut self, bytes: &[u8], cuts: &[usize]) {
        self.writer().send_cut(bytes, cuts).expect("send");
    }

    /// The next reply.
    #[track_caller]
    pub fn reply(&mut self) -> Value {
        self.try_reply().unwrap_or_else(|error| {
            let left = self.left();
            panic!(
                "no reply: {error}; of one there are {} bytes: {}",
                left.len(),
                left[..left.len().min(100)].escape_ascii()
            )
        })
    }

    pub fn try_reply(&mut self) -> std::io::Result<Value> {
        loop {
            if let Some(len) = Value::measure(self.left()) {
                let (value, _) = Value::parse(self.left()).expect("measured");
                self.skip(len);
                return Ok(value);
            }
            self.fill()?;
        }
    }

    /// The next value of some kind: `parse` finds the first one of the bytes and its length.
    #[track_caller]
    pub fn next_of<T>(&mut self, parse: impl Fn(&[u8]) -> Option<(T, usize)>) -> T {
        loop {
            match parse(self.left()) {
                Some((value, len)) => {
                    self.skip(len);
                    return value;
                }
                None => self.fill().expect("more bytes"),
            }
        }
    }

    /// The next reply as it came.
    #[track_caller]
    pub fn frame(&mut self) -> Vec<u8> {
        loop {
            match Value::measure(self.left()) {
                Some(len) => return self.take(len),
                None => self.fill().expect("a reply"),
            }
        }
    }

    /// The next line, without its end.
    #[track_caller]
    pub fn line(&mut self) -> String {
        self.try_line().expect("a line")
    }

    pub fn try_line(&mut self) -> std::io::Result<String> {
        loop {
            if let Some(end) = self.left().windows(2).position(|pair| pair == b"\r\n") {
                let line = self.take(end + 2);
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            self.fill()?;
        }
    }

    /// Exactly `len` bytes.
    #[track_caller]
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        while self.left().len() < len {
            self.fill().expect("more bytes");
        }
        self.take(len)
    }

    /// Everything up to and with the first `end`.
    #[track_caller]
    pub fn through(&mut self, end: &[u8]) -> Vec<u8> {
        let mut searched: usize = 0;
        loop {
            let from = searched.saturating_sub(end.len());
            if let Some(at) = self.left()[from..].windows(end.len()).position(|window| window == end) {
                return self.take(from + at + end.len());
            }
            searched = self.left().len();
            self.fill().expect("more bytes");
        }
    }

    /// Everything until the other side closes.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<u8> {
        loop {
            match self.fill() {
                Ok(()) => {}
                Err(error)
                    if error.kind() == ErrorKind::UnexpectedEof || error.kind() == ErrorKind::ConnectionReset =>
                {
                    let len = self.left().len();
                    return self.take(len);
                }
                Err(error) => panic!("not closed: {error}"),
            }
        }
    }

    /// Does the other side close, with nothing more said?
    #[track_caller]
    pub fn is_closed(&mut self) -> bool {
        self.rest().is_empty()
    }

    /// Nothing is said for this long.
    pub fn is_silent(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).expect("timeout");
        let silent = self.left().is_empty()
            && self.fill().is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
        self.stream.set_read_timeout(Some(TIMEOUT)).expect("timeout");
        silent
    }

    /// Says that nothing more will be sent, and goes on reading.
    pub fn half_close(&mut self) {
        // The other side may have hung up already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Ends with a reset instead of a polite close.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("linger");
    }

    /// The same connection's writing half, for a thread of its own.
    pub fn writer(&self) -> Writer {
        Writer { stream: self.stream.try_clone().expect("a second handle") }
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn left(&self) -> &[u8] {
        &self.inbox[self.start..]
    }

    fn take(&mut self, len: usize) -> Vec<u8> {
        let taken = self.inbox[self.start..self.start + len].to_vec();
        self.skip(len);
        taken
    }

    fn skip(&mut self, len: usize) {
        self.start += len;
        if self.start == self.inbox.len() {
            self.inbox.clear();
            self.start = 0;
        }
    }

    fn fill(&mut self) -> std::io::Result<()> {
        let len = self.inbox.len();
        self.inbox.resize(len + (len - self.start).clamp(1 << 16, 1 << 20), 0);
        let read = self.stream.read(&mut self.inbox[len..]);
        self.inbox.truncate(len + *read.as_ref().unwrap_or(&0));
        match read? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}
