//! RESP, written.
//! Owns: the spelling of heads. Every writer appends.

/// The protocol version that a client chose with HELLO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Version {
    #[default]
    Resp2,
    Resp3,
}

pub fn bulk(bytes: &[u8], out: &mut Vec<u8>) {
    head(b'$', bytes.len(), out);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

pub fn array_head(elements: usize, out: &mut Vec<u8>) {
    head(b'*', elements, out);
}

/// A map of that many pairs; in RESP2 an array of twice as many elements.
pub fn map_head(pairs: usize, version: Version, out: &mut Vec<u8>) {
    match version {
        Version::Resp2 => head(b'*', 2 * pairs, out),
        Version::Resp3 => head(b'%', pairs, out),
    }
}

pub fn set_head(elements: usize, version: Version, out: &mut Vec<u8>) {
    match version {
        Version::Resp2 => head(b'*', elements, out),
        Version::Resp3 => head(b'~', elements, out),
    }
}

pub fn integer(value: i64, out: &mut Vec<u8>) {
    out.push(b':');
    if value < 0 {
        out.push(b'-');
    }
    digits(value.unsigned_abs(), out);
    out.extend_from_slice(b"\r\n");
}

/// `text` must hold no line end.
pub fn status(text: &str, out: &mut Vec<u8>) {
    out.push(b'+');
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// `text` begins with the error's code (`ERR`, `NOAUTH`, …) and must hold no line end.
pub fn error(text: &str, out: &mut Vec<u8>) {
    out.push(b'-');
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

pub fn null(version: Version, out: &mut Vec<u8>) {
    out.extend_from_slice(match version {
        Version::Resp2 => b"$-1\r\n",
        Version::Resp3 => b"_\r\n",
    });
}

/// Text for people (`info`, `client list`).
pub fn verbatim(text: &[u8], version: Version, out: &mut Vec<u8>) {
    match version {
        Version::Resp2 => bulk(text, out),
        Version::Resp3 => {
            head(b'=', text.len() + 4, out);
            out.extend_from_slice(b"txt:");
            out.extend_from_slice(text);
            out.extend_from_slice(b"\r\n");
        }
    }
}

pub fn head(kind: u8, count: usize, out: &mut Vec<u8>) {
    out.push(kind);
    digits(count as u64, out);
    out.extend_from_slice(b"\r\n");
}

fn digits(mut number: u64, out: &mut Vec<u8>) {
    let mut text = [0; 20];
    let mut at = text.len();
    loop {
        at -= 1;
        text[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return out.extend_from_slice(&text[at..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_full() {
        let mut out = Vec::new();
        for value in [0, 7, 10, -1, i64::MAX, i64::MIN] {
            integer(value, &mut out);
        }
        assert_eq!(out, b":0\r\n:7\r\n:10\r\n:-1\r\n:9223372036854775807\r\n:-9223372036854775808\r\n");
    }
}
