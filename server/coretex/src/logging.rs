//! Log lines on standard error, without secrets.

use crate::settings::{Log, LogFormat};
use coretex_domain::redact::by_key;
use std::borrow::Cow;
use std::io::{IsTerminal as _, Write};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

/// Starts logging as the settings say. A second start in one process leaves the first as it is.
pub fn start(log: &Log) {
    let filter = EnvFilter::new(&log.level);
    let is_json = matches!(log.format, LogFormat::Json);
    let lines = fmt().with_writer(move || Lines { is_json }).with_env_filter(filter);
    // Refused when somebody logs already: a test, or another server of this process.
    let started = match log.format {
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
        LogFormat::Text => lines.with_target(false).with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
    if started.is_ok() {
        quiet_panics();
    }
}

/// Logging of commands that are no servers: warnings, for people, unless `CORETEX_LOG` says otherwise.
pub fn start_quiet() {
    let level = std::env::var("CORETEX_LOG").ok().filter(|level| EnvFilter::builder().parse(level).is_ok());
    start(&Log { format: LogFormat::Text, level: level.unwrap_or_else(|| "warn".into()) });
}

/// A panic may quote what it met.
fn quiet_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !coretex_secrets::is_on() {
            return usual(info);
        }
        let trace = std::backtrace::Backtrace::capture();
        let text = format!("{info}\n{trace}\n");
        // Nothing is left to tell it to.
        let _ = std::io::stderr().write_all(coretex_secrets::text(&text).as_bytes());
    }));
}

/// Standard error. Each line comes in one piece.
struct Lines {
    is_json: bool,
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        std::io::stderr().write_all(&plain(line, self.is_json))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// The line without values of secrets, and without those of fields whose names tell that they are some.
fn plain(line: &[u8], is_json: bool) -> Cow<'_, [u8]> {
    let known = coretex_secrets::redactor().and_then(|redactor| redactor.redact(line));
    let line = known.map_or(Cow::Borrowed(line), Cow::Owned);
    match is_json.then(|| by_key(&line)).flatten() {
        Some(redacted) => Cow::Owned(redacted),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_neither_known_values_nor_what_telling_fields_hold() {
        let secret = coretex_secrets::Secret::new("a-\"quoted\"-value".into()).unwrap();
        coretex_secrets::register([&secret]).unwrap();
        let line = r#"{"message":"got a-\"quoted\"-value","api_key":"k","n":1}"#;
        let said = |is_json| String::from_utf8(plain(line.as_bytes(), is_json).into_owned()).unwrap();
        assert_eq!(said(true), r#"{"message":"got [redacted]","api_key":"[redacted]","n":1}"#);
        assert_eq!(said(false), r#"{"message":"got [redacted]","api_key":"k","n":1}"#);
    }
}
