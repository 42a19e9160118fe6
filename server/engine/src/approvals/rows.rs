//! Approvals as resources: live while people are asked, kept for a while once they are over.

use coretex_domain::approval::{Approval, ApprovalId, ApprovalState, Choice, Delegation, Vote};
use coretex_domain::limits::APPROVAL_RETENTION;
use coretex_domain::policy::{ApprovalTerms, OnExpiry};
use coretex_domain::resource::{Kind, Resource};
use coretex_domain::{Reason, Refusal, Span, Time};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// What the body holds beside the head.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    topic: Arc<str>,
    requester: Arc<str>,
    state: String,
    policy: Arc<str>,
    rule_id: Arc<str>,
    reason: Arc<str>,
    policy_version: u64,
    spec_hash: String,
    terms: TermsBody,
    votes: Vec<VoteBody>,
    delegations: Vec<DelegationBody>,
    expire_time: u64,
    decide_time: Option<u64>,
    note: Arc<str>,
    is_edited: bool,
}

#[derive(Deserialize)]
#[serde(default)]
struct TermsBody {
    approvers: Vec<Arc<str>>,
    quorum: u32,
    expires: u64,
    on_expiry: String,
    requester_may_approve: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct VoteBody {
    actor: Arc<str>,
    choice: String,
    comment: Arc<str>,
    time: u64,
    on_behalf_of: Option<Arc<str>>,
    is_edit: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DelegationBody {
    from: Arc<str>,
    to: Arc<str>,
    comment: Arc<str>,
    time: u64,
}

impl Default for TermsBody {
    fn default() -> TermsBody {
        let terms = ApprovalTerms::default();
        TermsBody {
            approvers: terms.approvers,
            quorum: terms.quorum,
            expires: terms.expires.0,
            on_expiry: terms.on_expiry.word().into(),
            requester_may_approve: terms.requester_may_approve,
        }
    }
}

fn body(approval: &Approval) -> Value {
    let vote = |vote: &Vote| {
        json!({
            "actor": vote.actor,
            "choice": choice_word(vote.choice),
            "comment": vote.comment,
            "time": vote.time.0,
            "on_behalf_of": vote.on_behalf_of,
            "is_edit": vote.is_edit,
        })
    };
    let delegation = |one: &Delegation| json!({"from": one.from, "to": one.to, "comment": one.comment, "time": one.time.0});
    let terms = &approval.terms;
    json!({
        "topic": approval.topic,
        "requester": approval.requester,
        "state": approval.state.name(),
        "policy": approval.policy,
        "rule_id": approval.rule_id,
        "reason": approval.reason,
        "policy_version": approval.policy_version,
        "spec_hash": format!("{:032x}", approval.spec_hash),
        "terms": {
            "approvers": terms.approvers,
            "quorum": terms.quorum,
            "expires": terms.expires.0,
            "on_expiry": terms.on_expiry.word(),
            "requester_may_approve": terms.requester_may_approve,
        },
        "votes": approval.votes.iter().map(vote).collect::<Vec<_>>(),
        "delegations": approval.delegations.iter().map(delegation).collect::<Vec<_>>(),
        "expire_time": approval.expire_time.0,
        "decide_time": approval.decide_time.map(|time| time.0),
        "note": approval.note,
        "is_edited": approval.is_edited,
    })
}

/// The row of an approval as it stands.
pub(crate) fn row(approval: &Approval, now: Time) -> Resource {
    Resource {
        kind: Kind::Approval,
        namespace: approval.namespace.clone(),
        name: approval.id().to_string().into(),
        shard: approval.shard,
        revision: approval.revision,
        is_live: approval.is_pending(),
        create_time: approval.create_time,
        update_time: now,
        expire_time: approval.decide_time.map(|ended| ended + APPROVAL_RETENTION),
        body: body(approval).to_string().into_bytes().into(),
    }
}

/// The approval of a row.
pub(super) fn read(one: &Resource) -> Result<Approval, Refusal> {
    let corrupt = |what: &dyn std::fmt::Display| {
        Refusal::new(Reason::DataCorruption, format!("{} {}: {what}", one.kind, one.name))
    };
    let id = ApprovalId::parse(&one.name).map_err(|fault| corrupt(&fault.0))?;
    let body: Body = serde_json::from_slice(&one.body).map_err(|error| corrupt(&error))?;
    let state = ApprovalState::from_name(&body.state).ok_or_else(|| corrupt(&"an unknown state"))?;
    let spec_hash = u128::from_str_radix(&body.spec_hash, 16).map_err(|error| corrupt(&error))?;
    let on_expiry =
        [OnExpiry::Reject, OnExpiry::Approve].into_iter().find(|w| w.word() == body.terms.on_expiry);
    let votes = body.votes.into_iter().map(vote_of).collect::<Option<_>>();
    Ok(Approval {
        job_id: id.job_id,
        namespace: one.namespace.clone(),
        shard: one.shard,
        topic: body.topic,
        requester: body.requester,
        round: id.round,
        state,
        terms: ApprovalTerms {
            approvers: body.terms.approvers,
            quorum: body.terms.quorum,
            expires: Span(body.terms.expires),
            on_expiry: on_expiry.ok_or_else(|| corrupt(&"an unknown end"))?,
            requester_may_approve: body.terms.requester_may_approve,
        },
        policy: body.policy,
        rule_id: body.rule_id,
        reason: body.reason,
        policy_version: body.policy_version,
        spec_hash,
        votes: votes.ok_or_else(|| corrupt(&"an unknown vote"))?,
        delegations: body
            .delegations
            .into_iter()
            .map(|one| Delegation { from: one.from, to: one.to, comment: one.comment, time: Time(one.time) })
            .collect(),
        create_time: one.create_time,
        expire_time: Time(body.expire_time),
        decide_time: body.decide_time.map(Time),
        note: body.note,
        is_edited: body.is_edited,
        revision: one.revision,
    })
}

fn vote_of(vote: VoteBody) -> Option<Vote> {
    let choice =
        [Choice::Approve, Choice::Reject].into_iter().find(|one| choice_word(*one) == vote.choice)?;
    Some(Vote {
        actor: vote.actor,
        choice,
        comment: vote.comment,
        time: Time(vote.time),
        on_behalf_of: vote.on_behalf_of,
        is_edit: vote.is_edit,
    })
}

fn choice_word(choice: Choice) -> &'static str {
    match choice {
        Choice::Approve => "approve",
        Choice::Reject => "reject",
    }
}

/// The open approvals among what a claim found. One that cannot be read is asked for anew, without its votes.
pub(crate) fn pending(resources: &[Arc<Resource>]) -> Vec<Arc<Approval>> {
    let approvals = resources.iter().filter(|one| one.kind == Kind::Approval);
    let readable = |one: &Arc<Resource>| match read(one) {
        Ok(approval) => Some(Arc::new(approval)),
        Err(refusal) => {
            tracing::error!(%refusal, "an approval cannot be read; its votes are asked for again");
            None
        }
    };
    approvals.filter_map(readable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use coretex_domain::{JobId, Namespace, ShardId};

    #[test]
    fn a_row_reads_back_as_it_was_written() {
        let vote = |choice, on_behalf_of: Option<&str>| Vote {
            actor: "bob".into(),
            choice,
            comment: "se\"en".into(),
            time: Time(8),
            on_behalf_of: on_behalf_of.map(Into::into),
            is_edit: on_behalf_of.is_none(),
        };
        let mut approval = Approval {
            job_id: JobId::Named("order_7".into()),
            namespace: Namespace::new("default"),
            shard: ShardId(9),
            topic: "job.mail".into(),
            requester: "ann".into(),
            round: 3,
            state: ApprovalState::Pending,
            terms: ApprovalTerms {
                approvers: vec!["bob".into()],
                on_expiry: OnExpiry::Approve,
                ..Default::default()
            },
            policy: "house".into(),
            rule_id: "four-eyes".into(),
            reason: "look first".into(),
            policy_version: u64::MAX,
            spec_hash: u128::MAX - 7,
            votes: vec![vote(Choice::Approve, Some("cid")), vote(Choice::Reject, None)],
            delegations: vec![Delegation {
                from: "cid".into(),
                to: "bob".into(),
                comment: "".into(),
                time: Time(7),
            }],
            create_time: Time(5),
            expire_time: Time(50),
            decide_time: None,
            note: "".into(),
            is_edited: true,
            revision: 4,
        };
        let live = row(&approval, Time(8));
        assert!(live.is_live && live.expire_time.is_none() && &*live.name == "apr_3_order_7");
        assert_eq!(read(&live), Ok(approval.clone()));
        approval.end(ApprovalState::Approved, "by bob", Time(9));
        let ended = row(&approval, Time(9));
        assert!(!ended.is_live && ended.expire_time == Some(Time(9) + APPROVAL_RETENTION));
        assert_eq!(read(&ended), Ok(approval));
        let broken = Resource { body: b"{}"[..].into(), ..ended };
        assert_eq!(read(&broken).map_err(|refusal| refusal.reason), Err(Reason::DataCorruption));
        assert!(pending(&[Arc::new(broken)]).is_empty());
    }
}
