//! Schedules, their states and their fires as bodies of resources. Ids, times and revisions of a schedule are in the head.

use crate::decode::{pairs_of, payload_of, spec_of};
use crate::encode::{put_pairs, put_payload, put_spec};
use crate::{Damaged, Interner, VERSION, check_version, put, wire};
use bytes::Bytes;
use coretex_domain::resource::Resource;
use coretex_domain::{Span, Time};
use coretex_schedule::{
    Backfill, CatchUp, Cause, Cron, Definition, Fire, Outcome, Overlap, Pause, Pending, Rule, Schedule,
    State, Target, Timing, Zone,
};
use prost::Message as _;
use std::sync::Arc;

// === schedules ===

pub fn write_schedule(creator: &str, definition: &Definition) -> Bytes {
    let mut buf = Vec::with_capacity(256);
    let rule = &definition.rule;
    put::uint(&mut buf, 1, u64::from(VERSION));
    put::text(&mut buf, 2, &definition.description);
    match &rule.timing {
        Timing::Cron { cron, zone } => {
            put::text(&mut buf, 3, cron.text());
            put::text(&mut buf, 4, zone.name());
        }
        Timing::Every { interval, anchor } => {
            put::uint(&mut buf, 5, interval.0);
            put::uint(&mut buf, 6, anchor.0);
        }
    }
    put::opt_uint(&mut buf, 7, rule.start.map(|time| time.0));
    put::opt_uint(&mut buf, 8, rule.end.map(|time| time.0));
    put::uint(&mut buf, 9, rule.jitter.0);
    let (catch_up, most) = match definition.catch_up {
        CatchUp::Skip => (0, 0),
        CatchUp::One => (1, 0),
        CatchUp::All { most } => (2, most),
    };
    put::uint(&mut buf, 10, catch_up);
    put::uint(&mut buf, 11, u64::from(most));
    put::uint(&mut buf, 12, u64::from(definition.overlap.number()));
    put::text(&mut buf, 13, creator);
    match &definition.target {
        Target::Job(spec) => put_spec(&mut buf, 14, spec),
        Target::Run { workflow, version, input, labels } => put::nested(&mut buf, 15, |buf| {
            put::text(buf, 1, workflow);
            put::opt_uint(buf, 2, version.map(u64::from));
            put_payload(buf, 3, input);
            put_pairs(buf, 4, labels);
        }),
    }
    buf.into()
}

pub fn schedule_of(one: &Resource) -> Result<Schedule, Damaged> {
    let row = wire::Schedule::decode(one.body.clone())?;
    check_version(row.version)?;
    let interner = &mut Interner::default();
    let target = match (&row.job, &row.run) {
        (Some(spec), None) => Target::Job(Arc::new(spec_of(spec, interner))),
        (None, Some(run)) => Target::Run {
            workflow: run.workflow.as_str().into(),
            version: run.workflow_version,
            input: run.input.as_ref().map(payload_of).unwrap_or_default(),
            labels: pairs_of(&run.labels, interner),
        },
        (None, None) | (Some(_), Some(_)) => return Err(Damaged("a schedule without one target".into())),
    };
    let catch_up = match row.catch_up {
        0 => CatchUp::Skip,
        1 => CatchUp::One,
        2 => CatchUp::All { most: row.catch_up_most },
        other => return Err(Damaged(format!("a schedule with unknown catch-up {other}"))),
    };
    let overlap = Overlap::from_number(row.overlap);
    Ok(Schedule {
        namespace: one.namespace.clone(),
        id: one.name.clone(),
        definition: Definition {
            description: row.description.as_str().into(),
            rule: Rule {
                timing: timing_of(&row)?,
                start: row.start.map(Time),
                end: row.end.map(Time),
                jitter: Span(row.jitter),
            },
            catch_up,
            overlap: overlap.ok_or_else(|| Damaged(format!("a schedule with overlap {}", row.overlap)))?,
            target,
        },
        creator: row.creator.into(),
        revision: one.revision,
        create_time: one.create_time,
        update_time: one.update_time,
    })
}

fn timing_of(row: &wire::Schedule) -> Result<Timing, Damaged> {
    if row.interval > 0 {
        return Ok(Timing::Every { interval: Span(row.interval), anchor: Time(row.anchor) });
    }
    let cron = Cron::parse(&row.cron).map_err(|why| Damaged(format!("cron {}: {why}", row.cron)))?;
    let zone = Zone::find(&row.zone).map_err(|why| Damaged(format!("zone {}: {why}", row.zone)))?;
    Ok(Timing::Cron { cron, zone })
}

// === states ===

pub fn write_state(state: &State) -> Bytes {
    let pending = |one: &Pending| wire::PendingFire {
        nominal: one.nominal.0,
        cause: one.cause.number(),
        token: token_bytes(one.token),
        is_in_line: one.is_in_line,
    };
    let backfill = |one: &Backfill| wire::Backfill {
        from: one.from.0,
        to: one.to.0,
        next: one.next.0,
        is_in_line: one.is_in_line,
        actor: one.actor.to_string(),
        create_time: one.create_time.0,
    };
    let row = wire::ScheduleState {
        version: VERSION,
        cursor: state.cursor.0,
        pause: state.pause.as_ref().map(|pause| wire::SchedulePause {
            reason: pause.reason.to_string(),
            actor: pause.actor.to_string(),
            time: pause.time.0,
        }),
        pending: state.pending.iter().map(pending).collect(),
        backfills: state.backfills.iter().map(backfill).collect(),
        running: state.running.iter().map(ToString::to_string).collect(),
        started: state.started,
        skipped: state.skipped,
        failed: state.failed,
        last: state.last.as_ref().map(fire_row),
    };
    row.encode_to_vec().into()
}

pub fn state_of(body: &Bytes) -> Result<State, Damaged> {
    let row = wire::ScheduleState::decode(body.clone())?;
    check_version(row.version)?;
    let pending = |one: &wire::PendingFire| {
        Ok(Pending {
            nominal: Time(one.nominal),
            cause: cause_of(one.cause)?,
            token: token_of(&one.token)?,
            is_in_line: one.is_in_line,
        })
    };
    let backfill = |one: &wire::Backfill| Backfill {
        from: Time(one.from),
        to: Time(one.to),
        next: Time(one.next),
        is_in_line: one.is_in_line,
        actor: one.actor.as_str().into(),
        create_time: Time(one.create_time),
    };
    Ok(State {
        cursor: Time(row.cursor),
        pause: row.pause.map(|pause| Pause {
            reason: pause.reason.into(),
            actor: pause.actor.into(),
            time: Time(pause.time),
        }),
        pending: row.pending.iter().map(pending).collect::<Result<_, Damaged>>()?,
        backfills: row.backfills.iter().map(backfill).collect(),
        running: row.running.iter().map(|id| id.as_str().into()).collect(),
        started: row.started,
        skipped: row.skipped,
        failed: row.failed,
        last: row.last.as_ref().map(fire_from).transpose()?,
    })
}

// === fires ===

pub fn write_fire(fire: &Fire) -> Bytes {
    fire_row(fire).encode_to_vec().into()
}

pub fn fire_of(body: &Bytes) -> Result<Fire, Damaged> {
    let row = wire::ScheduleFire::decode(body.clone())?;
    fire_from(&row)
}

fn fire_row(fire: &Fire) -> wire::ScheduleFire {
    wire::ScheduleFire {
        version: VERSION,
        schedule_id: fire.schedule_id.to_string(),
        nominal: fire.nominal.0,
        cause: fire.cause.number(),
        token: token_bytes(fire.token),
        outcome: fire.outcome.number(),
        time: fire.time.0,
        target_id: fire.target_id.to_string(),
        reason: fire.reason.to_string(),
        message: fire.message.to_string(),
    }
}

fn fire_from(row: &wire::ScheduleFire) -> Result<Fire, Damaged> {
    check_version(row.version)?;
    let outcome = Outcome::from_number(row.outcome);
    Ok(Fire {
        schedule_id: row.schedule_id.as_str().into(),
        nominal: Time(row.nominal),
        cause: cause_of(row.cause)?,
        token: token_of(&row.token)?,
        outcome: outcome.ok_or_else(|| Damaged(format!("a fire with outcome {}", row.outcome)))?,
        time: Time(row.time),
        target_id: row.target_id.as_str().into(),
        reason: row.reason.as_str().into(),
        message: row.message.as_str().into(),
    })
}

fn cause_of(number: u32) -> Result<Cause, Damaged> {
    Cause::from_number(number).ok_or_else(|| Damaged(format!("a fire with cause {number}")))
}

fn token_bytes(token: u128) -> Bytes {
    if token == 0 { Bytes::new() } else { token.to_be_bytes().to_vec().into() }
}

fn token_of(bytes: &Bytes) -> Result<u128, Damaged> {
    if bytes.is_empty() {
        return Ok(0);
    }
    let whole = <[u8; 16]>::try_from(&bytes[..]);
    whole.map(u128::from_be_bytes).map_err(|_| Damaged(format!("a token of {} bytes", bytes.len())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use coretex_domain::job::Spec;
    use coretex_domain::resource::Kind;
    use coretex_domain::{Namespace, Payload, ShardId};

    fn head(body: Bytes) -> Resource {
        Resource {
            kind: Kind::Schedule,
            namespace: Namespace::new("a"),
            name: "nightly".into(),
            shard: ShardId::CATALOG,
            revision: 3,
            is_live: true,
            create_time: Time(5),
            update_time: Time(6),
            expire_time: None,
            body,
        }
    }

    fn definitions() -> Vec<Definition> {
        let cron = Cron::parse("0 9 L * *").expect("cron");
        let zone = Zone::find("Europe/Berlin").expect("zone");
        let mut spec = Spec::new("job.mail", Payload { data: vec![7; 300].into(), ..Payload::default() });
        spec.options_mut().labels = vec![("team".into(), "a".into())];
        let rule = |timing| Rule { timing, start: Some(Time(7)), end: None, jitter: Span(9) };
        let job = Definition {
            description: "say \"hi\"".into(),
            rule: rule(Timing::Cron { cron, zone }),
            catch_up: CatchUp::All { most: 7 },
            overlap: Overlap::Queue,
            target: Target::Job(Arc::new(spec)),
        };
        let run = Target::Run {
            workflow: "review".into(),
            version: Some(4),
            input: Payload::default(),
            labels: vec![("k".into(), "v".into())],
        };
        let every = rule(Timing::Every { interval: Span::secs(10), anchor: Time(0) });
        let other = Definition { rule: every, catch_up: CatchUp::Skip, target: run, ..job.clone() };
        vec![job, other]
    }

    #[test]
    fn schedules_read_back_as_they_were_written() {
        for definition in definitions() {
            let read = schedule_of(&head(write_schedule("ann", &definition))).expect("readable");
            assert_eq!((&read.definition, &*read.creator, read.revision), (&definition, "ann", 3));
            assert_eq!((read.create_time, read.update_time, &*read.id), (Time(5), Time(6), "nightly"));
        }
    }

    #[test]
    fn states_and_fires_read_back_as_they_were_written() {
        let fire = Fire {
            schedule_id: "nightly".into(),
            nominal: Time(u64::MAX),
            cause: Cause::CatchUp,
            token: u128::MAX - 1,
            outcome: Outcome::Failed,
            time: Time(8),
            target_id: "job_1".into(),
            reason: "STORE_FULL".into(),
            message: "full".into(),
        };
        assert_eq!(fire_of(&write_fire(&fire)), Ok(fire.clone()));
        let state = State {
            cursor: Time(9),
            pause: Some(Pause { reason: "holidays".into(), actor: "bob".into(), time: Time(1) }),
            pending: vec![
                Pending { nominal: Time(4), cause: Cause::Time, token: 0, is_in_line: false },
                Pending { nominal: Time(5), cause: Cause::Trigger, token: 77, is_in_line: true },
            ],
            backfills: vec![Backfill {
                from: Time(1),
                to: Time(9),
                next: Time(3),
                is_in_line: true,
                actor: "bob".into(),
                create_time: Time(2),
            }],
            running: vec!["job_1".into(), "run_2".into()],
            started: 1,
            skipped: 2,
            failed: 3,
            last: Some(fire),
        };
        assert_eq!(state_of(&write_state(&state)), Ok(state));
        assert_eq!(state_of(&write_state(&State::default())), Ok(State::default()));
    }

    #[test]
    fn bytes_of_today_are_read_for_ever() {
        let [job, _] = definitions().try_into().expect("two");
        let plain = Definition { target: Target::Job(Arc::new(Spec::new("t", Payload::default()))), ..job };
        let written = write_schedule("ann", &plain);
        let golden: String = written.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            golden,
            concat!(
                "0801120873617920226869221a09302039204c202a202a220d4575726f70652f4265726c696e",
                "380748095002580760026a03616e6e72070a017412001804"
            )
        );
    }

    #[test]
    fn what_makes_no_sense_is_damaged() {
        let definition = definitions().remove(0);
        let whole = write_schedule("ann", &definition);
        let mut later = wire::Schedule::decode(whole.clone()).expect("decodes");
        later.version = VERSION + 1;
        for bad in [
            later.clone(),
            wire::Schedule { version: 0, ..later.clone() },
            wire::Schedule { version: 1, job: None, ..later.clone() },
            wire::Schedule { version: 1, catch_up: 9, ..later.clone() },
            wire::Schedule { version: 1, overlap: 0, ..later.clone() },
            wire::Schedule { version: 1, cron: "x".into(), ..later.clone() },
            wire::Schedule { version: 1, zone: "Mars".into(), ..later },
        ] {
            assert!(schedule_of(&head(bad.encode_to_vec().into())).is_err(), "{bad:?}");
        }
        assert!(schedule_of(&head(whole.slice(..whole.len() / 2))).is_err());
        assert!(state_of(&Bytes::new()).is_err() && fire_of(&Bytes::from_static(b"\xff")).is_err());
    }
}
