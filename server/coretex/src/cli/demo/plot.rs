//! What happens in the demo: every kind of ending a job can have, and one worker that does not live to see it.

use super::digest::{Digest, Wanted, digest};
use super::handlers::{DIGEST, SLOW, Slow};
use super::stage::{Show, Stage};
use crate::outcome::{Failure, Outcome};
use coretex_sdk::{Client, Completion, JobRequest, JobState, RetryPolicy};
use futures::StreamExt as _;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Label that names the kind of a job.
pub(super) const KIND: &str = "kind";
/// Topic of the jobs that come back as they went.
pub(super) const ECHO: &str = "job.echo";
/// Topic of the job that fails.
pub(super) const PRINT: &str = "job.print";
/// Attempts of the job that fails.
pub(super) const ATTEMPTS: u32 = 3;
/// How late the delayed job is.
const DELAY: Duration = Duration::from_secs(3);
/// Jobs on the worker that is killed.
pub(super) const SURVIVORS: usize = 4;
/// How long each of them takes: longer than it takes to kill their worker.
const SURVIVOR_MS: u64 = 4_000;
/// Files per message.
const BATCH: usize = 200;
/// No wait of the demo is longer.
const WAIT_MAX: Duration = Duration::from_secs(120);

/// What happened, for the review.
pub(super) struct Story {
    pub files: Arc<Vec<PathBuf>>,
    /// What this process computed itself, before.
    pub expected: Vec<std::io::Result<Digest>>,
    /// What the workers said, by file.
    pub ends: Vec<Option<Completion>>,
    pub(super) singles: Singles,
    pub cancelled: String,
    pub survivors: Vec<String>,
}

/// One job of a kind each.
pub(super) struct Singles {
    pub echo: String,
    pub echo_payload: serde_json::Value,
    pub failing: String,
    pub delayed: String,
    pub delayed_until: SystemTime,
}

/// Plays it all.
pub(super) async fn play(stage: &mut Stage, show: &Show, files: Vec<PathBuf>) -> Outcome<Story> {
    let files = Arc::new(files);
    let own = files.clone();
    let computed =
        tokio::task::spawn_blocking(move || own.iter().map(|path| digest(path)).collect::<Vec<_>>());
    start_workers(stage)?;
    show.say("5 worker processes: 3 for files, 1 `worker run --echo`, 1 `worker run --exec`");
    let client = stage.client().clone();
    let survivors = survivors(&client).await?;
    show.say(&format!("{SURVIVORS} slow jobs run on the worker `doomed`"));
    let singles = singles(&client, show).await?;
    let (loads, mut progress) = load(&client, files.clone());
    let mut loads = tokio::spawn(loads);
    let all = files.len() as u64;
    wait_for_some(&mut progress, all, show).await;
    let pid = stage.cast.kill("doomed").await?;
    show.say(&format!(
        "SIGKILL for the worker `doomed` (pid {pid}) with {SURVIVORS} slow jobs and its files under way"
    ));
    start_worker(stage, "rescuer", &[DIGEST, SLOW])?;
    let cancelled = cancel_one(&client, show).await?;
    let ends = loop {
        tokio::select! {
            ended = &mut loads => break ended.map_err(|error| Failure::machine("the load ended", error))??,
            Ok(()) = progress.changed() => show.files(*progress.borrow_and_update(), all),
        }
    };
    show.files(all, all);
    show.say(&format!("all {all} files are digested"));
    for id in survivors.iter().chain([&singles.echo, &singles.failing, &singles.delayed, &cancelled]) {
        ended(&client, id).await?;
    }
    show.say("all other jobs have ended too; checking everything");
    let expected = computed.await.map_err(|error| Failure::machine("cannot compute digests", error))?;
    Ok(Story { files, expected, ends, singles, cancelled, survivors })
}

fn start_workers(stage: &mut Stage) -> Outcome {
    start_worker(stage, "worker-a", &[DIGEST])?;
    start_worker(stage, "worker-b", &[DIGEST])?;
    start_worker(stage, "doomed", &[DIGEST, SLOW])?;
    let (addr, program) = (stage.addr().to_owned(), stage.cast.program().display().to_string());
    let run = |name: &str, topic: &str| {
        format!("worker run --addr {addr} --worker-id {name} --topic {topic} --slots 4")
    };
    stage.cast.start("echo", &run("echo", ECHO), &["--echo"])?;
    stage.cast.start("printer", &run("printer", PRINT), &["--exec", &program, "demo-handler", "fail"])
}

fn start_worker(stage: &mut Stage, name: &str, topics: &[&str]) -> Outcome {
    let line = format!("demo-handler worker --server {} --worker-id {name}", stage.addr());
    let topics: Vec<&str> = topics.iter().flat_map(|topic| ["--topic", topic]).collect();
    stage.cast.start(name, &line, &topics)
}

/// An echo, a failure, a delay.
async fn singles(client: &Client, show: &Show) -> Outcome<Singles> {
    let echo_payload = json!({"prompt": "hi", "numbers": [1, 2.5, null]});
    let echo = submit(client, request(ECHO, "echo").json(&echo_payload)?).await?;
    let policy = RetryPolicy::attempts(ATTEMPTS).backoff(Duration::from_millis(200), Duration::from_secs(1));
    let failing = request(PRINT, "failing").json(&json!({"page": 1}))?.retry_policy(policy);
    let failing = submit(client, failing).await?;
    let delayed_until = SystemTime::now() + DELAY;
    let delayed = request(ECHO, "delayed").json(&json!({"late": true}))?.run_at(delayed_until);
    let delayed = submit(client, delayed).await?;
    let late = DELAY.as_secs();
    show.say(&format!(
        "submitted: an echo, a job that fails {ATTEMPTS} times, one that is delayed by {late} s"
    ));
    Ok(Singles { echo, echo_payload, failing, delayed, delayed_until })
}

fn request(topic: &str, kind: &str) -> JobRequest {
    JobRequest::new(topic).label(KIND, kind)
}

async fn submit(client: &Client, request: JobRequest) -> Outcome<String> {
    Ok(client.submit(request).await?.job_id().to_owned())
}

/// Slow jobs, running on the one worker that serves them so far.
async fn survivors(client: &Client) -> Outcome<Vec<String>> {
    let mut ids = Vec::new();
    for _ in 0..SURVIVORS {
        ids.push(submit(client, request(SLOW, "survivor").json(&Slow { ms: SURVIVOR_MS })?).await?);
    }
    for id in &ids {
        until(client, id, |state| state == JobState::Running).await?;
    }
    Ok(ids)
}

/// Submits a job for every file and gathers how they end.
fn load(
    client: &Client,
    files: Arc<Vec<PathBuf>>,
) -> (impl Future<Output = Outcome<Vec<Option<Completion>>>> + use<>, tokio::sync::watch::Receiver<u64>) {
    let (progress, seen) = tokio::sync::watch::channel(0);
    let mut stream = client.submit_stream().follow(files.len()).open();
    let load = async move {
        let ends =
            stream.completions().ok_or_else(|| Failure::Machine("the stream does not follow".into()))?;
        let count = files.len();
        let gathered = tokio::spawn(async move {
            let mut ends = std::pin::pin!(ends);
            let mut found: Vec<Option<Completion>> = vec![None; count];
            for done in 1..=count as u64 {
                let Some(end) = ends.next().await else { break };
                let at = usize::try_from(end.sequence.saturating_sub(1))
                    .unwrap_or(usize::MAX)
                    .saturating_mul(BATCH)
                    + end.index;
                if let Some(place) = found.get_mut(at) {
                    *place = Some(end);
                }
                progress.send_replace(done);
            }
            found
        });
        for files in files.chunks(BATCH) {
            let requests: Result<Vec<_>, _> = files
                .iter()
                .map(|path| request(DIGEST, "digest").json(&Wanted { path: path.clone() }))
                .collect();
            for result in stream.send(requests?).await?.await? {
                result?;
            }
        }
        let gathered = tokio::time::timeout(WAIT_MAX, gathered).await;
        let gathered = gathered
            .map_err(|_| Failure::Machine(format!("the files took longer than {} s", WAIT_MAX.as_secs())))?;
        gathered.map_err(|error| Failure::machine("the completions ended", error))
    };
    (load, seen)
}

/// Waits until a tenth of the files is done, but not for long: then is a good time for an accident.
async fn wait_for_some(progress: &mut tokio::sync::watch::Receiver<u64>, all: u64, show: &Show) {
    let tenth = all.div_ceil(10);
    let enough = async {
        while *progress.borrow_and_update() < tenth {
            show.files(*progress.borrow(), all);
            if progress.changed().await.is_err() {
                return;
            }
        }
    };
    // Too slow is as good as far enough.
    let _ = tokio::time::timeout(Duration::from_secs(1), enough).await;
}

/// A job that would take a minute, stopped once it runs.
async fn cancel_one(client: &Client, show: &Show) -> Outcome<String> {
    let id = submit(client, request(SLOW, "cancelled").json(&Slow { ms: 60_000 })?).await?;
    until(client, &id, |state| state == JobState::Running).await?;
    client.cancel(&id, "the demo has seen enough of it").await?;
    show.say("a running job was cancelled");
    Ok(id)
}

async fn until(client: &Client, id: &str, is_there: impl Fn(JobState) -> bool) -> Outcome {
    let give_up = Instant::now() + WAIT_MAX;
    loop {
        let state = client.get(id).await?.state;
        if is_there(state) {
            return Ok(());
        }
        if state.is_terminal() || Instant::now() > give_up {
            return Err(Failure::Machine(format!("job {id} is {state}, which was not expected")));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn ended(client: &Client, id: &str) -> Outcome {
    let job = client.wait_for(id, WAIT_MAX).await?;
    match job.state.is_terminal() {
        true => Ok(()),
        false => Err(Failure::Machine(format!("job {id} is still {}", job.state))),
    }
}
