//! Orders to workers: C13 cancel against result, C14 drain with prefetch, C20 pause and resume.

use crate::{LONG, both, ended_well, scenario};
use coretex_contract::v1 as pb;
use coretex_contract::v1::connect_request::Frame as Out;
use coretex_contract::v1::connect_response::Frame as In;
use coretex_contract::v1::control::entry::Action;
use coretex_contract::v1::{JobState, UpdateRejection};
use coretex_e2e::api::{Api, Refused, endings, spec};
use coretex_e2e::frames::{self, LANE};
use coretex_e2e::worker::Worker;
use std::time::Duration;
use tonic::Code;

const TTL: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn c13_a_cancel_accepted_first_wins_over_the_result_on_its_way() {
    scenario(both(), async |_, api| {
        let mut worker = Worker::join(api, frames::hello("c13", &["job.c13"], 1, TTL)).await;
        worker.credit(LANE, 1);
        let id = api.submit(spec("job.c13")).await;
        let assigned = worker.assignments(1).await;
        worker.start(&assigned).await;
        let job = api.cancel(&id).await.expect("a running job can be cancelled");
        assert!(job.cancel_requested, "{job:?}");
        let lease_id = assigned[0].lease_id;
        let told = worker
            .until("Control", |frame| match frame {
                In::Control(control) => control.entries.first().cloned(),
                _ => None,
            })
            .await;
        assert_eq!(told.lease_id, lease_id);
        assert!(matches!(told.action, Some(Action::Cancel(_))), "{told:?}");
        worker.report(vec![frames::succeeded_with(lease_id, b"too late")]);
        let rejected = worker.settled().await;
        assert_eq!(
            rejected.iter().map(pb::RejectedUpdate::code).collect::<Vec<_>>(),
            [UpdateRejection::Cancelled]
        );
        let job = api.ended(&id, LONG).await;
        assert_eq!(job.state(), JobState::Cancelled);
        assert!(job.result.is_none(), "{job:?}");
        assert!(api.cancel(&id).await.is_ok(), "cancelling again is OK");
        assert_eq!(endings(&api.history(&id).await), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c13_a_race_of_cancel_and_result_has_one_winner_and_both_sides_know_it() {
    const JOBS: usize = 200;
    scenario(both(), async |_, api| {
        let mut worker = Worker::join(api, frames::hello("c13-race", &["job.c13"], 200, TTL)).await;
        worker.credit(LANE, JOBS as u64);
        api.submit_many(&spec("job.c13"), JOBS).await;
        let assigned = worker.assignments(JOBS).await;
        worker.start(&assigned).await;
        let ids: Vec<String> = assigned.iter().map(|a| a.job.clone().unwrap_or_default().job_id).collect();
        let cancels = futures::future::join_all(ids.iter().map(|id| api.cancel(id)));
        let results = async {
            for assignment in &assigned {
                worker.report(vec![frames::succeeded(assignment.lease_id)]);
                tokio::task::yield_now().await;
            }
            worker.settled().await
        };
        let (cancels, rejected) = tokio::join!(cancels, results);
        assert!(rejected.iter().all(|r| r.code() == UpdateRejection::Cancelled), "{rejected:?}");
        let mut cancelled = 0;
        for (id, outcome) in ids.iter().zip(cancels) {
            let state = api.ended(id, LONG).await.state();
            match outcome {
                Ok(job) => {
                    let history = api.history(id).await;
                    assert_eq!(state, JobState::Cancelled, "{id}: cancel said {job:#?}\n{history:#?}");
                    cancelled += 1;
                }
                Err(status) => {
                    let refused = Refused::of(&status);
                    assert_eq!(
                        (refused.code, refused.reason.as_str()),
                        (Code::FailedPrecondition, "JOB_TERMINAL")
                    );
                    assert_eq!(state, JobState::Succeeded, "{id}");
                }
            }
            assert_eq!(endings(&api.history(id).await), 1, "{id}");
        }
        assert_eq!(rejected.len(), cancelled, "worker and caller were told different things");
        crate::EVIDENCE.add("races_cancel_won", cancelled as u64);
        crate::EVIDENCE.add("races_result_won", (JOBS - cancelled) as u64);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c14_a_draining_worker_gives_back_what_it_prefetched() {
    scenario(both(), async |_, api| {
        let mut leaving = Worker::join(api, frames::hello("c14-leaving", &["job.c14"], 10, TTL)).await;
        leaving.credit(LANE, 10);
        let jobs = api.submit_many(&spec("job.c14"), 10).await;
        let assigned = leaving.assignments(10).await;
        leaving.accept(&assigned);
        leaving.start(&assigned[..2]).await;
        let mut staying = Worker::join(api, frames::hello("c14-staying", &["job.c14"], 10, TTL)).await;
        staying.credit(LANE, 10);
        let drain = pb::Drain { mode: pb::DrainMode::Finish.into(), ..Default::default() };
        leaving.stream.send(Out::Drain(drain));
        let moved = staying.assignments(8).await;
        assert!(moved.iter().all(|a| a.attempt == 1), "{moved:?}");
        let more = api.submit_many(&spec("job.c14"), 2).await;
        let to_staying = staying.assignments(2).await;
        leaving.finish(&assigned[..2]).await;
        leaving.stream.half_close();
        leaving.silence();
        assert_eq!(leaving.stream.end().await.code(), Code::Ok);
        staying.finish(&moved).await;
        staying.finish(&to_staying).await;
        ended_well(api, &[jobs, more].concat(), 1).await;
        gone(api, "c14-leaving").await;
    })
    .await;
}

/// A drained worker with nothing left has left, without waiting for its TTL.
async fn gone(api: &Api, worker_id: &str) {
    let until = tokio::time::Instant::now() + Duration::from_secs(5);
    loop {
        let request = pb::GetWorkerRequest { worker_id: worker_id.to_owned() };
        match api.workers().get_worker(request).await {
            Err(status) if status.code() == Code::NotFound => return,
            Ok(reply)
                if reply.get_ref().worker.as_ref().is_some_and(|w| w.state() == pb::WorkerState::Gone) =>
            {
                return;
            }
            other => assert!(tokio::time::Instant::now() < until, "it is still there: {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c20_a_paused_topic_gives_nothing_and_the_lane_goes_on() {
    scenario(both(), async |_, api| {
        let hello = frames::hello("c20", &["job.c20.a", "job.c20.b"], 10, TTL);
        let mut worker = Worker::join(api, hello).await;
        worker.credit(LANE, 1);
        let running = api.submit(spec("job.c20.a")).await;
        let held = worker.assignments(1).await;
        worker.start(&held).await;
        let pause = pb::PauseTopicRequest { topic: "job.c20.a".into(), ..Default::default() };
        api.topics().pause_topic(pause.clone()).await.expect("a topic can be paused");
        api.topics().pause_topic(pause).await.expect("pausing twice is OK");
        let paused = worker
            .until("ConfigUpdate", |frame| match frame {
                In::ConfigUpdate(config) => Some(config.paused_topics.clone()),
                _ => None,
            })
            .await;
        assert_eq!(paused, ["job.c20.a"]);
        let reply = api.try_submit(spec("job.c20.a")).await.expect("a paused topic takes jobs");
        assert!(reply.warnings.iter().any(|w| w.reason == "TOPIC_PAUSED"), "{reply:?}");
        let waiting = reply.job.expect("a job").job_id;
        worker.credit(LANE, 5);
        worker.gets_nothing_for(Duration::from_millis(500)).await;
        let other = api.submit(spec("job.c20.b")).await;
        let flowing = worker.assignments(1).await;
        worker.finish(&flowing).await;
        worker.finish(&held).await;
        assert_eq!(api.state(&waiting).await, JobState::Scheduled);
        let resume = pb::ResumeTopicRequest { topic: "job.c20.a".into(), ..Default::default() };
        api.topics().resume_topic(resume).await.expect("a topic can be resumed");
        let resumed = worker.assignments(1).await;
        worker.finish(&resumed).await;
        ended_well(api, &[running, waiting, other], 1).await;
    })
    .await;
}
