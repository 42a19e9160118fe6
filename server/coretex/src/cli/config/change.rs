//! `config set`, `config rollback`, `config delete`.

use super::super::client::{ClientArgs, request_id};
use super::super::shown::{Format, document, line, print_document};
use super::data::{DataArgs, assign, assignment, object};
use super::{Scope, scope, shown_scope};
use crate::outcome::{Failure, Outcome};
use coretex_domain::config::Path;
use coretex_sdk::raw::v1;
use serde_json::{Map, Value};

/// What to set.
#[derive(Debug, clap::Args)]
pub(crate) struct SetArgs {
    /// Scope: system, org, team/NAME, workflow/NAME or step/NAME
    #[arg(default_value = "org", value_parser = scope)]
    scope: Scope,
    #[command(flatten)]
    source: DataArgs,
    /// One value, as JSON or text, by its path, for example llm.model=big; may be repeated. Without --data or --file the other values of
    /// the scope stay
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = assignment)]
    values: Vec<(Path, Value)>,
    /// Take the data as a merge patch: other values stay, null removes
    #[arg(long)]
    merge: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

/// What every change may say.
#[derive(Debug, clap::Args)]
pub(crate) struct ChangeArgs {
    /// Change only if the scope is at this revision
    #[arg(long, value_name = "N", default_value_t = 0)]
    revision: u64,
    /// Why, for the history
    #[arg(long, short = 'm', value_name = "TEXT", default_value = "")]
    comment: String,
    /// Name of this call: a repeat with the same name changes nothing more
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
}

/// Where to go back to.
#[derive(Debug, clap::Args)]
pub(crate) struct RollbackArgs {
    /// Scope: system, org, team/NAME, workflow/NAME or step/NAME
    #[arg(default_value = "org", value_parser = scope)]
    scope: Scope,
    /// The revision whose data is wanted
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    to: u64,
    #[command(flatten)]
    change: ChangeArgs,
}

/// What to take away.
#[derive(Debug, clap::Args)]
pub(crate) struct DeleteArgs {
    /// Scope: system, org, team/NAME, workflow/NAME or step/NAME
    #[arg(value_parser = scope)]
    scope: Scope,
    #[command(flatten)]
    change: ChangeArgs,
}

impl ChangeArgs {
    fn request_id(&self) -> String {
        self.request_id.clone().unwrap_or_else(request_id)
    }
}

pub(super) async fn set(args: SetArgs, options: &ClientArgs) -> Outcome {
    let given = args.source.read()?;
    if given.is_none() && args.values.is_empty() {
        return Err(Failure::Usage("nothing to set: give --data, --file or --set KEY=VALUE".into()));
    }
    let merge = args.merge || given.is_none();
    let mut data = given.unwrap_or_else(|| Value::Object(Map::new()));
    assign(&mut data, args.values);
    let request = v1::SetConfigRequest {
        scope: Some(args.scope.0),
        data: Some(object("data", data)?),
        revision: args.change.revision,
        merge,
        request_id: args.change.request_id(),
        comment: args.change.comment,
    };
    let client = options.connect().await?;
    let reply = client.raw().configs().set_config(request).await?.into_inner();
    print(options.output, "SetConfigResponse", &reply, reply.config.as_ref())
}

pub(super) async fn rollback(args: RollbackArgs, options: &ClientArgs) -> Outcome {
    let request = v1::RollbackConfigRequest {
        scope: Some(args.scope.0),
        to_revision: args.to,
        revision: args.change.revision,
        request_id: args.change.request_id(),
        comment: args.change.comment,
    };
    let client = options.connect().await?;
    let reply = client.raw().configs().rollback_config(request).await?.into_inner();
    print(options.output, "RollbackConfigResponse", &reply, reply.config.as_ref())
}

pub(super) async fn delete(args: DeleteArgs, options: &ClientArgs) -> Outcome {
    let request = v1::DeleteConfigRequest {
        scope: Some(args.scope.0),
        revision: args.change.revision,
        request_id: args.change.request_id(),
        comment: args.change.comment,
    };
    let client = options.connect().await?;
    let reply = client.raw().configs().delete_config(request).await?.into_inner();
    print(options.output, "DeleteConfigResponse", &reply, reply.config.as_ref())
}

fn print<M: prost::Message>(format: Format, name: &str, reply: &M, config: Option<&v1::Config>) -> Outcome {
    match (format, config) {
        (Format::Table, Some(config)) => {
            let gone = if config.data.is_none() { "  deleted" } else { "" };
            line(format!("{}  revision {}{gone}", shown_scope(config.scope.as_ref()), config.revision))
        }
        (Format::Table, None) => Ok(()),
        (format, _) => print_document(format, &document(name, reply), true),
    }
}
