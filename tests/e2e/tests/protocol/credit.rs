//! What the server may send: C10 never beyond the credit, C11 never past the backlog.

use crate::{LONG, both, heavy_scenario, scenario};
use coretex_contract::v1 as pb;
use coretex_contract::v1::connect_response::Frame as In;
use coretex_contract::v1::{ErrorReason, JobState};
use coretex_e2e::api::{Api, spec};
use coretex_e2e::faults::Proxy;
use coretex_e2e::frames::{self, LANE};
use coretex_e2e::process::Setup;
use coretex_e2e::worker::{PATIENCE, Worker};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const TTL: Duration = Duration::from_secs(30);

/// Jobs of the long run.
const JOBS: usize = 200_000;

const LANES: [&str; 2] = ["one", "two"];

fn two_lanes() -> pb::Hello {
    let topic = |lane: &str| pb::TopicRegistration {
        name: format!("job.c10.{lane}"),
        lane: lane.to_owned(),
        ..Default::default()
    };
    let lane = |lane: &str| pb::LaneRegistration {
        lane_id: lane.to_owned(),
        slots: 1_000,
        prefetch_max: 1_000,
        ..Default::default()
    };
    pb::Hello {
        topics: LANES.map(topic).to_vec(),
        lanes: LANES.map(lane).to_vec(),
        ..frames::hello("c10", &[], 1, TTL)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c10_credit_is_never_exceeded_over_many_jobs() {
    let loops = Setup::memory().env("CORETEX_ENGINE_LOOPS", 4);
    heavy_scenario(vec![loops], async |_, api| {
        let submits = tokio::spawn(submit_all(api.clone()));
        let lanes = LANES;
        let mut worker = Worker::join(api, two_lanes()).await;
        let mut dice = StdRng::seed_from_u64(10);
        let mut owed: BTreeMap<String, u64> = lanes.iter().map(|lane| ((*lane).to_owned(), 300)).collect();
        let (mut done, mut decreases, mut told) = (0, 0, 0);
        let begin = Instant::now();
        while done < JOBS {
            for lane in lanes {
                let debt = owed.entry(lane.to_owned()).or_default();
                let part = dice.random_range(0..=*debt);
                *debt -= part;
                if part > 0 {
                    worker.credit(lane, part);
                    // Totals are cumulative: a frame sent twice grants nothing twice.
                    worker.credit(lane, 0);
                }
            }
            if dice.random_ratio(1, 500) {
                // A smaller total than before is an error, is said so, and changes nothing.
                let less = worker.granted("one").saturating_sub(1);
                worker.stream.send(frames::credit("one", less));
                decreases += 1;
            }
            let is_stuck = worker.held().is_empty() && owed.values().all(|debt| *debt == 0);
            assert!(!is_stuck || done < JOBS, "nothing is held and nothing granted");
            // The books check each Assign against the credit as they enter it.
            let frame = match tokio::time::timeout(Duration::from_millis(5), worker.next(PATIENCE)).await {
                Ok(frame) => frame.expect("the stream goes on").expect("the stream goes on"),
                Err(_) => continue,
            };
            told += usize::from(is_decrease(&frame));
            let In::Assign(assign) = frame else { continue };
            for part in assign.assignments.chunks(512) {
                worker.report(part.iter().map(|a| frames::succeeded(a.lease_id)).collect());
            }
            for assignment in &assign.assignments {
                *owed.entry(assignment.lane_id.clone()).or_default() += 1;
            }
            done += assign.assignments.len();
        }
        assert!(worker.settled().await.is_empty());
        crate::EVIDENCE.add("jobs_under_credit", done as u64);
        crate::EVIDENCE.max("credit_jobs_per_s", (done as f64 / begin.elapsed().as_secs_f64()) as u64);
        assert_eq!(submits.await.expect("all are submitted"), JOBS);
        while told < decreases {
            worker.until("a ProtocolError", |frame| is_decrease(frame).then_some(())).await;
            told += 1;
        }
        all_succeeded(api).await;
    })
    .await;
}

/// True for the error that a smaller total gets. No other error comes in this test.
fn is_decrease(frame: &In) -> bool {
    let In::ProtocolError(error) = frame else { return false };
    assert_eq!(error.code(), ErrorReason::CreditDecreased, "{error:?}");
    true
}

async fn submit_all(api: Api) -> usize {
    let mut sent = 0;
    while sent < JOBS {
        let topic = if (sent / 1_000).is_multiple_of(2) { "job.c10.one" } else { "job.c10.two" };
        sent += api.submit_many(&spec(topic), 1_000.min(JOBS - sent)).await.len();
    }
    sent
}

async fn all_succeeded(api: &Api) {
    for topic in ["job.c10.one", "job.c10.two"] {
        let request = pb::GetTopicRequest { topic: topic.to_owned() };
        let reply = api.topics().get_topic(request).await.expect("a topic").into_inner();
        let counters = reply.topic.and_then(|t| t.counters).expect("counters");
        assert_eq!((counters.queued, counters.running, counters.retrying), (0, 0, 0), "{topic}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c10_a_lane_without_credit_gets_nothing() {
    scenario(both(), async |_, api| {
        let mut worker = Worker::join(api, frames::hello("c10-none", &["job.c10"], 4, TTL)).await;
        let jobs = api.submit_many(&spec("job.c10"), 4).await;
        worker.gets_nothing_for(Duration::from_millis(400)).await;
        worker.credit(LANE, 3);
        let assigned = worker.assignments(3).await;
        worker.gets_nothing_for(Duration::from_millis(200)).await;
        worker.finish(&assigned).await;
        worker.gets_nothing_for(Duration::from_millis(200)).await;
        worker.credit(LANE, 1);
        let last = worker.assignments(1).await;
        worker.finish(&last).await;
        crate::ended_well(api, &jobs, 1).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resume_does_not_hand_out_credit_twice() {
    scenario(both(), async |server, api| {
        let proxy = Proxy::before(server.addr()).await;
        let hello = frames::hello("c10-again", &["job.c10"], 8, TTL);
        let mut worker = Worker::join(&Api::to(&proxy.url()), hello).await;
        let jobs = api.submit_many(&spec("job.c10"), 20).await;
        for _ in 0..2 {
            worker.credit(LANE, 4);
            let assigned = worker.assignments(4).await;
            worker.finish(&assigned).await;
        }
        worker.credit(LANE, 4);
        let held = worker.assignments(4).await;
        worker.start(&held).await;
        proxy.cut();
        // Twelve units granted, twelve used: after the resume there is nothing left, and nothing comes.
        worker.resume(&Api::to(&proxy.url())).await;
        worker.gets_nothing_for(Duration::from_millis(500)).await;
        worker.finish(&held).await;
        worker.credit(LANE, 8);
        let rest = worker.assignments(8).await;
        worker.finish(&rest).await;
        crate::ended_well(api, &jobs, 1).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c11_new_jobs_do_not_overtake_the_backlog() {
    const BACKLOG: usize = 400;
    const LATE: usize = 400;
    scenario(vec![Setup::memory(), Setup::file()], async |_, api| {
        let old = api.submit_many(&spec("job.c11"), BACKLOG).await;
        let mut worker = Worker::join(api, frames::hello("c11", &["job.c11"], 10, TTL)).await;
        worker.credit(LANE, 10);
        let pusher = tokio::spawn({
            let api = api.clone();
            async move {
                let mut late = Vec::new();
                for _ in 0..LATE {
                    late.push(api.submit(spec("job.c11")).await);
                }
                late
            }
        });
        let mut order = Vec::new();
        let until = Instant::now() + LONG * 2;
        while order.len() < BACKLOG + LATE {
            assert!(Instant::now() < until, "only {} jobs came", order.len());
            let assigned = worker.until("an Assign", coretex_e2e::worker::assignments_of).await;
            worker.finish(&assigned).await;
            worker.credit(LANE, assigned.len() as u64);
            order.extend(assigned.into_iter().filter_map(|a| a.job.map(|job| job.job_id)));
        }
        let late = pusher.await.expect("all are submitted");
        let place = |id: &String| order.iter().position(|o| o == id).expect("each job came");
        let last_old = old.iter().map(place).max().unwrap_or_default();
        let first_late = late.iter().map(place).min().unwrap_or_default();
        assert!(first_late > last_old, "job {first_late} overtook a backlog that ended at {last_old}");
        // Among themselves the late ones keep their order, too: none is pushed past a waiting one.
        let places: Vec<usize> = late.iter().map(place).collect();
        assert!(places.is_sorted(), "late jobs overtook each other");
        assert_eq!(api.state(&old[0]).await, JobState::Succeeded);
    })
    .await;
}
