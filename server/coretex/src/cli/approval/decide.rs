//! `approval approve`, `reject`, `delegate`.

use super::super::client::{ClientArgs, request_id};
use super::super::input;
use super::super::shown::{Format, clean, document, line, note, print_document};
use crate::outcome::Outcome;
use coretex_sdk::raw::v1;

/// What to say yes to.
#[derive(Debug, clap::Args)]
pub(crate) struct ApproveArgs {
    /// Id of the approval
    #[arg(value_name = "ID")]
    id: String,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "")]
    comment: String,
    /// Another input in the place of the one asked about: JSON, @FILE, or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-")]
    data: Option<String>,
    /// Media type of the input, when it is not JSON
    #[arg(long, value_name = "TYPE", requires = "data")]
    content_type: Option<String>,
}

/// What to say no to.
#[derive(Debug, clap::Args)]
pub(crate) struct RejectArgs {
    /// Id of the approval
    #[arg(value_name = "ID")]
    id: String,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "")]
    comment: String,
}

/// Whose hands to give a vote into.
#[derive(Debug, clap::Args)]
pub(crate) struct DelegateArgs {
    /// Id of the approval
    #[arg(value_name = "ID")]
    id: String,
    /// Name of the person
    #[arg(long, value_name = "NAME")]
    to: String,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "")]
    comment: String,
}

/// Says yes.
pub(super) async fn approve(args: ApproveArgs, options: &ClientArgs) -> Outcome {
    let edited_input = match &args.data {
        Some(data) => Some(input::payload(data, args.content_type.as_deref())?),
        None => None,
    };
    let client = options.connect().await?;
    let request = v1::ApproveRequest {
        approval_id: args.id,
        comment: args.comment,
        edited_input,
        request_id: request_id(),
    };
    let reply = client.raw().approvals().approve(request).await?.into_inner();
    if options.output != Format::Table {
        return print_document(options.output, &document("ApproveResponse", &reply), true);
    }
    tell(reply.approval, reply.job, reply.warnings)
}

/// Says no.
pub(super) async fn reject(args: RejectArgs, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    let request = v1::RejectRequest { approval_id: args.id, comment: args.comment, request_id: request_id() };
    let reply = client.raw().approvals().reject(request).await?.into_inner();
    if options.output != Format::Table {
        return print_document(options.output, &document("RejectResponse", &reply), true);
    }
    tell(reply.approval, reply.job, reply.warnings)
}

/// Gives a vote away.
pub(super) async fn delegate(args: DelegateArgs, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    let request = v1::DelegateApprovalRequest {
        approval_id: args.id,
        to: args.to,
        comment: args.comment,
        request_id: request_id(),
    };
    let reply = client.raw().approvals().delegate_approval(request).await?.into_inner();
    if options.output != Format::Table {
        return print_document(options.output, &document("DelegateApprovalResponse", &reply), true);
    }
    let approval = reply.approval.unwrap_or_default();
    for one in &approval.delegations {
        line(clean(&format!("{}  {} votes for {}", approval.approval_id, one.to, one.from)))?;
    }
    Ok(())
}

fn tell(approval: Option<v1::Approval>, job: Option<v1::Job>, warnings: Vec<v1::Warning>) -> Outcome {
    for warning in warnings {
        note(clean(&format!("warning: {}", warning.message)));
    }
    let approval = approval.unwrap_or_default();
    let state = approval.state().short_name();
    let so_far = format!("{} of {}", approval.approvals, approval.quorum);
    let job = job.map(|job| format!(", job {} is {}", job.job_id, job.state().short_name()));
    line(clean(&format!("{}  {state}, {so_far} approvals{}", approval.approval_id, job.unwrap_or_default())))
}
