//! `dlq delete` and `dlq purge`.

use super::super::client::{ClientArgs, request_id};
use super::super::input;
use super::super::shown::{Format, document, line, print_document};
use super::MatchArgs;
use super::retry::show_preview;
use crate::outcome::{Failure, Outcome};
use crate::units::Span;
use coretex_sdk::raw::v1;
use coretex_sdk::{Client, Purge};

/// What to delete.
#[derive(Debug, clap::Args)]
pub(crate) struct PurgeArgs {
    #[command(flatten)]
    which: MatchArgs,
    /// Only what was left before this time, for example 2027-01-31T09:00:00Z
    #[arg(long, value_name = "TIME", value_parser = input::time)]
    before: Option<jiff::Timestamp>,
    /// Only what was left longer ago than this, for example 7d
    #[arg(long, value_name = "SPAN", conflicts_with = "before")]
    older_than: Option<Span>,
    /// All of the namespace
    #[arg(long, conflicts_with_all = ["filter", "topic", "state", "fingerprint", "before", "older_than"])]
    all: bool,
    /// Only say how many would be deleted, and show some
    #[arg(long)]
    preview: bool,
    /// Yes, delete them
    #[arg(long, conflicts_with = "preview")]
    yes: bool,
}

/// Deletes by id. One after the other: the first refusal ends it.
pub(super) async fn delete(ids: Vec<String>, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    for id in ids {
        let request = v1::DeleteDeadLetterRequest { dead_letter_id: id.clone(), request_id: request_id() };
        let reply = client.raw().dlq().delete_dead_letter(request).await?.into_inner();
        match options.output {
            Format::Table => {
                line(format!("{id}  {}", if reply.deleted { "deleted" } else { "was deleted before" }))?;
            }
            format => print_document(format, &document("DeleteDeadLetterResponse", &reply), false)?,
        }
    }
    Ok(())
}

/// Deletes all that match.
pub(super) async fn purge(args: PurgeArgs, options: &ClientArgs) -> Outcome {
    let filter = args.which.filter();
    let before = match (args.before, args.older_than) {
        (Some(time), _) => Some(time.into()),
        (None, Some(Span(age))) => Some(std::time::SystemTime::now() - age),
        (None, None) => None,
    };
    let purge = match (args.all, before) {
        (true, _) => Purge::all(),
        (false, Some(time)) => Purge::filter(filter).and_before(time),
        (false, None) if filter.is_empty() => {
            return Err(Failure::Usage(
                "which dead letters? give --filter, --topic, --state, --fingerprint, --before, --older-than, or --all".into(),
            ));
        }
        (false, None) => Purge::filter(filter),
    };
    if !args.preview && !args.yes {
        return Err(Failure::Usage(
            "deleting cannot be undone: look with --preview, then repeat with --yes".into(),
        ));
    }
    let client = options.connect().await?;
    if options.output != Format::Table {
        let request = v1::PurgeDeadLettersRequest {
            filter: args.which.filter(),
            before_time: before.and_then(|time| jiff::Timestamp::try_from(time).ok()).map(input::stamp),
            all: args.all,
            preview: args.preview,
            request_id: request_id(),
        };
        return purge_as_document(&client, request, options.output).await;
    }
    if args.preview {
        return show_preview(client.preview_purge(&purge).await?, "would be deleted");
    }
    line(format!("{} dead letters deleted", client.purge_dead_letters(purge).await?))
}

async fn purge_as_document(client: &Client, request: v1::PurgeDeadLettersRequest, format: Format) -> Outcome {
    let mut purged = 0;
    loop {
        let mut reply = client.raw().dlq().purge_dead_letters(request.clone()).await?.into_inner();
        purged += reply.purged;
        if !reply.more {
            reply.purged = purged;
            return print_document(format, &document("PurgeDeadLettersResponse", &reply), true);
        }
    }
}
