//! The table of contents of the system: everything that can be asked of a shard group, and everything it can
//! ask of the world. Both lists are closed.

use crate::dispatcher::{Holder, LimitKey, TopicKey};
use crate::view::Retentions;
use bytes::Bytes;
use coretex_domain::approval::{Approval, ApprovalId, Choice, Voter};
use coretex_domain::config::Applied;
use coretex_domain::dead_letter::DeadLetter;
use coretex_domain::job::{Failure, Family, OfRun, Spec, Usage};
use coretex_domain::policy::{Answer, Policy};
use coretex_domain::receipt::{Receipt, Told};
use coretex_domain::run::{At, Plea, Signal, StepState, Trouble};
use coretex_domain::topic::Topic;
use coretex_domain::{
    Job, JobId, JobKey, Namespace, Payload, Refusal, Resource, Run, RunId, RunKey, SessionId, Span,
};
use coretex_workflow::model::OnConflict;
use coretex_workflow::{Decided, Piece, Plan, Site};
use std::sync::Arc;

/// What a shard group can be told.
#[derive(Debug)]
pub enum Input {
    /// New jobs of one request.
    Submit(Submit),
    /// Names the job of an idempotency key before that job is made on another shard.
    ClaimKey {
        namespace: Namespace,
        key: Arc<str>,
        job_id: JobId,
        fingerprint: u128,
        known: Option<(JobId, u128)>,
    },
    /// What a worker did with its leases.
    Report {
        session: SessionId,
        updates: Vec<Update>,
    },
    /// Leases a worker took and leases it refused.
    Acked {
        session: SessionId,
        accepted: Vec<u64>,
        refused: Vec<u64>,
    },
    /// A worker came back and says what it holds.
    Reconcile {
        session: SessionId,
        held: Vec<Held>,
    },
    /// A session is over: its leases end.
    SessionEnd {
        session: SessionId,
    },
    /// A draining session gives back what has not started; when its time is over, all it holds.
    ReturnLeases {
        session: SessionId,
        with_started: bool,
    },
    Cancel {
        namespace: Namespace,
        job_id: JobId,
        reason: Arc<str>,
        actor: Arc<str>,
    },
    /// What somebody says about a job that waits for an approval.
    Vote(Box<Ballot>),
    /// Somebody gives their vote on it into other hands.
    Delegate(Box<HandOver>),
    /// A new job from an ended one.
    /// With [`crate::View::departed`] from before the look-ups: if they may be stale, the answer is `NotOpen`.
    RetryByHand(Box<RetryByHand>, u64),
    /// Dead letters are no longer wanted; their jobs stay, and say so.
    DeleteDeadLetters {
        /// As the store has them.
        jobs: Vec<Arc<Job>>,
        actor: Arc<str>,
    },
    /// Settings or pause of a topic changed.
    SetTopic(Arc<Topic>),
    /// The same on a loop that does not own the catalog: known, not written.
    MirrorTopic(Arc<Topic>),
    SetPolicy(Arc<Policy>),
    /// How long namespaces keep what ends from now on.
    SetRetentions(Arc<Retentions>),
    /// What a kernel elsewhere says about a job it was asked about.
    Ruled(Box<Ruled>),
    /// Credit, a slot or a start of these topics may be had again.
    Work(Vec<TopicKey>),
    /// A slot of this key was freed.
    SlotFree(LimitKey),
    /// Something is due.
    Tick,
    /// The state of an open job.
    Get {
        namespace: Namespace,
        job_id: JobId,
    },
    /// The job of an open lease.
    JobOfLease {
        session: SessionId,
        lease_id: u64,
    },
    /// A worker asks something in the middle of an attempt.
    Ask(Box<Ask>),
    /// A worker makes jobs of its job.
    Spawn(Box<Spawn>),
    /// Why an open job stands where it stands.
    Explain {
        namespace: Namespace,
        job_id: JobId,
    },
    /// A run of a workflow is to begin.
    StartRun(Box<StartRun>),
    /// A run that was left in the store while it only waited, with what it needs.
    LoadRun(Box<LoadRun>),
    /// What was worked out for a run elsewhere.
    Evaluated(Box<Evaluated>),
    CancelRun {
        namespace: Namespace,
        run_id: RunId,
        reason: Arc<str>,
        actor: Arc<str>,
    },
    SignalRun {
        namespace: Namespace,
        run_id: RunId,
        signal: Signal,
    },
    /// How an open run stands.
    GetRun {
        namespace: Namespace,
        run_id: RunId,
    },
    /// Why an open run stands where it stands.
    ExplainRun {
        namespace: Namespace,
        run_id: RunId,
    },
    /// Counters per topic, of one namespace or of all.
    Topics {
        namespace: Option<Namespace>,
    },
}

/// A run to be made. Its id is chosen by the router, so that it lands on its shard.
#[derive(Debug)]
pub struct StartRun {
    pub plea: Plea,
    pub plan: Arc<Plan>,
    pub configs: Configs,
    /// JSON; in the plea where it is short.
    pub input: Bytes,
    /// What becomes of it where its concurrency key has no place.
    pub on_conflict: OnConflict,
    /// A signal that comes with it.
    pub signal: Option<Signal>,
    /// Steps that are not done again, and what they gave.
    pub kept: Vec<KeptStep>,
    /// [`crate::View::departed`] before the store was asked whether there is such a run.
    pub looked_at: u64,
}

/// A step of an earlier run whose output a fork takes over.
#[derive(Clone, Debug)]
pub struct KeptStep {
    /// Its place among the steps of the workflow.
    pub place: u32,
    pub state: StepState,
    pub error: Option<Trouble>,
    pub attempts: u32,
    /// JSON.
    pub output: Option<Arc<str>>,
}

/// The configuration of a run, and of those of its steps that have more of it.
#[derive(Clone, Debug, Default)]
pub struct Configs {
    pub of_run: Option<Arc<Applied>>,
    pub of_steps: Arc<[(Arc<str>, Arc<Applied>)]>,
}

/// A run as the store has it, and what it needs to go on.
#[derive(Debug)]
pub struct LoadRun {
    pub run: Arc<Run>,
    pub plan: Arc<Plan>,
    pub configs: Configs,
}

/// What came of an [`Effect::Evaluate`].
#[derive(Debug)]
pub struct Evaluated {
    pub run: RunKey,
    pub site: Site,
    pub decided: Result<Decided, Box<Trouble>>,
    /// The items of the step, where they were read along with it.
    pub items: Option<(At, Arc<serde_json::Value>)>,
}

/// Something of a run that has to be worked out beside the loop: pieces are in the store, or are large.
#[derive(Clone, Debug)]
pub struct Evaluate {
    pub run: Arc<Run>,
    pub plan: Arc<Plan>,
    pub site: Site,
    /// Pieces that are at hand already.
    pub at_hand: Vec<(Piece, Bytes)>,
    pub config: Option<Arc<Applied>>,
}

/// A question of a worker, looked up and not answered before. What it is told is written down with it.
#[derive(Debug)]
pub struct Ask {
    pub session: SessionId,
    pub lease_id: u64,
    /// The answer counts only while this very job has this very lease.
    pub job: JobKey,
    /// [`crate::View::departed`] before the store was asked for a receipt: one of before a reload may have missed it.
    pub looked_at: u64,
    /// With the answer but for what only the owner of the job can say: how much of a budget is granted.
    pub receipt: Receipt,
}

/// Children of a job, asked for by its worker. All are made, or none.
#[derive(Debug)]
pub struct Spawn {
    pub ask: Ask,
    /// Unique among what the job spawns, over all its attempts.
    pub name: Arc<str>,
    pub children: Vec<Child>,
    /// They are cancelled when the job ends otherwise than SUCCEEDED.
    pub close_with_parent: bool,
}

#[derive(Debug)]
pub struct Child {
    pub spec: Arc<Spec>,
    /// The configuration in force where it belongs; none where there is none.
    pub config: Option<Arc<Applied>>,
}

/// New jobs of one request. Ids are chosen by the router, so that every job lands on its shard.
#[derive(Debug)]
pub struct Submit {
    pub namespace: Namespace,
    pub actor: Option<Box<str>>,
    pub items: Vec<NewJob>,
    /// [`crate::View::departed`] before the store was asked for `known`; lets the kernel see that the answer is stale.
    pub looked_at: u64,
}

/// The answer of a kernel elsewhere. It counts only while the job stands where it stood when it was asked about.
#[derive(Debug)]
pub struct Ruled {
    pub key: JobKey,
    pub revision: u64,
    pub answer: Answer,
}

/// One job to be made.
#[derive(Debug)]
pub struct NewJob {
    pub id: JobId,
    pub spec: Arc<Spec>,
    /// Where the id comes from, which decides what a repeat means.
    pub origin: Origin,
    /// The job that the store has under this id or key, with the fingerprint of its request.
    pub known: Option<(Arc<Job>, u128)>,
    pub retry_of: Option<JobId>,
    /// The configuration in force where it belongs; none where there is none.
    pub config: Option<Arc<Applied>>,
    /// Where it stands among jobs that jobs made, if it does.
    pub family: Option<Box<Family>>,
    /// Its place in a run, if it is a step of one.
    pub of_run: Option<Box<OfRun>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Made by the server at random: never met before.
    Fresh,
    /// Derived from the request id, or chosen by the client: a repeat finds the first job.
    Derived,
    Chosen,
    /// Made by the server for an idempotency key.
    Keyed,
}

/// One thing a worker says about a lease.
#[derive(Debug)]
pub struct Update {
    pub lease: LeaseRef,
    pub kind: UpdateKind,
    /// What was used since the last update that said so.
    pub usage: Option<Box<Usage>>,
}

/// How a worker names a lease.
#[derive(Clone, Debug)]
pub enum LeaseRef {
    /// By the short id of its session.
    Id(u64),
    /// By the job and fence inside a verified token.
    Token { job: JobKey, serial: u32 },
}

#[derive(Debug)]
pub enum UpdateKind {
    Started,
    Progress { fraction: f64, message: Arc<str>, attributes: Vec<(Arc<str>, Arc<str>)> },
    Checkpoint(Payload),
    Succeeded(Payload),
    Failed { failure: Box<Failure>, retry: Directive },
    Cancelled,
    Released { checkpoint: Option<Payload> },
}

/// What the worker wants done after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directive {
    Default,
    NoRetry,
    After(Span),
}

/// A lease a returning worker says it holds.
#[derive(Clone, Debug)]
pub struct Held {
    pub lease_id: u64,
    pub job: JobKey,
    pub serial: u32,
    /// The work is done and its report was not acknowledged.
    pub is_finished: bool,
}

/// A vote on the round of approval that is asked about.
#[derive(Debug)]
pub struct Ballot {
    pub namespace: Namespace,
    pub id: ApprovalId,
    pub voter: Voter,
    pub choice: Choice,
    pub comment: Arc<str>,
    /// Approved with this input in the place of the one asked about.
    pub edited: Option<Payload>,
}

#[derive(Debug)]
pub struct HandOver {
    pub namespace: Namespace,
    pub id: ApprovalId,
    pub voter: Voter,
    pub to: Arc<str>,
    pub comment: Arc<str>,
}

#[derive(Debug)]
pub struct RetryByHand {
    /// The ended job as the store has it.
    pub old: Arc<Job>,
    pub new_id: JobId,
    pub edited: Option<Payload>,
    pub actor: Option<Box<str>>,
    /// The job that already has `new_id`.
    pub known: Option<Arc<Job>>,
    /// Makes nothing if the job was retried under another id before.
    pub only_first: bool,
    /// The configuration in force for the new job.
    pub config: Option<Arc<Applied>>,
}

/// The answer to an input.
#[derive(Debug)]
pub enum Reply {
    None,
    Submitted(Vec<Result<Submitted, Refusal>>),
    /// The job a key names, and the fingerprint of its request.
    KeyNames(JobId, u128),
    /// The look-up that came with the submit is stale: ask the store again.
    LookAgain(Submit),
    /// By index of the update.
    Reported(Vec<Rejected>),
    Reconciled(Reconciled),
    Job(Result<Arc<Job>, Refusal>),
    /// The newest round of the job's approval.
    Approval(Result<Arc<Approval>, Refusal>),
    /// The job is not open here, or this round of its approval is over.
    NotOpen,
    /// What the worker is told; none if the receipt must be looked for again.
    Told(Option<Result<Told, Refusal>>),
    Explained(Explanation),
    /// A run that was made, or met (true).
    Started(Result<(Arc<Run>, bool), Refusal>),
    Run(Result<Arc<Run>, Refusal>),
    /// The run is open and not in memory: it has to be loaded, then asked again.
    RunAway,
    /// The look-up that came with a start is stale: ask the store again.
    StartAgain(Box<StartRun>),
    /// How many of the dead letters there were to delete.
    Deleted(usize),
    Topics(Vec<TopicCounts>),
}

#[derive(Debug)]
pub struct Submitted {
    pub key: JobKey,
    /// The job an earlier request made; absent for a new one, whose record is whatever the group leaves.
    pub existing: Option<Arc<Job>>,
}

/// An update that was not applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    pub index: usize,
    pub code: RejectCode,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectCode {
    StaleLease,
    /// The job is being cancelled; stop working on it.
    Cancelled,
    TooLarge,
}

/// What became of the leases of a returning worker.
#[derive(Clone, Debug, Default)]
pub struct Reconciled {
    pub verdicts: Vec<(u64, Verdict)>,
    /// Leases the worker never got; their jobs wait again.
    pub unknown_to_worker: Vec<u64>,
    /// Leases it keeps, per lane.
    pub kept: Vec<(u64, Arc<str>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Keep,
    Cancel,
    Lost,
    AlreadyTerminal,
    ResendResult,
}

/// Why a job stands where it stands.
#[derive(Clone, Debug, Default)]
pub struct Explanation {
    pub summary: String,
    pub causes: Vec<Cause>,
}

#[derive(Clone, Debug)]
pub struct Cause {
    pub kind: &'static str,
    pub message: String,
    pub holders: Vec<String>,
    pub eta: Option<coretex_domain::Time>,
}

/// Open jobs of a topic.
#[derive(Clone, Debug)]
pub struct TopicCounts {
    pub topic: TopicKey,
    pub by_state: [u64; 13],
    pub oldest_ready: Option<coretex_domain::Time>,
}

/// What is to be written; one group of these commits together.
#[derive(Clone, Debug)]
pub enum Write {
    Job {
        job: Arc<Job>,
        fresh: u32,
    },
    Key {
        namespace: Namespace,
        key: Arc<str>,
        job_id: JobId,
        fingerprint: u128,
    },
    DeadLetter(Arc<DeadLetter>),
    DeadLetterEnd {
        namespace: Namespace,
        job_id: JobId,
    },
    Topic(Arc<Topic>),
    /// As it is after the group; one per round.
    Approval(Arc<Approval>),
    /// A named thing that belongs to a job.
    Resource(Arc<Resource>),
    /// A run after its last `fresh` history entries.
    Run {
        run: Arc<Run>,
        fresh: u32,
    },
}

/// What is to be done once the group is committed.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Hand a lease to a worker. The job is as the group left it.
    Deliver { session: SessionId, lane_id: Arc<str>, lease_id: u64, job: Arc<Job> },
    /// Tell a worker to stop a lease.
    Stop { session: SessionId, lease_id: u64, why: Stop },
    /// A lease was closed: free what it held.
    Closed(Closed),
    /// Ask the policy kernel elsewhere about a job.
    Judge(Arc<Job>),
    /// Work out something of a run.
    Evaluate(Box<Evaluate>),
    /// Bring a run back that waited in the store.
    LoadRun { namespace: Namespace, run_id: RunId },
    /// Cancel a run that is not in memory, because a newer one takes its place.
    CancelRun { namespace: Namespace, run_id: RunId },
    /// A run gave its place back.
    FreeSlot(LimitKey, Holder),
    /// Events for watchers come from the writes; this tells waiters that a job has ended.
    Ended(Arc<Job>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    Cancel {
        reason: Arc<str>,
    },
    TimedOut,
    Stalled,
    /// The job's attempts used up what they may.
    OverBudget,
    /// The worker leaves and did not finish in time: the job goes on elsewhere.
    Drained,
    /// Not started yet, and not wanted any more.
    Reclaim,
}

/// What a closed lease held.
#[derive(Clone, Debug)]
pub struct Closed {
    pub topic: TopicKey,
    pub session: SessionId,
    pub lane_id: Arc<str>,
    pub lease_id: u64,
    pub slot: Option<(LimitKey, Holder)>,
    /// That of its rule, which few jobs have.
    pub rule_slot: Option<Box<(LimitKey, Holder)>>,
}

impl Closed {
    /// Every slot it held.
    pub fn slots(&self) -> impl Iterator<Item = &(LimitKey, Holder)> {
        self.slot.iter().chain(self.rule_slot.as_deref())
    }
}
