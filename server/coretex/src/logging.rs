//! Log lines on standard error.

use crate::settings::{Log, LogFormat};
use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

/// Starts logging as the settings say. A second start in one process leaves the first as it is.
pub fn start(log: &Log) {
    let filter = EnvFilter::new(&log.level);
    let lines = fmt().with_writer(std::io::stderr).with_env_filter(filter);
    // Refused when somebody logs already: a test, or another server of this process.
    let _ = match log.format {
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
        LogFormat::Text => lines.with_target(false).with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
}

/// Logging of commands that are no servers: warnings, for people, unless `CORETEX_LOG` says otherwise.
pub fn start_quiet() {
    let level = std::env::var("CORETEX_LOG").ok().filter(|level| EnvFilter::builder().parse(level).is_ok());
    start(&Log { format: LogFormat::Text, level: level.unwrap_or_else(|| "warn".into()) });
}
