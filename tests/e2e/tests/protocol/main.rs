//! The worker protocol against the real binary, one test per scenario of the conformance list, with a worker that
//! speaks the raw wire. Each runs on the memory store with one loop and, where it matters, on the file store with four.

mod control;
mod crashes;
mod credit;
mod drops;
mod floods;
mod sessions;

use coretex_contract::v1 as pb;
use coretex_e2e::api::{Api, endings, times};
use coretex_e2e::evidence::Evidence;
use coretex_e2e::process::{Server, Setup};
use std::time::Duration;
use tokio::sync::RwLock;

static EVIDENCE: Evidence = Evidence::of("protocol");
/// Scenarios that need the machine for themselves take it whole; the others share it.
static MACHINE: RwLock<()> = RwLock::const_new(());

/// A guard against hangs, far above what anything here takes.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// The two shapes of a server most scenarios meet.
pub(crate) fn both() -> Vec<Setup> {
    vec![Setup::memory(), file_with_loops()]
}

pub(crate) fn file_with_loops() -> Setup {
    Setup::file().env("CORETEX_ENGINE_LOOPS", 4)
}

/// Runs a scenario on each of the servers, side by side.
pub(crate) async fn scenario(setups: Vec<Setup>, play: impl AsyncFn(&mut Server, &Api)) {
    let _shared = MACHINE.read().await;
    let runs = setups.into_iter().map(|setup| on_one(setup, &play));
    futures::future::join_all(runs).await;
    EVIDENCE.add("scenarios", 1);
}

/// Runs a scenario that needs the whole machine, on one server after the other.
pub(crate) async fn heavy_scenario(setups: Vec<Setup>, play: impl AsyncFn(&mut Server, &Api)) {
    let _whole = MACHINE.write().await;
    for setup in setups {
        on_one(setup, &play).await;
    }
    EVIDENCE.add("scenarios", 1);
}

async fn on_one(setup: Setup, play: &impl AsyncFn(&mut Server, &Api)) {
    let mut server = Server::start(setup).await;
    let api = Api::to(&server.url());
    play(&mut server, &api).await;
    assert!(server.is_alive(), "the server has gone");
    EVIDENCE.add("runs", 1);
}

/// Checks that each job ended once, well, and after so many starts.
pub(crate) async fn ended_well(api: &Api, jobs: &[String], starts: usize) {
    for id in jobs {
        let job = api.ended(id, LONG).await;
        assert_eq!(job.state(), pb::JobState::Succeeded, "{id}: {:?}", job.failure);
        let history = api.history(id).await;
        assert_eq!(times(&history, pb::JobEventType::Started), starts, "{id}: {history:#?}");
        assert_eq!(endings(&history), 1, "{id}: {history:#?}");
    }
    EVIDENCE.add("jobs", jobs.len() as u64);
}

/// A spec whose failed attempts are repeated without much ado.
pub(crate) fn impatient(topic: &str) -> pb::JobSpec {
    let retry = pb::RetryPolicy {
        initial_backoff: Some(coretex_e2e::api::proto_duration(Duration::from_millis(100))),
        ..Default::default()
    };
    pb::JobSpec { retry_policy: Some(retry), ..coretex_e2e::api::spec(topic) }
}
