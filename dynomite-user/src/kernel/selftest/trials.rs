//! The trials: each a habit of a client or a datastore.
//! Owns: the order in which they are tried, simplest first.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use dynomite_common::abi::{KernelHash, TokenRange};
use dynomite_common::limits::REPLY_BYTES_MAX;
use dynomite_common::token::{self, Token};
use socket2::SockRef;

use super::super::Language::{self, Memcache, Resp};
use super::super::{Keys, Owed, Progress, Refused, Released, Routing, Turn, sys};
use super::{
    Fault, GLANCE, Line, Outcome, PATIENCE, Rig, answer_all, bulk, commands, get, hold, is_readable, set, until,
    wait_readable, words,
};

/// What is spoken, what is tried, how.
pub type Try = (Language, &'static str, fn(&Rig) -> Outcome);

pub const TRIALS: &[Try] = &[
    (Resp, "one request, one reply", echo),
    (Resp, "requests that pass wake the daemon", pass),
    (Resp, "bytes that came before adoption", before),
    (Resp, "two requests at once", several),
    (Resp, "a request in pieces", pieces),
    (Resp, "a reply's head in pieces", dribble),
    (Resp, "a reply of 64 KB in pieces", long_reply),
    (Resp, "a reply of 1 MB is relayed", relay),
    (Resp, "a client that does not read", stalled),
    (Resp, "the client has said all", half_closed),
    (Resp, "the node has said all", node_half_closed),
    (Resp, "the client resets", reset),
    (Resp, "the datastore goes", datastore_gone),
    (Resp, "release and ordinary reading after it", release),
    (Resp, "release while bytes come", release_busy),
    (Resp, "the table changes", table),
    (Resp, "1 000 operations in order", mixed),
    (Memcache, "memcached: one request, one reply", memcache_echo),
    (Memcache, "memcached: a reply of 1 MB is relayed", memcache_relay),
];

fn echo(rig: &Rig) -> Outcome {
    let mut line = rig.line()?;
    for _ in 0..100 {
        line.routed(&get("key"), b"$5\r\nvalue\r\n")?;
        line.routed(&get("key"), b"$-1\r\n")?;
        line.routed(&get("key"), b"-ERR no\r\n")?;
    }
    let view = line.flow.view();
    hold!(view.passed == 0 && view.done == 300 && view.broken_at.is_none(), "{view:?}");
    Ok(())
}

fn pass(rig: &Rig) -> Outcome {
    let mut line = rig.line()?;
    for _ in 0..100 {
        line.routed(&get("key"), b"$5\r\nvalue\r\n")?;
        let request = set("key", "value");
        line.client.write_all(&request)?;
        line.passed(&request)?;
        line.answers(b"+OK\r\n")?;
    }
    let view = line.flow.view();
    hold!(view.done == 100 && view.broken_at.is_none(), "{view:?}");
    Ok(())
}

fn before(rig: &Rig) -> Outcome {
    let (mut client, node) = Rig::pair()?;
    let (mut flow, store) = rig.flow()?;
    client.write_all(&get("early"))?;
    until("TCP counts", || Ok(sys::traffic(node.as_fd())?.received > 0))?;
    let refused = flow.adopt(node.as_fd(), 0);
    hold!(matches!(refused, Err(Refused::Busy)), "adopted with bytes unread: {refused:?}");
    let mut space = [0; 64];
    let count = (&node).read(&mut space)?;
    flow.adopt(node.as_fd(), count as u64)?;
    let mut line = Line { client, node, flow, store };
    line.answers(b"$-1\r\n")?;
    line.routed(&get("late"), b"$1\r\n1\r\n")
}

fn several(rig: &Rig) -> Outcome {
    let mut line = rig.line()?;
    // Two in one segment pass; the one that comes while they are with the daemon passes too.
    let two = [get("a"), get("b")].concat();
    line.client.write_all(&two)?;
    line.passed(&two)?;
    line.client.write_all(&get("c"))?;
    line.passed(&get("c"))?;
    line.answers(b"$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n")?;
    line.routed(&get("d"), b"$1\r\nd\r\n")?;
    // A second while the first is with the datastore waits for it, and an event says when.
    line.asks(&get("e"))?;
    line.client.write_all(&get("f"))?;
    line.reads(&get("f"))?;
    let turn = line.turn();
    hold!(turn == Turn::Wait, "{turn:?} with a request at the datastore");
    line.store.write_all(b"$1\r\ne\r\n")?;
    rig.event(&line.flow)?;
    let turn = line.turn();
    hold!(turn == Turn::Act, "{turn:?} after the event");
    line.answers_after(b"$1\r\ne\r\n", b"$1\r\nf\r\n")?;
    line.routed(&get("g"), b"$1\r\ng\r\n")
}

fn pieces(rig: &Rig) -> Outcome {
    let mut line = rig.line()?;
    let request = get("key");
    line.client.write_all(&request[..9])?;
    line.passed(&request[..9])?;
    line.client.write_all(&request[9..])?;
    line.passed(&request[9..])?;
    line.answers(b"$1\r\n1\r\n")?;
    line.routed(&request, b"$1\r\n2\r\n")
}

fn dribble(rig: &Rig) -> Outcome {
    let mut line = rig.line()?;
    line.asks(&get("key"))?;
    for byte in *b"$3\r\nfoo\r\n" {
        line.store.write_all(&[byte])?;
    }
    until("the reply is relayed", || Ok(line.turn() == Turn::Relay))?;
    line.relays()?;
    line.hears(b"$3\r\nfoo\r\n")?;
    line.routed(&get("key"), b"$1\r\n1\r\n")
}

fn long_reply(rig: &Rig) -> Outcome {
    let mut line = rig.line()?;
    let whole = bulk(&"x".repeat(REPLY_BYTES_MAX as usize - 10));
    for parts in [1, 2, 5, 60] {
        line.asks(&get("key"))?;
        let part_len = whole.len() / parts + 1;
        for part in whole.chunks(part_len) {
            line.store.write_all(part)?;
        }
        line.hears(&whole)?;
    }
    let view = line.flow.view();
    hold!(view.done == 4 && view.relayed == 0, "{view:?}");
    Ok(())
}

fn relay(rig: &Rig) -> Outcome {
    relayed(rig, &get("key"), &bulk(&"y".repeat(1 << 20)), b"$1\r\n1\r\n")
}

/// The daemon writes `whole` on, more than once, and the kernel carries a short reply in between.
fn relayed(rig: &Rig, request: &[u8], whole: &[u8], short: &[u8]) -> Outcome {
    let mut line = rig.line()?;
    for _ in 0..3 {
        line.asks(request)?;
        let (mut store, mut client) = (line.store.try_clone()?, line.client.try_clone()?);
        let mut got = vec![0; whole.len()];
        std::thread::scope(|scope| -> Outcome {
            let writer = scope.spawn(|| store.write_all(whole));
            let reader = scope.spawn(|| client.read_exact(&mut got));
            rig.event(&line.flow)?;
            hold!(line.turn() == Turn::Relay, "{:?} where a reply is to be relayed", line.turn());
            line.relays()?;
            writer.join().map_err(|_| "the datastore's thread died")??;
            reader.join().map_err(|_| "the client's thread died")??;
            Ok(())
        })?;
        hold!(got == whole, "the relayed reply is another one");
        line.routed(request, short)?;
    }
    let view = line.flow.view();
    hold!(view.done == 3 && view.relayed == 3, "{view:?}");
    Ok(())
}

fn memcache_echo(rig: &Rig) -> Outcome {
    let mut line = rig.line()?;
    for _ in 0..100 {
        line.routed(b"get key\r\n", b"VALUE key 0 5\r\nvalue\r\nEND\r\n")?;
        line.routed(b"get key\r\n", b"END\r\n")?;
        line.routed(b"get key\r\n", b"SERVER_ERROR no\r\n")?;
        let two = b"get key other\r\n";
        line.client.write_all(two)?;
        line.passed(two)?;
        line.answers(b"END\r\n")?;
    }
    let view = line.flow.view();
    hold!(view.done + view.relayed == 300 && view.broken_at.is_none(), "{view:?}");
    Ok(())
}

fn memcache_relay(rig: &Rig) -> Outcome {
    let text = "z".repeat(1 << 20);
    let whole = format!("VALUE key 7 {}\r\n{text}\r\nEND\r\n", text.len());
    relayed(rig, b"get key\r\n", whole.as_bytes(), b"END\r\n")
}

/// Replies pile up at the client; the datastore's writes never find it full, and the rest passes to the daemon.
fn stalled(rig: &Rig) -> Outcome {
    let mut line = rig.line()?;
    SockRef::from(&line.client).set_recv_buffer_size(64 << 10)?;
    let reply = bulk(&"z".repeat(40_000));
    line.store.set_nonblocking(true)?;
    let mut routed = 0;
    loop {
        let sent = line.flow.view().sent;
        line.client.write_all(&get("key"))?;
        until("the request goes somewhere", || {
            let view = line.flow.view();
            Ok(view.sent > sent || view.passed > 0)
        })?;
        if line.flow.view().passed > 0 {
            break;
        }
        routed += 1;
        hold!(routed < 1000, "nothing stops the datastore from writing to a client that does not read");
        until("the datastore is asked", || match line.store.read(&mut [0; 64]) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        })?;
        // All at once, and at once: this is the write that must not fail.
        let written = line.store.write(&reply)?;
        hold!(written == reply.len(), "only {written} bytes were taken");
    }
    line.passed(&get("key"))?;
    for _ in 0..routed {
        line.hears(&reply)?;
    }
    line.answers(b"$-1\r\n")?;
    line.store.set_nonblocking(false)?;
    // Room again, once the client's TCP has said so.
    until("the kernel routes again", || {
        let (sent, passed) = (line.flow.view().sent, line.flow.view().passed);
        line.client.write_all(&get("key"))?;
        until("the request goes somewhere", || Ok(line.flow.view().sent > sent || line.flow.view().passed > passed))?;
        if line.flow.view().sent == sent {
            line.passed(&get("key"))?;
            line.answers(b"$-1\r\n")?;
            return Ok(false);
        }
        Ok(true)
    })
}

fn half_closed(rig: &Rig) -> Outcome {
    let mut line = rig.line()?;
    line.asks(&get("key"))?;
    line.client.shutdown(Shutdown::Write)?;
    wait_readable(&line.node)?;
    until("the end is read", || match line.node.read(&mut [0; 16]) {
        Ok(0) => Ok(true),
        Ok(count) => Err(Fault::from(format!("{count} bytes where there should be an end"))),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error.into()),
    })?;
    line.flow.shut();
    hold!(line.turn() == Turn::Wait, "{:?} with a request at the datastore", line.turn());
    line.store.write_all(b"$3\r\nfoo\r\n")?;
    rig.event(&line.flow)?;
    hold!(line.turn() == Turn::Act, "{:?} after the event", line.turn());
    line.hears(b"$3\r\nfoo\r\n")?;
    drop((line.flow, line.node));
    hold!(line.client.read(&mut [0])? == 0, "the client is not told of the end");
    Ok(())
}

fn node_half_closed(rig: &Rig) -> Outcome {
    let mut line = rig.line()?;
    line.routed(&get("key"), b"$1\r\n1\r\n")?;
    line.node.shutdown(Shutdown::Write)?;
    hold!(line.client.read(&mut [0])? == 0, "the client is not told of the end");
    Ok(())
}

fn reset(rig: &Rig) -> Outcome {
    let mut line = rig.line()?;
    line.asks(&get("key"))?;
    SockRef::from(&line.client).set_linger(Some(Duration::ZERO))?;
    let Line { client, mut node, flow, mut store } = line;
    drop(client);
    wait_readable(&node)?;
    // On an adopted socket a read may say "nothing yet" for ever after a reset: the state tells.
    until("the reset is seen", || match node.read(&mut [0; 16]) {
        Ok(0) => Ok(true),
        Ok(_) => Err(Fault::from("bytes after a reset")),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            Ok(node.take_error()?.is_some() || sys::traffic(node.as_fd())?.state != 1)
        }
        Err(_) => Ok(true),
    })?;
    drop((flow, node));
    // The datastore is told that nobody wants its answer.
    until("the datastore is told", || match store.write(b"$3\r\nfoo\r\n") {
        Ok(_) => Ok(false),
        Err(_) => Ok(true),
    })
}

fn datastore_gone(rig: &Rig) -> Outcome {
    for begun in [false, true] {
        let mut line = rig.line()?;
        line.asks(&get("key"))?;
        if begun {
            line.store.write_all(b"$100\r\n")?;
            line.hears(b"$100\r\n")?;
        }
        SockRef::from(&line.store).set_linger(Some(Duration::ZERO))?;
        let Line { client, node, mut flow, store } = line;
        drop(store);
        wait_readable(&flow)?;
        until("the loss is seen", || Ok(matches!(flow.on_event(), Progress::Lost(_))))?;
        let owed = flow.give_up();
        hold!(owed == if begun { Owed::Rest } else { Owed::OneAnswer }, "{owed:?}");
        if !begun {
            hold!(flow.release(node.as_fd()) == Released::Yes, "not released");
            let (mut client, mut node) = (client, node);
            node.write_all(b"-ERR gone\r\n")?;
            let mut space = [0; 11];
            client.read_exact(&mut space)?;
            client.write_all(b"more")?;
            wait_readable(&node)?;
            hold!(node.read(&mut space)? == 4, "the client's bytes are lost");
        }
    }
    Ok(())
}

fn release(rig: &Rig) -> Outcome {
    let mut line = rig.line()?;
    line.routed(&get("key"), b"$1\r\n1\r\n")?;
    // Holding an unanswered request, as the daemon does when it demotes a client.
    let request = set("key", "value");
    line.client.write_all(&request)?;
    line.passed(&request)?;
    let released = line.flow.release(line.node.as_fd());
    hold!(released == Released::Yes, "{released:?}");
    line.answers(b"+OK\r\n")?;
    for round in 0..20 {
        let text = format!("native {round}");
        line.client.write_all(text.as_bytes())?;
        wait_readable(&line.node)?;
        let mut space = [0; 64];
        let count = line.node.read(&mut space)?;
        hold!(space[..count] == *text.as_bytes(), "read {:?}", words(&space[..count]));
    }
    // And an idle one, with its gate open.
    let mut line = rig.line()?;
    line.routed(&get("key"), b"$1\r\n1\r\n")?;
    let released = line.flow.release(line.node.as_fd());
    hold!(released == Released::Yes, "{released:?} when idle");
    line.client.write_all(b"native")?;
    wait_readable(&line.node)?;
    let mut space = [0; 64];
    hold!(line.node.read(&mut space)? == 6, "what came after the release is lost");
    Ok(())
}

/// A client that never stops writing is taken in and let go again and again, and every byte arrives once and in order.
/// A segment that is just on its way may tear a release, for which one client is reset; a kernel that tears them again and
/// again is not for us.
fn release_busy(rig: &Rig) -> Outcome {
    for _ in 0..3 {
        if release_whole(rig)? {
            return Ok(());
        }
    }
    Err(Fault::from("torn again and again"))
}

/// `false`: a release was torn.
fn release_whole(rig: &Rig) -> Result<bool, Fault> {
    const TOTAL: usize = 1 << 20;
    const ROUNDS: u32 = 5;
    let (client, node) = Rig::pair()?;
    let byte_at = |at: usize| (at % 251) as u8;
    std::thread::scope(|scope| -> Result<bool, Fault> {
        let writer = scope.spawn(move || -> io::Result<TcpStream> {
            let mut client = client;
            let all: Vec<u8> = (0..TOTAL).map(byte_at).collect();
            for part in all.chunks(777) {
                client.write_all(part)?;
            }
            Ok(client)
        });
        let mut node = node;
        let (mut read, mut rounds) = (0_usize, 0);
        let mut space = vec![0; 1 << 14];
        let (mut flow, mut store) = rig.flow()?;
        let give_up_at = Instant::now() + 4 * PATIENCE;
        while read < TOTAL {
            hold!(Instant::now() < give_up_at, "{read} bytes read");
            loop {
                match node.read(&mut space) {
                    Ok(0) => return Err(Fault::from("the connection ended")),
                    Ok(count) => {
                        for (place, &byte) in space[..count].iter().enumerate() {
                            hold!(byte == byte_at(read + place), "byte {} is {byte}", read + place);
                        }
                        read += count;
                        flow.on_read(count);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
            if rounds < ROUNDS && flow.is_ready() {
                match flow.adopt(node.as_fd(), read as u64) {
                    Ok(()) => {
                        flow.answered();
                        rounds += 1;
                    }
                    Err(Refused::Busy) => {}
                    Err(error) => return Err(error.into()),
                }
            } else if flow.is_adopted() {
                match flow.release(node.as_fd()) {
                    Released::Yes => (flow, store) = rig.flow()?,
                    Released::NotYet => {}
                    Released::Torn => return Ok(false),
                }
            }
        }
        drop((flow, store));
        writer.join().map_err(|_| "the client's thread died")??;
        hold!(rounds > 0, "never adopted");
        Ok(true)
    })
}

/// When `publish` has returned, nothing is answered by what was before.
fn table(rig: &Rig) -> Outcome {
    let mut line = rig.line()?;
    line.routed(&get("key"), b"$1\r\n1\r\n")?;
    let path = rig.hand.path();
    path.publish(None);
    line.client.write_all(&get("key"))?;
    line.passed(&get("key"))?;
    line.answers(b"$-1\r\n")?;
    let Token(token) = token::murmur(&b"mine"[..]);
    let one = |token| vec![TokenRange { first: token, last: token }];
    let keys = |ranges| Some(Keys { hash: KernelHash::Murmur, tag: Some((b'{', b'}')), ranges });
    path.publish(Some(&Routing { keys: keys(one(token)), commands: commands() }));
    for key in ["mine", "your{mine}", "{mine}{yours}"] {
        line.routed(&get(key), b"$1\r\n2\r\n")?;
    }
    for key in ["yours", "mine{yours}", "mine{", "{}mine"] {
        line.client.write_all(&get(key))?;
        line.passed(&get(key))?;
        line.answers(b"$-1\r\n")?;
    }
    path.publish(Some(&Routing { keys: None, commands: commands() }));
    line.routed(&get("yours"), b"$1\r\n3\r\n")
}

/// A mixture of everything with checked order: the datastore and the daemon answer with the number they are asked for.
fn mixed(rig: &Rig) -> Outcome {
    let mut line = rig.line()?;
    let mut store = line.store.try_clone()?;
    let (mut asked, mut random) = (0_u32, 1_u32);
    let mut client = line.client.try_clone()?;
    let (client_end, store_end) = (line.client.try_clone()?, line.store.try_clone()?);
    std::thread::scope(|scope| -> Outcome {
        // The datastore: answers each GET with a value that its key says.
        scope.spawn(move || {
            let mut space = [0; 4096];
            while let Ok(count @ 1..) = store.read(&mut space) {
                let request = words(&space[..count]);
                let number = request.split("\r\n").nth(4).unwrap_or_default();
                if store.write_all(&answer(number)).is_err() {
                    return;
                }
            }
        });
        // The daemon: answers what passes in the same way.
        let node = &mut line.node;
        let flow = &mut line.flow;
        let daemon = scope.spawn(move || -> Outcome {
            let mut inbox = Vec::new();
            let mut space = vec![0; 1 << 14];
            let mut waiting = false;
            let (mut seen, mut seen_at) = (flow.view(), Instant::now());
            loop {
                let mut is_end = false;
                loop {
                    match node.read(&mut space) {
                        Ok(0) => {
                            is_end = true;
                            break;
                        }
                        Ok(count) => {
                            flow.on_read(count);
                            inbox.extend_from_slice(&space[..count]);
                        }
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => return Err(error.into()),
                    }
                }
                match flow.turn(node.as_fd()) {
                    Turn::Act => {
                        if !inbox.is_empty() {
                            let text = words_all(&inbox);
                            let whole = text.rfind("\r\n.\r\n").map_or(0, |at| at + 5);
                            let numbers = text[..whole]
                                .split_terminator("\r\n.\r\n")
                                .filter_map(|part| part.rsplit("\r\n").next());
                            let answers: Vec<u8> = numbers.flat_map(answer).collect();
                            inbox.drain(..whole);
                            if inbox.is_empty() {
                                answer_all(node, flow, &answers)?;
                            } else {
                                node.write_all(&answers)?;
                                flow.on_written(answers.len());
                            }
                        }
                        if is_end {
                            hold!(inbox.is_empty(), "the client ended in the middle of {:?}", words(&inbox));
                            return Ok(());
                        }
                    }
                    Turn::Wait => waiting = true,
                    other => return Err(Fault::from(format!("{other:?}"))),
                }
                if flow.view() != seen {
                    (seen, seen_at) = (flow.view(), Instant::now());
                }
                hold!(seen_at.elapsed() < PATIENCE, "nothing moves: {seen:?}, {} bytes incomplete", inbox.len());
                if waiting {
                    waiting = false;
                    std::thread::yield_now();
                } else {
                    // All may be routed for a while; and a worker looks at its flows now and then, too.
                    is_readable(node, GLANCE)?;
                }
            }
        });
        // The client: one at a time, in bursts, in pieces.
        let mut ask = || -> Outcome {
            while asked < 1000 {
                random ^= random << 13;
                random ^= random >> 17;
                random ^= random << 5;
                let burst = if random.is_multiple_of(4) { 1 + random / 4 % 7 } else { 1 };
                let mut bytes = Vec::new();
                for number in asked..asked + burst {
                    // The dot makes a request's end easy to find for the daemon above.
                    let key = format!("{number}\r\n.");
                    bytes.extend(get(&key));
                }
                if random.is_multiple_of(5) {
                    let cut = (random as usize / 8) % bytes.len();
                    client.write_all(&bytes[..cut])?;
                    bytes.drain(..cut);
                }
                client.write_all(&bytes)?;
                for number in asked..asked + burst {
                    let expected = answer(&number.to_string());
                    let mut got = vec![0; expected.len()];
                    client.read_exact(&mut got)?;
                    hold!(got == expected, "to {number} came {:?}", words(&got));
                }
                asked += burst;
            }
            Ok(())
        };
        let heard = ask();
        client_end.shutdown(Shutdown::Write)?;
        store_end.shutdown(Shutdown::Both)?;
        // What the daemon saw comes first: a client that hears nothing does not know why.
        daemon.join().map_err(|_| "the daemon's thread died")??;
        heard
    })?;
    let view = line.flow.view();
    hold!(view.sent > 300 && view.passed > 300, "hardly a mixture: {view:?}");
    Ok(())
}

fn answer(number: &str) -> Vec<u8> {
    let pad = number.parse::<usize>().unwrap_or(0) % 50 * 100;
    bulk(&format!("{number}:{}", "v".repeat(pad)))
}

fn words_all(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
