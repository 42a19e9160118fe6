//! Calls about runs of workflows.

use super::jobs::{WAIT_MARGIN, WAIT_STEP};
use super::list::{ListRequest, Page, all_pages};
use super::watch::mended;
use super::{Client, request_id};
use crate::error::{Error, Result};
use crate::names::{RunState, View};
use crate::payload::{FromPayload, IntoPayload, Payload};
use crate::raw::{Raw, pb};
use crate::run::{Run, RunChange, RunEvent, RunExplanation, RunRequest, StartedRun};
use crate::time::span;
use futures::{Stream, StreamExt as _};
use std::time::Duration;
use tokio::time::Instant;

impl Client {
    /// Starts a run of a workflow, or finds the one an earlier request with the same key or id made.
    ///
    /// ```no_run
    /// # async fn example() -> coretex_sdk::Result<()> {
    /// use coretex_sdk::{Client, RunRequest};
    /// let client = Client::from_env().await?;
    /// let started = client.start_run(RunRequest::new("greet").input(serde_json::json!({"name": "ann"}))?).await?;
    /// let run = client.wait_run(started.run.run_id).await?;
    /// println!("{}", run.state);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn start_run(&self, request: RunRequest) -> Result<StartedRun> {
        let mut request = request.request;
        if request.request_id.is_empty() {
            request.request_id = request_id();
        }
        let send = |raw: Raw, request| async move { raw.runs().start_run(request).await };
        let reply = self.call(request, send).await?;
        Ok(StartedRun { run: Run::of(reply.run)?, existing: reply.existing })
    }

    /// One run with its steps, input and output.
    pub async fn get_run(&self, run_id: impl Into<String>) -> Result<Run> {
        self.get_run_view(run_id, View::Full).await
    }

    /// One run, as much of it as asked for.
    pub async fn get_run_view(&self, run_id: impl Into<String>, view: View) -> Result<Run> {
        let view = View::number(Some(view));
        let request = pb::GetRunRequest { run_id: run_id.into(), view, ..Default::default() };
        let send = |raw: Raw, request| async move { raw.runs().get_run(request).await };
        Run::of(self.call(request, send).await?.run)
    }

    /// A page of runs, newest first unless asked otherwise.
    pub async fn list_runs(&self, request: impl Into<ListRequest>) -> Result<Page<Run>> {
        let ListRequest { filter, page_size, page_token, order_by, view } = request.into();
        let view = View::number(view);
        let request =
            pb::ListRunsRequest { filter, page_size, page_token, order_by, view, ..Default::default() };
        let send = |raw: Raw, request| async move { raw.runs().list_runs(request).await };
        let reply = self.call(request, send).await?;
        let items = reply.runs.into_iter().map(Run::from_pb).collect();
        Ok(Page { items, next_page_token: reply.next_page_token })
    }

    /// All runs of a list, page after page. A run that exists throughout appears exactly once.
    pub fn list_all_runs(
        &self,
        request: impl Into<ListRequest>,
    ) -> impl Stream<Item = Result<Run>> + Send + 'static {
        let client = self.clone();
        all_pages(request.into(), move |request| {
            let client = client.clone();
            async move { client.list_runs(request).await }
        })
    }

    /// Waits until the run is over, however long that takes.
    pub async fn wait_run(&self, run_id: impl Into<String>) -> Result<Run> {
        let run_id = run_id.into();
        loop {
            let run = self.wait_run_step(run_id.clone(), WAIT_STEP).await?;
            if run.state.is_terminal() {
                return Ok(run);
            }
        }
    }

    /// Waits until the run is over or the time has passed, and returns it as it then stands.
    pub async fn wait_run_for(&self, run_id: impl Into<String>, timeout: Duration) -> Result<Run> {
        let run_id = run_id.into();
        let end = Instant::now() + timeout;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let run = self.wait_run_step(run_id.clone(), left.min(WAIT_STEP)).await?;
            if run.state.is_terminal() || left <= WAIT_STEP {
                return Ok(run);
            }
        }
    }

    async fn wait_run_step(&self, run_id: String, timeout: Duration) -> Result<Run> {
        let request = pb::WaitRunRequest { run_id, timeout: Some(span(timeout)), ..Default::default() };
        let send = |raw: Raw, request| async move { raw.runs().wait_run(request).await };
        Run::of(self.call_within(timeout + WAIT_MARGIN, request, send).await?.run)
    }

    /// Streams the history of a run as it happens, each entry exactly once, from after a number on (0: from its beginning). Ends when the run is
    /// over. Breaks are mended; signs of life are not passed on.
    pub fn watch_run(
        &self,
        run_id: impl Into<String>,
        after_sequence: u64,
        view: View,
    ) -> impl Stream<Item = Result<RunChange>> + Send + 'static {
        let client = self.clone();
        let open = move |request: pb::WatchRunRequest| {
            let client = client.clone();
            async move { Ok(client.raw().runs().watch_run(request).await?.into_inner()) }
        };
        let mark = |request: &mut pb::WatchRunRequest, reply: &pb::WatchRunResponse| {
            request.after_sequence = reply.last_sequence;
        };
        let (run_id, view) = (run_id.into(), View::number(Some(view)));
        let request = pb::WatchRunRequest { run_id, after_sequence, view, ..Default::default() };
        mended(request, open, mark).filter_map(|step| async move {
            match step {
                Ok(reply) if reply.events.is_empty() => None,
                Ok(reply) => Some(RunChange::from_pb(reply)),
                Err(error) => Some(Err(error)),
            }
        })
    }

    /// All that happened to a run, oldest first.
    pub async fn run_history(&self, run_id: impl Into<String>) -> Result<Vec<RunEvent>> {
        let run_id = run_id.into();
        let (mut events, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = pb::GetRunHistoryRequest { run_id: run_id.clone(), page_size: 1_000, page_token };
            let send = |raw: Raw, request| async move { raw.runs().get_run_history(request).await };
            let reply = self.call(request, send).await?;
            events.extend(reply.events.into_iter().map(RunEvent::from_pb));
            page_token = reply.next_page_token;
            if page_token.is_empty() {
                return Ok(events);
            }
        }
    }

    /// Ends a run for good. Returns it CANCELLED, or on its way there.
    pub async fn cancel_run(&self, run_id: impl Into<String>, reason: impl Into<String>) -> Result<Run> {
        let (run_id, reason) = (run_id.into(), reason.into());
        let request = pb::CancelRunRequest { run_id, reason, request_id: request_id() };
        let send = |raw: Raw, request| async move { raw.runs().cancel_run(request).await };
        Run::of(self.call(request, send).await?.run)
    }

    /// Sends a signal to a run. One that comes before a step waits for it is kept.
    pub async fn signal_run(
        &self,
        run_id: impl Into<String>,
        name: impl Into<String>,
        payload: impl IntoPayload,
    ) -> Result<Run> {
        self.signal_run_once(run_id, name, payload, request_id()).await
    }

    /// The same with an id of your own, so that the same signal sent twice is one.
    pub async fn signal_run_once(
        &self,
        run_id: impl Into<String>,
        name: impl Into<String>,
        payload: impl IntoPayload,
        signal_id: impl Into<String>,
    ) -> Result<Run> {
        let request = pb::SignalRunRequest {
            run_id: run_id.into(),
            name: name.into(),
            payload: Some(payload.into_payload()?.into_pb()),
            signal_id: signal_id.into(),
            request_id: request_id(),
        };
        let send = |raw: Raw, request| async move { raw.runs().signal_run(request).await };
        Run::of(self.call(request, send).await?.run)
    }

    /// Makes a new run from one that is over, beginning with a step of it.
    pub async fn rerun_from(
        &self,
        run_id: impl Into<String>,
        step_id: impl Into<String>,
    ) -> Result<StartedRun> {
        self.rerun(run_id.into(), step_id.into(), None).await
    }

    /// The same with another input.
    pub async fn rerun_from_with(
        &self,
        run_id: impl Into<String>,
        step_id: impl Into<String>,
        input: impl IntoPayload,
    ) -> Result<StartedRun> {
        self.rerun(run_id.into(), step_id.into(), Some(input.into_payload()?)).await
    }

    async fn rerun(&self, run_id: String, step_id: String, input: Option<Payload>) -> Result<StartedRun> {
        let edited_input = input.map(Payload::into_pb);
        let request = pb::RerunFromRequest { run_id, step_id, edited_input, request_id: request_id() };
        let send = |raw: Raw, request| async move { raw.runs().rerun_from(request).await };
        let reply = self.call(request, send).await?;
        Ok(StartedRun { run: Run::of(reply.run)?, existing: reply.existing })
    }

    /// Why a run is where it is.
    pub async fn explain_run(&self, run_id: impl Into<String>) -> Result<RunExplanation> {
        let request = pb::ExplainRunRequest { run_id: run_id.into() };
        let send = |raw: Raw, request| async move { raw.runs().explain_run(request).await };
        Ok(RunExplanation::from_pb(self.call(request, send).await?))
    }

    /// Starts a run, waits for its end, and reads its output. A run that does not succeed is an error that says why.
    pub async fn run_workflow<O: FromPayload>(&self, request: RunRequest) -> Result<O> {
        let started = self.start_run(request).await?;
        let run = self.wait_run(started.run.run_id).await?;
        match run.state {
            RunState::Succeeded => O::from_payload(run.output.unwrap_or_default()),
            _ => Err(Error::run_not_succeeded(&run)),
        }
    }
}
