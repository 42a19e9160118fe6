//! Children of a job from the wire, and their ids to it.

use crate::wire::Faults;
use crate::wire::spec::SpecReader;
use coretex_contract::v1 as pb;
use coretex_domain::job::Spec;
use coretex_domain::limits::{SPAWN_MAX, SPAWN_NAME_LEN_MAX};
use coretex_domain::names::shown;
use coretex_engine::api::{SpawnAsk, Spawned};
use prost::Message;
use std::sync::Arc;

const FIELD: &str = "ask.spawn";

pub(super) fn read(faults: &mut Faults, ask: pb::SpawnAsk, ask_id: u64, reader: &mut SpecReader) -> SpawnAsk {
    let close_with_parent = match pb::ParentClosePolicy::try_from(ask.parent_close_policy) {
        Ok(pb::ParentClosePolicy::Unspecified | pb::ParentClosePolicy::Abandon) => false,
        Ok(pb::ParentClosePolicy::Cancel) => true,
        Err(_) => {
            let rule = format!("must be ABANDON or CANCEL, got {}", ask.parent_close_policy);
            faults.add(format!("{FIELD}.parent_close_policy"), rule);
            false
        }
    };
    faults.text("ask.spawn.name", &ask.name, SPAWN_NAME_LEN_MAX);
    if ask.name.chars().any(char::is_control) {
        faults.add(format!("{FIELD}.name"), format!("must be printable, got {}", shown(&ask.name)));
    }
    let name = if ask.name.is_empty() { ask_id.to_string() } else { ask.name };
    let count = ask.specs.len();
    let mut specs = Vec::new();
    match count {
        0 => faults.add(format!("{FIELD}.specs"), "required: at least one"),
        1..=SPAWN_MAX => {
            let read = |(index, given)| spec(faults, index, given, reader);
            specs = ask.specs.into_iter().enumerate().filter_map(read).collect();
        }
        _ => faults.add(format!("{FIELD}.specs"), format!("at most {SPAWN_MAX}, got {count}")),
    }
    SpawnAsk { name: name.into(), specs, close_with_parent }
}

/// One spec. Who its parent is the engine says; what is given instead of that is checked by it.
fn spec(faults: &mut Faults, index: usize, given: pb::JobSpec, reader: &mut SpecReader) -> Option<Arc<Spec>> {
    let field = format!("{FIELD}.specs[{index}]");
    for (name, value) in [("job_id", &given.job_id), ("idempotency_key", &given.idempotency_key)] {
        if !value.is_empty() {
            let rule = format!("must be left out: the question names its children, got {}", shown(value));
            faults.add(format!("{field}.{name}"), rule);
        }
    }
    let size = given.encoded_len();
    match reader.read(Some(given), size) {
        Ok((asked, _warnings)) => Some(asked.spec),
        Err(refusal) => {
            for violation in &refusal.violations {
                let path = violation.field.strip_prefix("spec").unwrap_or(&violation.field);
                faults.add_as(refusal.reason, format!("{field}{path}"), violation.message.clone());
            }
            if refusal.violations.is_empty() {
                faults.add_as(refusal.reason, field, refusal.message);
            }
            None
        }
    }
}

pub(super) fn write(spawned: &Spawned) -> pb::Spawned {
    pb::Spawned { job_ids: spawned.jobs.iter().map(ToString::to_string).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coretex_domain::{Reason, Refusal, Time};

    fn asked(ask: pb::SpawnAsk) -> Result<SpawnAsk, Refusal> {
        let mut faults = Faults::default();
        let mut reader = SpecReader::new(Time(1), 1 << 20, None);
        let read = read(&mut faults, ask, 7, &mut reader);
        faults.into_result().map(|()| read)
    }

    fn spec(topic: &str) -> pb::JobSpec {
        pb::JobSpec { topic: topic.into(), ..pb::JobSpec::default() }
    }

    fn of(specs: Vec<pb::JobSpec>) -> pb::SpawnAsk {
        pb::SpawnAsk { specs, ..pb::SpawnAsk::default() }
    }

    #[test]
    fn all_that_is_wrong_is_said_by_item() {
        let specs = vec![
            spec("job.a"),
            pb::JobSpec { job_id: "mine".into(), idempotency_key: "k".into(), ..spec("job.b") },
            pb::JobSpec { priority: Some(10), ..spec("") },
        ];
        let refusal = asked(pb::SpawnAsk { parent_close_policy: 9, ..of(specs) }).err();
        let refusal = refusal.filter(|refusal| refusal.reason == Reason::InvalidField).expect("refused");
        let fields: Vec<&str> = refusal.violations.iter().map(|v| &*v.field).collect();
        let of_first = ["ask.spawn.specs[1].job_id", "ask.spawn.specs[1].idempotency_key"];
        let of_second = ["ask.spawn.specs[2].topic", "ask.spawn.specs[2].priority"];
        assert_eq!(fields[0], "ask.spawn.parent_close_policy");
        assert_eq!(fields[1..], [of_first, of_second].concat());
    }

    #[test]
    fn one_to_256_children_under_a_short_name() {
        let field = |ask| asked(ask).err().and_then(|refusal| refusal.violations.into_iter().next());
        let at = |ask| field(ask).map(|violation| violation.field);
        assert_eq!(at(of(Vec::new())).as_deref(), Some("ask.spawn.specs"));
        assert_eq!(at(of(vec![spec("job.a"); 257])).as_deref(), Some("ask.spawn.specs"));
        let named = |name: &str| pb::SpawnAsk { name: name.into(), ..of(vec![spec("job.a"); 256]) };
        assert_eq!(at(named(&"n".repeat(65))).as_deref(), Some("ask.spawn.name"));
        assert_eq!(at(named("a\nb")).as_deref(), Some("ask.spawn.name"));
        assert_eq!(
            asked(named("fan-out")).ok().map(|ask| (ask.specs.len(), ask.name)),
            Some((256, "fan-out".into()))
        );
        assert_eq!(asked(named("")).ok().map(|ask| ask.name), Some("7".into()), "the number of the question");
    }
}
