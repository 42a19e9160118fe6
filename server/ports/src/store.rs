//! The store: commit-shaped, not table-shaped. Facts live here; everything else can be lost.

use bytes::Bytes;
use coretex_domain::dead_letter::DeadLetter;
use coretex_domain::job::{Entry, StateKind};
use coretex_domain::resource::{Kind, Resource, ResourceKey};
use coretex_domain::session::Session;
use coretex_domain::topic::Topic;
use coretex_domain::{Job, JobId, Namespace, SessionId, ShardId, Time};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Where jobs, sessions and the catalog are kept. See the conformance suite for what each promise means.
pub trait Store: Send + Sync + 'static {
    /// What this store promises; constant while it is open.
    fn guarantees(&self) -> Guarantees;

    /// Takes ownership of all shards under a new epoch, higher than every earlier one, and loads what is open.
    fn claim(&self, owner: &str) -> BoxFuture<Result<Claim, StoreError>>;

    /// Commits one group: all of it or nothing. Groups are applied in the order of the calls; a store that says
    /// `pipelined` accepts the next call before the last one has answered.
    fn commit(&self, group: Group) -> BoxFuture<Outcome>;

    /// Reads jobs by id, open or ended, as of the newest answered commit; absent ones are `None`.
    fn read(
        &self,
        namespace: Namespace,
        ids: Vec<JobId>,
    ) -> BoxFuture<Result<Vec<Option<Arc<Job>>>, StoreError>>;

    /// Finds the job an idempotency key names.
    fn read_key(&self, namespace: Namespace, key: Arc<str>) -> BoxFuture<Result<Option<KeyRow>, StoreError>>;

    /// One bounded step through ordered rows.
    fn scan(&self, scan: Scan) -> BoxFuture<Result<Page, StoreError>>;

    /// Removes ended jobs whose `expire_time` is not after `now`, with their keys, dead letters and output, and
    /// resources that are due; at most `limit` of each. Says how many went and when the next one is due.
    fn clean(&self, now: Time, limit: usize) -> BoxFuture<Result<Cleaned, StoreError>>;

    /// Set while the store has no room to grow: submits must be refused with it, while commits that end or
    /// change jobs still go through on reserved space. Cheap; asked before every submit.
    fn refuses_growth(&self) -> Option<StoreError>;

    /// Writes a complete, consistent copy into an empty directory while the store goes on.
    fn backup(&self, directory: std::path::PathBuf) -> BoxFuture<Result<BackupReport, StoreError>>;

    /// Bytes used, rows indexed and how far the index lags.
    fn stats(&self) -> Stats;

    /// Makes everything accepted durable and lets go of the store.
    fn close(&self) -> BoxFuture<Result<(), StoreError>>;
}

/// How sure an OK is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckLevel {
    /// Lost with the process.
    Memory,
    /// Handed to the operating system: lost with the machine.
    Os,
    /// On disk.
    Fsync,
    /// On disk of more than one machine.
    Replicated,
    /// As sure as the backend happens to be.
    BestEffort,
}

/// Facts about a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarantees {
    pub name: &'static str,
    pub ack: AckLevel,
    pub survives_process_crash: bool,
    pub survives_power_loss: bool,
    /// More than one process may use it at a time.
    pub is_shared: bool,
    /// Accepts a commit before the previous one has answered.
    pub pipelined: bool,
    pub value_max: usize,
}

/// What an owner finds when it takes over.
pub struct Claim {
    pub epoch: u64,
    /// Every job that has not ended.
    pub open: Vec<Arc<Job>>,
    pub topics: Vec<Arc<Topic>>,
    /// Those that are live.
    pub resources: Vec<Arc<Resource>>,
    pub sessions: Vec<Arc<Session>>,
    /// Highest event sequence used, per shard.
    pub sequences: Box<[u64; 256]>,
    /// Keys that sign tokens: id → secret, newest last.
    pub secrets: Vec<(u32, [u8; 32])>,
}

/// An idempotency key and the job it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    pub namespace: Namespace,
    pub key: Arc<str>,
    pub job_id: JobId,
    /// Fingerprint of the request that made the job.
    pub fingerprint: u128,
    pub create_time: Time,
}

/// One change. Jobs carry their whole record; a store writes as much of it as it needs.
#[derive(Clone, Debug)]
pub enum Write {
    /// The record after its last `fresh` history entries. `fresh == history.len()` means the job is new.
    Job {
        job: Arc<Job>,
        fresh: u32,
    },
    /// Names the job of an idempotency key; goes with the job's retention.
    Key(Arc<KeyRow>),
    DeadLetter(Arc<DeadLetter>),
    /// The dead letter of a job is no longer kept; the job is. Deleting one that is not there changes nothing.
    DeadLetterEnd {
        namespace: Namespace,
        job_id: JobId,
    },
    Session(Arc<Session>),
    SessionEnd(SessionId),
    Topic(Arc<Topic>),
    Secret(u32, [u8; 32]),
    Resource(Arc<Resource>),
    /// The resource is gone. Removing one that is not there changes nothing.
    ResourceEnd(ResourceKey),
    /// A durable piece of a job's output stream.
    Output {
        namespace: Namespace,
        job_id: JobId,
        stream: Arc<str>,
        offset: u64,
        chunk: Bytes,
    },
}

/// What commits together.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// Must equal the epoch of the newest claim.
    pub epoch: u64,
    /// Wall time of the decision; ordered within an epoch.
    pub time: Time,
    pub writes: Vec<Write>,
}

/// How a commit ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Committed,
    /// Nothing was written and never will be.
    Refused(StoreError),
    /// It may or may not have been written; the owner must claim again and look.
    Unknown(String),
}

/// Which jobs to walk.
#[derive(Clone, Debug)]
pub enum JobSet {
    /// All jobs of a namespace.
    All,
    /// Jobs whose dead letter is kept.
    DeadLetters,
}

/// One step of a walk.
#[derive(Clone, Debug)]
pub enum Scan {
    /// Jobs of a namespace by (create time, id), strictly after `after` in walking order.
    Jobs {
        namespace: Namespace,
        set: JobSet,
        /// Only jobs of this topic / in this state, where the store can tell cheaply; others may come too.
        topic: Option<Arc<str>>,
        state: Option<StateKind>,
        descending: bool,
        after: Option<(Time, JobId)>,
        /// Bounds on the create time, both inclusive.
        from: Time,
        to: Time,
        limit: usize,
    },
    /// Of these jobs, those whose dead letter is kept, in the order of the ids.
    DeadLetters { namespace: Namespace, ids: Vec<JobId> },
    /// Committed events with a sequence above the one given for their shard, oldest commit first.
    Events { after: Box<[u64; 256]>, limit: usize },
    /// Resources of a kind and namespace by (create time, name), strictly after `after` in walking order.
    Resources {
        kind: Kind,
        namespace: Namespace,
        descending: bool,
        after: Option<(Time, Arc<str>)>,
        limit: usize,
    },
    /// These resources, as far as they exist, in the order of the keys.
    Named(Vec<ResourceKey>),
    /// Durable output chunks of a job from an offset on.
    Output { namespace: Namespace, job_id: JobId, stream: Arc<str>, offset: u64, limit: usize },
}

/// What a scan step found.
#[derive(Clone, Debug)]
pub struct Page {
    pub rows: Vec<Row>,
    /// False if there is certainly nothing after the last row.
    pub more: bool,
}

#[derive(Clone, Debug)]
pub enum Row {
    Job(Arc<Job>),
    Event(EventRow),
    Output { offset: u64, chunk: Bytes },
    Resource(Arc<Resource>),
}

/// One committed event and the job it happened to.
#[derive(Clone, Debug)]
pub struct EventRow {
    pub shard: ShardId,
    pub entry: Entry,
    pub from: Option<StateKind>,
    pub to: StateKind,
    pub attempt: u32,
    pub worker_id: Option<Arc<str>>,
    pub namespace: Namespace,
    pub job_id: JobId,
    pub topic: Arc<str>,
    pub labels: Vec<(Arc<str>, Arc<str>)>,
    /// Revision of the job after it.
    pub revision: u64,
    /// The policy whose decision the job stood on when this was committed.
    pub policy: Option<Arc<str>>,
}

/// Figures for metrics and `admin` commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub bytes: u64,
    pub commits: u64,
    pub records: u64,
    /// Records committed and not yet in the index.
    pub lag: u64,
    /// Records written to the index so far.
    pub indexed: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupReport {
    pub bytes: u64,
    pub jobs: u64,
}

/// What a cleaning step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    pub removed: u64,
    pub next_due: Option<Time>,
}

/// Why a store could not do as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// Another owner has claimed since.
    Fenced { ours: u64, theirs: u64 },
    /// The size limit is reached.
    Full { used: u64, max: u64 },
    /// The disk is full.
    DiskFull,
    /// Stored bytes failed a check.
    Corrupt { place: String, what: String },
    /// The events asked for are no longer kept. Asking for those after `oldest` gives all that are.
    Compacted { oldest: Box<[u64; 256]> },
    /// Another process holds the store.
    InUse { by: String },
    /// A later release wrote it: its tables have this version, and this one knows them up to `known`.
    Newer { version: u32, known: u32 },
    /// The store has failed or was closed.
    Unavailable(String),
    /// This store cannot do it at all.
    Unsupported(&'static str),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Fenced { ours, theirs } => {
                write!(f, "fenced: our epoch {ours}, newest epoch {theirs}")
            }
            StoreError::Full { used, max } => write!(f, "store is full: {used} of {max} bytes"),
            StoreError::DiskFull => f.write_str("disk is full"),
            StoreError::Corrupt { place, what } => write!(f, "corrupt data at {place}: {what}"),
            StoreError::Compacted { .. } => f.write_str("events before the oldest kept were asked for"),
            StoreError::Newer { version, known } => {
                write!(
                    f,
                    "the store was written by a later release (tables {version}, this one knows up to {known})"
                )
            }
            StoreError::InUse { by } => write!(f, "store is in use by {by}"),
            StoreError::Unavailable(why) => write!(f, "store unavailable: {why}"),
            StoreError::Unsupported(what) => write!(f, "this store cannot {what}"),
        }
    }
}

impl std::error::Error for StoreError {}
