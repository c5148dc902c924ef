//! A load generator: one thread, epoll, requests made beforehand, so that what is measured is the other side.
//! Owns: connections and what is outstanding on them. Every reply is counted byte by byte and its first byte looked at; now and then all of it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dynomite_tests::Random;
use dynomite_tests::resp::request;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};

use crate::machine::Cpu;

/// Keys of the workload; all of them are there before a measurement.
const KEYS: usize = 10_000;
/// Batches made beforehand; connections walk through them from different places.
const BATCHES: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Get,
    Set,
}

/// One kind of load.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub verb: Verb,
    pub value_bytes: usize,
    pub connections: usize,
    pub pipeline: usize,
    /// Which of the keys are asked for.
    pub keys: fn(&str) -> bool,
}

/// Whatever the key.
pub fn any_key(_: &str) -> bool {
    true
}

/// What a load did to the other side.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    pub requests: u64,
    pub seconds: f64,
    /// Processor time of the whole machine, in seconds.
    pub cpu: f64,
}

impl Done {
    pub fn per_second(&self) -> f64 {
        self.requests as f64 / self.seconds
    }

    /// Microseconds of the whole machine's processors.
    pub fn cpu_per_request(&self) -> f64 {
        self.cpu * 1e6 / self.requests as f64
    }
}

impl Load {
    pub fn new(verb: Verb, value_bytes: usize, connections: usize, pipeline: usize) -> Load {
        Load { verb, value_bytes, connections, pipeline, keys: any_key }
    }

    pub fn name(&self) -> String {
        let size = match self.value_bytes {
            bytes @ 0..1024 => format!("{bytes} B"),
            bytes => format!("{} KB", bytes / 1024),
        };
        let verb = if self.verb == Verb::Get { "GET" } else { "SET" };
        let many = if self.connections == 1 { "" } else { "s" };
        let deep = if self.pipeline > 1 { format!(" × {} deep", self.pipeline) } else { String::new() };
        format!("{verb} {size}, {} connection{many}{deep}", self.connections)
    }

    fn value(&self) -> Vec<u8> {
        vec![b'x'; self.value_bytes]
    }

    /// What one request is answered with.
    fn reply(&self) -> Vec<u8> {
        match self.verb {
            Verb::Set => b"+OK\r\n".to_vec(),
            Verb::Get => [format!("${}\r\n", self.value_bytes).into_bytes(), self.value(), b"\r\n".to_vec()].concat(),
        }
    }

    fn keys(&self) -> Vec<String> {
        (0..KEYS).map(|key| format!("key:{:08}:{key:06}", self.value_bytes)).filter(|key| (self.keys)(key)).collect()
    }

    fn request(&self, key: &str) -> Vec<u8> {
        match self.verb {
            Verb::Get => request([b"GET", key.as_bytes()]),
            Verb::Set => request([b"SET", key.as_bytes(), &self.value()]),
        }
    }

    /// Puts every key that a GET may ask for where it is asked for.
    pub fn fill(&self, at: SocketAddr) -> Result<()> {
        let set = Load { verb: Verb::Set, ..*self };
        let mut stream = connect(at)?;
        for keys in self.keys().chunks(50) {
            let requests: Vec<u8> = keys.iter().flat_map(|key| set.request(key)).collect();
            stream.write_all(&requests)?;
            let mut replies = vec![0; keys.len() * set.reply().len()];
            stream.read_exact(&mut replies)?;
            if replies != set.reply().repeat(keys.len()) {
                bail!("cannot fill: {}", replies[..replies.len().min(200)].escape_ascii());
            }
        }
        Ok(())
    }
}

struct Connection {
    stream: TcpStream,
    batch: usize,
    /// Of the batch, how much has been written.
    written: usize,
    /// Of its replies, how much has been read.
    read: usize,
    /// Look at all of this batch's replies.
    watched: bool,
    wants_to_write: bool,
}

/// Connections of one load to one place.
pub struct Generator {
    load: Load,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    batches: Vec<Vec<u8>>,
    replies: Vec<u8>,
    buffer: Vec<u8>,
    random: Random,
}

fn connect(to: SocketAddr) -> Result<TcpStream> {
    let stream =
        TcpStream::connect_timeout(&to, Duration::from_secs(10)).with_context(|| format!("cannot connect to {to}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

impl Generator {
    pub fn connect(load: Load, to: SocketAddr) -> Result<Generator> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut random = Random::from_seed(1);
        let keys = load.keys();
        let batch = |random: &mut Random| {
            (0..load.pipeline).flat_map(|_| load.request(&keys[random.below(keys.len())])).collect()
        };
        let batches = (0..BATCHES).map(|_| batch(&mut random)).collect();
        let mut connections = Vec::with_capacity(load.connections);
        for number in 0..load.connections {
            let stream = connect(to)?;
            stream.set_nonblocking(true)?;
            epoll::add(&epoll, &stream, EventData::new_u64(number as u64), EventFlags::IN)?;
            let batch = random.below(BATCHES);
            connections.push(Connection { stream, batch, written: 0, read: 0, watched: false, wants_to_write: false });
        }
        let replies = load.reply().repeat(load.pipeline);
        Ok(Generator { load, epoll, connections, batches, replies, buffer: vec![0; 1 << 18], random })
    }

    /// As many requests as go through, for this long.
    pub fn run(&mut self, time: Duration) -> Result<Done> {
        let (cpu, start) = (Cpu::now()?, Instant::now());
        let end = start + time;
        let mut requests = 0;
        for number in 0..self.connections.len() {
            self.begin(number)?;
        }
        let mut outstanding = self.connections.len();
        let mut events = Vec::with_capacity(256);
        while outstanding > 0 {
            self.wait(&mut events, None)?;
            let goes_on = Instant::now() < end;
            for (number, flags) in events.drain(..) {
                if flags.contains(EventFlags::OUT) {
                    self.write(number)?;
                }
                if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) && self.read(number)? {
                    requests += self.load.pipeline as u64;
                    match goes_on {
                        true => self.begin(number)?,
                        false => outstanding -= 1,
                    }
                }
            }
        }
        Ok(Done { requests, seconds: start.elapsed().as_secs_f64(), cpu: cpu.since()? })
    }

    /// One request at a time at a fixed rate, connections taking turns. Latencies count from when a request was due,
    /// so that a stall is seen by everybody who would have been held up by it.
    pub fn paced(&mut self, rate: f64, time: Duration) -> Result<(Done, Latencies)> {
        // Timers may be late by 50 µs unless one asks for better.
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZero::new(1));
        let gap = Duration::from_secs_f64(1.0 / rate);
        let total = (time.as_secs_f64() * rate) as u32;
        let (cpu, start) = (Cpu::now()?, Instant::now());
        let mut due = vec![None::<Instant>; self.connections.len()];
        let mut late = std::collections::VecDeque::new();
        let (mut sent, mut answered, mut turn) = (0, 0, 0);
        let mut latencies = Latencies(Vec::with_capacity(total as usize));
        let mut events = Vec::with_capacity(256);
        while answered < total {
            let now = Instant::now();
            while sent < total && start + gap * sent <= now {
                late.push_back(start + gap * sent);
                sent += 1;
            }
            // A request that finds every connection busy waits, and its waiting counts.
            for _ in 0..self.connections.len() {
                if late.is_empty() {
                    break;
                }
                turn = (turn + 1) % self.connections.len();
                if due[turn].is_none() {
                    due[turn] = late.pop_front();
                    self.begin(turn)?;
                }
            }
            let next = (sent < total).then(|| (start + gap * sent).saturating_duration_since(Instant::now()));
            self.wait(&mut events, next)?;
            for (number, flags) in events.drain(..) {
                if flags.contains(EventFlags::OUT) {
                    self.write(number)?;
                }
                if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) && self.read(number)? {
                    answered += 1;
                    latencies.0.push(due[number].take().context("a reply that nobody asked for")?.elapsed());
                }
            }
        }
        let done = Done { requests: u64::from(total), seconds: start.elapsed().as_secs_f64(), cpu: cpu.since()? };
        Ok((done, latencies))
    }

    fn wait(&self, events: &mut Vec<(usize, EventFlags)>, timeout: Option<Duration>) -> Result<()> {
        let limit = timeout.unwrap_or(Duration::from_secs(20));
        let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: i64::from(limit.subsec_nanos()) };
        let mut found: Vec<epoll::Event> = Vec::with_capacity(256);
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut found), Some(&limit)) {
            Ok(0) if timeout.is_none() => bail!("no reply for 20 seconds"),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        events.extend(found.iter().map(|event| (event.data.u64() as usize, event.flags)));
        Ok(())
    }

    /// Sends the connection's next batch.
    fn begin(&mut self, number: usize) -> Result<()> {
        let watched = self.random.one_in(32);
        let connection = &mut self.connections[number];
        connection.batch = (connection.batch + 1) % BATCHES;
        (connection.written, connection.read, connection.watched) = (0, 0, watched);
        self.write(number)
    }

    fn write(&mut self, number: usize) -> Result<()> {
        let connection = &mut self.connections[number];
        let batch = &self.batches[connection.batch];
        while connection.written < batch.len() {
            match connection.stream.write(&batch[connection.written..]) {
                Ok(len) => connection.written += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        let wants_to_write = connection.written < batch.len();
        if wants_to_write != connection.wants_to_write {
            connection.wants_to_write = wants_to_write;
            let flags = if wants_to_write { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            epoll::modify(&self.epoll, &connection.stream, EventData::new_u64(number as u64), flags)?;
        }
        Ok(())
    }

    /// Reads what is there. Is the batch answered?
    fn read(&mut self, number: usize) -> Result<bool> {
        let connection = &mut self.connections[number];
        let len = match connection.stream.read(&mut self.buffer) {
            Ok(0) => bail!("the other side hung up"),
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let from = connection.read;
        connection.read += len;
        let expected = self.replies.get(from..connection.read).context("more was answered than asked")?;
        let looked_at = if connection.watched { len } else { 1 };
        if expected[..looked_at] != self.buffer[..looked_at] {
            bail!("a wrong reply: {}", self.buffer[..len.min(200)].escape_ascii());
        }
        Ok(connection.read == self.replies.len())
    }
}

pub struct Latencies(Vec<Duration>);

impl Latencies {
    pub fn median(mut self) -> Duration {
        self.0.sort_unstable();
        self.0.get(self.0.len() / 2).copied().unwrap_or_default()
    }
}
