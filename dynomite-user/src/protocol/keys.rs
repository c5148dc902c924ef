//! Where a command's keys stand among its arguments.
//! Owns: the reading of the table's `Keys` column. Knows nothing of: frames, owners.

use super::commands::Keys;
use super::resp::head::canonical;

/// The places of the keys: `first`, then every `step`-th up to but not including `end`, and perhaps `also`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    pub first: usize,
    pub end: usize,
    pub step: usize,
    /// A destination that stands before or behind the others.
    pub also: Option<usize>,
}

impl Places {
    fn one(at: usize) -> Places {
        Places { first: at, end: at + 1, step: 1, also: None }
    }

    fn holds(&self, at: usize) -> bool {
        (at >= self.first && at < self.end && (at - self.first).is_multiple_of(self.step)) || self.also == Some(at)
    }

    fn past(&self) -> usize {
        self.end.max(self.also.map_or(0, |at| at + 1))
    }
}

/// Finds the keys of a request of `args` arguments. `None` when there are none, or when the arguments that should
/// say where they are do not: the datastore will say what is wrong with them.
pub fn places<'a>(keys: Keys, args: usize, arguments: impl Iterator<Item = &'a [u8]> + Clone) -> Option<Places> {
    let places = match keys {
        Keys::None => return None,
        Keys::At(at) => Places::one(at.into()),
        Keys::Range { first, but_last, step } => {
            Places { first: first.into(), end: args.saturating_sub(but_last.into()), step: step.into(), also: None }
        }
        Keys::Pair { first } => Places { first: first.into(), end: usize::from(first) + 2, step: 1, also: None },
        Keys::Counted { count } => counted(count.into(), args, arguments)?,
        Keys::DestinationCounted { count } => match counted(count.into(), args, arguments) {
            Some(sources) => Places { also: Some(1), ..sources },
            None => Places::one(1),
        },
        Keys::Streams => {
            let first = stream_options(arguments).streams? + 1;
            let each = (args - first) / 2;
            if each == 0 || !(args - first).is_multiple_of(2) {
                return None;
            }
            Places { first, end: first + each, step: 1, also: None }
        }
        Keys::FirstAndStore { options } => Places { also: store(options.into(), arguments), ..Places::one(1) },
    };
    (places.first < places.end && places.end <= args).then_some(places)
}

fn counted<'a>(count: usize, args: usize, mut arguments: impl Iterator<Item = &'a [u8]>) -> Option<Places> {
    let first = count + 1;
    let keys = usize::try_from(canonical(arguments.nth(count)?)?).ok()?;
    (keys > 0 && keys <= args.checked_sub(first)?).then_some(Places { first, end: first + keys, step: 1, also: None })
}

/// The place of the key behind STORE or STOREDIST, among options that begin at argument `options` of SORT or GEORADIUS.
/// Where there are several the last one counts.
pub fn store<'a>(options: usize, arguments: impl Iterator<Item = &'a [u8]>) -> Option<usize> {
    let mut found = None;
    let mut arguments = arguments.enumerate().skip(options);
    while let Some((at, option)) = arguments.next() {
        let is = |name: &str| option.eq_ignore_ascii_case(name.as_bytes());
        if is("store") || is("storedist") {
            arguments.next()?;
            found = Some(at + 1);
        } else if is("get") || is("by") || is("count") {
            arguments.next();
        } else if is("limit") {
            arguments.nth(1);
        }
    }
    found
}

/// The patterns of a SORT by which it finds further keys: what follows BY and GET, if there is a place in it for an element.
pub fn sort_patterns<'a>(arguments: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = &'a [u8]> {
    let mut arguments = arguments.skip(2);
    std::iter::from_fn(move || {
        loop {
            let option = arguments.next()?;
            let is = |name: &str| option.eq_ignore_ascii_case(name.as_bytes());
            if is("by") || is("get") {
                let pattern = arguments.next()?;
                if pattern.contains(&b'*') {
                    return Some(pattern);
                }
            } else if is("store") {
                arguments.next();
            } else if is("limit") {
                arguments.nth(1);
            }
        }
    })
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamOptions {
    /// BLOCK was said.
    pub blocks: bool,
    /// The place of the word STREAMS.
    pub streams: Option<usize>,
}

/// What stands before STREAMS in XREAD and XREADGROUP.
pub fn stream_options<'a>(arguments: impl Iterator<Item = &'a [u8]>) -> StreamOptions {
    let mut options = StreamOptions::default();
    let mut arguments = arguments.enumerate().skip(1);
    while let Some((at, option)) = arguments.next() {
        let is = |name: &str| option.eq_ignore_ascii_case(name.as_bytes());
        if is("streams") {
            options.streams = Some(at);
            break;
        } else if is("block") {
            options.blocks = true;
            arguments.next();
        } else if is("count") {
            arguments.next();
        } else if is("group") {
            arguments.nth(1);
        }
    }
    options
}

/// The keys themselves, in the order of the arguments.
#[derive(Clone, Debug)]
pub struct Walk<A> {
    arguments: A,
    at: usize,
    places: Places,
}

pub fn walk<'a, A: Iterator<Item = &'a [u8]> + Clone>(keys: Keys, args: usize, arguments: A) -> Option<Walk<A>> {
    let places = places(keys, args, arguments.clone())?;
    Some(Walk { arguments, at: 0, places })
}

impl<'a, A: Iterator<Item = &'a [u8]>> Iterator for Walk<A> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while self.at < self.places.past() {
            let argument = self.arguments.next()?;
            self.at += 1;
            if self.places.holds(self.at - 1) {
                return Some(argument);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `check("eval s 2 a b c", keys column, "a b")`
    #[track_caller]
    fn check(request: &str, keys: Keys, expected: &str) {
        let words: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
        let found: Vec<_> = walk(keys, words.len(), words.into_iter())
            .into_iter()
            .flatten()
            .map(|key| String::from_utf8_lossy(key).into_owned())
            .collect();
        assert_eq!(found.join(" "), expected, "{request}");
    }

    #[test]
    fn plain_places() {
        check("time", Keys::None, "");
        check("get a", Keys::At(1), "a");
        check("object encoding a", Keys::At(2), "a");
        check("del a b c", Keys::Range { first: 1, but_last: 0, step: 1 }, "a b c");
        check("mset a 1 b 2", Keys::Range { first: 1, but_last: 0, step: 2 }, "a b");
        check("blpop a b 0", Keys::Range { first: 1, but_last: 1, step: 1 }, "a b");
        check("bitop and d a b", Keys::Range { first: 2, but_last: 0, step: 1 }, "d a b");
        check("copy a b replace", Keys::Pair { first: 1 }, "a b");
        check("unsubscribe", Keys::Range { first: 1, but_last: 0, step: 1 }, "");
    }

    #[test]
    fn counted_keys() {
        let eval = Keys::Counted { count: 2 };
        check("eval s 2 a b c", eval, "a b");
        check("eval s 3 a b c", eval, "a b c");
        check("eval s 0 a", eval, "");
        for odd in ["4", "-1", "+1", "01", "x", "", "99999999999999999999"] {
            check(&format!("eval s {odd} a b c"), eval, "");
        }
        let store = Keys::DestinationCounted { count: 2 };
        check("zunionstore d 2 a b weights 1 2", store, "d a b");
        check("zunionstore d 3 a b", store, "d");
    }

    #[test]
    fn keys_behind_words() {
        check("xread count 2 streams a b 0 0", Keys::Streams, "a b");
        check("xread streams a b 0", Keys::Streams, "");
        check("xread streams", Keys::Streams, "");
        check("xread count 2 a b", Keys::Streams, "");
        check("xreadgroup GROUP streams block COUNT 1 NOACK STREAMS k >", Keys::Streams, "k");
        let sort = Keys::FirstAndStore { options: 2 };
        check("sort k limit 0 store get store store d", sort, "k d");
        check("sort k by store get store", sort, "k");
        check("sort k store d store e", sort, "k e");
        check("georadiusbymember k store 1 km count 2 storedist d", Keys::FirstAndStore { options: 5 }, "k d");
    }

    #[test]
    fn patterns_that_name_keys() {
        let check = |request: &str, expected: &str| {
            let found: Vec<_> =
                sort_patterns(request.split(' ').map(str::as_bytes)).map(<[u8]>::escape_ascii).collect();
            assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "), expected, "{request}");
        };
        check("sort k by w_* GET # get o_*->f get x store by get y*", "w_* o_*->f y*");
        check("sort * limit by * BY nosort alpha desc", "");
        check("sort k by", "");
    }

    #[test]
    fn block_is_an_option_not_a_name() {
        let blocks = |request: &str| stream_options(request.split(' ').map(str::as_bytes)).blocks;
        assert!(blocks("xread BLOCK 0 streams a 0"));
        assert!(blocks("xreadgroup group a b block 10 streams a >"));
        assert!(!blocks("xreadgroup group block block streams a >"));
        assert!(!blocks("xread streams block 0"));
    }
}
