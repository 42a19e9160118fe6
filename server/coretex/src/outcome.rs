//! How a command ends: what is printed, and the exit code.

use crate::settings::Refusals;
use std::fmt;

/// Everything went as asked.
pub const OK: u8 = 0;
/// The server, the job or the machine said no.
pub const REFUSED: u8 = 1;
/// The command line was wrong.
pub const USAGE: u8 = 2;
/// The server's settings were wrong.
pub const CONFIG: u8 = 78;
/// Ended by Ctrl-C, as shells count it.
pub const INTERRUPTED: u8 = 130;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub enum Failure {
    /// The command line makes no sense.
    Usage(String),
    /// The server said no, or could not be reached.
    Refused(Box<coretex_sdk::Error>),
    /// The settings of a server are refused.
    Settings(Refusals),
    /// The machine said no: a file, a port, a process.
    Machine(String),
    /// All was said already; only the exit code is left.
    Said(u8),
}

/// Result of a command.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A problem of this machine, with what was being done.
    pub fn machine(doing: impl fmt::Display, error: impl fmt::Display) -> Failure {
        Failure::Machine(format!("{doing}: {error}"))
    }

    /// The exit code it has.
    pub fn code(&self) -> u8 {
        match self {
            Failure::Usage(_) => USAGE,
            Failure::Refused(_) | Failure::Machine(_) => REFUSED,
            Failure::Settings(_) => CONFIG,
            Failure::Said(code) => *code,
        }
    }
}

impl From<coretex_sdk::Error> for Failure {
    fn from(error: coretex_sdk::Error) -> Failure {
        Failure::Refused(Box::new(error))
    }
}

impl From<coretex_sdk::raw::tonic::Status> for Failure {
    fn from(status: coretex_sdk::raw::tonic::Status) -> Failure {
        Failure::from(coretex_sdk::Error::from(status))
    }
}

impl From<Refusals> for Failure {
    fn from(refusals: Refusals) -> Failure {
        Failure::Settings(refusals)
    }
}
