//! Reasons not to start, each with its code, its place and its mend.

use std::fmt;
use std::path::PathBuf;

/// A value cannot be used.
pub(super) const VALUE: &str = "V1";

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// A line of the file.
    File(PathBuf, u64),
    /// A variable.
    Env(String),
    /// The command line.
    Flag,
}

/// One reason not to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Stable code, for example `R1`.
    pub code: &'static str,
    /// Setting it is about, with its place. Empty when it is about none.
    pub place: String,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub mend: String,
}

/// All reasons at once, never none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusals(pub Vec<Refusal>);

// === impl Origin ===

impl Origin {
    /// The place of a setting, for people: `coretex.yaml:3:store.url`.
    pub fn place(&self, key: &str) -> String {
        match self {
            Origin::Default => key.to_owned(),
            Origin::File(path, line) => format!("{}:{line}:{key}", path.display()),
            Origin::Env(name) => name.clone(),
            Origin::Flag => format!("command line:{key}"),
        }
    }
}

// === impl Refusal, Refusals ===

impl Refusal {
    /// A reason about no setting in particular.
    pub fn new(code: &'static str, message: impl Into<String>, mend: impl Into<String>) -> Refusal {
        Refusal { code, place: String::new(), message: message.into(), mend: mend.into() }
    }

    /// The same reason, about the setting at this place.
    #[must_use]
    pub fn at(self, place: impl Into<String>) -> Refusal {
        Refusal { place: place.into(), ..self }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code)?;
        if !self.place.is_empty() {
            write!(f, " {}", self.place)?;
        }
        write!(f, ": {}", self.message)
    }
}

impl Refusals {
    /// The lines that say it, with mends if wanted.
    pub fn lines(&self, with_mends: bool) -> String {
        let line = |refusal: &Refusal| match with_mends {
            true => format!("{refusal}\n    mend: {}\n", refusal.mend),
            false => format!("{refusal}\n"),
        };
        self.0.iter().map(line).collect()
    }
}

impl From<Refusal> for Refusals {
    fn from(refusal: Refusal) -> Refusals {
        Refusals(vec![refusal])
    }
}
