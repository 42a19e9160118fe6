//! Long-lived streams with a protocol of their own.

pub(crate) mod worker;
