//! `coretex approval`: jobs that wait for people.

mod decide;
mod read;

use super::client::ClientArgs;
use crate::outcome::Outcome;

/// Commands about approvals.
#[derive(Debug, clap::Subcommand)]
pub(super) enum ApprovalCommand {
    /// List approvals, open ones unless asked otherwise
    List(read::ListArgs),
    /// Show an approval and the input it is about
    Get {
        /// Its id: `apr_ROUND_JOB`
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Say yes
    Approve(decide::ApproveArgs),
    /// Say no, which ends it
    Reject(decide::RejectArgs),
    /// Give one's vote into other hands
    Delegate(decide::DelegateArgs),
}

/// Runs the command.
pub(super) async fn run(command: ApprovalCommand, options: &ClientArgs) -> Outcome {
    match command {
        ApprovalCommand::List(args) => read::list(args, options).await,
        ApprovalCommand::Get { id } => read::get(id, options).await,
        ApprovalCommand::Approve(args) => decide::approve(args, options).await,
        ApprovalCommand::Reject(args) => decide::reject(args, options).await,
        ApprovalCommand::Delegate(args) => decide::delegate(args, options).await,
    }
}
