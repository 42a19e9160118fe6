//! Section `log`: what is logged, and how lines look.

use super::layers::Layers;
use tracing_subscriber::EnvFilter;

/// How the process logs. Always to standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    pub format: LogFormat,
    /// Levels by target, checked.
    pub level: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

impl Log {
    pub fn build(layers: &mut Layers) -> Option<Log> {
        let format = match layers.text("log.format")?.as_str() {
            "json" => Some(LogFormat::Json),
            "text" => Some(LogFormat::Text),
            other => {
                layers.refuse_value("log.format", format!("`{other}` is not `json` or `text`"));
                None
            }
        };
        let level = layers.text("log.level")?;
        if let Err(error) = EnvFilter::builder().parse(&level) {
            layers.refuse_value("log.level", format!("`{level}` cannot be used: {error}"));
            return None;
        }
        Some(Log { format: format?, level })
    }
}
