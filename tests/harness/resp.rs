//! RESP as a test sees it: whole values, RESP2 and RESP3. Written apart from the daemon's own parser, so that one can judge the other.

use std::fmt;

#[derive(Clone, PartialEq)]
pub enum Value {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    /// `$-1`, `*-1` or `_`.
    Null,
    Array(Vec<Value>),
    Set(Vec<Value>),
    Push(Vec<Value>),
    Map(Vec<(Value, Value)>),
    /// As it was written: `3`, `1.5`, `inf`.
    Double(String),
    Boolean(bool),
    BigNumber(String),
    Verbatim(Vec<u8>),
}

impl Value {
    /// The first value of `bytes` and how many bytes it takes; `None` if it is not all there. Panics on what is not RESP.
    pub fn parse(bytes: &[u8]) -> Option<(Value, usize)> {
        let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
        let kind = bytes[0];
        let text = || String::from_utf8_lossy(&bytes[1..end]).into_owned();
        let number = || {
            text()
                .parse::<i64>()
                .unwrap_or_else(|_| panic!("no number in {:?}", String::from_utf8_lossy(&bytes[..end])))
        };
        let next = end + 2;
        let value = match kind {
            b'+' => Value::Simple(text()),
            b'-' => Value::Error(text()),
            b':' => Value::Integer(number()),
            b'_' => Value::Null,
            b',' => Value::Double(text()),
            b'#' => Value::Boolean(text() == "t"),
            b'(' => Value::BigNumber(text()),
            b'$' | b'=' | b'!' => return Value::parse_bulk(kind, number(), bytes, next),
            b'*' | b'~' | b'>' | b'%' => return Value::parse_many(kind, number(), bytes, next),
            _ => panic!("not RESP: {:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(80)])),
        };
        Some((value, next))
    }

    fn parse_bulk(kind: u8, len: i64, bytes: &[u8], start: usize) -> Option<(Value, usize)> {
        let Ok(len) = usize::try_from(len) else { return Some((Value::Null, start)) };
        let data = bytes.get(start..start + len)?.to_vec();
        let close = bytes.get(start + len..start + len + 2)?;
        assert_eq!(close, b"\r\n", "bulk of {len} bytes has no end");
        let value = match kind {
            b'$' => Value::Bulk(data),
            b'=' => Value::Verbatim(data),
            _ => Value::Error(String::from_utf8_lossy(&data).into_owned()),
        };
        Some((value, start + len + 2))
    }

    fn parse_many(kind: u8, count: i64, bytes: &[u8], mut at: usize) -> Option<(Value, usize)> {
        let Ok(count) = usize::try_from(count) else { return Some((Value::Null, at)) };
        let mut values = Vec::new();
        for _ in 0..if kind == b'%' { count * 2 } else { count } {
            let (value, len) = Value::parse(bytes.get(at..)?)?;
            values.push(value);
            at += len;
        }
        let value = match kind {
            b'*' => Value::Array(values),
            b'~' => Value::Set(values),
            b'>' => Value::Push(values),
            _ => {
                let mut pairs = Vec::with_capacity(count);
                let mut values = values.into_iter();
                while let (Some(key), Some(value)) = (values.next(), values.next()) {
                    pairs.push((key, value));
                }
                Value::Map(pairs)
            }
        };
        Some((value, at))
    }

    /// How long the first value of `bytes` is; `None` if it is not all there. Looks at heads only, so it may be asked often.
    pub fn measure(bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        let mut left = 1_usize;
        while left > 0 {
            let head = bytes.get(at..)?;
            let end = head.iter().position(|byte| *byte == b'\r')?;
            let number =
                || std::str::from_utf8(&head[1..end]).ok().and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
            at += end + 2;
            left -= 1;
            match head[0] {
                b'$' | b'=' | b'!' if head[1] != b'-' => at += number() + 2,
                b'*' | b'~' | b'>' => left += number(),
                b'%' => left += number() * 2,
                _ => {}
            }
        }
        (at <= bytes.len()).then_some(at)
    }

    pub fn is_error(&self) -> bool {
        matches!(self, Value::Error(_))
    }

    pub fn ok() -> Value {
        Value::Simple("OK".into())
    }

    pub fn bulk(data: impl AsRef<[u8]>) -> Value {
        Value::Bulk(data.as_ref().to_vec())
    }

    /// A bulk, simple or verbatim string, or an integer, as text; empty for anything else.
    pub fn text(&self) -> String {
        match self {
            Value::Simple(text) | Value::Error(text) | Value::Double(text) | Value::BigNumber(text) => text.clone(),
            Value::Bulk(data) | Value::Verbatim(data) => String::from_utf8_lossy(data).into_owned(),
            Value::Integer(number) => number.to_string(),
            _ => String::new(),
        }
    }

    pub fn integer(&self) -> Option<i64> {
        match self {
            Value::Integer(number) => Some(*number),
            _ => None,
        }
    }

    /// The elements of an array, set or push.
    pub fn elements(&self) -> &[Value] {
        match self {
            Value::Array(values) | Value::Set(values) | Value::Push(values) => values,
            _ => &[],
        }
    }

    /// The value behind `key` in a map, or in a flat array of pairs as RESP2 has it.
    pub fn at(&self, key: &str) -> Option<&Value> {
        match self {
            Value::Map(pairs) => pairs.iter().find(|(name, _)| name.text() == key).map(|(_, value)| value),
            _ => self.elements().chunks_exact(2).find(|pair| pair[0].text() == key).map(|pair| &pair[1]),
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |data: &[u8]| match data.len() {
            0..=120 => data.escape_ascii().to_string(),
            len => format!("{}… ({len} bytes)", data[..60].escape_ascii()),
        };
        match self {
            Value::Simple(text) => write!(f, "+{text}"),
            Value::Error(text) => write!(f, "-{text}"),
            Value::Integer(number) => write!(f, ":{number}"),
            Value::Bulk(data) => write!(f, "\"{}\"", shown(data)),
            Value::Verbatim(data) => write!(f, "=\"{}\"", shown(data)),
            Value::Null => write!(f, "null"),
            Value::Array(values) => f.debug_list().entries(values).finish(),
            Value::Set(values) => f.debug_set().entries(values).finish(),
            Value::Push(values) => write!(f, "push ").and_then(|()| f.debug_list().entries(values).finish()),
            Value::Map(pairs) => f.debug_map().entries(pairs.iter().map(|(key, value)| (key, value))).finish(),
            Value::Double(text) => write!(f, ",{text}"),
            Value::Boolean(value) => write!(f, "#{value}"),
            Value::BigNumber(text) => write!(f, "({text}"),
        }
    }
}

/// A request as an array of bulk strings.
pub fn request<A: AsRef<[u8]>>(args: impl IntoIterator<Item = A>) -> Vec<u8> {
    let mut body = Vec::new();
    let mut count = 0;
    for arg in args {
        let arg = arg.as_ref();
        count += 1;
        body.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        body.extend_from_slice(arg);
        body.extend_from_slice(b"\r\n");
    }
    let mut frame = format!("*{count}\r\n").into_bytes();
    frame.extend_from_slice(&body);
    frame
}

/// A request from words: `words("SET a 1")`.
pub fn words(line: &str) -> Vec<u8> {
    request(line.split_whitespace())
}

/// Everything that SCAN and its like hand out, where `step` says what a cursor is answered with.
pub fn walk(mut step: impl FnMut(&str) -> Value) -> Vec<Value> {
    let (mut cursor, mut found) = ("0".to_owned(), Vec::new());
    loop {
        let reply = step(&cursor);
        let [next, page] = reply.elements() else { panic!("{reply:?}") };
        found.extend_from_slice(page.elements());
        cursor = next.text();
        if cursor == "0" {
            return found;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: &str) {
        let (value, len) = Value::parse(bytes).expect("complete");
        assert_eq!((format!("{value:?}"), len), (expected.to_string(), bytes.len()));
        assert_eq!(Value::measure(bytes), Some(bytes.len()));
        for cut in 0..bytes.len() {
            assert_eq!(Value::measure(&bytes[..cut]), None, "cut at {cut}");
            assert_eq!(Value::parse(&bytes[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn values_of_both_protocols() {
        check(b"+OK\r\n", "+OK");
        check(b"$-1\r\n", "null");
        check(b"$0\r\n\r\n", "\"\"");
        check(b"*2\r\n:1\r\n*1\r\n$2\r\n\r\n\r\n", "[:1, [\"\\r\\n\"]]");
        check(b"%1\r\n+a\r\n~2\r\n#t\r\n,1.5\r\n", "{+a: {#true, ,1.5}}");
        check(b">1\r\n_\r\n", "push [null]");
    }
}
