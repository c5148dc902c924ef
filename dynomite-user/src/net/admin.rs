//! The stats port: HTTP/1 as far as curl, Prometheus and operators' scripts need it. One request a connection.
//! Owns: heads, limits and patience. Many ask at one time, and whoever asks slowly holds up nobody. Runs on the control
//! thread. Next: `endpoints`, for what a path does.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::endpoints::{Admin, OK};
use crate::stats::Stat;

/// A request line longer than this asks for nothing that we have.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// Who asks at one time; more are closed at once. A dashboard and a few tools are a handful.
const CONNECTIONS_MAX: usize = 64;
const REQUEST_PATIENCE: Duration = Duration::from_secs(5);
const REPLY_PATIENCE: Duration = Duration::from_secs(10);
/// How long, and for how much, we listen to the rest of a request after the reply: closing at once with unread bytes
/// would reset the connection and might take the reply with it.
const REST_PATIENCE: Duration = Duration::from_secs(1);
const REST_BYTES_MAX: usize = 64 * 1024;
/// After an accept that failed, for want of descriptors most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves for as long as it is polled.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("stats port: accept: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            admin.stats.bump(Stat::admin_refused);
            continue;
        };
        let admin = admin.clone();
        tokio::task::spawn(async move {
            if let Err(error) = one(stream, &admin).await {
                admin.stats.bump(Stat::admin_refused);
                tracing::debug!("stats port: {error}");
            }
            drop(place);
        });
    }
}

async fn one(mut stream: TcpStream, admin: &Admin) -> io::Result<()> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let line = timeout(REQUEST_PATIENCE, request_line(&mut stream)).await.map_err(late)??;
    if line.is_empty() {
        return Ok(());
    }
    admin.stats.bump(Stat::admin_requests);
    admin.stats.bump(Stat::stats_count);
    let reply = reply(&line, admin);
    timeout(REPLY_PATIENCE, stream.write_all(reply.as_bytes())).await.map_err(late)??;
    stream.shutdown().await?;
    let mut rest = [0; 4096];
    let _ = timeout(REST_PATIENCE, async {
        let mut taken = 0;
        while taken < REST_BYTES_MAX {
            match stream.read(&mut rest).await {
                Ok(0) | Err(_) => break,
                Ok(count) => taken += count,
            }
        }
    })
    .await;
    Ok(())
}

/// The first line, without its end. Headers are not waited for: nothing in them matters, and a `GET /info HTTP/1.1` by
/// hand has none. Empty: the connection was closed before anything came.
async fn request_line(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::with_capacity(512);
    let mut chunk = [0; 1024];
    loop {
        let count = stream.read(&mut chunk).await?;
        line.extend_from_slice(&chunk[..count]);
        if let Some(end) = memchr::memchr(b'\n', &line) {
            // An empty first line is somebody pressing return: still an answer, as to any nonsense.
            line.truncate(end.max(1));
            return Ok(line);
        }
        if count == 0 || line.len() > LINE_BYTES_MAX {
            return Ok(line);
        }
    }
}

/// The whole reply to a request line.
fn reply(line: &[u8], admin: &Admin) -> String {
    let line = String::from_utf8_lossy(line);
    let mut words = line.split([' ', '\t', '\r']).filter(|word| !word.is_empty());
    let (method, path, version) = (words.next(), words.next(), words.next());
    let well_formed = version.is_some_and(|version| version.starts_with("HTTP/1.0") || version.starts_with("HTTP/1.1"));
    match (method, path) {
        (Some("GET" | "HEAD"), _) if !well_formed => full("400 Bad Request", "text/plain; charset=utf-8", OK),
        (Some("GET"), Some(path)) => {
            let answer = admin.answer(path);
            full("200 OK", answer.content_type, &answer.body)
        }
        (Some("HEAD"), Some(path)) => {
            // A question only: what changes something must be asked for with GET.
            let answer = match path {
                "/" | "/info" | "/metrics" | "/help" | "/cluster_describe" | "/kernel" => admin.answer(path),
                _ => admin.answer("/ping"),
            };
            head("200 OK", answer.content_type, answer.body.len())
        }
        _ => full("200 OK", "application/json; charset=utf-8", OK),
    }
}

fn full(status: &str, content_type: &str, body: &str) -> String {
    head(status, content_type, body.len()) + body
}

fn head(status: &str, content_type: &str, length: usize) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )
}

#[cfg(test)]
mod tests {
    use super::super::endpoints::tests::admin;
    use super::*;

    fn check(line: &str, status: &str, body: &str) {
        let reply = reply(line.as_bytes(), &admin());
        let (head, got) = reply.split_once("\r\n\r\n").expect("a head");
        assert_eq!((head.lines().next(), got), (Some(format!("HTTP/1.1 {status}").as_str()), body), "{line:?}");
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
        assert!(line.starts_with("HEAD") || length == body.len().to_string(), "{line:?}");
    }

    #[test]
    fn request_lines() {
        check("GET /ping HTTP/1.1\r", "200 OK", "OK\r\n");
        check("GET\t/get_timeout_factor\tHTTP/1.0", "200 OK", "Timeout factor: 1\n");
        check("GET /nothing HTTP/1.1", "200 OK", "OK\r\n");
        check("POST /state/standby HTTP/1.1", "200 OK", "OK\r\n");
        check("HEAD /help HTTP/1.1", "200 OK", "");
        check("GET /info", "400 Bad Request", "OK\r\n");
        check("GET /info HTTP/2.0", "400 Bad Request", "OK\r\n");
        check("GET", "400 Bad Request", "OK\r\n");
        check("", "200 OK", "OK\r\n");
        check("\u{fffd}\0", "200 OK", "OK\r\n");
    }

    /// Runs `script` against a served port.
    fn with_port<F: Future<Output = ()>>(script: impl FnOnce(std::net::SocketAddr, Arc<Admin>) -> F) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let (address, admin) = (listener.local_addr().expect("bound"), Arc::new(admin()));
            tokio::select! {
                () = serve(listener, admin.clone()) => {}
                done = timeout(Duration::from_secs(20), script(address, admin)) => done.expect("in time"),
            }
        });
    }

    async fn ask(address: std::net::SocketAddr, pieces: &[&str]) -> String {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        stream.set_nodelay(true).expect("nodelay");
        for piece in pieces {
            stream.write_all(piece.as_bytes()).await.expect("written");
            tokio::task::yield_now().await;
        }
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.expect("a whole reply, no reset");
        reply
    }

    async fn try_ask(address: std::net::SocketAddr, request: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.map(|_| reply)
    }

    #[test]
    fn a_silent_connection_blocks_nobody() {
        with_port(|address, _| async move {
            let _silent = TcpStream::connect(address).await.expect("connected");
            for pieces in [
                vec!["GET /ping HTTP/1.1\r\n\r\n"],
                vec!["GE", "T /pi", "ng HTTP/1.0\n"],
                vec!["GET /ping HTTP/1.1\r\nHost: x\r\nUser-Agent: y\r\n", "\r\n"],
            ] {
                assert!(ask(address, &pieces).await.ends_with("\r\n\r\nOK\r\n"), "{pieces:?}");
            }
        });
    }

    #[test]
    fn a_line_without_an_end_is_answered_and_closed() {
        with_port(|address, admin| async move {
            let long = "G".repeat(LINE_BYTES_MAX + 1);
            assert!(ask(address, &[&long]).await.ends_with("OK\r\n"));
            assert_eq!(admin.registry.total(Stat::admin_requests), 1);
        });
    }

    #[test]
    fn more_than_the_limit_are_closed_and_counted() {
        with_port(|address, admin| async move {
            let mut held = Vec::new();
            for _ in 0..=CONNECTIONS_MAX {
                held.push(TcpStream::connect(address).await.expect("connected"));
            }
            let last = held.last_mut().expect("some");
            assert_eq!(last.read(&mut [0; 8]).await.ok().unwrap_or(0), 0, "closed");
            assert_eq!(admin.registry.total(Stat::admin_refused), 1);
            held.clear();
            // Places come back as the closed ones are noticed; the script has its own deadline.
            while !try_ask(address, "GET /ping HTTP/1.1\r\n\r\n").await.is_ok_and(|reply| reply.ends_with("OK\r\n")) {
                tokio::task::yield_now().await;
            }
        });
    }
}
