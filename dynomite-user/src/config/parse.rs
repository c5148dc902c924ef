//! YAML text → keys and raw texts, each with its line.
//! Owns: the grammar. Scalars stay as they were written (`'00'` is two zeros, `true` four letters): what they mean is
//! for `options` to say. Knows nothing of: which keys there are.
//!
//! A parser of events rather than serde: a problem is said with its line, all problems are said at once, and what
//! stands before a syntax error is still checked. A deserializer gives up at the first and keeps no lines.

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::problem::Problem;

/// Nothing in the configuration is nested deeper; bounds what a file can make us hold.
const DEPTH_MAX: usize = 8;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    pub line: usize,
    pub node: Node,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// Nothing was written behind the key.
    Empty,
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scalar {
    pub text: String,
    pub line: usize,
}

/// What could be read, whether all of it could, and what was wrong with the grammar.
#[derive(Debug, Default)]
pub struct Parsed {
    pub root: Vec<Entry>,
    pub complete: bool,
    pub problems: Vec<Problem>,
}

pub fn parse(text: &str) -> Parsed {
    let mut reader = Reader::default();
    let mut parsed = Parsed { complete: true, ..Parsed::default() };
    // To the parser a NUL is the end, and what stands behind it would be forgotten in silence.
    if let Some(at) = text.find('\0') {
        let line = text[..at].matches('\n').count() + 1;
        parsed.problems.push(Problem::at(line, "this is not YAML: a NUL byte".to_owned()));
        return Parsed { complete: false, ..parsed };
    }
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => {
                if let Err(problem) = reader.take(event, span) {
                    parsed.problems.push(problem);
                    parsed.complete = false;
                    break;
                }
            }
            Err(error) => {
                parsed.problems.push(Problem::at(error.marker().line(), format!("this is not YAML: {}", error.info())));
                parsed.complete = false;
                break;
            }
        }
    }
    while reader.open.pop().is_some_and(|level| reader.close(level).is_ok()) {}
    if parsed.complete && reader.documents != 1 {
        let found = format!("must contain only 1 document; found {} documents", reader.documents);
        parsed.problems.push(Problem::of_file(found));
    }
    match reader.root {
        Some(Node::Map(entries)) => parsed.root = entries,
        Some(_) => parsed.problems.push(Problem::of_file("must be a mapping: the pool's name, then its keys".into())),
        None => {}
    }
    parsed
}

/// Puts nested events together.
#[derive(Default)]
struct Reader {
    documents: usize,
    root: Option<Node>,
    open: Vec<Level>,
}

enum Level {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, key: Option<(String, usize)> },
}

impl Reader {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Problem> {
        let line = span.start.line();
        match event {
            Event::DocumentStart(_) => self.documents += 1,
            Event::Scalar(text, style, _, _) => {
                let empty = text.is_empty() && style == ScalarStyle::Plain;
                let scalar = Scalar { text: text.into_owned(), line };
                if let Some(Level::Map { key: key @ None, .. }) = self.open.last_mut() {
                    *key = Some((scalar.text, line));
                    return Ok(());
                }
                self.add(if empty { Node::Empty } else { Node::Scalar(scalar) });
            }
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                if matches!(self.open.last(), Some(Level::Map { key: None, .. })) {
                    return Err(Problem::at(line, "a key must be a plain word".into()));
                }
                if self.open.len() == DEPTH_MAX {
                    return Err(Problem::at(line, format!("has a depth greater than {DEPTH_MAX}")));
                }
                self.open.push(match event {
                    Event::SequenceStart(..) => Level::List(Vec::new()),
                    _ => Level::Map { entries: Vec::new(), key: None },
                });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(level) = self.open.pop() {
                    self.close(level)?;
                }
            }
            Event::Alias(_) => return Err(Problem::at(line, "aliases are not supported: write the value out".into())),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn close(&mut self, level: Level) -> Result<(), Problem> {
        self.add(match level {
            Level::List(list) => Node::List(list),
            Level::Map { mut entries, key } => {
                // Only a file cut short by a syntax error leaves a key alone.
                entries.extend(key.map(|(key, line)| Entry { key, line, node: Node::Empty }));
                Node::Map(entries)
            }
        });
        Ok(())
    }

    fn add(&mut self, node: Node) {
        match self.open.last_mut() {
            Some(Level::List(list)) => list.push(node),
            Some(Level::Map { entries, key }) => {
                if let Some((key, line)) = key.take() {
                    entries.push(Entry { key, line, node });
                }
            }
            None => self.root = self.root.take().or(Some(node)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree on one line: `key@line=…`.
    fn show(node: &Node) -> String {
        match node {
            Node::Empty => "-".into(),
            Node::Scalar(scalar) => format!("{:?}", scalar.text),
            Node::List(list) => format!("[{}]", list.iter().map(show).collect::<Vec<_>>().join(" ")),
            Node::Map(entries) => format!("{{{}}}", show_entries(entries)),
        }
    }

    fn show_entries(entries: &[Entry]) -> String {
        let shown = entries.iter().map(|entry| format!("{}@{}={}", entry.key, entry.line, show(&entry.node)));
        shown.collect::<Vec<_>>().join(" ")
    }

    fn check(text: &str, tree: &str, problems: &[&str]) {
        let parsed = parse(text);
        assert_eq!(show_entries(&parsed.root), tree, "{text}");
        assert_eq!(parsed.problems.iter().map(ToString::to_string).collect::<Vec<_>>(), problems, "{text}");
    }

    #[test]
    fn scalars_stay_as_they_were_written() {
        check(
            "p:\n  a: 0123\n  b: '00'\n  c: \"{}\"\n  d: true\n  e : x # comment\n  f: ~\n",
            r#"p@1={a@2="0123" b@3="00" c@4="{}" d@5="true" e@6="x" f@7="~"}"#,
            &[],
        );
    }

    #[test]
    fn lists_maps_and_nothing() {
        check(
            "---\np:\n  a:\n  - 1.2.3.4:5:1 name\n  - y\n  b: [c, 'd']\n  e: {f: g}\n  h:\n  i: ''\n",
            r#"p@2={a@3=["1.2.3.4:5:1 name" "y"] b@6=["c" "d"] e@7={f@7="g"} h@8=- i@9=""}"#,
            &[],
        );
    }

    #[test]
    fn what_stands_before_a_syntax_error_is_read() {
        check(
            "p:\n  a: 1\n  b: \"open\n",
            r#"p@1={a@2="1" b@3=-}"#,
            &["line 3: this is not YAML: while scanning a quoted scalar, found unexpected end of stream"],
        );
        check("p:\n  a: *x\n", "p@1={a@2=-}", &["line 2: this is not YAML: while parsing node, found unknown anchor"]);
        check(
            "p:\n  a: &x 1\n  b: *x\n",
            r#"p@1={a@2="1" b@3=-}"#,
            &["line 3: aliases are not supported: write the value out"],
        );
    }

    #[test]
    fn one_document_and_a_mapping() {
        check("", "", &["must contain only 1 document; found 0 documents"]);
        check("a: 1\n---\nb: 2\n", "a@1=\"1\"", &["must contain only 1 document; found 2 documents"]);
        check("a: 1\nb\0: 2\n", "", &["line 2: this is not YAML: a NUL byte"]);
        check("- a\n", "", &["must be a mapping: the pool's name, then its keys"]);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "([a-c:\\-\\[\\]{}'\"#&*!|> \n]{0,60})") {
            parse(&text);
        }
    }
}
