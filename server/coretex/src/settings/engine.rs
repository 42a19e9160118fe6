//! Section `engine`: loops, sessions, and how long a stop waits.

use super::layers::Layers;
use crate::units::Span;
use std::time::Duration;

/// How the engine works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    pub node_id: String,
    pub loops: usize,
    pub mailbox_max: usize,
    pub open_jobs_max: u64,
    pub session_ttl: Duration,
    pub heartbeat: Duration,
    pub drain_grace: Duration,
}

/// One loop for each virtual shard at most.
const LOOPS_MAX: u64 = 256;
const MAILBOX_MAX: u64 = 1 << 20;
const OPEN_JOBS_MAX: u64 = 1 << 40;

impl Engine {
    pub fn build(layers: &mut Layers) -> Option<Engine> {
        let node_id = layers.text("engine.node_id");
        let loops = layers.number("engine.loops", 1, LOOPS_MAX);
        let mailbox_max = layers.number("engine.mailbox_max", 16, MAILBOX_MAX);
        let open_jobs_max = layers.number("engine.open_jobs_max", 1, OPEN_JOBS_MAX);
        let session_ttl =
            span(layers, "engine.session_ttl", Duration::from_secs(1), Duration::from_secs(86_400));
        let heartbeat =
            span(layers, "engine.heartbeat", Duration::from_millis(100), Duration::from_secs(28_800));
        let drain_grace = span(layers, "engine.drain_grace", Duration::ZERO, Duration::from_secs(3_600));
        if let (Some(ttl), Some(beat)) = (session_ttl, heartbeat)
            && beat * 3 > ttl
        {
            let most = Span(ttl / 3);
            layers.refuse_value(
                "engine.heartbeat",
                format!("{} is more than a third of engine.session_ttl ({most})", Span(beat)),
            );
        }
        Some(Engine {
            node_id: node_id?,
            loops: usize::try_from(loops?).ok()?,
            mailbox_max: usize::try_from(mailbox_max?).ok()?,
            open_jobs_max: open_jobs_max?,
            session_ttl: session_ttl?,
            heartbeat: heartbeat?,
            drain_grace: drain_grace?,
        })
    }
}

pub(super) fn span(
    layers: &mut Layers,
    key: &'static str,
    least: Duration,
    most: Duration,
) -> Option<Duration> {
    let Span(span) = layers.parse(key)?;
    if (least..=most).contains(&span) {
        return Some(span);
    }
    layers.refuse_value(key, format!("{} is not from {} to {}", Span(span), Span(least), Span(most)));
    None
}
