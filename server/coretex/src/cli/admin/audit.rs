//! `coretex admin audit`: who did what, or was refused.

use super::super::client::ClientArgs;
use super::super::input::{all_of, equals, of_stamp};
use super::super::shown::{Format, document, line, note, out, print_document};
use super::super::table::{self, Rows, facts, number};
use super::directory;
use crate::outcome::{Failure, Outcome, REFUSED};
use crate::wiring;
use coretex_sdk::raw::v1;

/// Records on one page.
const PAGE: i32 = 1_000;

/// Commands about audit records.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum AuditCommand {
    /// List records, newest first
    List(ListArgs),
    /// Write all records that match, oldest first, one JSON document on a line
    Export {
        /// Filter, as in `list`
        #[arg(long, value_name = "EXPR", default_value = "")]
        filter: String,
    },
    /// Check that no record was changed, taken out or put in
    Verify {
        /// Check a store that no server has open: its directory, or file:PATH. Left out: ask the server
        #[arg(long, value_name = "DIR")]
        store: Option<String>,
    },
}

/// Which records to list.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Filter, for example: outcome != OK AND time > "2027-01-01T00:00:00Z"
    #[arg(long, value_name = "EXPR")]
    filter: Option<String>,
    /// Only this identity
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// Only this method, for example JobService/CancelJob
    #[arg(long, value_name = "NAME")]
    method: Option<String>,
    /// Only what was done to this, for example a job id
    #[arg(long, value_name = "ID")]
    subject: Option<String>,
    /// Most records to show
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(i32).range(1..=1_000))]
    limit: i32,
    /// Continue after a page
    #[arg(long, value_name = "TOKEN", default_value = "")]
    page_token: String,
}

/// Runs the command.
pub(crate) async fn run(command: AuditCommand, options: &ClientArgs) -> Outcome {
    match command {
        AuditCommand::List(args) => list(args, options).await,
        AuditCommand::Export { filter } => export(filter, options).await,
        AuditCommand::Verify { store: Some(store) } => verify_store(&store, options.output).await,
        AuditCommand::Verify { store: None } => verify(options).await,
    }
}

async fn list(args: ListArgs, options: &ClientArgs) -> Outcome {
    let named = [("actor", args.actor), ("method", args.method), ("subject", args.subject)];
    let named = named.into_iter().filter_map(|(field, value)| Some(equals(field, &value?)));
    let request = v1::ListAuditRecordsRequest {
        filter: all_of(args.filter.into_iter().chain(named)),
        page_size: args.limit,
        page_token: args.page_token,
        ..Default::default()
    };
    let reply = options.connect().await?.raw().audit().list_audit_records(request).await?.into_inner();
    if options.output != Format::Table {
        return print_document(options.output, &document("ListAuditRecordsResponse", &reply), true);
    }
    let mut rows = Rows::new(["NO", "TIME", "ACTOR", "NAMESPACE", "METHOD", "SUBJECT", "OUTCOME", "REASON"]);
    for record in reply.records {
        rows.add([
            number(record.sequence),
            table::time(record.time.and_then(of_stamp)).into(),
            record.actor.into(),
            record.namespace.into(),
            record.method.into(),
            record.subject.into(),
            record.outcome.into(),
            record.reason.into(),
        ]);
    }
    if rows.is_empty() {
        note("no records");
        return Ok(());
    }
    out(&rows.text())?;
    if !reply.next_page_token.is_empty() {
        note(format!("more: --page-token {}", reply.next_page_token));
    }
    Ok(())
}

async fn export(filter: String, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    let mut page_token = String::new();
    loop {
        let request = v1::ListAuditRecordsRequest {
            filter: filter.clone(),
            page_size: PAGE,
            page_token,
            order_by: "sequence asc".into(),
        };
        let reply = client.raw().audit().list_audit_records(request).await?.into_inner();
        for record in &reply.records {
            print_document(Format::Json, &document("AuditRecord", record), false)?;
        }
        page_token = reply.next_page_token;
        if page_token.is_empty() {
            return Ok(());
        }
    }
}

async fn verify(options: &ClientArgs) -> Outcome {
    let request = v1::VerifyAuditRecordsRequest {};
    let reply = options.connect().await?.raw().audit().verify_audit_records(request).await?.into_inner();
    show(&reply, options.output)
}

async fn verify_store(store: &str, format: Format) -> Outcome {
    let directory = directory(store);
    let found = wiring::verify_audit(&directory)
        .await
        .map_err(|error| Failure::machine(format!("cannot check {}", directory.display()), error))?;
    let (broken_sequence, broken) =
        found.broken.map_or((0, String::new()), |broken| (broken.sequence, broken.what));
    let reply = v1::VerifyAuditRecordsResponse {
        sound: broken.is_empty(),
        checked: found.checked,
        first_sequence: found.first,
        last_sequence: found.end.sequence,
        last_hash: found.end.hash.to_string(),
        broken_sequence,
        broken,
    };
    show(&reply, format)
}

fn show(reply: &v1::VerifyAuditRecordsResponse, format: Format) -> Outcome {
    match format {
        Format::Table => {
            let broken = match reply.sound {
                true => String::new(),
                false => format!("at record {}: {}", reply.broken_sequence, reply.broken),
            };
            out(&facts(&[
                ("records", reply.checked.to_string()),
                ("first", reply.first_sequence.to_string()),
                ("last", reply.last_sequence.to_string()),
                ("last hash", reply.last_hash.clone()),
                ("broken", broken),
            ]))?;
            line(if reply.sound { "sound" } else { "NOT sound" })?;
        }
        format => print_document(format, &document("VerifyAuditRecordsResponse", reply), true)?,
    }
    if reply.sound { Ok(()) } else { Err(Failure::Said(REFUSED)) }
}
