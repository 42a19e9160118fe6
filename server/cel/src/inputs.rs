//! What an expression reads, asked for one by one and only when it is needed.

use crate::fault::Fault;
use crate::value::Value;
use std::fmt;

/// The values behind the names of a [`Scope`](crate::Scope).
pub trait Inputs {
    /// The value behind the name with this number. Asked each time the name is evaluated, so it should only borrow.
    fn read(&self, number: u16) -> Result<Value<'_>, Fault>;
}

/// A value that opens itself when it is looked into: a payload that is not parsed before.
pub trait Lazy: fmt::Debug {
    /// The value inside, which is not lazy itself. Asked each time, so it should keep what it made.
    fn open(&self) -> Result<Value<'_>, Fault>;

    /// What `size` gives without opening it; nothing if `size` opens it like everything else.
    fn size(&self) -> Option<usize> {
        None
    }

    /// What it is, for a message.
    fn told(&self) -> &'static str;
}

/// A map whose entries are looked up one by one.
pub trait Table: fmt::Debug {
    /// What it has under a key.
    fn get(&self, key: &str) -> Option<Value<'_>>;

    /// The key at a place, from 0, always in the same order; nothing from the count on.
    fn key(&self, at: usize) -> Option<&str>;

    /// How many entries it has.
    fn count(&self) -> usize;
}
