//! When two answers are the same answer.

use dynomite_tests::Value;

pub enum Same {
    Exactly,
    /// The same elements in any order: Redis keeps sets in an order of its own that is different in each process.
    AnyOrder,
    /// The same kinds of values: what they are is up to chance, time or place.
    Shape,
    /// Integers not further apart than this: what is left of a time.
    Within(i64),
    /// Queued in both, or an error in both.
    Queued,
}

/// How answers to this request are compared.
pub fn how(name: &str, words: &[Vec<u8>]) -> Same {
    let has = |option: &str| words.iter().any(|word| word.eq_ignore_ascii_case(option.as_bytes()));
    match name {
        "smembers" | "sinter" | "sunion" | "sdiff" | "keys" | "hgetall" | "hkeys" | "hvals" | "function list"
        | "command list" | "pubsub channels" => Same::AnyOrder,
        // By names among different scores, Redis finds what chance has put into its skip list.
        "zlexcount" | "zrangebylex" | "zrevrangebylex" | "zremrangebylex" => Same::Shape,
        "zrange" | "zrangestore" if has("BYLEX") => Same::Shape,
        // Cursors of large sets differ, and so do the parts they walk in.
        "scan" | "sscan" | "hscan" | "zscan" => Same::Shape,
        "sort" | "sort store" | "sort_ro" if has("BY") => Same::Shape,
        "sort" | "sort_ro" => Same::AnyOrder,
        "spop" | "srandmember" | "hrandfield" | "zrandmember" | "randomkey" | "dump" | "lolwut" | "info" | "time"
        | "lastsave" | "role" | "object idletime" | "object encoding" => Same::Shape,
        _ if name.starts_with("memory")
            || name.starts_with("latency")
            || name.starts_with("slowlog")
            || name.starts_with("module") =>
        {
            Same::Shape
        }
        _ if name.starts_with("function stats") || name.starts_with("xinfo") || name.starts_with("xpending") => {
            Same::Shape
        }
        "ttl" | "expiretime" => Same::Within(2),
        "pttl" | "pexpiretime" => Same::Within(2_000),
        _ => Same::Exactly,
    }
}

pub fn same(how: &Same, one: &Value, other: &Value) -> bool {
    match how {
        Same::Exactly => one == other,
        Same::AnyOrder => sorted(one) == sorted(other) && std::mem::discriminant(one) == std::mem::discriminant(other),
        Same::Shape => shape(one) == shape(other),
        Same::Within(limit) => match (one, other) {
            (Value::Integer(one), Value::Integer(other)) => (one - other).abs() <= *limit,
            _ => one == other,
        },
        Same::Queued => one.is_error() == other.is_error(),
    }
}

fn sorted(value: &Value) -> Vec<String> {
    let mut elements: Vec<String> = match value {
        Value::Map(pairs) => pairs.iter().map(|pair| format!("{pair:?}")).collect(),
        value if value.elements().is_empty() => vec![format!("{value:?}")],
        value => value.elements().iter().map(|element| format!("{element:?}")).collect(),
    };
    elements.sort_unstable();
    elements
}

/// The kinds of a value and of what is in it first; an error's first word counts too.
fn shape(value: &Value) -> String {
    match value {
        Value::Error(text) => format!("-{}", text.split(' ').next().unwrap_or_default()),
        Value::Map(pairs) => {
            format!("%{}", pairs.first().map(|(key, value)| shape(key) + &shape(value)).unwrap_or_default())
        }
        Value::Array(values) | Value::Set(values) | Value::Push(values) => {
            format!("{:?}[{}]", std::mem::discriminant(value), values.first().map(shape).unwrap_or_default())
        }
        value => format!("{:?}", std::mem::discriminant(value)),
    }
}
