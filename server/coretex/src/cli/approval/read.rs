//! `approval list`, `get`.

use super::super::client::ClientArgs;
use super::super::input::{all_of, equals};
use super::super::shown::{Format, document, note, out, print_document};
use super::super::table::{self, Rows, facts};
use crate::outcome::Outcome;
use coretex_sdk::raw::v1;
use coretex_sdk::{Approval, Job, ListRequest};
use futures::StreamExt as _;

/// Which approvals to list.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Filter, for example: requester = "ann" AND mine = true
    #[arg(long, value_name = "EXPR")]
    filter: Option<String>,
    /// Only this state, for example APPROVED; PENDING unless given
    #[arg(long)]
    state: Option<String>,
    /// Whatever their state
    #[arg(long, conflicts_with = "state")]
    any_state: bool,
    /// Only those that wait for me
    #[arg(long)]
    mine: bool,
    /// Only this topic
    #[arg(long)]
    topic: Option<String>,
    /// Only those about this job
    #[arg(long, value_name = "ID")]
    job: Option<String>,
    /// Oldest first
    #[arg(long)]
    oldest_first: bool,
    /// Most approvals to show
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Show all of them
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

/// Most approvals on one page.
const PAGE_MAX: u32 = 1_000;

impl ListArgs {
    fn filter(&self) -> String {
        let named = self.state.as_ref().map(|s| format!("state = {}", s.to_uppercase()));
        let state = named.or_else(|| (!self.any_state).then(|| "state = PENDING".to_owned()));
        let mine = self.mine.then(|| "mine = true".to_owned());
        let topic = self.topic.as_ref().map(|topic| equals("topic", topic));
        let job = self.job.as_ref().map(|job| equals("job_id", job));
        all_of([self.filter.clone(), state, mine, topic, job].into_iter().flatten())
    }
}

/// Lists approvals.
pub(super) async fn list(args: ListArgs, options: &ClientArgs) -> Outcome {
    let order_by = if args.oldest_first { "create_time asc" } else { "" };
    let most = if args.all { u32::MAX } else { args.limit };
    let client = options.connect().await?;
    if options.output != Format::Table {
        let mut reply = v1::ListApprovalsResponse::default();
        loop {
            let left = most.saturating_sub(u32::try_from(reply.approvals.len()).unwrap_or(u32::MAX));
            let request = v1::ListApprovalsRequest {
                filter: args.filter(),
                page_size: i32::try_from(left.min(PAGE_MAX)).unwrap_or_default(),
                page_token: std::mem::take(&mut reply.next_page_token),
                order_by: order_by.into(),
            };
            let page = client.raw().approvals().list_approvals(request).await?.into_inner();
            reply.approvals.extend(page.approvals);
            reply.next_page_token = page.next_page_token;
            if reply.next_page_token.is_empty() || reply.approvals.len() >= most as usize {
                return print_document(options.output, &document("ListApprovalsResponse", &reply), true);
            }
        }
    }
    let request = ListRequest::filter(args.filter())
        .order_by(order_by)
        .page_size(u16::try_from(most.min(PAGE_MAX)).unwrap_or(u16::MAX));
    let mut approvals = std::pin::pin!(client.list_all_approvals(request).take(most as usize));
    let mut rows =
        Rows::new(["ID", "TOPIC", "STATE", "APPROVALS", "FOR", "REQUESTER", "AGE", "RULE", "REASON"]);
    let mut count = 0;
    while let Some(approval) = approvals.next().await.transpose()? {
        count += 1;
        rows.add([
            approval.approval_id.as_str().into(),
            approval.topic.as_str().into(),
            approval.state.as_str().into(),
            format!("{} of {}", approval.approvals, approval.quorum).into(),
            approval.approvers.join(", ").into(),
            approval.requester.as_str().into(),
            table::age(approval.create_time).into(),
            approval.rule_id.as_str().into(),
            approval.reason.as_str().into(),
        ]);
    }
    if rows.is_empty() {
        note("no approvals");
        return Ok(());
    }
    out(&rows.text())?;
    if count == most {
        note(format!("the first {most}; `--all` shows all"));
    }
    Ok(())
}

/// Shows an approval.
pub(super) async fn get(id: String, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    if options.output == Format::Table {
        let (approval, job) = client.get_approval(id).await?;
        return out(&format!("{}{}", text(&approval, job.as_ref()), votes_text(&approval)));
    }
    let request = v1::GetApprovalRequest {
        approval_id: id,
        view: v1::View::Full.into(),
        payload_format: v1::PayloadFormat::Json.into(),
    };
    let reply = client.raw().approvals().get_approval(request).await?.into_inner();
    print_document(options.output, &document("GetApprovalResponse", &reply), true)
}

fn text(approval: &Approval, job: Option<&Job>) -> String {
    let input = job.and_then(|job| job.request.as_ref()).and_then(|request| request.input());
    let may = if approval.requester_may_approve { " (may approve)" } else { "" };
    let delegations: Vec<_> =
        approval.delegations.iter().map(|one| format!("{} votes for {}", one.to, one.from)).collect();
    facts(&[
        ("approval", approval.approval_id.clone()),
        ("job", approval.job_id.clone()),
        ("topic", approval.topic.clone()),
        ("state", approval.state.to_string()),
        ("how", approval.note.clone()),
        ("approvals", format!("{} of {}", approval.approvals, approval.quorum)),
        ("approvers", approval.approvers.join(", ")),
        ("delegations", delegations.join("\n")),
        ("requester", format!("{}{may}", approval.requester)),
        ("rule", format!("{}/{}", approval.policy, approval.rule_id)),
        ("reason", approval.reason.clone()),
        ("asked", table::time(approval.create_time)),
        ("until", table::time(approval.expire_time)),
        ("then", approval.on_expiry.as_str().to_owned()),
        ("ended", table::time(approval.decide_time)),
        ("edited", if approval.input_edited { "yes".to_owned() } else { String::new() }),
        ("input", table::payload(input.as_ref())),
    ])
}

fn votes_text(approval: &Approval) -> String {
    let mut rows = Rows::new(["WHEN", "WHO", "SAID", "FOR", "COMMENT"]);
    for vote in &approval.votes {
        let who = if vote.actor.is_empty() { "anonymous" } else { &vote.actor };
        let said = if vote.with_edit { "APPROVE, edited" } else { vote.choice.as_str() };
        rows.add([
            table::time(vote.time).into(),
            who.into(),
            said.into(),
            vote.on_behalf_of.as_str().into(),
            vote.comment.as_str().into(),
        ]);
    }
    if rows.is_empty() { String::new() } else { format!("\n{}", rows.text()) }
}
