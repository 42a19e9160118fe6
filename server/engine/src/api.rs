//! What the mouth says to the hands: requests and answers in the words of the domain.

use bytes::Bytes;
use coretex_domain::job::{Failure, Spec, Usage};
use coretex_domain::policy::Policy;
use coretex_domain::session::Lane;
use coretex_domain::{Job, JobId, Namespace, Payload, SessionId, Span, Time};
use coretex_secrets::{Secret, Vault};
use std::sync::Arc;

pub use coretex_domain::Refusal;
pub use coretex_domain::receipt::{Dimension, Grant, Receipt, Ruling, Spawned, Told};
pub use coretex_kernel::dispatcher::LaneTotals;
pub use coretex_kernel::input::{
    Ballot, Cause, Directive, Explanation, HandOver, RejectCode, TopicCounts, Verdict as HeldVerdict,
};
pub use coretex_ports::JobSet;

/// Who calls, as established by the gateway.
#[derive(Clone, Debug)]
pub struct Caller {
    pub namespace: Namespace,
    /// Name of the identity, empty when nobody was asked to log in.
    pub actor: Arc<str>,
}

/// One job asked for.
#[derive(Clone, Debug)]
pub struct Ask {
    pub spec: Arc<Spec>,
    /// Chosen by the client; already parsed.
    pub job_id: Option<JobId>,
}

/// Names a call that must not be done twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Once {
    /// Hash of the method and the caller's request id.
    pub id: u128,
    /// Hash of all that was asked.
    pub body: u128,
}

/// A job that was made or met.
#[derive(Clone, Debug)]
pub struct Accepted {
    pub job: Arc<Job>,
    /// An earlier request made it.
    pub existing: bool,
}

/// Told when a followed job ends. One sink serves a whole submit stream.
pub trait Follow: Send + Sync {
    /// `tag` is what the follower gave along with the job.
    fn ended(&self, tag: u64, job: &Arc<Job>);
}

/// Asks to be told of the end of each accepted job of a submit; tags are `first_tag + index`.
#[derive(Clone)]
pub struct FollowAs {
    pub sink: Arc<dyn Follow>,
    pub first_tag: u64,
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct JobPage {
    pub jobs: Vec<Arc<Job>>,
    /// Where the next page goes on; absent when nothing is left.
    pub next: Option<(Time, JobId)>,
}

/// One question for a list of jobs.
#[derive(Clone)]
pub struct JobQuery {
    pub namespace: Namespace,
    /// Every row is shown to it; those it accepts are answered.
    pub accepts: Arc<dyn Fn(&Job) -> bool + Send + Sync>,
    /// Hints that let the store skip rows.
    pub topic: Option<Arc<str>>,
    pub state: Option<coretex_domain::job::StateKind>,
    pub from: Time,
    pub to: Time,
    pub descending: bool,
    pub after: Option<(Time, JobId)>,
    pub page_size: usize,
    /// All jobs, or those whose dead letter is kept.
    pub set: JobSet,
}

/// A worker's registration.
#[derive(Clone, Debug)]
pub struct Hello {
    pub namespace: Namespace,
    pub principal: Arc<str>,
    /// Made up by the engine when empty.
    pub worker_id: Arc<str>,
    pub pool: Arc<str>,
    pub capabilities: Vec<Arc<str>>,
    pub labels: Vec<(Arc<str>, Arc<str>)>,
    pub lanes: Vec<Lane>,
    pub sdk: Arc<str>,
    pub host: Arc<str>,
    pub heartbeat: Option<Span>,
    pub ttl: Option<Span>,
}

/// A worker that comes back after its stream dropped.
#[derive(Clone, Debug)]
pub struct Resume {
    pub namespace: Namespace,
    pub principal: Arc<str>,
    pub session_id: SessionId,
    pub token: Bytes,
    pub held: Vec<HeldLease>,
    /// Credit granted so far, per lane; used where this node has no account of the session.
    pub granted: Vec<(Arc<str>, u64)>,
    /// Used when the session is gone: a new one is opened with it.
    pub hello: Option<Hello>,
}

/// A lease a worker says it holds.
#[derive(Clone, Debug)]
pub struct HeldLease {
    pub lease_id: u64,
    pub token: Bytes,
    /// The handler was called, as far as the worker knows.
    pub is_started: bool,
    pub is_finished: bool,
}

/// What a stream begins with.
#[derive(Clone, Debug)]
pub struct Welcome {
    pub session_id: SessionId,
    pub worker_id: Arc<str>,
    pub epoch: u32,
    pub resume_token: Bytes,
    pub heartbeat_interval: Span,
    pub session_ttl: Span,
    pub offer_ttl: Span,
    pub server_time: Time,
    /// Set on a successful Resume.
    pub resumed: Option<Resumed>,
    /// Verdicts on leases named in a Resume whose session was gone.
    pub verdicts: Vec<(u64, HeldVerdict)>,
}

/// The answer to a Resume or a Sync.
#[derive(Clone, Debug, Default)]
pub struct Resumed {
    pub verdicts: Vec<(u64, HeldVerdict)>,
    pub unknown_to_worker: Vec<u64>,
    pub last_report_seq: u64,
    /// Credit used so far, per lane, after refunds: grants go on from here.
    pub assigned: Vec<(Arc<str>, u64)>,
}

/// One thing a worker reports; the lease is named by its short id, or by its token.
#[derive(Debug)]
pub struct Update {
    pub lease: LeaseName,
    pub kind: UpdateKind,
    /// What was used since the last update that said so.
    pub usage: Option<Box<Usage>>,
}

impl Update {
    pub fn new(lease: LeaseName, kind: UpdateKind) -> Update {
        Update { lease, kind, usage: None }
    }
}

#[derive(Clone, Debug)]
pub enum LeaseName {
    Id(u64),
    Token(Bytes),
}

impl LeaseName {
    /// The short id, if it is named by that.
    pub(crate) fn id(&self) -> Option<u64> {
        match self {
            LeaseName::Id(id) => Some(*id),
            LeaseName::Token(_) => None,
        }
    }
}

pub use coretex_kernel::input::UpdateKind;

/// A question of a worker in the middle of an attempt.
#[derive(Debug)]
pub struct AskOfWorker {
    pub lease_id: u64,
    pub ask_id: u64,
    pub question: AskQuestion,
    /// Name of its record, once it is known.
    pub(crate) receipt_name: std::sync::OnceLock<Arc<str>>,
}

impl AskOfWorker {
    pub fn new(lease_id: u64, ask_id: u64, question: AskQuestion) -> AskOfWorker {
        AskOfWorker { lease_id, ask_id, question, receipt_name: std::sync::OnceLock::new() }
    }
}

#[derive(Debug)]
pub enum AskQuestion {
    Policy(Box<PolicyAsk>),
    Budget {
        dimension: Dimension,
        amount: u64,
        model: Arc<str>,
    },
    /// At least one name, each once.
    Secret {
        names: Vec<Arc<str>>,
    },
    Spawn(Box<SpawnAsk>),
}

/// Make jobs of the job.
#[derive(Debug)]
pub struct SpawnAsk {
    /// Unique among what the job spawns, over all its attempts.
    pub name: Arc<str>,
    /// Without ids and keys of their own.
    pub specs: Vec<Arc<Spec>>,
    /// They are cancelled when the job ends otherwise than SUCCEEDED.
    pub close_with_parent: bool,
}

/// May it be done?
#[derive(Debug)]
pub struct PolicyAsk {
    pub action: Arc<str>,
    pub resource: Arc<str>,
    pub args: Payload,
    /// Names arguments that were not sent.
    pub args_digest: Arc<str>,
    pub risk_tags: Vec<Arc<str>>,
}

/// A failure in the words of the worker.
pub type WorkerFailure = Box<Failure>;

/// An update that was not applied.
#[derive(Clone, Debug)]
pub struct Rejection {
    pub seq: u64,
    pub index: u32,
    pub code: RejectCode,
    pub message: String,
}

/// A lease on its way to a worker.
#[derive(Clone, Debug)]
pub struct Assignment {
    pub lease_id: u64,
    pub token: Bytes,
    pub lane_id: Arc<str>,
    /// State DISPATCHED with this very lease.
    pub job: Arc<Job>,
    pub max_attempts: u32,
    pub start_to_close: Span,
    pub stall: Option<Span>,
    /// Names of the secrets the job refers to; none where the server has no secrets.
    pub secret_refs: Vec<Arc<str>>,
}

/// Frames from the server to a worker, in the words of the domain.
#[derive(Clone, Debug)]
pub enum ServerFrame {
    Assign {
        assign_no: u64,
        assignments: Vec<Assignment>,
    },
    ReportAck {
        durable_up_to: u64,
        rejected: Vec<Rejection>,
    },
    Control(Vec<ControlEntry>),
    Resumed(Resumed),
    SyncRequest,
    GoAway {
        reason: Arc<str>,
        drain: Span,
        reconnect_after: Span,
        is_replaced: bool,
    },
    /// What was asked.
    Answer {
        lease_id: u64,
        ask_id: u64,
        /// Name of its record; empty where there is none.
        decision_id: Arc<str>,
        answer: Box<Result<Told, Refusal>>,
    },
    /// Values of secrets, as they are now. Nowhere else.
    Secrets {
        lease_id: u64,
        ask_id: u64,
        values: Vec<(Arc<str>, Secret)>,
    },
    HeartbeatAck {
        heartbeat_no: u64,
        session_ttl: Span,
    },
    Ping {
        nonce: u64,
    },
    /// A frame broke a rule and was ignored.
    ProtocolError {
        reason: &'static str,
        message: String,
    },
    /// An operator drains the worker: finish, and leave.
    Drain(Drain),
    /// Lanes whose topics are paused, or not any more.
    TopicPaused {
        topic: Arc<str>,
        is_paused: bool,
    },
}

#[derive(Clone, Debug)]
pub struct ControlEntry {
    pub control_id: u64,
    pub lease_id: u64,
    pub action: ControlAction,
}

#[derive(Clone, Debug)]
pub enum ControlAction {
    Cancel { reason: Arc<str>, grace: Span, force: bool },
    Reclaim,
}

/// How a worker leaves.
#[derive(Clone, Debug)]
pub struct Drain {
    pub mode: DrainMode,
    /// What it still holds then is released. Without one it takes the time it takes.
    pub deadline: Option<Span>,
    pub reason: Arc<str>,
    /// Names the call; a repeat of it changes nothing.
    pub request_id: Arc<str>,
}

/// What becomes of the leases of a leaving worker. Whatever has not started comes back at once in every mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainMode {
    Finish,
    ReleaseUnstarted,
    /// It stops its handlers at their next checkpoint and releases the jobs.
    Handover,
}

/// How busy a worker says it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    pub cpu: f64,
    pub mem: u64,
    pub queue_depth: u32,
    pub event_loop_lag: Option<Span>,
}

/// A live worker as `ListWorkers` shows it.
#[derive(Clone, Debug)]
pub struct WorkerInfo {
    pub session: Arc<coretex_domain::session::Session>,
    /// By lane; empty while this node has no account of the session.
    pub lanes: Vec<LaneTotals>,
    pub held: u32,
    /// Of those held, the ones that have started.
    pub running: u32,
    pub load: Option<Load>,
    pub is_connected: bool,
    pub is_draining: bool,
    pub last_seen: Time,
}

/// What `PollJobs` hands out.
#[derive(Clone, Debug)]
pub struct Polled {
    pub session_id: SessionId,
    pub session_ttl: Span,
    pub assignments: Vec<Assignment>,
    pub cancel: Vec<ControlEntry>,
}

/// What `PollJobs` asks.
#[derive(Clone, Debug)]
pub struct Poll {
    pub namespace: Namespace,
    pub principal: Arc<str>,
    pub worker_id: Arc<str>,
    pub session_id: Option<SessionId>,
    pub topics: Vec<Arc<str>>,
    /// Without one: that of the session, else `default`.
    pub pool: Option<Arc<str>>,
    pub capabilities: Vec<Arc<str>>,
    /// Those of the first poll of a session are kept.
    pub labels: Vec<(Arc<str>, Arc<str>)>,
    pub max_jobs: u32,
    pub timeout: Span,
}

/// A piece of a job's output.
#[derive(Clone, Debug)]
pub struct OutputChunk {
    pub offset: u64,
    pub chunk: Bytes,
    pub is_end: bool,
    /// Bytes lost before this chunk.
    pub dropped: u64,
}

/// Facts about this node.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    pub node_id: String,
    pub loops: usize,
    pub is_draining: bool,
    pub open_jobs: u64,
    pub sessions: u64,
    pub start_time: Time,
}

/// One virtual shard as this node has it.
#[derive(Clone, Debug)]
pub struct ShardInfo {
    pub shard: u8,
    pub epoch: u64,
    pub open_jobs: u64,
}

/// Settings of the engine.
#[derive(Clone, Debug)]
pub struct Settings {
    pub node_id: String,
    /// Shard loops; each owns every n-th virtual shard.
    pub loops: usize,
    /// Requests that may wait for a loop; more are refused with a retry hint.
    pub mailbox_max: usize,
    pub session_ttl: Span,
    pub heartbeat: Span,
    /// How long a session without a stream (PollJobs) lives after its last call.
    pub poll_session_ttl: Span,
    /// How long a drain waits for running jobs.
    pub drain_grace: Span,
    /// Open jobs held; more are refused with STORE_FULL.
    pub open_jobs_max: u64,
    /// What is asked about every job before it is handed out.
    pub policy: Arc<Policy>,
    pub audit_retention: Span,
    /// What jobs may ask for by name.
    pub secrets: Arc<Vault>,
    /// Judges in place of the policies kept here, which then are not used.
    pub remote_kernel: Option<Arc<dyn crate::RemoteKernel>>,
    /// Does the steps of the library. Without it nobody does.
    pub house: Option<Arc<dyn crate::House>>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            node_id: "local".into(),
            loops: 1,
            mailbox_max: 4_096,
            session_ttl: coretex_domain::limits::SESSION_TTL_DEFAULT,
            heartbeat: coretex_domain::limits::HEARTBEAT_DEFAULT,
            poll_session_ttl: Span::secs(60),
            drain_grace: Span::secs(30),
            open_jobs_max: 20_000_000,
            policy: Arc::new(Policy::built_in()),
            audit_retention: crate::audit::RETENTION_DEFAULT,
            secrets: Arc::default(),
            remote_kernel: None,
            house: None,
        }
    }
}
