//! `schedule apply`, `pause`, `resume`, `trigger`, `delete`, `backfill`.

use super::super::client::{ClientArgs, request_id};
use super::super::input::{self, of_stamp};
use super::super::shown::{Format, document, line, note, print_document};
use super::super::table;
use super::file;
use crate::outcome::{Failure, Outcome, REFUSED};
use coretex_sdk::raw::v1;

/// What to apply.
#[derive(Debug, clap::Args)]
pub(crate) struct ApplyArgs {
    /// YAML files, one schedule each; - for standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// Its id, where the file names none
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Only if it is at this revision
    #[arg(long, value_name = "N", default_value_t = 0)]
    revision: u64,
}

/// What to start.
#[derive(Debug, clap::Args)]
pub(crate) struct TriggerArgs {
    /// Its id
    #[arg(value_name = "ID")]
    id: String,
    /// Name of this call: a repeat with the same name starts nothing more
    #[arg(long, value_name = "NAME")]
    request_id: Option<String>,
}

/// What to start the target for.
#[derive(Debug, clap::Args)]
pub(crate) struct BackfillArgs {
    /// Its id
    #[arg(value_name = "ID")]
    id: String,
    /// From this time on, at most 90 days ago
    #[arg(long, value_name = "TIME", value_parser = input::time)]
    from: jiff::Timestamp,
    /// Up to this time, without it; now unless given
    #[arg(long, value_name = "TIME", value_parser = input::time)]
    to: Option<jiff::Timestamp>,
    /// One after the other, rather than all at once
    #[arg(long)]
    sequential: bool,
}

/// Applies schedules, in the order of the files.
pub(super) async fn apply(args: ApplyArgs, options: &ClientArgs) -> Outcome {
    if args.files.len() > 1 && (args.id.is_some() || args.revision != 0) {
        return Err(Failure::Usage("--id and --revision go with one file".into()));
    }
    // All are read before the first is applied.
    let written: Vec<file::Written> =
        args.files.iter().map(|path| file::read(path)).collect::<Outcome<_>>()?;
    let client = options.connect().await?;
    let is_only = written.len() == 1;
    for one in written {
        let request = v1::ApplyScheduleRequest {
            schedule_id: args.id.clone().unwrap_or(one.schedule_id),
            spec: Some(one.spec),
            revision: args.revision,
            request_id: request_id(),
        };
        let reply = client.raw().schedules().apply_schedule(request).await?.into_inner();
        for warning in &reply.warnings {
            note(format!("warning: {} ({})", warning.message, warning.reason));
        }
        let created = if reply.created { "  created" } else { "" };
        print(options, "ApplyScheduleResponse", &reply, reply.schedule.as_ref(), created, is_only)?;
    }
    Ok(())
}

/// Pauses one.
pub(super) async fn pause(schedule_id: String, reason: String, options: &ClientArgs) -> Outcome {
    let request = v1::PauseScheduleRequest { schedule_id, reason, request_id: request_id() };
    let client = options.connect().await?;
    let reply = client.raw().schedules().pause_schedule(request).await?.into_inner();
    print(options, "PauseScheduleResponse", &reply, reply.schedule.as_ref(), "  paused", true)
}

/// Resumes one.
pub(super) async fn resume(schedule_id: String, options: &ClientArgs) -> Outcome {
    let request = v1::ResumeScheduleRequest { schedule_id, request_id: request_id() };
    let client = options.connect().await?;
    let reply = client.raw().schedules().resume_schedule(request).await?.into_inner();
    print(options, "ResumeScheduleResponse", &reply, reply.schedule.as_ref(), "", true)
}

fn print<M: prost::Message>(
    options: &ClientArgs,
    name: &str,
    reply: &M,
    schedule: Option<&v1::Schedule>,
    what: &str,
    is_last: bool,
) -> Outcome {
    match (options.output, schedule) {
        (Format::Table, Some(one)) => {
            let next = table::time(one.next_fire_time.and_then(of_stamp));
            let next = if next.is_empty() { next } else { format!("  next {next}") };
            line(format!("{}  revision {}{what}{next}", one.schedule_id, one.revision))
        }
        (Format::Table, None) => Ok(()),
        (format, _) => print_document(format, &document(name, reply), is_last),
    }
}

/// Starts the target now. A refused start is no success.
pub(super) async fn trigger(args: TriggerArgs, options: &ClientArgs) -> Outcome {
    let request_id = args.request_id.unwrap_or_else(request_id);
    let request = v1::TriggerScheduleRequest { schedule_id: args.id, request_id };
    let client = options.connect().await?;
    let reply = client.raw().schedules().trigger_schedule(request).await?.into_inner();
    let fire = reply.fire.clone().unwrap_or_default();
    match options.output {
        Format::Table => {
            let outcome = fire.outcome().as_str_name().trim_start_matches("SCHEDULE_FIRE_OUTCOME_");
            let parts = [outcome, &fire.target_id, &fire.reason, &fire.message];
            let said: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            line(said.join("  "))?;
        }
        format => print_document(format, &document("TriggerScheduleResponse", &reply), true)?,
    }
    match fire.outcome() {
        v1::ScheduleFireOutcome::Started | v1::ScheduleFireOutcome::Pending => Ok(()),
        v1::ScheduleFireOutcome::Failed
        | v1::ScheduleFireOutcome::Skipped
        | v1::ScheduleFireOutcome::Unspecified => Err(Failure::Said(REFUSED)),
    }
}

/// Takes one away.
pub(super) async fn delete(schedule_id: String, revision: u64, options: &ClientArgs) -> Outcome {
    let request =
        v1::DeleteScheduleRequest { schedule_id: schedule_id.clone(), revision, request_id: request_id() };
    let client = options.connect().await?;
    let reply = client.raw().schedules().delete_schedule(request).await?.into_inner();
    match options.output {
        Format::Table if reply.deleted => line(format!("{schedule_id}  deleted")),
        Format::Table => line(format!("{schedule_id}  was not there")),
        format => print_document(format, &document("DeleteScheduleResponse", &reply), true),
    }
}

/// Puts times of the past in line.
pub(super) async fn backfill(args: BackfillArgs, options: &ClientArgs) -> Outcome {
    let request = v1::BackfillScheduleRequest {
        schedule_id: args.id.clone(),
        from_time: Some(input::stamp(args.from)),
        to_time: args.to.map(input::stamp),
        sequential: args.sequential,
        request_id: request_id(),
    };
    let client = options.connect().await?;
    let reply = client.raw().schedules().backfill_schedule(request).await?.into_inner();
    match options.output {
        Format::Table if reply.count == 0 => line(format!("{}  has no times there", args.id)),
        Format::Table => {
            let time = |time: Option<_>| table::time(time.and_then(of_stamp));
            let (first, last) = (time(reply.first_time), time(reply.last_time));
            line(format!("{}  {} times from {first} to {last}", args.id, reply.count))
        }
        format => print_document(format, &document("BackfillScheduleResponse", &reply), true),
    }
}
