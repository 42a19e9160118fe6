//! `coretex dlq`: jobs that gave up.

mod delete;
mod read;
mod retry;

use super::client::ClientArgs;
use super::input::{all_of, equals};
use crate::outcome::Outcome;

/// Commands about dead letters.
#[derive(Debug, clap::Subcommand)]
pub(super) enum DlqCommand {
    /// List dead letters, those of the newest jobs first
    List(read::ListArgs),
    /// Show a dead letter and its job
    Get {
        /// Its id: that of the job
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Group dead letters by cause
    Groups(read::GroupsArgs),
    /// Make new jobs of dead letters: of one, of some, or of all that match
    Retry(retry::RetryArgs),
    /// Delete dead letters by id; their jobs stay
    Delete {
        /// Their ids
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
    },
    /// Delete all dead letters that match
    Purge(delete::PurgeArgs),
}

/// Which dead letters, by what they have in common.
#[derive(Debug, Default, clap::Args)]
pub(super) struct MatchArgs {
    /// Filter, for example: reason = TIMEOUT AND labels.team = "a" AND retried_as = ""
    #[arg(long, value_name = "EXPR")]
    filter: Option<String>,
    /// Only this topic
    #[arg(long)]
    topic: Option<String>,
    /// Only this state, for example TIMED_OUT
    #[arg(long)]
    state: Option<String>,
    /// Only this cause, as `dlq groups` shows it
    #[arg(long, value_name = "HEX")]
    fingerprint: Option<String>,
}

impl MatchArgs {
    /// One filter of all of them; empty when none is given.
    fn filter(&self) -> String {
        let state = self.state.as_ref().map(|s| format!("state = {}", s.to_uppercase().replace('-', "_")));
        let topic = self.topic.as_ref().map(|topic| equals("topic", topic));
        let fingerprint = self.fingerprint.as_ref().map(|print| equals("fingerprint", print));
        all_of([self.filter.clone(), state, topic, fingerprint].into_iter().flatten())
    }
}

/// Runs the command.
pub(super) async fn run(command: DlqCommand, options: &ClientArgs) -> Outcome {
    match command {
        DlqCommand::List(args) => read::list(args, options).await,
        DlqCommand::Get { id } => read::get(id, options).await,
        DlqCommand::Groups(args) => read::groups(args, options).await,
        DlqCommand::Retry(args) => retry::retry(args, options).await,
        DlqCommand::Delete { ids } => delete::delete(ids, options).await,
        DlqCommand::Purge(args) => delete::purge(args, options).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms_narrow_the_filter() {
        let some = |text: &str| Some(text.to_owned());
        let args = MatchArgs {
            filter: some("a = b OR c = d"),
            topic: some("t"),
            state: some("timed-out"),
            fingerprint: some("0a"),
        };
        let wanted = r#"(a = b OR c = d) AND (state = TIMED_OUT) AND (topic = "t") AND (fingerprint = "0a")"#;
        assert_eq!(args.filter(), wanted);
        assert_eq!(MatchArgs::default().filter(), "");
    }
}
