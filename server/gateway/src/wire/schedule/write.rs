//! Schedules and their fires to the wire.

use crate::wire::time::{duration, timestamp};
use crate::wire::{payload, spec};
use coretex_contract::v1 as pb;
use coretex_domain::{JobId, Time};
use coretex_engine::ScheduleInfo;
use coretex_schedule::{CatchUp, Cause, Definition, Fire, Outcome, Overlap, Rule, Schedule, Target, Timing};

/// A schedule; without `format` its input is left out.
pub(crate) fn write(info: &ScheduleInfo, view: pb::View, format: Option<pb::PayloadFormat>) -> pb::Schedule {
    let (schedule, state) = (&info.schedule, &info.state);
    let next = info.next();
    let backfill = |one: &coretex_schedule::Backfill| pb::ScheduleBackfill {
        from_time: Some(timestamp(one.from)),
        to_time: Some(timestamp(one.to)),
        next_time: Some(timestamp(one.next)),
        sequential: one.is_in_line,
        actor: one.actor.to_string(),
        create_time: Some(timestamp(one.create_time)),
    };
    let out = reference(schedule);
    if view == pb::View::Ref {
        return out;
    }
    pb::Schedule {
        spec: Some(write_spec(&schedule.definition, format)),
        pause: state.pause.as_ref().map(|pause| pb::SchedulePause {
            reason: pause.reason.to_string(),
            actor: pause.actor.to_string(),
            time: Some(timestamp(pause.time)),
        }),
        next_nominal_time: next.map(|(nominal, _)| timestamp(nominal)),
        next_fire_time: next.map(|(_, fire_time)| timestamp(fire_time)),
        last_fire: state.last.as_ref().map(fire),
        started: number(state.started),
        skipped: number(state.skipped),
        failed: number(state.failed),
        pending: i32::try_from(state.pending.len()).unwrap_or(i32::MAX),
        backfills: state.backfills.iter().map(backfill).collect(),
        ..out
    }
}

fn reference(schedule: &Schedule) -> pb::Schedule {
    pb::Schedule {
        schedule_id: schedule.id.to_string(),
        creator: schedule.creator.to_string(),
        revision: schedule.revision,
        create_time: Some(timestamp(schedule.create_time)),
        update_time: Some(timestamp(schedule.update_time)),
        ..Default::default()
    }
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn write_spec(definition: &Definition, format: Option<pb::PayloadFormat>) -> pb::ScheduleSpec {
    let rule = &definition.rule;
    let (catch_up, catch_up_max) = match definition.catch_up {
        CatchUp::Skip => (pb::ScheduleCatchUp::Skip, 0),
        CatchUp::One => (pb::ScheduleCatchUp::One, 0),
        CatchUp::All { most } => (pb::ScheduleCatchUp::All, most),
    };
    let overlap = match definition.overlap {
        Overlap::Skip => pb::ScheduleOverlap::Skip,
        Overlap::Queue => pb::ScheduleOverlap::Queue,
        Overlap::Allow => pb::ScheduleOverlap::Allow,
        Overlap::CancelRunning => pb::ScheduleOverlap::CancelRunning,
    };
    let mut out = pb::ScheduleSpec {
        description: definition.description.to_string(),
        start_time: rule.start.map(timestamp),
        end_time: rule.end.map(timestamp),
        jitter: (rule.jitter.0 > 0).then(|| duration(rule.jitter)),
        catch_up: catch_up.into(),
        catch_up_max,
        overlap: overlap.into(),
        target: Some(write_target(&definition.target, format)),
        ..Default::default()
    };
    match &rule.timing {
        Timing::Cron { cron, zone } => {
            out.cron = cron.text().to_string();
            out.time_zone = zone.name().to_owned();
        }
        Timing::Every { interval, anchor } => {
            out.interval = Some(duration(*interval));
            out.anchor = (anchor.0 > 0).then(|| timestamp(*anchor));
        }
    }
    out
}

fn write_target(target: &Target, format: Option<pb::PayloadFormat>) -> pb::schedule_spec::Target {
    match target {
        // The id is that of no job: one that the server makes is not written.
        Target::Job(job) => pb::schedule_spec::Target::Job(spec::write(job, &JobId::Made(0), format)),
        Target::Run { workflow, version, input, labels } => {
            pb::schedule_spec::Target::Run(pb::ScheduledRun {
                workflow: workflow.to_string(),
                version: *version,
                input: format.and_then(|format| payload::write(input, format)),
                labels: spec::labels(labels),
            })
        }
    }
}

/// What became of a time.
pub(crate) fn fire(fire: &Fire) -> pb::ScheduleFire {
    let cause = match fire.cause {
        Cause::Time => pb::ScheduleFireCause::Time,
        Cause::CatchUp => pb::ScheduleFireCause::CatchUp,
        Cause::Trigger => pb::ScheduleFireCause::Trigger,
        Cause::Backfill => pb::ScheduleFireCause::Backfill,
    };
    let outcome = match fire.outcome {
        Outcome::Pending => pb::ScheduleFireOutcome::Pending,
        Outcome::Started => pb::ScheduleFireOutcome::Started,
        Outcome::Skipped => pb::ScheduleFireOutcome::Skipped,
        Outcome::Failed => pb::ScheduleFireOutcome::Failed,
    };
    pb::ScheduleFire {
        schedule_id: fire.schedule_id.to_string(),
        nominal_time: Some(timestamp(fire.nominal)),
        cause: cause.into(),
        outcome: outcome.into(),
        fire_time: Some(timestamp(fire.time)),
        target_id: fire.target_id.to_string(),
        reason: fire.reason.to_string(),
        message: fire.message.to_string(),
    }
}

/// The next times of a rule.
pub(crate) fn write_preview(rule: &Rule, seed: u64, after: Time, count: usize) -> Vec<pb::PreviewedTime> {
    let first = rule.next(after);
    let times = std::iter::successors(first, |last| rule.next(last.time)).take(count);
    let write = |one: coretex_schedule::Occurrence| pb::PreviewedTime {
        nominal_time: Some(timestamp(one.time)),
        fire_time: Some(timestamp(rule.fire_time(seed, one.time))),
        local_time: rule.timing.print(one.time),
        note: one.note.map(|note| note.to_string()).unwrap_or_default(),
    };
    times.map(write).collect()
}
