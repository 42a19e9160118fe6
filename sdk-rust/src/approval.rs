//! Questions to people about jobs, as the server shows them.

use crate::job::{Job, Warning};
use crate::names::{ApprovalChoice, ApprovalExpiry, ApprovalState};
use crate::raw::pb;
use crate::time::of_stamp;
use std::time::SystemTime;

/// A question to people about one job.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Approval {
    /// Its id.
    pub approval_id: String,
    /// The job.
    pub job_id: String,
    /// Namespace of both.
    pub namespace: String,
    /// Topic of the job.
    pub topic: String,
    /// Where it stands.
    pub state: ApprovalState,
    /// Who submitted the job.
    pub requester: String,
    /// How often people were asked about this job.
    pub round: u32,
    /// Who may decide: names or roles. Empty: whoever may decide approvals.
    pub approvers: Vec<String>,
    /// How many different people must say yes.
    pub quorum: u32,
    /// How many have.
    pub approvals: u32,
    /// What silence means.
    pub on_expiry: ApprovalExpiry,
    /// Whether the requester may say yes as well.
    pub requester_may_approve: bool,
    /// Policy whose rule asks.
    pub policy: String,
    /// The rule.
    pub rule_id: String,
    /// Its reason.
    pub reason: String,
    /// The policies in force when it was asked.
    pub policy_version: String,
    /// Hash of the spec that was asked about.
    pub spec_hash: String,
    /// What people said, in order.
    pub votes: Vec<ApprovalVote>,
    /// Votes that were given into other hands.
    pub delegations: Vec<ApprovalDelegation>,
    /// When it was asked.
    pub create_time: Option<SystemTime>,
    /// When it ends without a decision.
    pub expire_time: Option<SystemTime>,
    /// When it ended.
    pub decide_time: Option<SystemTime>,
    /// How it ended, in words.
    pub note: String,
    /// Whether the input asked about is another one than was submitted.
    pub input_edited: bool,
    /// Rises by one with each change.
    pub revision: u64,
}

/// What somebody said.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ApprovalVote {
    /// Who. Empty: anonymous.
    pub actor: String,
    /// What.
    pub choice: ApprovalChoice,
    /// Why.
    pub comment: String,
    /// When.
    pub time: Option<SystemTime>,
    /// Whose vote it is. Empty: the actor's own.
    pub on_behalf_of: String,
    /// Whether it came with another input.
    pub with_edit: bool,
}

/// A vote given into other hands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ApprovalDelegation {
    /// Whose vote.
    pub from: String,
    /// Whose hands.
    pub to: String,
    /// Why.
    pub comment: String,
    /// When.
    pub time: Option<SystemTime>,
}

/// What a yes or no came to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Decided {
    /// The newest round.
    pub approval: Approval,
    /// The job, in short, as far as it is kept.
    pub job: Option<Job>,
    /// What the caller should know.
    pub warnings: Vec<Warning>,
}

impl Approval {
    pub(crate) fn from_pb(one: pb::Approval) -> Self {
        let vote = |vote: pb::ApprovalVote| ApprovalVote {
            actor: vote.actor,
            choice: ApprovalChoice::of(vote.choice),
            comment: vote.comment,
            time: of_stamp(vote.time),
            on_behalf_of: vote.on_behalf_of,
            with_edit: vote.with_edit,
        };
        let delegation = |one: pb::ApprovalDelegation| ApprovalDelegation {
            from: one.from,
            to: one.to,
            comment: one.comment,
            time: of_stamp(one.time),
        };
        Self {
            approval_id: one.approval_id,
            job_id: one.job_id,
            namespace: one.namespace,
            topic: one.topic,
            state: ApprovalState::of(one.state),
            requester: one.requester,
            round: one.round,
            approvers: one.approvers,
            quorum: one.quorum,
            approvals: one.approvals,
            on_expiry: ApprovalExpiry::of(one.on_expiry),
            requester_may_approve: one.requester_may_approve,
            policy: one.policy,
            rule_id: one.rule_id,
            reason: one.reason,
            policy_version: one.policy_version,
            spec_hash: one.spec_hash,
            votes: one.votes.into_iter().map(vote).collect(),
            delegations: one.delegations.into_iter().map(delegation).collect(),
            create_time: of_stamp(one.create_time),
            expire_time: of_stamp(one.expire_time),
            decide_time: of_stamp(one.decide_time),
            note: one.note,
            input_edited: one.input_edited,
            revision: one.revision,
        }
    }
}
