//! Workers, topics, events and the installation, as the server shows them.

use crate::names::{AckLevel, JobEventType, JobState, NodeState, ShardState, WorkerState};
use crate::raw::{pb, wkt};
use crate::request::{RetryPolicy, Timeouts};
use crate::time::{of_span, of_stamp, span};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// A worker, by its newest session.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkerInfo {
    /// Its id.
    pub worker_id: String,
    /// Namespace it serves.
    pub namespace: String,
    /// Whether it is there.
    pub state: WorkerState,
    /// Its session.
    pub session_id: String,
    /// Generation of the session's stream.
    pub epoch: u64,
    /// Named group it belongs to.
    pub pool: String,
    /// What it has.
    pub capabilities: Vec<String>,
    /// Names for people and preferences.
    pub labels: BTreeMap<String, String>,
    /// Topics it serves.
    pub topics: Vec<String>,
    /// Its lanes.
    pub lanes: Vec<WorkerLane>,
    /// Library it is written with, and its version.
    pub sdk: String,
    /// Build it runs.
    pub build_id: String,
    /// Machine it runs on.
    pub hostname: String,
    /// Its process id there.
    pub pid: u32,
    /// When the session began.
    pub connect_time: Option<SystemTime>,
    /// When it was last heard.
    pub heartbeat_time: Option<SystemTime>,
    /// Node its stream is on.
    pub node_id: String,
    /// Leases held, running ones included.
    pub held: u32,
    /// Jobs running.
    pub running: u32,
    /// Protocol version spoken.
    pub protocol_version: u32,
    /// The authenticated identity behind it.
    pub principal: String,
    /// How long its session outlives silence.
    pub session_ttl: Option<Duration>,
}

/// A lane and how full it is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkerLane {
    /// Name.
    pub lane_id: String,
    /// Topics it runs.
    pub topics: Vec<String>,
    /// Jobs it runs at a time.
    pub slots: u32,
    /// Kind of slot.
    pub slot_class: String,
    /// Units granted since the session began.
    pub granted_total: u64,
    /// Units assigned since the session began.
    pub assigned_total: u64,
}

/// What becomes of the jobs of a leaving worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DrainMode {
    /// It runs what it holds; what is not started goes back.
    #[default]
    Finish,
    /// It gives back what is not started at once and finishes the rest.
    ReleaseUnstarted,
    /// It stops its handlers and gives everything back.
    Handover,
}

/// A kind of work.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// True while its jobs are not handed out.
    pub paused: bool,
    /// Why it was paused.
    pub pause_reason: String,
    /// How its jobs are run. What is absent has its default.
    pub settings: TopicSettings,
    /// What is going on.
    pub counters: Option<TopicCounters>,
    /// Rises by one with each change.
    pub revision: u64,
    /// When it was first used or declared.
    pub create_time: Option<SystemTime>,
    /// Last change.
    pub update_time: Option<SystemTime>,
}

/// How the jobs of a topic are run.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct TopicSettings {
    /// Jobs with the same concurrency key that may run at a time. Default 1.
    pub concurrency_per_key: Option<u32>,
    /// Jobs of the topic that may run at a time. Default: no cap.
    pub max_running: Option<u32>,
    /// So many starts per span. Default: no limit.
    pub rate: Option<(u32, Duration)>,
    /// Waiting time that raises priority by one level. Default 30 s; zero: never.
    pub priority_ageing: Option<Duration>,
    /// How long records of ended jobs are kept. Default 24 h.
    pub retention: Option<Duration>,
    /// How long dead letters are kept. Default 14 days.
    pub dead_letter_retention: Option<Duration>,
    /// Whether failed jobs leave dead letters. Default true.
    pub dead_letters: Option<bool>,
    /// For jobs that do not say otherwise.
    pub retry_policy: Option<RetryPolicy>,
    /// For jobs that do not say otherwise.
    pub timeouts: Option<Timeouts>,
}

/// What is going on in a topic.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TopicCounters {
    /// SCHEDULED jobs whose time has come.
    pub queued: u64,
    /// DISPATCHED and RUNNING jobs.
    pub running: u64,
    /// PENDING jobs.
    pub pending: u64,
    /// AWAITING_APPROVAL jobs.
    pub awaiting_approval: u64,
    /// SCHEDULED jobs whose time has not come.
    pub delayed: u64,
    /// RETRYING jobs.
    pub retrying: u64,
    /// Age of the longest queued job.
    pub oldest_queued_age: Option<Duration>,
    /// Connected workers that serve it.
    pub workers: u32,
    /// Credit those workers have left for it.
    pub credit: u64,
}

/// A change of a topic's settings. What is not set stays as it is.
#[derive(Clone, Debug)]
#[must_use = "a change does nothing until it is sent"]
pub struct TopicChange {
    topic: String,
    settings: TopicSettings,
    defaults: Vec<String>,
    revision: u64,
}

/// One thing that happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// Shard, 0 to 255.
    pub shard: u32,
    /// Number within the shard, rising.
    pub sequence: u64,
    /// When.
    pub time: Option<SystemTime>,
    /// Job it is about.
    pub job_id: String,
    /// The job's topic.
    pub topic: String,
    /// What happened.
    pub kind: JobEventType,
    /// State before.
    pub from_state: JobState,
    /// State after.
    pub to_state: JobState,
    /// Attempt it is about.
    pub attempt: u32,
    /// Worker it is about.
    pub worker_id: String,
    /// In words.
    pub message: String,
    /// Who caused it.
    pub actor: String,
    /// Run the job is a step of.
    pub run_id: String,
    /// Revision of the job after it.
    pub revision: u64,
    /// Pass this to go on after this event.
    pub resume_token: String,
}

/// A server, what it speaks and what it promises.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerInfo {
    /// Version of the product.
    pub version: String,
    /// Commit it was built from.
    pub commit: String,
    /// This node.
    pub node_id: String,
    /// The installation the node belongs to.
    pub cluster_id: String,
    /// Oldest and newest worker protocol it speaks.
    pub protocol: (u32, u32),
    /// Features that are on.
    pub features: Vec<String>,
    /// Largest payload, bytes.
    pub payload_max_bytes: u64,
    /// Largest request, bytes.
    pub message_max_bytes: u64,
    /// Most specs in one batch.
    pub submit_batch_max: u32,
    /// Kind of store.
    pub store: String,
    /// What a yes means.
    pub ack_level: AckLevel,
    /// Bytes the store uses.
    pub store_used_bytes: u64,
    /// When the process started.
    pub start_time: Option<SystemTime>,
    /// Its clock.
    pub server_time: Option<SystemTime>,
    /// Profile it runs under.
    pub profile: String,
    /// Whether it serves.
    pub ready: bool,
    /// Address it listens on.
    pub listen: String,
}

/// A shard, its owner and how full it is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Shard {
    /// Number, 0 to 255.
    pub shard: u32,
    /// Whether it serves.
    pub state: ShardState,
    /// Node that owns it.
    pub node_id: String,
    /// The owner's epoch.
    pub epoch: u64,
    /// Newest sequence committed.
    pub sequence: u64,
    /// Jobs that are not terminal.
    pub open_jobs: u64,
    /// SCHEDULED jobs whose time has come.
    pub queued_jobs: u64,
    /// Open leases.
    pub leases: u64,
    /// Requests waiting for its owner.
    pub mailbox: u32,
    /// Why it is stopped.
    pub message: String,
}

/// A server process of the installation.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Node {
    /// Its id.
    pub node_id: String,
    /// Where workers and clients reach it.
    pub address: String,
    /// Whether it takes part.
    pub state: NodeState,
    /// Shards it owns.
    pub shards: u32,
    /// Worker sessions it has.
    pub sessions: u32,
    /// Version it runs.
    pub version: String,
    /// When it was last heard.
    pub heartbeat_time: Option<SystemTime>,
}

// === impl WorkerInfo ===

impl WorkerInfo {
    pub(crate) fn from_pb(worker: pb::Worker) -> Self {
        let lanes = worker.lanes.into_iter().map(|lane| {
            let pb::WorkerLane { lane_id, topics, slots, slot_class, granted_total, assigned_total } = lane;
            WorkerLane { lane_id, topics, slots, slot_class, granted_total, assigned_total }
        });
        let (sdk, host) = (worker.sdk.unwrap_or_default(), worker.host.unwrap_or_default());
        Self {
            lanes: lanes.collect(),
            worker_id: worker.worker_id,
            namespace: worker.namespace,
            state: WorkerState::of(worker.state),
            session_id: worker.session_id,
            epoch: worker.epoch,
            pool: worker.pool,
            capabilities: worker.capabilities,
            labels: worker.labels,
            topics: worker.topics.into_iter().map(|topic| topic.name).collect(),
            sdk: format!("{} {}", sdk.name, sdk.version).trim().to_owned(),
            build_id: worker.deployment.unwrap_or_default().build_id,
            hostname: host.hostname,
            pid: host.pid,
            connect_time: of_stamp(worker.connect_time),
            heartbeat_time: of_stamp(worker.heartbeat_time),
            node_id: worker.node_id,
            held: worker.held,
            running: worker.running,
            protocol_version: worker.protocol_version,
            principal: worker.principal,
            session_ttl: of_span(worker.session_ttl),
        }
    }
}

impl DrainMode {
    pub(crate) fn number(self) -> i32 {
        let mode = match self {
            Self::Finish => pb::DrainMode::Finish,
            Self::ReleaseUnstarted => pb::DrainMode::ReleaseUnstarted,
            Self::Handover => pb::DrainMode::Handover,
        };
        mode.into()
    }
}

// === impl Topic ===

impl Topic {
    pub(crate) fn from_pb(topic: pb::Topic) -> Self {
        let counters = topic.counters.map(|counters| TopicCounters {
            queued: counters.queued,
            running: counters.running,
            pending: counters.pending,
            awaiting_approval: counters.awaiting_approval,
            delayed: counters.delayed,
            retrying: counters.retrying,
            oldest_queued_age: of_span(counters.oldest_queued_age),
            workers: counters.workers,
            credit: counters.credit,
        });
        Self {
            name: topic.name,
            paused: topic.paused,
            pause_reason: topic.pause_reason,
            settings: topic.settings.map(TopicSettings::from_pb).unwrap_or_default(),
            counters,
            revision: topic.revision,
            create_time: of_stamp(topic.create_time),
            update_time: of_stamp(topic.update_time),
        }
    }
}

impl TopicSettings {
    fn from_pb(settings: pb::TopicSettings) -> Self {
        let dead_letters = match pb::DeadLetterMode::try_from(settings.dead_letters) {
            Ok(pb::DeadLetterMode::On) => Some(true),
            Ok(pb::DeadLetterMode::Off) => Some(false),
            Ok(pb::DeadLetterMode::Unspecified) | Err(_) => None,
        };
        Self {
            concurrency_per_key: settings.concurrency_per_key,
            max_running: settings.max_running,
            rate: settings.rate.map(|rate| (rate.limit, of_span(rate.per).unwrap_or_default())),
            priority_ageing: of_span(settings.priority_ageing),
            retention: of_span(settings.retention),
            dead_letter_retention: of_span(settings.dead_letter_retention),
            dead_letters,
            retry_policy: settings.default_retry_policy.map(RetryPolicy::from_pb),
            timeouts: settings.default_timeouts.map(Timeouts::from_pb),
        }
    }

    fn into_pb(self) -> pb::TopicSettings {
        let dead_letters = match self.dead_letters {
            Some(true) => pb::DeadLetterMode::On,
            Some(false) => pb::DeadLetterMode::Off,
            None => pb::DeadLetterMode::Unspecified,
        };
        pb::TopicSettings {
            concurrency_per_key: self.concurrency_per_key,
            max_running: self.max_running,
            rate: self.rate.map(|(limit, per)| pb::RateLimit { limit, per: Some(span(per)) }),
            priority_ageing: self.priority_ageing.map(span),
            retention: self.retention.map(span),
            dead_letter_retention: self.dead_letter_retention.map(span),
            dead_letters: dead_letters.into(),
            default_retry_policy: self.retry_policy.map(RetryPolicy::into_pb),
            default_timeouts: self.timeouts.map(Timeouts::into_pb),
        }
    }

    /// Paths of what is set.
    fn paths(&self) -> impl Iterator<Item = &'static str> {
        let set = [
            (self.concurrency_per_key.is_some(), "concurrency_per_key"),
            (self.max_running.is_some(), "max_running"),
            (self.rate.is_some(), "rate"),
            (self.priority_ageing.is_some(), "priority_ageing"),
            (self.retention.is_some(), "retention"),
            (self.dead_letter_retention.is_some(), "dead_letter_retention"),
            (self.dead_letters.is_some(), "dead_letters"),
            (self.retry_policy.is_some(), "default_retry_policy"),
            (self.timeouts.is_some(), "default_timeouts"),
        ];
        set.into_iter().filter(|(is_set, _)| *is_set).map(|(_, path)| path)
    }
}

impl TopicChange {
    /// A change of this topic that sets what is set in `settings`.
    pub fn new(topic: impl Into<String>, settings: TopicSettings) -> Self {
        Self { topic: topic.into(), settings, defaults: Vec::new(), revision: 0 }
    }

    /// A setting that goes back to its default, by its path, for example `max_running`.
    pub fn reset(mut self, path: impl Into<String>) -> Self {
        self.defaults.push(path.into());
        self
    }

    /// Change only if the topic has this revision.
    pub fn if_revision(mut self, revision: u64) -> Self {
        self.revision = revision;
        self
    }

    pub(crate) fn into_pb(self) -> pb::UpdateTopicRequest {
        let mask = (!self.defaults.is_empty()).then(|| {
            let paths = self.settings.paths().map(str::to_owned).chain(self.defaults).collect();
            wkt::FieldMask { paths }
        });
        pb::UpdateTopicRequest {
            topic: self.topic,
            settings: Some(self.settings.into_pb()),
            update_mask: mask,
            revision: self.revision,
            request_id: String::new(),
        }
    }
}

// === impl Event, ServerInfo, Shard, Node ===

impl Event {
    pub(crate) fn from_pb(event: pb::Event, resume_token: String) -> Self {
        Self {
            shard: event.shard,
            sequence: event.sequence,
            time: of_stamp(event.time),
            job_id: event.job_id,
            topic: event.topic,
            kind: JobEventType::of(event.r#type),
            from_state: JobState::of(event.from_state),
            to_state: JobState::of(event.to_state),
            attempt: event.attempt,
            worker_id: event.worker_id,
            message: event.message,
            actor: event.actor,
            run_id: event.run_id,
            revision: event.revision,
            resume_token,
        }
    }
}

impl ServerInfo {
    pub(crate) fn from_pb(server: pb::ServerInfo) -> Self {
        let (limits, store) = (server.limits.unwrap_or_default(), server.store.unwrap_or_default());
        Self {
            version: server.version,
            commit: server.commit,
            node_id: server.node_id,
            cluster_id: server.cluster_id,
            protocol: (server.protocol_min, server.protocol_max),
            features: server.features,
            payload_max_bytes: limits.payload_max_bytes,
            message_max_bytes: limits.message_max_bytes,
            submit_batch_max: limits.submit_batch_max,
            store: store.kind,
            ack_level: AckLevel::of(store.ack_level),
            store_used_bytes: store.used_bytes,
            start_time: of_stamp(server.start_time),
            server_time: of_stamp(server.server_time),
            profile: server.profile,
            ready: server.ready,
            listen: server.listen,
        }
    }
}

impl Shard {
    pub(crate) fn from_pb(shard: pb::Shard) -> Self {
        Self {
            shard: shard.shard,
            state: ShardState::of(shard.state),
            node_id: shard.node_id,
            epoch: shard.epoch,
            sequence: shard.sequence,
            open_jobs: shard.open_jobs,
            queued_jobs: shard.queued_jobs,
            leases: shard.leases,
            mailbox: shard.mailbox,
            message: shard.message,
        }
    }
}

impl Node {
    pub(crate) fn from_pb(node: pb::Node) -> Self {
        Self {
            node_id: node.node_id,
            address: node.address,
            state: NodeState::of(node.state),
            shards: node.shards,
            sessions: node.sessions,
            version: node.version,
            heartbeat_time: of_stamp(node.heartbeat_time),
        }
    }
}
