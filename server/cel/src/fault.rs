//! Why an expression has no value.

use crate::value::Value;
use std::fmt;

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    message: Box<str>,
    is_limit: bool,
}

impl Fault {
    /// A fault that `||`, `&&` and the macros `all` and `exists` may absorb.
    pub fn new(message: impl Into<Box<str>>) -> Fault {
        Fault { message: message.into(), is_limit: false }
    }

    /// It went beyond a bound: nothing absorbs that.
    pub fn limit(message: impl Into<Box<str>>) -> Fault {
        Fault { message: message.into(), is_limit: true }
    }

    /// True if it went beyond a bound of cost or depth.
    pub fn is_limit(&self) -> bool {
        self.is_limit
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

/// Someone wants another kind of value.
pub(crate) fn wanted(who: &str, what: &str, got: &Value<'_>) -> Fault {
    Fault::new(format!("{who} wants {what}, not {}", got.told()))
}
