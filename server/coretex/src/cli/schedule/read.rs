//! `schedule get`, `list`, `preview`, `fires`.

use super::super::client::ClientArgs;
use super::super::input::{self, of_stamp};
use super::super::shown::{Format, document, note, out, print_document};
use super::super::table::{self, Rows, facts, number};
use super::file;
use crate::outcome::{Failure, Outcome};
use coretex_sdk::raw::v1;
use coretex_sdk::{ListRequest, Schedule, ScheduleCatchUp, ScheduleSpec};
use futures::StreamExt as _;

/// What to preview.
#[derive(Debug, clap::Args)]
pub(crate) struct PreviewArgs {
    /// Id of a schedule
    #[arg(value_name = "ID", conflicts_with = "file", required_unless_present = "file")]
    id: Option<String>,
    /// YAML file of a schedule; - for standard input
    #[arg(long, short, value_name = "FILE")]
    file: Option<String>,
    /// How many times
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(i32).range(1..=100))]
    count: i32,
    /// Times after this one; now unless given
    #[arg(long, value_name = "TIME", value_parser = input::time)]
    after: Option<jiff::Timestamp>,
}

/// Which fires to list.
#[derive(Debug, clap::Args)]
pub(crate) struct FiresArgs {
    /// Id of a schedule; all unless given
    #[arg(value_name = "ID", default_value = "")]
    id: String,
    /// Filter over outcome, cause, reason, target_id and nominal_time, for example: outcome = FAILED
    #[arg(long, value_name = "EXPR", default_value = "")]
    filter: String,
    /// Earliest first
    #[arg(long)]
    oldest_first: bool,
    /// Most fires to show
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

/// Most items on one page.
const PAGE_MAX: u32 = 1_000;

/// Shows one.
pub(super) async fn get(schedule_id: String, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    if options.output == Format::Table {
        return out(&text(&client.get_schedule(schedule_id).await?));
    }
    let payload_format = v1::PayloadFormat::Json.into();
    let request = v1::GetScheduleRequest { schedule_id, payload_format };
    let reply = client.raw().schedules().get_schedule(request).await?.into_inner();
    print_document(options.output, &document("GetScheduleResponse", &reply), true)
}

fn when(spec: &ScheduleSpec) -> String {
    match spec.interval() {
        Some(interval) => format!("every {}", crate::units::Span(interval)),
        None => format!("{} ({})", spec.expression(), spec.zone()),
    }
}

fn what(spec: &ScheduleSpec) -> String {
    let job = spec.job_request().map(|job| format!("job {}", job.topic()));
    job.or_else(|| spec.workflow().map(|name| format!("run of {name}"))).unwrap_or_default()
}

fn text(one: &Schedule) -> String {
    let of_spec = |tell: fn(&ScheduleSpec) -> String| one.spec.as_ref().map(tell).unwrap_or_default();
    let missed = |spec: &ScheduleSpec| match spec.on_missed() {
        (ScheduleCatchUp::All, most) => format!("ALL, at most {most}"),
        (other, _) => other.to_string(),
    };
    let pause = one.pause.as_ref();
    let last = one.last_fire.as_ref();
    facts(&[
        ("schedule", one.schedule_id.clone()),
        ("description", of_spec(|spec| spec.about().to_owned())),
        ("starts", of_spec(what)),
        ("when", of_spec(when)),
        ("overlap", of_spec(|spec| spec.on_overlap().to_string())),
        ("missed times", of_spec(missed)),
        ("in the name of", one.creator.clone()),
        ("paused", pause.map(|p| format!("since {} {}", table::time(p.time), p.reason)).unwrap_or_default()),
        ("next", table::time(one.next_fire_time)),
        (
            "last",
            last.map(|f| {
                format!("{} {} {} {}", table::time(f.nominal_time), f.outcome, f.target_id, f.reason)
            })
            .unwrap_or_default(),
        ),
        ("counts", format!("{} started, {} skipped, {} failed", one.started, one.skipped, one.failed)),
        ("in line", if one.pending > 0 { one.pending.to_string() } else { String::new() }),
        ("backfills", if one.backfills > 0 { one.backfills.to_string() } else { String::new() }),
        ("revision", one.revision.to_string()),
        ("applied", table::time(one.update_time)),
    ])
}

/// Lists schedules.
pub(super) async fn list(filter: String, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    if options.output != Format::Table {
        let mut reply = v1::ListSchedulesResponse::default();
        loop {
            let request = v1::ListSchedulesRequest {
                filter: filter.clone(),
                page_size: i32::try_from(PAGE_MAX).unwrap_or_default(),
                page_token: std::mem::take(&mut reply.next_page_token),
                ..Default::default()
            };
            let page = client.raw().schedules().list_schedules(request).await?.into_inner();
            reply.schedules.extend(page.schedules);
            reply.next_page_token = page.next_page_token;
            if reply.next_page_token.is_empty() {
                return print_document(options.output, &document("ListSchedulesResponse", &reply), true);
            }
        }
    }
    let mut rows = Rows::new(["ID", "STARTS", "WHEN", "NEXT", "LAST", "STARTED", "FAILED", "PAUSED"]);
    let mut all = std::pin::pin!(client.list_all_schedules(ListRequest::filter(filter).page_size(1_000)));
    while let Some(one) = all.next().await.transpose()? {
        rows.add([
            one.schedule_id.as_str().into(),
            one.spec.as_ref().map(what).unwrap_or_default().into(),
            one.spec.as_ref().map(when).unwrap_or_default().into(),
            table::time(one.next_fire_time).into(),
            one.last_fire.as_ref().map(|fire| fire.outcome.to_string()).unwrap_or_default().into(),
            number(one.started.unsigned_abs()),
            number(one.failed.unsigned_abs()),
            one.pause.map(|pause| format!("yes {}", pause.reason)).unwrap_or_default().into(),
        ]);
    }
    if rows.is_empty() {
        note("no schedules");
        return Ok(());
    }
    out(&rows.text())
}

/// Shows what comes.
pub(super) async fn preview(args: PreviewArgs, options: &ClientArgs) -> Outcome {
    let of = match (args.id, &args.file) {
        (Some(id), _) => v1::preview_schedule_request::Of::ScheduleId(id),
        (None, Some(path)) => v1::preview_schedule_request::Of::Spec(file::read(path)?.spec),
        (None, None) => return Err(Failure::Usage("give the id of a schedule, or --file FILE".into())),
    };
    let request = v1::PreviewScheduleRequest {
        of: Some(of),
        count: args.count,
        after_time: args.after.map(input::stamp),
    };
    let client = options.connect().await?;
    let reply = client.raw().schedules().preview_schedule(request).await?.into_inner();
    if options.output != Format::Table {
        return print_document(options.output, &document("PreviewScheduleResponse", &reply), true);
    }
    let mut rows = Rows::new(["LOCAL TIME", "HANDLED", "NOTE"]);
    for one in &reply.times {
        rows.add([
            one.local_time.as_str().into(),
            table::time(one.fire_time.and_then(of_stamp)).into(),
            one.note.as_str().into(),
        ]);
    }
    if rows.is_empty() {
        note("no time is left");
        return Ok(());
    }
    out(&rows.text())
}

/// Lists what became of times.
pub(super) async fn fires(args: FiresArgs, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    let order_by = if args.oldest_first { "nominal_time asc" } else { "" };
    if options.output != Format::Table {
        let mut reply = v1::ListScheduleFiresResponse::default();
        loop {
            let left = args.limit.saturating_sub(u32::try_from(reply.fires.len()).unwrap_or(u32::MAX));
            let request = v1::ListScheduleFiresRequest {
                schedule_id: args.id.clone(),
                filter: args.filter.clone(),
                page_size: i32::try_from(left.min(PAGE_MAX)).unwrap_or_default(),
                page_token: std::mem::take(&mut reply.next_page_token),
                order_by: order_by.into(),
            };
            let page = client.raw().schedules().list_schedule_fires(request).await?.into_inner();
            reply.fires.extend(page.fires);
            reply.next_page_token = page.next_page_token;
            if reply.next_page_token.is_empty() || reply.fires.len() >= args.limit as usize {
                return print_document(options.output, &document("ListScheduleFiresResponse", &reply), true);
            }
        }
    }
    let request = ListRequest::filter(args.filter)
        .order_by(order_by)
        .page_size(u16::try_from(args.limit.min(PAGE_MAX)).unwrap_or(u16::MAX));
    let all = client.list_all_schedule_fires(args.id, request).take(args.limit as usize);
    let mut all = std::pin::pin!(all);
    let mut rows = Rows::new(["SCHEDULE", "TIME", "CAUSE", "OUTCOME", "TARGET", "HANDLED", "WHY"]);
    while let Some(fire) = all.next().await.transpose()? {
        let why = [fire.reason.as_str(), fire.message.as_str()].join(" ");
        rows.add([
            fire.schedule_id.as_str().into(),
            table::time(fire.nominal_time).into(),
            fire.cause.as_str().into(),
            fire.outcome.as_str().into(),
            fire.target_id.as_str().into(),
            table::time(fire.fire_time).into(),
            why.trim().into(),
        ]);
    }
    if rows.is_empty() {
        note("nothing yet");
        return Ok(());
    }
    out(&rows.text())
}
