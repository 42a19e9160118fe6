//! Approvals: a question to people about one job, their votes, and the rules by which the votes count.
//!
//! Pure: who votes and when are arguments. What follows for the job is the kernel's concern.

use crate::filter::{Field, Found, Kind, Row, Schema, optional};
use crate::id::{IdError, JobId, JobKey, Namespace, ShardId};
use crate::job::{Event, Grounds, Job, Ruling};
use crate::limits::DELEGATIONS_MAX;
use crate::policy::ApprovalTerms;
use crate::refusal::{Reason, Refusal};
use crate::time::Time;
use std::fmt;
use std::sync::Arc;

/// One question about one job. A later question about the same job is another round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    pub job_id: JobId,
    pub namespace: Namespace,
    pub shard: ShardId,
    pub topic: Arc<str>,
    /// Whoever submitted the job, or who it says it comes from where nobody was asked to log in. Empty: nobody known.
    pub requester: Arc<str>,
    /// From 1, per job.
    pub round: u32,
    pub state: ApprovalState,
    pub terms: ApprovalTerms,
    pub policy: Arc<str>,
    pub rule_id: Arc<str>,
    pub reason: Arc<str>,
    /// The answer holds for what was asked: this version of the policies and this very spec.
    pub policy_version: u64,
    pub spec_hash: u128,
    pub votes: Vec<Vote>,
    pub delegations: Vec<Delegation>,
    pub create_time: Time,
    /// When it is over without a decision.
    pub expire_time: Time,
    pub decide_time: Option<Time>,
    /// How it ended, in words.
    pub note: Arc<str>,
    /// The input asked about is not the one that was submitted.
    pub is_edited: bool,
    /// Rises by one with each change.
    pub revision: u64,
}

/// What somebody said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    /// Empty: anonymous.
    pub actor: Arc<str>,
    pub choice: Choice,
    pub comment: Arc<str>,
    pub time: Time,
    /// Whose vote it is, if not the actor's own.
    pub on_behalf_of: Option<Arc<str>>,
    /// It came with another input.
    pub is_edit: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    Approve,
    Reject,
}

/// One person's vote given into another one's hands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegation {
    pub from: Arc<str>,
    pub to: Arc<str>,
    pub comment: Arc<str>,
    pub time: Time,
}

/// Who votes. Without a name: a caller of a server that asks nobody to log in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Voter {
    pub name: Arc<str>,
    pub roles: Vec<Arc<str>>,
}

/// What a vote or delegation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cast {
    Counted,
    /// It was said before: nothing changed.
    Repeat,
}

macro_rules! states {
    ($($(#[$doc:meta])* $state:ident = $number:literal $name:literal,)*) => {
        /// Where an approval stands. All but the first are ends.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum ApprovalState { $($(#[$doc])* $state = $number,)* }
        impl ApprovalState {
            pub const ALL: [ApprovalState; 6] = [$(ApprovalState::$state,)*];
            pub const fn name(self) -> &'static str { match self { $(ApprovalState::$state => $name,)* } }
        }
    };
}

states! {
    /// People are asked.
    Pending = 1 "PENDING",
    /// Enough of them said yes.
    Approved = 2 "APPROVED",
    /// One of them said no.
    Rejected = 3 "REJECTED",
    /// Nobody decided in time; the terms say what became of the job.
    Expired = 4 "EXPIRED",
    /// The policy or the input changed, so that it would be an answer to another question.
    Voided = 5 "VOIDED",
    /// The job ended meanwhile.
    Cancelled = 6 "CANCELLED",
}

/// The names of the states, for filters.
pub const APPROVAL_STATES: [&str; 6] = {
    let mut names = [""; 6];
    let mut n = 0;
    while n < names.len() {
        names[n] = ApprovalState::ALL[n].name();
        n += 1;
    }
    names
};

/// Fields of `ListApprovals`; `mine` is answered by who asks.
pub const APPROVAL_FIELDS: Schema = &[
    Field { name: "state", kind: Kind::Word(&APPROVAL_STATES) },
    Field { name: "topic", kind: Kind::Text },
    Field { name: "job_id", kind: Kind::Text },
    Field { name: "requester", kind: Kind::Text },
    Field { name: "policy", kind: Kind::Text },
    Field { name: "rule_id", kind: Kind::Text },
    Field { name: "mine", kind: Kind::Word(&["true", "false"]) },
    Field { name: "create_time", kind: Kind::Time },
];

/// An approval as a filter sees it, in the eyes of somebody.
pub struct ApprovalRow<'a> {
    pub approval: &'a Approval,
    pub voter: &'a Voter,
}

// === impl ApprovalState ===

impl ApprovalState {
    pub fn from_name(name: &str) -> Option<ApprovalState> {
        ApprovalState::ALL.into_iter().find(|state| state.name() == name)
    }

    /// What an event that takes a job out of AWAITING_APPROVAL makes of its approval, and how to say so. The one place
    /// that knows: records, histories and counts follow it.
    pub fn after(event: &Event) -> (ApprovalState, String) {
        let ruled = |ruling: &Option<Box<Ruling>>, without: ApprovalState| match ruling.as_deref() {
            Some(ruling) => {
                let state = match ruling.grounds {
                    Grounds::Votes => without,
                    Grounds::Expiry => ApprovalState::Expired,
                    Grounds::Edit | Grounds::Policy => ApprovalState::Voided,
                };
                (state, ruling.to_string())
            }
            None => (without, String::new()),
        };
        match event {
            Event::Approved { ruling, .. } => ruled(ruling, ApprovalState::Approved),
            Event::Denied(ruling) => ruled(ruling, ApprovalState::Rejected),
            Event::ApprovalVoided(ruling) => ruled(ruling, ApprovalState::Voided),
            Event::TimedOut { .. } => {
                (ApprovalState::Cancelled, "the total deadline of the job passed".into())
            }
            Event::Cancelled(_) => (ApprovalState::Cancelled, "the job was cancelled".into()),
            Event::Submitted { .. }
            | Event::Admitted { .. }
            | Event::Deferred(_)
            | Event::ApprovalRequested
            | Event::Rejudged
            | Event::Dispatched(_)
            | Event::Returned(_)
            | Event::Started
            | Event::Released
            | Event::Succeeded
            | Event::AttemptFailed(_)
            | Event::Failed(_)
            | Event::RetryDue { .. }
            | Event::Expired
            | Event::CancelRequested(_)
            | Event::Annotated(_) => (ApprovalState::Cancelled, "the job went on without it".into()),
        }
    }
}

// === impl Voter ===

impl Voter {
    pub fn named(name: impl Into<Arc<str>>) -> Voter {
        Voter { name: name.into(), roles: Vec::new() }
    }

    pub fn is_anonymous(&self) -> bool {
        self.name.is_empty()
    }
}

// === impl Vote ===

impl Vote {
    /// Whose vote it is.
    pub fn principal(&self) -> &Arc<str> {
        self.on_behalf_of.as_ref().unwrap_or(&self.actor)
    }
}

// === impl Approval ===

impl Approval {
    /// The question about a job that stands in AWAITING_APPROVAL.
    pub fn of(job: &Job) -> Approval {
        let decision = job.decision.as_deref();
        let terms = decision.and_then(|d| d.approval()).cloned().unwrap_or_default();
        let asked = job.asked_time();
        let text = |pick: fn(&crate::policy::Decision) -> &Arc<str>| {
            decision.map_or_else(|| Arc::from(""), |decision| pick(decision).clone())
        };
        let claimed = || job.spec.options().metadata.actor_id.as_deref();
        Approval {
            job_id: job.id.clone(),
            namespace: job.namespace.clone(),
            shard: job.shard,
            topic: job.spec.topic.clone(),
            requester: job.submitter().or_else(claimed).unwrap_or_default().into(),
            round: job.approval_round(),
            state: ApprovalState::Pending,
            policy: text(|d| &d.policy),
            rule_id: text(|d| &d.rule_id),
            reason: text(|d| &d.reason),
            policy_version: decision.map_or(0, |d| d.policy_version),
            spec_hash: job.spec.fingerprint(),
            votes: Vec::new(),
            delegations: Vec::new(),
            create_time: asked,
            expire_time: asked + terms.expires,
            decide_time: None,
            note: "".into(),
            is_edited: job.rare().submitted_as.is_some(),
            revision: 1,
            terms,
        }
    }

    pub fn id(&self) -> ApprovalId {
        ApprovalId { round: self.round, job_id: self.job_id.clone() }
    }

    pub fn key(&self) -> JobKey {
        self.job_id.key(&self.namespace)
    }

    pub fn is_pending(&self) -> bool {
        self.state == ApprovalState::Pending
    }

    /// Whose yes counts, each once, in order.
    pub fn approvers(&self) -> Vec<&Arc<str>> {
        let mut found: Vec<&Arc<str>> = Vec::new();
        for vote in self.votes.iter().filter(|vote| vote.choice == Choice::Approve) {
            if !found.contains(&vote.principal()) {
                found.push(vote.principal());
            }
        }
        found
    }

    /// True if enough people said yes.
    pub fn has_quorum(&self) -> bool {
        self.approvers().len() >= self.terms.quorum.max(1) as usize
    }

    /// Takes in a vote, if it may be given and was not before.
    pub fn cast(&mut self, voter: &Voter, vote: Vote) -> Result<Cast, Refusal> {
        let on_behalf_of = self.standing(voter, vote.choice)?;
        let vote = Vote { on_behalf_of, ..vote };
        let has_voted = self.has_approved(&voter.name) || self.has_approved(vote.principal());
        if has_voted && vote.choice == Choice::Approve && !vote.is_edit {
            return Ok(Cast::Repeat);
        }
        self.votes.push(vote);
        self.revision += 1;
        Ok(Cast::Counted)
    }

    /// Gives a vote into another one's hands.
    pub fn delegate(
        &mut self,
        voter: &Voter,
        to: Arc<str>,
        comment: Arc<str>,
        now: Time,
    ) -> Result<Cast, Refusal> {
        if voter.is_anonymous() {
            let message = "this server asks nobody to log in: there is nobody to delegate to";
            return Err(Refusal::new(Reason::UnsupportedByStore, message));
        }
        if to == voter.name {
            return Err(Refusal::field("to", format!("must be somebody else, got {to}, who asks")));
        }
        self.check_not_own(&voter.name)?;
        if !self.is_approver(voter) {
            return Err(self.not_an_approver(voter));
        }
        self.check_not_own(&to)?;
        if self.has_approved(&voter.name) {
            let message = format!("{} has voted on {} already", voter.name, self.id());
            return Err(self.refusal(Reason::ApprovalVoted, message));
        }
        if self.delegations.iter().any(|one| one.from == voter.name && one.to == to) {
            return Ok(Cast::Repeat);
        }
        self.delegations.retain(|one| one.from != voter.name);
        if self.delegations.len() >= DELEGATIONS_MAX {
            let message = format!("{} has {DELEGATIONS_MAX} delegations, as many as allowed", self.id());
            return Err(Refusal::new(Reason::TooMany, message));
        }
        self.delegations.push(Delegation { from: voter.name.clone(), to, comment, time: now });
        self.revision += 1;
        Ok(Cast::Counted)
    }

    /// True if a yes of `voter` would count now.
    pub fn is_for(&self, voter: &Voter) -> bool {
        let standing = self.standing(voter, Choice::Approve);
        let counts = |behalf: Option<Arc<str>>| {
            !self.has_approved(&voter.name) && !behalf.is_some_and(|of| self.has_approved(&of))
        };
        self.is_pending() && standing.is_ok_and(counts)
    }

    /// What `actor` said of it before, if that was the same.
    pub fn vote_of(&self, actor: &str, choice: Choice) -> Option<&Vote> {
        self.votes.iter().rev().find(|vote| *vote.actor == *actor && vote.choice == choice)
    }

    pub fn end(&mut self, state: ApprovalState, note: &str, now: Time) {
        self.state = state;
        self.note = note.into();
        self.decide_time = Some(now);
        self.revision += 1;
    }

    /// The refusal of everything that comes after its end.
    pub fn decided(&self) -> Refusal {
        let how = match &*self.note {
            "" => String::new(),
            note => format!(": {note}"),
        };
        self.refusal(Reason::ApprovalDecided, format!("{} is {}{how}", self.id(), self.state.name()))
            .fact("state", self.state.name())
    }

    pub fn not_found(id: &str) -> Refusal {
        Refusal::new(Reason::ApprovalNotFound, format!("approval {id} not found")).fact("approval_id", id)
    }

    /// By which right somebody votes: their own, or that of who they vote for.
    fn standing(&self, voter: &Voter, choice: Choice) -> Result<Option<Arc<str>>, Refusal> {
        // Without a login nothing is known of anybody: the reply warns of it.
        if voter.is_anonymous() {
            return Ok(None);
        }
        if choice == Choice::Approve {
            self.check_not_own(&voter.name)?;
        }
        if self.is_approver(voter) {
            return Ok(None);
        }
        let given = || self.delegations.iter().filter(|one| one.to == voter.name);
        let unused = given().find(|one| !self.has_approved(&one.from));
        let from = unused.or_else(|| given().next()).map(|one| one.from.clone());
        from.map(Some).ok_or_else(|| self.not_an_approver(voter))
    }

    fn is_approver(&self, voter: &Voter) -> bool {
        let named = &self.terms.approvers;
        named.is_empty() || named.contains(&voter.name) || voter.roles.iter().any(|role| named.contains(role))
    }

    fn check_not_own(&self, name: &str) -> Result<(), Refusal> {
        if self.terms.requester_may_approve || *self.requester != *name {
            return Ok(());
        }
        let message = format!("{name} submitted the job: somebody else must approve {}", self.id());
        Err(self.refusal(Reason::ApprovalOwnRequest, message))
    }

    fn not_an_approver(&self, voter: &Voter) -> Refusal {
        let message =
            format!("{} is for {}, not for {}", self.id(), self.terms.approvers.join(", "), voter.name);
        self.refusal(Reason::NotAnApprover, message)
    }

    fn has_approved(&self, name: &str) -> bool {
        let is_theirs = |vote: &Vote| *vote.actor == *name || **vote.principal() == *name;
        self.votes.iter().any(|vote| vote.choice == Choice::Approve && is_theirs(vote))
    }

    fn refusal(&self, reason: Reason, message: String) -> Refusal {
        Refusal::new(reason, message).fact("approval_id", self.id().to_string())
    }
}

/// The name of an approval: `apr_ROUND_JOB`, so that it finds the shard of its job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalId {
    pub round: u32,
    pub job_id: JobId,
}

impl ApprovalId {
    pub fn parse(text: &str) -> Result<ApprovalId, IdError> {
        let shape = || IdError("must be `apr_`, a round from 1, `_` and the id of a job".into());
        let (round, job) =
            text.strip_prefix("apr_").and_then(|rest| rest.split_once('_')).ok_or_else(shape)?;
        let is_plain = round.bytes().all(|b| b.is_ascii_digit()) && !round.starts_with('0');
        let round = round.parse().ok().filter(|_| is_plain).ok_or_else(shape)?;
        Ok(ApprovalId { round, job_id: JobId::parse(job)? })
    }
}

impl fmt::Display for ApprovalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "apr_{}_{}", self.round, self.job_id)
    }
}

// === impl ApprovalRow ===

impl Row for ApprovalRow<'_> {
    fn field(&self, name: &'static str, _key: &str) -> Found<'_> {
        let approval = self.approval;
        match name {
            "state" => optional(Some(approval.state.name())),
            "topic" => optional(Some(&approval.topic)),
            "job_id" => Found::Text(approval.job_id.to_string().into()),
            "requester" => optional(Some(&approval.requester)),
            "policy" => optional(Some(&approval.policy)),
            "rule_id" => optional(Some(&approval.rule_id)),
            "mine" => optional(Some(if approval.is_for(self.voter) { "true" } else { "false" })),
            "create_time" => Found::Time(approval.create_time),
            _ => Found::Unset,
        }
    }
}

#[cfg(test)]
#[path = "approval/tests.rs"]
mod tests;
