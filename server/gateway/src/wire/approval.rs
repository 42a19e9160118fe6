//! Approvals to the wire.

use super::time::timestamp;
use coretex_contract::v1 as pb;
use coretex_domain::approval::{Approval, ApprovalState, Choice, Delegation, Vote};
use coretex_domain::policy::OnExpiry;

pub(crate) fn write(approval: &Approval) -> pb::Approval {
    let terms = &approval.terms;
    pb::Approval {
        approval_id: approval.id().to_string(),
        job_id: approval.job_id.to_string(),
        namespace: approval.namespace.to_string(),
        topic: approval.topic.to_string(),
        state: state(approval.state).into(),
        requester: approval.requester.to_string(),
        round: approval.round,
        approvers: terms.approvers.iter().map(ToString::to_string).collect(),
        quorum: terms.quorum,
        on_expiry: on_expiry(terms.on_expiry).into(),
        requester_may_approve: terms.requester_may_approve,
        policy: approval.policy.to_string(),
        rule_id: approval.rule_id.to_string(),
        reason: approval.reason.to_string(),
        policy_version: approval.policy_version.to_string(),
        spec_hash: format!("{:032x}", approval.spec_hash),
        votes: approval.votes.iter().map(vote).collect(),
        delegations: approval.delegations.iter().map(delegation).collect(),
        approvals: u32::try_from(approval.approvers().len()).unwrap_or(u32::MAX),
        create_time: Some(timestamp(approval.create_time)),
        expire_time: Some(timestamp(approval.expire_time)),
        decide_time: approval.decide_time.map(timestamp),
        note: approval.note.to_string(),
        input_edited: approval.is_edited,
        revision: approval.revision,
    }
}

fn vote(vote: &Vote) -> pb::ApprovalVote {
    let choice = match vote.choice {
        Choice::Approve => pb::ApprovalChoice::Approve,
        Choice::Reject => pb::ApprovalChoice::Reject,
    };
    pb::ApprovalVote {
        actor: vote.actor.to_string(),
        choice: choice.into(),
        comment: vote.comment.to_string(),
        time: Some(timestamp(vote.time)),
        on_behalf_of: vote.on_behalf_of.as_deref().unwrap_or_default().to_owned(),
        with_edit: vote.is_edit,
    }
}

fn delegation(one: &Delegation) -> pb::ApprovalDelegation {
    pb::ApprovalDelegation {
        from: one.from.to_string(),
        to: one.to.to_string(),
        comment: one.comment.to_string(),
        time: Some(timestamp(one.time)),
    }
}

fn state(state: ApprovalState) -> pb::ApprovalState {
    match state {
        ApprovalState::Pending => pb::ApprovalState::Pending,
        ApprovalState::Approved => pb::ApprovalState::Approved,
        ApprovalState::Rejected => pb::ApprovalState::Rejected,
        ApprovalState::Expired => pb::ApprovalState::Expired,
        ApprovalState::Voided => pb::ApprovalState::Voided,
        ApprovalState::Cancelled => pb::ApprovalState::Cancelled,
    }
}

fn on_expiry(end: OnExpiry) -> pb::ApprovalExpiry {
    match end {
        OnExpiry::Reject => pb::ApprovalExpiry::Reject,
        OnExpiry::Approve => pb::ApprovalExpiry::Approve,
    }
}
