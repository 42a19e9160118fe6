//! The persisted form of the nouns: versioned protobuf that every later release can read.
//!
//! [`wire`] lists the messages; decoding goes through them. Encoding writes the same bytes straight from the
//! nouns, because a job is encoded several times in its life and never needs an owned copy for it.
//! A version above [`VERSION`] is refused, never guessed at.

pub mod batch;
mod config;
pub mod decode;
pub mod encode;
mod event;
pub mod intern;
mod of_run;
mod put;
pub mod resource;
pub mod row;
pub mod schedule;
mod terms;
#[cfg(test)]
mod tests;
pub mod wire;

pub use batch::{BatchWriter, LogGroup, LogJob, LogWrite, decode_batch};
pub use decode::{decode_job, decode_job_log};
pub use encode::{Form, put_job};
pub use intern::Interner;

/// Version written into every record.
pub const VERSION: u32 = 1;

/// Stored bytes that do not make sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged(pub String);

impl std::fmt::Display for Damaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Damaged {}

impl From<prost::DecodeError> for Damaged {
    fn from(e: prost::DecodeError) -> Damaged {
        Damaged(e.to_string())
    }
}

/// Refuses records of a later release.
pub(crate) fn check_version(version: u32) -> Result<(), Damaged> {
    match version {
        1..=VERSION => Ok(()),
        0 => Err(Damaged("record without a version".into())),
        later => Err(Damaged(format!("record version {later} is newer than this build reads ({VERSION})"))),
    }
}
