//! What is wrong with a configuration, and where.

use std::fmt;
use std::path::PathBuf;

/// One thing that is wrong, or, among warnings, one that may surprise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Counted from 1; `None` when something is missing or the file as a whole is meant.
    pub line: Option<usize>,
    pub text: String,
}

impl Problem {
    pub fn at(line: usize, text: String) -> Problem {
        Problem { line: Some(line), text }
    }

    pub fn of_file(text: String) -> Problem {
        Problem { line: None, text }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// Everything that is wrong with one file. The operator mends the file; nothing was started.
#[derive(Clone, Debug)]
pub struct Invalid {
    pub path: PathBuf,
    pub problems: Vec<Problem>,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "\n" })?;
            f.write_str(&located(&self.path, problem))?;
        }
        Ok(())
    }
}

impl std::error::Error for Invalid {}

/// `file:line: text`, as compilers say it, so that editors find the place.
pub fn located(path: &std::path::Path, problem: &Problem) -> String {
    match problem.line {
        Some(line) => format!("{}:{line}: {}", path.display(), problem.text),
        None => format!("{}: {}", path.display(), problem.text),
    }
}
