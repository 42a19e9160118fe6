//! The gateway as its callers see it: a whole server on a free port, called over the wire.

mod common;
mod jobs;
mod streams;
mod transport;
