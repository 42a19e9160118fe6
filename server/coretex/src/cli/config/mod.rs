//! `coretex config`: configuration in layers.

mod change;
mod data;
mod read;
mod schema;

use super::client::ClientArgs;
use crate::outcome::Outcome;
use coretex_sdk::raw::v1;

/// Commands about configuration. A scope is `system`, `org` (the namespace), `team/NAME`, `workflow/NAME` or `step/NAME`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum ConfigCommand {
    /// Set the configuration of a scope, or some values of it
    Set(change::SetArgs),
    /// Show the configuration of a scope, without the layers around it
    Get {
        /// Scope: system, org, team/NAME, workflow/NAME or step/NAME
        #[arg(default_value = "org", value_parser = scope)]
        scope: Scope,
    },
    /// Show what the layers give together, and which of them set each value
    Effective(read::EffectiveArgs),
    /// List scopes that have a configuration
    List {
        /// Filter over level, id and actor, for example: level = TEAM
        #[arg(long, value_name = "EXPR", default_value = "")]
        filter: String,
        /// With their data (JSON and YAML only)
        #[arg(long)]
        full: bool,
    },
    /// List the revisions of a scope, the newest first
    History(read::HistoryArgs),
    /// Make the data of an earlier revision the newest one
    Rollback(change::RollbackArgs),
    /// Take the configuration of a scope away; its history stays
    Delete(change::DeleteArgs),
    /// Follow what the layers give together
    Watch(read::WatchArgs),
    /// Schemas that configuration must satisfy
    #[command(subcommand)]
    Schema(schema::SchemaCommand),
}

/// A scope as it is written on a command line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scope(v1::ConfigScope);

/// Names of layers.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ChainArgs {
    /// With the layer of this team
    #[arg(long, value_name = "NAME", default_value = "")]
    team: String,
    /// With the layer of this workflow
    #[arg(long, value_name = "NAME", default_value = "")]
    workflow: String,
    /// With the layer of this step
    #[arg(long, value_name = "NAME", default_value = "")]
    step: String,
}

/// Runs the command.
pub(super) async fn run(command: ConfigCommand, options: &ClientArgs) -> Outcome {
    match command {
        ConfigCommand::Set(args) => change::set(args, options).await,
        ConfigCommand::Get { scope } => read::get(scope, options).await,
        ConfigCommand::Effective(args) => read::effective(args, options).await,
        ConfigCommand::List { filter, full } => read::list(filter, full, options).await,
        ConfigCommand::History(args) => read::history(args, options).await,
        ConfigCommand::Rollback(args) => change::rollback(args, options).await,
        ConfigCommand::Delete(args) => change::delete(args, options).await,
        ConfigCommand::Watch(args) => read::watch(args, options).await,
        ConfigCommand::Schema(command) => schema::run(command, options).await,
    }
}

/// Reads a scope, for clap.
fn scope(text: &str) -> Result<Scope, String> {
    let (level, id) = text.split_once('/').unwrap_or((text, ""));
    let level = match (level, id.is_empty()) {
        ("system", true) => v1::ConfigLevel::System,
        ("org", _) => v1::ConfigLevel::Org,
        ("team", false) => v1::ConfigLevel::Team,
        ("workflow", false) => v1::ConfigLevel::Workflow,
        ("step", false) => v1::ConfigLevel::Step,
        _ => {
            return Err(format!(
                "`{text}` is no scope; write system, org, team/NAME, workflow/NAME or step/NAME"
            ));
        }
    };
    Ok(Scope(v1::ConfigScope { level: level.into(), id: id.into() }))
}

/// A scope for people.
fn shown_scope(scope: Option<&v1::ConfigScope>) -> String {
    let Some(scope) = scope else { return String::new() };
    level_and_id(scope.level(), &scope.id)
}

fn level_and_id(level: v1::ConfigLevel, id: &str) -> String {
    let level = level.as_str_name().trim_start_matches("CONFIG_LEVEL_").to_lowercase();
    if id.is_empty() { level } else { format!("{level}/{id}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_level_and_name() {
        for text in ["system", "org", "org/acme", "team/a", "workflow/w", "step/w/s"] {
            assert_eq!(scope(text).map(|found| shown_scope(Some(&found.0))), Ok(text.to_owned()));
        }
        for text in ["", "team", "team/", "squad/a", "system/x"] {
            assert!(scope(text).is_err_and(|why| why.contains("team/NAME")), "{text}");
        }
    }
}
