//! Looks at everything that happened: a table by kind, every digest checked, one history read aloud.

use super::digest::{Digest, digest};
use super::handlers::SLOW;
use super::plot::{ATTEMPTS, KIND, Story};
use crate::cli::input::equals;
use crate::cli::job::{explanation_text, history_text};
use crate::cli::table::{Rows, number, rough};
use crate::outcome::Outcome;
use coretex_sdk::{Client, JobState, ListRequest};
use futures::StreamExt as _;
use std::collections::BTreeMap;
use std::time::Duration;

/// What is printed, and what was not as expected.
#[derive(Default)]
pub(super) struct Review {
    pub text: String,
    pub problems: Vec<String>,
}

/// What all jobs of a kind did.
#[derive(Default)]
struct Tally {
    jobs: u64,
    states: BTreeMap<&'static str, u64>,
    attempts: u64,
    lost: u64,
    took: Vec<Duration>,
}

const KINDS: [&str; 6] = ["digest", "echo", "failing", "delayed", "cancelled", "survivor"];

/// Looks at everything.
pub(super) async fn review(client: &Client, story: &Story) -> Outcome<Review> {
    let mut review = Review::default();
    let mut rows = Rows::new(["KIND", "JOBS", "STATES", "ATTEMPTS", "LOST", "P50", "MAX"]);
    for kind in KINDS {
        let tally = Tally::of(client, kind).await?;
        let states = tally
            .states
            .iter()
            .map(|(state, count)| format!("{count} {state}"))
            .collect::<Vec<_>>()
            .join(", ");
        rows.add([
            kind.into(),
            number(tally.jobs),
            states.into(),
            number(tally.attempts),
            number(tally.lost),
            number(tally.quantile(50)),
            number(tally.quantile(100)),
        ]);
        if kind == "digest" && tally.jobs != story.files.len() as u64 {
            review.problems.push(format!("{} files, but {} jobs", story.files.len(), tally.jobs));
        }
    }
    let checked = review.check_digests(story);
    review.check_endings(client, story).await?;
    review.text = format!("\n{}\n{checked}\n", rows.text());
    let survivor = &story.survivors[0];
    review.text.push_str(&format!("\nHow a job outlived its worker ({SLOW}, {survivor}):\n\n"));
    review.text.push_str(&history_text(&client.history(survivor).await?));
    review.text.push_str(&format!("\nWhy the failing job failed ({}):\n\n", story.singles.failing));
    review.text.push_str(&explanation_text(&client.explain(&story.singles.failing).await?));
    Ok(review)
}

// === impl Tally ===

impl Tally {
    async fn of(client: &Client, kind: &str) -> Outcome<Tally> {
        let mut tally = Tally::default();
        let filter = equals(&format!("labels.{KIND}"), kind);
        let mut jobs = std::pin::pin!(client.list_all(ListRequest::filter(filter).page_size(1_000)));
        while let Some(job) = jobs.next().await.transpose()? {
            tally.jobs += 1;
            tally.attempts += u64::from(job.attempts);
            tally.lost += u64::from(job.lost);
            *tally.states.entry(job.state.as_str()).or_default() += 1;
            if let (Some(from), Some(to)) = (job.create_time, job.end_time) {
                tally.took.push(to.duration_since(from).unwrap_or_default());
            }
        }
        tally.took.sort_unstable();
        Ok(tally)
    }

    fn quantile(&self, percent: usize) -> String {
        let last = self.took.len().saturating_sub(1);
        self.took.get(last * percent / 100).copied().map(rough).unwrap_or_default()
    }
}

// === impl Review ===

impl Review {
    /// Every digest against one computed here. A file that changed meanwhile may have either.
    fn check_digests(&mut self, story: &Story) -> String {
        let (mut equal, mut changed) = (0u64, 0u64);
        for ((path, expected), end) in story.files.iter().zip(&story.expected).zip(&story.ends) {
            let Some(end) = end else {
                self.problems.push(format!("no end of the job for {} was heard of", path.display()));
                continue;
            };
            let said = end.result.as_ref().and_then(|result| result.parse::<Digest>().ok());
            if end.state == JobState::Succeeded && expected.as_ref().ok() == said.as_ref() {
                equal += 1;
                continue;
            }
            let now = digest(path).ok();
            if now.as_ref() != expected.as_ref().ok() || now == said && said.is_some() {
                changed += 1;
            } else {
                self.problems.push(format!(
                    "{}: {} said {said:?}, it is {expected:?}",
                    path.display(),
                    end.job_id
                ));
            }
        }
        let changed =
            if changed > 0 { format!(", {changed} files changed meanwhile") } else { String::new() };
        format!("{equal} of {} digests are equal to those computed here{changed}.", story.files.len())
    }

    async fn check_endings(&mut self, client: &Client, story: &Story) -> Outcome {
        let echo = client.get(&story.singles.echo).await?;
        self.expect(&echo.job_id, echo.state, JobState::Succeeded);
        let came_back: Option<serde_json::Value> = echo.result.and_then(|result| result.parse().ok());
        if came_back.as_ref() != Some(&story.singles.echo_payload) {
            self.problems.push(format!("the echo is {came_back:?}, not {}", story.singles.echo_payload));
        }
        let failing = client.get(&story.singles.failing).await?;
        self.expect(&failing.job_id, failing.state, JobState::Failed);
        let kind = failing.failure.map(|failure| failure.kind).unwrap_or_default();
        if failing.attempts != ATTEMPTS || kind != "EXIT_3" {
            self.problems
                .push(format!("the failing job had {} attempts and failed with {kind}", failing.attempts));
        }
        let delayed = client.get(&story.singles.delayed).await?;
        self.expect(&delayed.job_id, delayed.state, JobState::Succeeded);
        // The record counts milliseconds.
        if delayed
            .start_time
            .is_none_or(|start| start + Duration::from_millis(1) < story.singles.delayed_until)
        {
            self.problems.push("the delayed job started before its time".into());
        }
        let cancelled = client.get(&story.cancelled).await?;
        self.expect(&cancelled.job_id, cancelled.state, JobState::Cancelled);
        for id in &story.survivors {
            let job = client.get(id).await?;
            self.expect(id, job.state, JobState::Succeeded);
            if job.lost != 1 || job.worker_id != "rescuer" {
                self.problems
                    .push(format!("job {id} was lost {} times and ended on `{}`", job.lost, job.worker_id));
            }
        }
        Ok(())
    }

    fn expect(&mut self, id: &str, state: JobState, expected: JobState) {
        if state != expected {
            self.problems.push(format!("job {id} is {state}, not {expected}"));
        }
    }
}
