//! `policy apply`, `rollback`, `delete`.

use super::super::client::{ClientArgs, request_id};
use super::super::problems;
use super::super::shown::{Format, document, line, note, print_document};
use crate::outcome::{Failure, Outcome};
use coretex_policy::Bundle;
use coretex_sdk::raw::v1;
use std::path::PathBuf;

/// What to put in force.
#[derive(Debug, clap::Args)]
pub(crate) struct ApplyArgs {
    /// YAML file
    file: PathBuf,
    /// Only say what it would change
    #[arg(long)]
    validate_only: bool,
    /// Judge by it silently beside the policy in force
    #[arg(long)]
    shadow: bool,
    /// Only if the policy is at this revision
    #[arg(long, value_name = "N", default_value_t = 0)]
    revision: u64,
    /// Why; kept with the version
    #[arg(long, value_name = "TEXT", default_value = "")]
    comment: String,
}

/// What to put in force again.
#[derive(Debug, clap::Args)]
pub(crate) struct RollbackArgs {
    /// Name of the policy
    name: String,
    /// Version, as `policy versions` shows it
    version: u64,
    /// Only if the policy is at this revision
    #[arg(long, value_name = "N", default_value_t = 0)]
    revision: u64,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "")]
    comment: String,
}

/// What to take away.
#[derive(Debug, clap::Args)]
pub(crate) struct DeleteArgs {
    /// Name of the policy
    name: String,
    /// Only its shadow
    #[arg(long)]
    shadow: bool,
    /// Only if the policy is at this revision
    #[arg(long, value_name = "N", default_value_t = 0)]
    revision: u64,
}

fn show(done: &str, policy: &v1::Policy, differences: &[String]) -> Outcome {
    let version = if policy.version == 0 { String::new() } else { format!(" version {}", policy.version) };
    line(format!("{}{version} {done}", policy.name))?;
    differences.iter().try_for_each(|difference| line(format!("  {difference}")))
}

/// Applies a bundle.
pub(super) async fn apply(args: ApplyArgs, options: &ClientArgs) -> Outcome {
    let yaml = problems::read(&args.file)?;
    let bundle =
        Bundle::parse(&yaml).map_err(|problems| problems::unusable("bundle", &args.file, &problems))?;
    let request = v1::ApplyPolicyRequest {
        name: bundle.name.to_string(),
        yaml,
        validate_only: args.validate_only,
        shadow: args.shadow,
        revision: args.revision,
        comment: args.comment,
        request_id: request_id(),
    };
    let reply = options.connect().await?.raw().safety().apply_policy(request).await?.into_inner();
    if options.output != Format::Table {
        return print_document(options.output, &document("ApplyPolicyResponse", &reply), true);
    }
    let policy = reply.policy.unwrap_or_default();
    let done = match (args.validate_only, reply.created, args.shadow) {
        (true, _, _) => "is sound; nothing was changed",
        (false, true, true) => "is judged by beside what is in force",
        (false, true, false) => "is in force",
        (false, false, _) => "says the same as before; nothing was changed",
    };
    show(done, &policy, &reply.differences)?;
    for warning in reply.warnings {
        note(format!("warning: {}", warning.message));
    }
    Ok(())
}

/// Puts a version in force again.
pub(super) async fn rollback(args: RollbackArgs, options: &ClientArgs) -> Outcome {
    if args.version == 0 {
        return Err(Failure::Usage("versions are numbered from 1; `policy versions NAME` lists them".into()));
    }
    let request = v1::RollbackPolicyRequest {
        name: args.name,
        version: args.version,
        revision: args.revision,
        comment: args.comment,
        request_id: request_id(),
    };
    let reply = options.connect().await?.raw().safety().rollback_policy(request).await?.into_inner();
    match options.output {
        Format::Table => show("is in force", &reply.policy.unwrap_or_default(), &reply.differences),
        format => print_document(format, &document("RollbackPolicyResponse", &reply), true),
    }
}

/// Takes a policy out of force.
pub(super) async fn delete(args: DeleteArgs, options: &ClientArgs) -> Outcome {
    let request = v1::DeletePolicyRequest {
        name: args.name.clone(),
        shadow: args.shadow,
        revision: args.revision,
        request_id: request_id(),
    };
    let reply = options.connect().await?.raw().safety().delete_policy(request).await?.into_inner();
    let what = if args.shadow { "the shadow of " } else { "" };
    match options.output {
        Format::Table if reply.deleted => line(format!("{what}{} is out of force", args.name)),
        Format::Table => line(format!("{what}{} was not in force", args.name)),
        format => print_document(format, &document("DeletePolicyResponse", &reply), true),
    }
}
