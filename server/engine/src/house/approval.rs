//! A question to people that they have answered: its answer, as a result that steps after it can read.

use super::HouseFailure;
use coretex_domain::job::{Event, Failure, Grounds, Ruling};
use coretex_domain::{Job, Payload};
use serde_json::{Value, json};

/// In: a job that people were asked about. Out: what they said, with the details as they were agreed to.
pub(super) fn answer(job: &Job) -> Result<Payload, HouseFailure> {
    let Some(ruling) = ruling(job) else {
        return Err(unasked());
    };
    let by: Vec<&str> = ruling.iter().flat_map(|ruling| &ruling.by).map(AsRef::as_ref).collect();
    let comment = ruling.map_or("", |ruling| &*ruling.comment);
    let payload = serde_json::from_slice::<Value>(&job.spec.payload.data).unwrap_or_default();
    let details = payload.get("details").unwrap_or(&Value::Null);
    let answer = json!({ "approved": true, "by": by, "comment": comment, "details": details });
    Ok(Payload::json(answer.to_string()))
}

/// By what it was let in: the last yes of people, or the last edit where nobody was asked after it. The outer `None`:
/// nobody said yes. The inner one: it is not known who.
fn ruling(job: &Job) -> Option<Option<&Ruling>> {
    job.history.iter().rev().find_map(|entry| match &entry.event {
        Event::Approved { ruling, .. } => Some(Some(ruling.as_deref())),
        Event::ApprovalVoided(ruling) => {
            Some(ruling.as_deref().filter(|ruling| ruling.grounds == Grounds::Edit).map(Some))
        }
        Event::Submitted { .. }
        | Event::Admitted { .. }
        | Event::Deferred(_)
        | Event::ApprovalRequested
        | Event::Rejudged
        | Event::Denied(_)
        | Event::Dispatched(_)
        | Event::Returned(_)
        | Event::Started
        | Event::Released
        | Event::Succeeded
        | Event::AttemptFailed(_)
        | Event::Failed(_)
        | Event::TimedOut { .. }
        | Event::RetryDue { .. }
        | Event::Expired
        | Event::CancelRequested(_)
        | Event::Cancelled(_)
        | Event::Annotated(_) => None,
    })?
}

/// A yes is never made up.
fn unasked() -> HouseFailure {
    let failure = Failure {
        kind: "NOT_APPROVED".into(),
        message: "nobody was asked: no rule of the policy asks people about this job".into(),
        retryable: false,
        details: Payload::empty(),
        stack: "".into(),
    };
    HouseFailure { failure: Box::new(failure), retry_after: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coretex_domain::job::{Entry, Spec};
    use coretex_domain::{JobId, Namespace, ShardId, Time};
    use std::sync::Arc;

    fn job(events: Vec<Event>) -> Job {
        let payload = Payload::json(r#"{"title":"Publish?","details":{"files":3}}"#);
        let spec = Arc::new(Spec::new("sys.approval", payload));
        let id = JobId::make(1, 1, ShardId(0));
        let mut job = Job::submitted(id, Namespace::new("default"), spec, 1, Time(1), None);
        job.history.extend(events.into_iter().map(|event| Entry { seq: 2, time: Time(2), event }));
        job
    }

    fn ruling(grounds: Grounds, by: &[&str]) -> Option<Box<Ruling>> {
        let by = by.iter().map(|name| Arc::from(*name)).collect();
        Some(Box::new(Ruling { grounds, by, comment: "looks well".into() }))
    }

    fn said(events: Vec<Event>) -> Value {
        serde_json::from_slice(&answer(&job(events)).expect("an answer").data).expect("JSON")
    }

    #[test]
    fn the_answer_names_who_said_yes_and_has_the_details() {
        let asked = Event::ApprovalRequested;
        let yes = Event::Approved { place: 0, ruling: ruling(Grounds::Votes, &["ada", "bob"]) };
        let answer = json!({ "approved": true, "by": ["ada", "bob"], "comment": "looks well", "details": {"files": 3} });
        assert_eq!(said(vec![asked, yes]), answer);
    }

    #[test]
    fn an_edit_by_somebody_who_was_asked_is_a_yes_and_a_change_of_policy_is_none() {
        let edit = Event::ApprovalVoided(ruling(Grounds::Edit, &["ada"]));
        let admitted = Event::Admitted { place: 0 };
        assert_eq!(said(vec![Event::ApprovalRequested, edit, admitted.clone()])["by"], json!(["ada"]));
        let changed = Event::ApprovalVoided(ruling(Grounds::Policy, &[]));
        let yes = Event::Approved { place: 0, ruling: ruling(Grounds::Votes, &["ada"]) };
        let history = vec![yes, changed, admitted.clone()];
        assert_eq!(
            &*answer(&job(history)).expect_err("nobody said yes to this").failure.kind,
            "NOT_APPROVED"
        );
        assert_eq!(
            &*answer(&job(vec![admitted])).expect_err("nobody was asked").failure.kind,
            "NOT_APPROVED"
        );
    }

    #[test]
    fn a_yes_by_time_names_nobody() {
        let yes = Event::Approved { place: 0, ruling: Some(Box::new(Ruling::by_time())) };
        assert_eq!(said(vec![Event::ApprovalRequested, yes])["by"], json!([]));
    }
}
