//! What is wrong with a document: every place at once.

use std::fmt;

/// Problems told at once; a text with more of them has one cause.
pub const PROBLEMS_MAX: usize = 100;

/// One thing to mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line in the text, from 1; 0 when it belongs to no line.
    pub line: u64,
    /// Column in the line, from 1; 0 when it belongs to no column.
    pub column: u64,
    /// Path of the field, for example `rules[3](no-destroy).match.topics[0]`; empty for the text as a whole.
    pub field: String,
    /// What is wrong, with the value and the limit.
    pub message: String,
}

/// All that is wrong with a document, in the order of the text. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    pub list: Vec<Problem>,
    /// How many more there are than `list` holds.
    pub more: usize,
}

// === impl Problem ===

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "{}:{}: ", self.line, self.column)?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

// === impl Problems ===

impl Problems {
    /// In the order of the text.
    pub fn new(mut list: Vec<Problem>) -> Problems {
        list.sort_by_key(|problem| (problem.line, problem.column));
        let more = list.len().saturating_sub(PROBLEMS_MAX);
        list.truncate(PROBLEMS_MAX);
        Problems { list, more }
    }

    /// One problem, of the text as a whole.
    pub fn one(line: u64, column: u64, message: impl Into<String>) -> Problems {
        let problem = Problem { line, column, field: String::new(), message: message.into() };
        Problems { list: vec![problem], more: 0 }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.list.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl std::error::Error for Problems {}
