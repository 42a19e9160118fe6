//! The façade for approvals: lists and reads from the store, votes through the loop of the job.

mod rows;

pub(crate) use rows::{pending, row};

use crate::{Engine, ask, reloaded};
use coretex_domain::approval::{Approval, ApprovalId, ApprovalState, Choice};
use coretex_domain::limits::PAGE_EXAMINED_MAX;
use coretex_domain::resource::{Kind, ResourceKey};
use coretex_domain::{Namespace, Refusal, Span, Time};
use coretex_kernel::input::{Ballot, HandOver, Input, Reply};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Rows read from the store at a time.
const SCAN_BATCH: usize = 500;
/// A page answers short rather than take longer than this.
const PAGE_TIME_MAX: Span = Span(100);

/// One question for a list of approvals.
#[derive(Clone)]
pub struct ApprovalQuery {
    pub namespace: Namespace,
    /// Every row is shown to it; those it accepts are answered.
    pub accepts: Arc<dyn Fn(&Approval) -> bool + Send + Sync>,
    pub descending: bool,
    /// Create time and id of the last row seen.
    pub after: Option<(Time, Arc<str>)>,
    pub page_size: usize,
}

/// A page of a list. It may be short and still have a next one.
#[derive(Clone, Debug)]
pub struct ApprovalPage {
    pub approvals: Vec<Approval>,
    pub next: Option<(Time, Arc<str>)>,
}

/// What a loop says of an approval.
enum Told {
    /// It took in what was said; the newest round.
    Counted(Approval),
    /// As it ended before.
    Over(Approval),
}

impl Engine {
    /// One page in order of (create time, id).
    pub async fn list_approvals(&self, query: ApprovalQuery) -> Result<ApprovalPage, Refusal> {
        let mut approvals = Vec::new();
        let mut after = query.after;
        let (mut examined, mut has_more) = (0, true);
        let start = self.shared.env.clock.now().mono;
        while has_more && approvals.len() < query.page_size && examined < PAGE_EXAMINED_MAX {
            let (kind, namespace) = (Kind::Approval, &query.namespace);
            let (found, more) =
                self.walk_resources(kind, namespace, query.descending, after.clone(), SCAN_BATCH).await?;
            has_more = more;
            for one in found {
                if approvals.len() == query.page_size {
                    has_more = true;
                    break;
                }
                examined += 1;
                after = Some((one.create_time, one.name.clone()));
                let approval = rows::read(&one)?;
                if (query.accepts)(&approval) {
                    approvals.push(approval);
                }
            }
            if self.shared.env.clock.now().mono.since(start) > PAGE_TIME_MAX {
                break;
            }
        }
        Ok(ApprovalPage { approvals, next: after.filter(|_| has_more) })
    }

    /// One round of a job's approval, open or over.
    pub async fn approval(&self, namespace: &Namespace, id: &ApprovalId) -> Result<Approval, Refusal> {
        let key = ResourceKey::new(Kind::Approval, namespace.clone(), id.to_string());
        let found = self.read_resources(vec![key]).await?;
        let one = found.first().ok_or_else(|| Approval::not_found(&id.to_string()))?;
        rows::read(one)
    }

    /// Votes. The answer is the newest round: an edited input makes another one.
    pub async fn vote(&self, ballot: Ballot) -> Result<Approval, Refusal> {
        let (namespace, id, choice) = (ballot.namespace.clone(), ballot.id.clone(), ballot.choice);
        let actor = ballot.voter.name.clone();
        let approval = match self.ask_about(&namespace, &id, Input::Vote(Box::new(ballot))).await? {
            Told::Counted(approval) => return Ok(approval),
            Told::Over(approval) => approval,
        };
        let is_repeat = approval.vote_of(&actor, choice).is_some_and(|vote| match approval.state {
            ApprovalState::Approved => choice == Choice::Approve,
            ApprovalState::Rejected => choice == Choice::Reject,
            ApprovalState::Voided => vote.is_edit,
            ApprovalState::Pending | ApprovalState::Expired | ApprovalState::Cancelled => false,
        });
        match is_repeat {
            true if approval.state == ApprovalState::Voided => {
                let next = ApprovalId { round: id.round + 1, ..id };
                Ok(self.approval(&namespace, &next).await.unwrap_or(approval))
            }
            true => Ok(approval),
            false => Err(approval.decided()),
        }
    }

    /// Gives a vote into other hands.
    pub async fn delegate_approval(&self, hand_over: HandOver) -> Result<Approval, Refusal> {
        let (namespace, id) = (hand_over.namespace.clone(), hand_over.id.clone());
        match self.ask_about(&namespace, &id, Input::Delegate(Box::new(hand_over))).await? {
            Told::Counted(approval) => Ok(approval),
            Told::Over(approval) => Err(approval.decided()),
        }
    }

    /// Approvals that are open, of all namespaces.
    pub fn pending_approvals(&self) -> u64 {
        self.shared.pending_approvals.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Asks the loop of the job.
    async fn ask_about(&self, namespace: &Namespace, id: &ApprovalId, input: Input) -> Result<Told, Refusal> {
        let who = self.shared.loop_of(id.job_id.shard(namespace));
        if let Reply::Approval(answer) = ask(&self.shared, who, input).await? {
            return answer.map(|approval| Told::Counted((*approval).clone()));
        }
        let approval = self.approval(namespace, id).await?;
        // The loop was reloaded between the two questions.
        if approval.is_pending() { Err(reloaded()) } else { Ok(Told::Over(approval)) }
    }
}
