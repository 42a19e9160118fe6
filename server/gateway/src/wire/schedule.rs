//! Schedules. In: a spec from the wire. Out: a checked definition and warnings. Refused: every bad field at once.

use super::spec::SpecReader;
use super::time::{instant, span};
use super::{Faults, payload};
use coretex_contract::v1 as pb;
use coretex_domain::names::{check_key, shown};
use coretex_domain::{Refusal, Span, Time};
use coretex_schedule::limits::{
    CATCH_UP_DEFAULT, CATCH_UP_MAX, DESCRIPTION_LEN_MAX, INTERVAL_MAX, INTERVAL_MIN, JITTER_MAX,
};
use coretex_schedule::{CatchUp, Cron, Definition, Overlap, Rule, Target, Timing, Zone};
use std::sync::Arc;

mod write;

pub(crate) use write::{fire, write, write_preview};

/// Reads a spec that is to be applied.
pub(crate) fn definition(
    reader: &mut SpecReader,
    payload_max: usize,
    spec: Option<pb::ScheduleSpec>,
) -> Result<(Definition, Vec<pb::Warning>), Refusal> {
    let Some(mut spec) = spec else { return Err(Refusal::field("spec", "required")) };
    let mut faults = Faults::default();
    let mut warnings = Vec::new();
    let target = match spec.target.take() {
        None => {
            faults.add("spec.job", "required: a job, or a run of a workflow as spec.run");
            None
        }
        Some(pb::schedule_spec::Target::Job(job)) => job_target(&mut faults, reader, job, &mut warnings),
        Some(pb::schedule_spec::Target::Run(run)) => run_target(&mut faults, run, payload_max),
    };
    faults.text("spec.description", &spec.description, DESCRIPTION_LEN_MAX);
    let rule = read_rule(&mut faults, &spec, reader.now);
    let catch_up = catch_up(&mut faults, &spec);
    let overlap = overlap(&mut faults, &spec);
    faults.into_result()?;
    // Nothing is missing where there are no faults.
    let (Some(rule), Some(target)) = (rule, target) else { return Err(Refusal::field("spec", "required")) };
    Ok((Definition { description: spec.description.into(), rule, catch_up, overlap, target }, warnings))
}

/// Reads the times of a spec, whatever else is in it.
pub(crate) fn rule(spec: &pb::ScheduleSpec, now: Time) -> Result<Rule, Refusal> {
    let mut faults = Faults::default();
    let rule = read_rule(&mut faults, spec, now);
    faults.into_result()?;
    rule.ok_or_else(|| Refusal::field("spec", "required"))
}

fn read_rule(faults: &mut Faults, spec: &pb::ScheduleSpec, now: Time) -> Option<Rule> {
    let timing = timing(faults, spec, now);
    let start = instant(faults, "spec.start_time", spec.start_time, now);
    let end = instant(faults, "spec.end_time", spec.end_time, now);
    if let (Some(start), Some(end)) = (start, end)
        && end <= start
    {
        faults.add("spec.end_time", "must be after spec.start_time");
    }
    let jitter = span(faults, "spec.jitter", spec.jitter, Span::ZERO, JITTER_MAX);
    Some(Rule { timing: timing?, start, end, jitter: jitter.unwrap_or_default() })
}

fn timing(faults: &mut Faults, spec: &pb::ScheduleSpec, now: Time) -> Option<Timing> {
    match (spec.cron.as_str(), spec.interval) {
        ("", None) => {
            faults.add("spec.cron", "required: a cron expression, or an interval as spec.interval");
            None
        }
        ("", Some(interval)) => {
            if !spec.time_zone.is_empty() {
                faults.add("spec.time_zone", "goes with spec.cron; intervals have no time zone");
            }
            let interval = span(faults, "spec.interval", Some(interval), INTERVAL_MIN, INTERVAL_MAX);
            let anchor = instant(faults, "spec.anchor", spec.anchor, now).unwrap_or_default();
            Some(Timing::Every { interval: interval?, anchor })
        }
        (_, Some(_)) => {
            faults.add("spec.interval", "must be left out where spec.cron is given");
            None
        }
        (text, None) => {
            if spec.anchor.is_some() {
                faults.add("spec.anchor", "goes with spec.interval");
            }
            let cron = Cron::parse(text).map_err(|why| faults.add("spec.cron", why)).ok();
            let zone = Zone::find(&spec.time_zone).map_err(|why| faults.add("spec.time_zone", why)).ok();
            Some(Timing::Cron { cron: cron?, zone: zone? })
        }
    }
}

fn catch_up(faults: &mut Faults, spec: &pb::ScheduleSpec) -> CatchUp {
    let most = spec.catch_up_max;
    let given = pb::ScheduleCatchUp::try_from(spec.catch_up);
    if most != 0 && given != Ok(pb::ScheduleCatchUp::All) {
        faults.add("spec.catch_up_max", format!("goes with catch_up ALL, got {most}"));
    }
    match given {
        Ok(pb::ScheduleCatchUp::Skip) => CatchUp::Skip,
        Ok(pb::ScheduleCatchUp::Unspecified | pb::ScheduleCatchUp::One) => CatchUp::One,
        Ok(pb::ScheduleCatchUp::All) => {
            if most > CATCH_UP_MAX {
                faults.add("spec.catch_up_max", format!("must be 1..={CATCH_UP_MAX}, got {most}"));
            }
            CatchUp::All { most: if most == 0 { CATCH_UP_DEFAULT } else { most } }
        }
        Err(_) => {
            faults.add("spec.catch_up", format!("must be SKIP, ONE or ALL, got {}", spec.catch_up));
            CatchUp::One
        }
    }
}

fn overlap(faults: &mut Faults, spec: &pb::ScheduleSpec) -> Overlap {
    match pb::ScheduleOverlap::try_from(spec.overlap) {
        Ok(pb::ScheduleOverlap::Unspecified | pb::ScheduleOverlap::Skip) => Overlap::Skip,
        Ok(pb::ScheduleOverlap::Queue) => Overlap::Queue,
        Ok(pb::ScheduleOverlap::Allow) => Overlap::Allow,
        Ok(pb::ScheduleOverlap::CancelRunning) => Overlap::CancelRunning,
        Err(_) => {
            let message = format!("must be SKIP, QUEUE, ALLOW or CANCEL_RUNNING, got {}", spec.overlap);
            faults.add("spec.overlap", message);
            Overlap::Skip
        }
    }
}

fn job_target(
    faults: &mut Faults,
    reader: &mut SpecReader,
    job: pb::JobSpec,
    warnings: &mut Vec<pb::Warning>,
) -> Option<Target> {
    let own = [
        ("job_id", job.job_id.is_empty()),
        ("idempotency_key", job.idempotency_key.is_empty()),
        ("schedule_time", job.schedule_time.is_none()),
        ("parent_job_id", job.parent_job_id.is_empty()),
        ("trace_id", job.trace_id.is_empty()),
    ];
    for (name, _) in own.iter().filter(|(_, is_empty)| !is_empty) {
        faults.add(format!("spec.job.{name}"), "must be left out: each start has its own");
    }
    // Its input is kept by itself, whatever else came in the buffer.
    match reader.read(Some(job), usize::MAX) {
        Ok((ask, found)) => {
            let within = |one: pb::Warning| pb::Warning { field: within_job(&one.field), ..one };
            warnings.extend(found.into_iter().map(within));
            Some(Target::Job(ask.spec))
        }
        Err(refusal) => {
            for violation in refusal.violations {
                faults.add_as(refusal.reason, within_job(&violation.field), violation.message);
            }
            None
        }
    }
}

/// `spec.topic` as `spec.job.topic`.
fn within_job(field: &str) -> String {
    match field.strip_prefix("spec") {
        Some(rest) => format!("spec.job{rest}"),
        None => field.to_owned(),
    }
}

fn run_target(faults: &mut Faults, run: pb::ScheduledRun, payload_max: usize) -> Option<Target> {
    if run.workflow.is_empty() {
        faults.add("spec.run.workflow", "required");
    } else if let Err(message) = check_key(&run.workflow) {
        faults.add("spec.run.workflow", format!("{message}, got {}", shown(&run.workflow)));
    }
    if run.version == Some(0) {
        faults.add("spec.run.version", "must be 1 or more; left out, it is the newest at each start");
    }
    let input = payload::read(faults, "spec.run.input", run.input, payload_max, usize::MAX);
    let labels: Vec<(Arc<str>, Arc<str>)> = faults.labels("spec.run.labels", run.labels.into_iter());
    Some(Target::Run { workflow: run.workflow.into(), version: run.version, input, labels })
}
