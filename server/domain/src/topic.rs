//! Topics: what kind of work, and the settings that all jobs of a kind share.

use crate::job::spec::{RetryPolicy, Timeouts};
use crate::limits;
use crate::time::{Span, Time};
use std::sync::Arc;

/// How often something may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Starts per span, at least 1. The bucket holds as many.
    pub limit: u32,
    pub per: Span,
}

/// Settings of a topic; absent values take the product's defaults.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// Most open leases per concurrency key; absent means 1.
    pub concurrency_per_key: Option<u32>,
    /// Most open leases of the topic.
    pub max_running: Option<u32>,
    /// Starts of the whole topic.
    pub rate: Option<Rate>,
    /// Starts per `rate_key`; absent means `rate` is not applied per key.
    pub rate_per_key: Option<Rate>,
    /// One priority level is gained per this much waiting.
    pub ageing: Option<Span>,
    pub retention: Option<Span>,
    pub dead_letter_retention: Option<Span>,
    pub dead_letters_off: bool,
    pub retry: RetryPolicy,
    pub timeouts: Timeouts,
}

/// How long a namespace keeps what neither the job nor its topic say anything about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    pub jobs: Option<Span>,
    pub dead_letters: Option<Span>,
}

impl Settings {
    pub fn ageing(&self) -> Span {
        self.ageing.unwrap_or(limits::AGEING_DEFAULT)
    }
    /// How long jobs are kept that do not say so themselves.
    pub fn retention(&self, namespace: Retention) -> Span {
        self.retention.or(namespace.jobs).unwrap_or(limits::RETENTION_DEFAULT)
    }
    pub fn dead_letter_retention(&self, namespace: Retention) -> Span {
        self.dead_letter_retention.or(namespace.dead_letters).unwrap_or(limits::DEAD_LETTER_RETENTION_DEFAULT)
    }
}

/// A stored topic row. A topic without a row exists from first use with defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct Topic {
    pub namespace: crate::Namespace,
    pub name: Arc<str>,
    pub settings: Settings,
    pub paused: Option<Pause>,
    /// Rises by one with each change.
    pub revision: u64,
    pub update_time: Time,
    /// The newest calls that changed it, oldest first, so that a repeat of one changes nothing.
    pub calls: Vec<TopicCall>,
}

/// A call with a request id that changed a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicCall {
    /// Hash of the method and its request id.
    pub id: u128,
    /// Hash of what was asked: the same id with another one is a mistake of the caller.
    pub body: u128,
    pub time: Time,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    pub reason: Arc<str>,
    pub since: Time,
    pub actor: Arc<str>,
}
