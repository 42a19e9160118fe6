//! Approvals: votes, delegations and the passing of time in; a job that goes on, is denied, or waits on out.
//!
//! Refuses: who may not decide, and what comes after the end. Votes below the quorum change the approval only. An
//! approval opens and ends in the turn in which its job enters and leaves AWAITING_APPROVAL: [`follow`] sees to it.

use super::admit;
use crate::input::{Ballot, HandOver, Reply};
use crate::mutant::Mutant;
use crate::path::settle::{close_with, plain_failure};
use crate::{Dispatcher, Turn, View};
use coretex_domain::approval::{Approval, ApprovalId, ApprovalState, Cast, Choice, Vote, Voter};
use coretex_domain::job::{Event, Grounds, Ruling, State};
use coretex_domain::policy::OnExpiry;
use coretex_domain::{JobKey, Namespace, Payload, Refusal};
use std::sync::Arc;

pub(crate) fn vote(view: &mut View, dispatcher: &mut Dispatcher, ballot: Ballot, turn: &mut Turn) -> Reply {
    let Some(key) = open(view, dispatcher, &ballot.namespace, &ballot.id, turn) else {
        return Reply::NotOpen;
    };
    let Ballot { voter, choice, comment, edited, .. } = ballot;
    let edited = edited.filter(|input| view.job(key).is_some_and(|job| job.spec.payload != *input));
    let vote = Vote {
        actor: voter.name.clone(),
        choice,
        comment,
        time: turn.now.wall,
        on_behalf_of: None,
        is_edit: edited.is_some(),
    };
    match cast(view, key, &voter, vote.clone(), turn) {
        Err(refusal) => return Reply::Approval(Err(refusal)),
        Ok(Cast::Repeat) => return newest(view, key, turn),
        Ok(Cast::Counted) => {}
    }
    match (choice, edited) {
        (Choice::Reject, _) => {
            let ruling = Ruling { grounds: Grounds::Votes, by: vec![voter.name], comment: vote.comment };
            deny(view, key, "APPROVAL_REJECTED", ruling, turn);
        }
        (Choice::Approve, Some(input)) => edit(view, dispatcher, key, &voter, vote, input, turn),
        (Choice::Approve, None) => approve(view, key, turn),
    }
    newest(view, key, turn)
}

pub(crate) fn delegate(
    view: &mut View,
    dispatcher: &mut Dispatcher,
    hand_over: HandOver,
    turn: &mut Turn,
) -> Reply {
    let HandOver { namespace, id, voter, to, comment } = hand_over;
    let Some(key) = open(view, dispatcher, &namespace, &id, turn) else { return Reply::NotOpen };
    let now = turn.now.wall;
    match change(view, key, turn, |approval| approval.delegate(&voter, to, comment, now)) {
        Err(refusal) => Reply::Approval(Err(refusal)),
        Ok(_) => newest(view, key, turn),
    }
}

/// The job whose approval this is, if that is open and still the question to answer.
fn open(
    view: &mut View,
    dispatcher: &mut Dispatcher,
    namespace: &Namespace,
    id: &ApprovalId,
    turn: &mut Turn,
) -> Option<JobKey> {
    let job = view.look(namespace, &id.job_id)?.clone();
    let key = job.key();
    let approval = view.approvals.get(&key).filter(|approval| approval.round == id.round)?;
    if turn.now.wall >= approval.expire_time {
        drop(job);
        expire(view, key, turn);
        return None;
    }
    let is_same =
        approval.policy_version == view.policy.version && approval.spec_hash == job.spec.fingerprint();
    if !is_same && !view.is_planted(Mutant::ApprovalNotBound) {
        drop(job);
        void(view, key, turn);
        admit::admit(view, dispatcher, key, turn);
        return None;
    }
    Some(key)
}

fn change(
    view: &mut View,
    key: JobKey,
    turn: &mut Turn,
    change: impl FnOnce(&mut Approval) -> Result<Cast, Refusal>,
) -> Result<Cast, Refusal> {
    let Some(approval) = view.approvals.get_mut(&key) else { return Ok(Cast::Repeat) };
    let cast = change(Arc::make_mut(approval))?;
    if cast == Cast::Counted {
        turn.record(approval.clone());
    }
    Ok(cast)
}

fn cast(view: &mut View, key: JobKey, voter: &Voter, vote: Vote, turn: &mut Turn) -> Result<Cast, Refusal> {
    let is_planted = view.is_planted(Mutant::VoteCountedTwice);
    change(view, key, turn, |approval| {
        let again = vote.clone();
        match approval.cast(voter, vote)? {
            Cast::Repeat if is_planted => {
                let principal = format!("{}+{}", again.actor, approval.votes.len()).into();
                approval.votes.push(Vote { on_behalf_of: Some(principal), ..again });
                approval.revision += 1;
                Ok(Cast::Counted)
            }
            cast => Ok(cast),
        }
    })
}

/// Lets the job go on if enough people said yes.
fn approve(view: &mut View, key: JobKey, turn: &mut Turn) {
    let Some(approval) = view.approvals.get(&key).filter(|approval| approval.has_quorum()) else { return };
    let yes = approval.votes.iter().filter(|vote| vote.choice == Choice::Approve);
    let by = yes.map(|vote| vote.actor.clone()).collect();
    let comment = approval.votes.last().map_or_else(|| "".into(), |vote| vote.comment.clone());
    go_on(view, key, Ruling { grounds: Grounds::Votes, by, comment }, turn);
}

fn go_on(view: &mut View, key: JobKey, ruling: Ruling, turn: &mut Turn) {
    let Some(job) = view.job(key).cloned() else { return };
    let place = admit::place_of(view, &job, turn);
    drop(job);
    view.apply(key, Event::Approved { place, ruling: Some(Box::new(ruling)) }, turn);
}

fn deny(view: &mut View, key: JobKey, kind: &str, ruling: Ruling, turn: &mut Turn) {
    let failure = plain_failure(kind, &ruling.to_string(), false);
    let event = Event::Denied(Some(Box::new(ruling)));
    close_with(view, key, event, turn, |job| job.rare_mut().failure = Some(failure));
}

/// Another input makes another question: the policy is asked at once, and if it asks people again, the vote of
/// whoever edited is the first.
fn edit(
    view: &mut View,
    dispatcher: &mut Dispatcher,
    key: JobKey,
    voter: &Voter,
    vote: Vote,
    input: Payload,
    turn: &mut Turn,
) {
    let ruling =
        Ruling { grounds: Grounds::Edit, by: vec![voter.name.clone()], comment: vote.comment.clone() };
    view.apply_with(key, Event::ApprovalVoided(Some(Box::new(ruling))), turn, |job| {
        let submitted_as = job.fingerprint();
        job.rare_mut().submitted_as = Some(submitted_as);
        let mut spec = (*job.spec).clone();
        spec.payload = input;
        job.spec = Arc::new(spec);
    });
    admit::admit(view, dispatcher, key, turn);
    // By another rule it may be a question to others.
    if view.approvals.contains_key(&key)
        && cast(view, key, voter, Vote { is_edit: false, ..vote }, turn) == Ok(Cast::Counted)
    {
        approve(view, key, turn);
    }
}

/// Another policy is in force: the question is not asked any more, whatever comes of the next one.
pub(crate) fn void(view: &mut View, key: JobKey, turn: &mut Turn) {
    let is_asked = view.job(key).is_some_and(|job| job.state == State::AwaitingApproval);
    if is_asked && !view.is_planted(Mutant::ApprovalNotBound) {
        view.apply(key, Event::ApprovalVoided(Some(Box::new(Ruling::by_policy()))), turn);
    }
}

/// Nobody decided in time: the terms say what that means.
pub(crate) fn expire(view: &mut View, key: JobKey, turn: &mut Turn) {
    let terms = view.approvals.get(&key).map(|approval| approval.terms.on_expiry);
    match terms.unwrap_or(OnExpiry::Reject) {
        OnExpiry::Reject => deny(view, key, "APPROVAL_EXPIRED", Ruling::by_time(), turn),
        OnExpiry::Approve => go_on(view, key, Ruling::by_time(), turn),
    }
}

/// A job entered or left AWAITING_APPROVAL: its approval opens or ends with it.
pub(crate) fn follow(view: &mut View, key: JobKey, turn: &mut Turn) {
    let Some(job) = view.job(key) else { return };
    if job.state == State::AwaitingApproval {
        let approval = Arc::new(Approval::of(job));
        view.approvals.insert(key, approval.clone());
        return turn.record(approval);
    }
    let Some((state, note)) = job.history.last().map(|entry| ApprovalState::after(&entry.event)) else {
        return;
    };
    if let Some(mut approval) = view.approvals.remove(&key) {
        Arc::make_mut(&mut approval).end(state, &note, turn.now.wall);
        turn.record(approval);
    }
}

/// The round the job is in, or was in when it left.
fn newest(view: &View, key: JobKey, turn: &Turn) -> Reply {
    let of_job = |approval: &&Arc<Approval>| approval.key() == key;
    let ended = || turn.approvals.iter().filter(of_job).max_by_key(|approval| approval.round);
    match view.approvals.get(&key).or_else(ended) {
        Some(approval) => Reply::Approval(Ok(approval.clone())),
        None => Reply::NotOpen,
    }
}

/// Makes the approvals of a view those of its jobs, after both were loaded. A job that was asked about before
/// approvals had records gets one.
pub(crate) fn recover(view: &mut View) {
    let mut asked: Vec<Approval> = view
        .open_jobs()
        .filter(|job| job.state == State::AwaitingApproval)
        .map(|job| Approval::of(job))
        .collect();
    asked.sort_unstable_by_key(|approval| (approval.create_time, approval.key()));
    let mut known = std::mem::take(&mut view.approvals);
    for approval in asked {
        let key = approval.key();
        let found = known.remove(&key).filter(|one| one.round == approval.round && one.is_pending());
        if found.is_none() {
            view.unfiled.push(key);
        }
        view.approvals.insert(key, found.unwrap_or_else(|| Arc::new(approval)));
    }
}

/// Writes what a recovery found missing.
pub(crate) fn file(view: &mut View, turn: &mut Turn) {
    for key in std::mem::take(&mut view.unfiled) {
        if let Some(approval) = view.approvals.get(&key)
            && !turn.approvals.iter().any(|one| one.key() == key && one.round == approval.round)
        {
            turn.record(approval.clone());
        }
    }
}

// === impl Turn: approvals ===

impl Turn {
    fn record(&mut self, approval: Arc<Approval>) {
        let same = |one: &&mut Arc<Approval>| one.round == approval.round && one.key() == approval.key();
        match self.approvals.iter_mut().find(same) {
            Some(present) => *present = approval,
            None => self.approvals.push(approval),
        }
    }
}

// === impl View: approvals ===

impl View {
    /// Takes in an open approval as it was stored, before its job.
    pub fn load_approval(&mut self, approval: Arc<Approval>) {
        self.approvals.insert(approval.key(), approval);
    }

    /// Questions to people that are open.
    pub fn pending_approvals(&self) -> usize {
        self.approvals.len()
    }

    /// The question about a job, while it is open.
    pub fn approval(&self, key: JobKey) -> Option<&Arc<Approval>> {
        self.approvals.get(&key)
    }
}
