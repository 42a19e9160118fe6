//! What questions to people promise: one decision each, by the votes it needs, about what is in force.

use super::Oracle;
use crate::store::SimStore;
use coretex_domain::approval::{Approval, ApprovalState, Choice};
use coretex_domain::job::{Event, EventKind, Grounds, Job, StateKind};
use coretex_domain::{JobKey, Time};
use coretex_ports::{Group, Write};
use rustc_hash::FxHashSet;
use std::sync::Arc;

impl Oracle {
    /// `store` is as it was before the group.
    pub(super) fn check_approvals(&mut self, store: &SimStore, group: &Group) {
        let mut written: Vec<&Arc<Approval>> = Vec::new();
        for write in &group.writes {
            let Write::Resource(row) = write else { continue };
            let Some(approval) = store.approval_in(row) else { continue };
            if let Some(old) = store.approvals.get(&(approval.key(), approval.round))
                && (!old.is_pending() || old.revision >= approval.revision)
            {
                let id = approval.id();
                self.violate("APPROVAL", || format!("{id} was changed after its end, or twice: {old:?}"));
            }
            self.check_votes(approval);
            written.push(approval);
        }
        let find = |key: JobKey, round: u32| {
            let here = written.iter().rev().find(|one| one.key() == key && one.round == round);
            here.copied().or_else(|| store.approvals.get(&(key, round)))
        };
        for write in &group.writes {
            let Write::Job { job, fresh } = write else { continue };
            self.check_silence(job, *fresh as usize, |round| find(job.key(), round));
            let rounds = job.approval_round();
            let from = job.history.len().saturating_sub(*fresh as usize);
            let is_touched = |kind: EventKind| {
                kind == EventKind::ApprovalRequested
                    || (rounds > 0
                        && matches!(
                            kind,
                            EventKind::Approved | EventKind::ApprovalVoided | EventKind::Denied
                        ))
            };
            let is_asked = job.state.kind() == StateKind::AwaitingApproval;
            if rounds == 0 || !(is_asked || job.history[from..].iter().any(|e| is_touched(e.event.kind()))) {
                continue;
            }
            match find(job.key(), rounds) {
                Some(approval) => self.check_question(job, approval),
                None => {
                    self.violate("APPROVAL", || format!("job {}: round {rounds} was not written", job.id))
                }
            }
        }
    }

    /// The newest question about a job, after a group that has both.
    fn check_question(&mut self, job: &Job, approval: &Approval) {
        let (id, state) = (approval.id(), job.state.kind());
        if approval.is_pending() != (state == StateKind::AwaitingApproval) {
            let is = approval.state.name();
            return self.violate("APPROVAL", || format!("{id} is {is} while its job is {}", state.name()));
        }
        if approval.is_pending() && approval.spec_hash != job.spec.fingerprint() {
            self.violate("I-15", || format!("{id} asks about another input than its job has"));
        }
    }

    /// Time decides when it is over, and not before (I-21).
    fn check_silence<'a>(
        &mut self,
        job: &Job,
        fresh: usize,
        find: impl Fn(u32) -> Option<&'a Arc<Approval>>,
    ) {
        let (mut round, mut asked) = (0, Time(0));
        let from = job.history.len().saturating_sub(fresh);
        for (n, entry) in job.history.iter().enumerate() {
            let ruling = match &entry.event {
                Event::ApprovalRequested => {
                    (round, asked) = (round + 1, entry.time);
                    continue;
                }
                Event::Approved { ruling, .. } | Event::Denied(ruling) => ruling.as_deref(),
                _ => continue,
            };
            let is_silence = n >= from && ruling.is_some_and(|r| r.grounds == Grounds::Expiry);
            if is_silence && find(round).is_none_or(|approval| entry.time < asked + approval.terms.expires) {
                self.violate("I-21", || format!("round {round} of job {} expired early", job.id));
            }
        }
    }

    /// Whose votes stand in it, and whether they are enough for what it came to.
    fn check_votes(&mut self, approval: &Approval) {
        let yes = || approval.votes.iter().filter(|vote| vote.choice == Choice::Approve);
        let actors: FxHashSet<&Arc<str>> = yes().map(|vote| &vote.actor).collect();
        let principals: FxHashSet<&Arc<str>> = yes().map(|vote| vote.principal()).collect();
        let enough = actors.len().min(principals.len()) >= approval.terms.quorum as usize;
        let (id, terms) = (approval.id(), &approval.terms);
        if approval.state == ApprovalState::Approved && !enough {
            let votes = &approval.votes;
            self.violate("APPROVAL", || format!("{id} was approved by too few: {votes:?} for {terms:?}"));
        }
        // Whoever said yes may still propose another input, which is the end of the round.
        if yes().filter(|vote| !vote.is_edit).count() > actors.len() {
            self.violate("APPROVAL", || format!("{id} counts somebody twice: {:?}", approval.votes));
        }
        if !terms.requester_may_approve && yes().any(|vote| *vote.actor == *approval.requester) {
            self.violate("APPROVAL", || format!("{id} was approved by whoever asked for it"));
        }
        let is_named = |name: &Arc<str>| terms.approvers.is_empty() || terms.approvers.contains(name);
        if let Some(stranger) = approval.votes.iter().find(|vote| !is_named(vote.principal())) {
            self.violate("APPROVAL", || format!("{id} has a vote of {}, who was not asked", stranger.actor));
        }
    }

    /// What people say counts for the policy they were asked under, and for no other (I-15).
    pub(super) fn check_bound(&mut self, version: u64, job: &Job, fresh: usize) {
        let from = job.history.len().saturating_sub(fresh);
        let by_votes = |entry: &coretex_domain::job::Entry| match &entry.event {
            Event::Approved { ruling: Some(ruling), .. } => ruling.grounds == Grounds::Votes,
            _ => false,
        };
        // Policies change before votes are taken in, so that a job is not judged again in the turn of its last vote.
        let last = job.history[from..].iter().rev().find(|entry| {
            matches!(
                entry.event.kind(),
                EventKind::Approved
                    | EventKind::Admitted
                    | EventKind::Rejudged
                    | EventKind::ApprovalRequested
            )
        });
        let mut pairs = job.history[from..].windows(2);
        let is_judged_again =
            pairs.any(|two| by_votes(&two[0]) && two[1].event.kind() == EventKind::Rejudged);
        let under = job.decision.as_ref().map(|decision| decision.policy_version);
        if is_judged_again || (last.is_some_and(by_votes) && under != Some(version)) {
            self.violate("I-15", || {
                format!("job {} was approved under policy {under:?}, {version} is in force", job.id)
            });
        }
    }
}

/// True if the answer of people stands behind a verdict that asked for it.
pub(super) fn is_answered(job: &Job) -> bool {
    let last = job.history.iter().rev().find(|entry| {
        matches!(entry.event.kind(), EventKind::Approved | EventKind::ApprovalRequested | EventKind::Rejudged)
    });
    last.is_some_and(|entry| entry.event.kind() == EventKind::Approved)
}
