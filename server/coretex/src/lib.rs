//! The Coretex binary as a library: settings, wiring and the command line.
//!
//! [`wiring::start`] is a whole server as a value; the tests start it in process. Everything else is here for `main`.

pub mod cli;
mod house;
mod key_files;
pub mod logging;
pub mod outcome;
pub mod policy_file;
mod secrets_file;
pub mod settings;
pub mod units;
pub mod wiring;
