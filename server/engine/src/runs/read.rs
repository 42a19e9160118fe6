//! Reading runs: one, a page of them, the end of one.

use super::start::value_of;
use super::{RunView, RunWatch, not_found, plan, stored};
use crate::api::Explanation;
use crate::events::refusal_of;
use crate::{Engine, ask};
use coretex_domain::limits::PAGE_EXAMINED_MAX;
use coretex_domain::resource::Kind;
use coretex_domain::run::Part;
use coretex_domain::{Namespace, Reason, Refusal, Run, RunId, Span, Time};
use coretex_kernel::input::{Input, Reply};
use coretex_ports::{Row, Scan};
use std::sync::Arc;

/// Rows read from the store at a time.
const SCAN_BATCH: usize = 200;
/// A page answers short rather than take longer than this.
const PAGE_TIME_MAX: Span = Span(100);

/// One question for a list of runs.
#[derive(Clone)]
pub struct RunQuery {
    pub namespace: Namespace,
    /// Every run is shown to it; those it accepts are answered.
    pub accepts: Arc<dyn Fn(&Run) -> bool + Send + Sync>,
    pub descending: bool,
    /// Create time and id of the last one seen.
    pub after: Option<(Time, Arc<str>)>,
    pub page_size: usize,
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct RunPage {
    pub runs: Vec<RunView>,
    /// Where the next page goes on; absent when nothing is left.
    pub next: Option<(Time, Arc<str>)>,
}

impl Engine {
    /// A run as it stands; with input and output if wanted.
    pub async fn get_run(
        &self,
        namespace: &Namespace,
        id: &RunId,
        in_full: bool,
    ) -> Result<RunView, Refusal> {
        let run = stored(&self.shared, namespace, id).await?.ok_or_else(|| not_found(id))?;
        self.view_run(run, in_full).await
    }

    /// A run with its workflow.
    pub async fn view_run(&self, run: Arc<Run>, in_full: bool) -> Result<RunView, Refusal> {
        let plan = plan(&self.shared, &run.plea.namespace, &run.plea.workflow, run.plea.version).await?;
        let (mut input, mut output) = (None, None);
        if in_full {
            input = value_of(&self.shared, &run, &run.plea.input, Part::Input).await?;
            if let Some(value) = &run.output {
                output = value_of(&self.shared, &run, value, Part::Output).await?;
            }
        }
        Ok(RunView { run, plan, input, output })
    }

    /// One page in order of (create time, id). It may be short and still have a next one.
    pub async fn list_runs(&self, query: RunQuery) -> Result<RunPage, Refusal> {
        let mut found = Vec::new();
        let mut after = query.after.clone();
        let (mut examined, mut has_more) = (0, true);
        let start = self.shared.env.clock.now().mono;
        while has_more && found.len() < query.page_size && examined < PAGE_EXAMINED_MAX {
            let scan = Scan::Resources {
                kind: Kind::Run,
                namespace: query.namespace.clone(),
                descending: query.descending,
                after: after.clone(),
                limit: SCAN_BATCH,
            };
            let page = self.shared.store.scan(scan).await.map_err(refusal_of)?;
            has_more = page.more;
            for row in page.rows {
                let Row::Resource(row) = row else { continue };
                if found.len() == query.page_size {
                    has_more = true;
                    break;
                }
                examined += 1;
                after = Some((row.create_time, row.name.clone()));
                let run =
                    Run::of_resource(&row).map_err(|what| Refusal::new(Reason::DataCorruption, what))?;
                if (query.accepts)(&run) {
                    found.push(Arc::new(run));
                }
            }
            if self.shared.env.clock.now().mono.since(start) > PAGE_TIME_MAX {
                break;
            }
        }
        let mut runs = Vec::with_capacity(found.len());
        for run in found {
            runs.push(self.view_run(run, false).await?);
        }
        Ok(RunPage { runs, next: after.filter(|_| has_more) })
    }

    /// The run as it ended, or as it stands at the timeout.
    pub async fn wait_run(
        &self,
        namespace: &Namespace,
        id: &RunId,
        timeout: Span,
    ) -> Result<RunView, Refusal> {
        let until = self.shared.env.clock.now().mono + timeout;
        // Watched before it is read, so that no end falls between the two.
        let mut watch = self.watch_run(namespace, id);
        let mut run = stored(&self.shared, namespace, id).await?.ok_or_else(|| not_found(id))?;
        while !run.is_over() {
            tokio::select! {
                next = watch.next() => match next {
                    Some(next) => run = next,
                    None => break,
                },
                () = self.shared.env.clock.sleep_until(until) => {
                    run = stored(&self.shared, namespace, id).await?.ok_or_else(|| not_found(id))?;
                    break;
                }
            }
        }
        self.view_run(run, true).await
    }

    /// Tells of each committed state of a run from now on, whether or not there is one of that name.
    pub fn watch_run(&self, namespace: &Namespace, id: &RunId) -> RunWatch {
        self.shared.run_watches.watch(id.key(namespace))
    }

    /// Why a run stands where it stands.
    pub async fn explain_run(&self, namespace: &Namespace, id: &RunId) -> Result<Explanation, Refusal> {
        let who = self.shared.loop_of(id.shard(namespace));
        for _ in 0..2 {
            let input = Input::ExplainRun { namespace: namespace.clone(), run_id: id.clone() };
            match ask(&self.shared, who, input).await? {
                Reply::Explained(found) => return Ok(found),
                Reply::RunAway => super::evaluate::bring(&self.shared, namespace, id).await?,
                _ => break,
            }
        }
        let run = stored(&self.shared, namespace, id).await?.ok_or_else(|| not_found(id))?;
        let state = run.state();
        let summary = match run.error() {
            Some(error) if error.step.is_empty() => format!("{state}: {}: {}", error.kind, error.message),
            Some(error) => format!("{state}: step {}: {}: {}", error.step, error.kind, error.message),
            None => state.name().to_owned(),
        };
        Ok(Explanation { summary, causes: Vec::new() })
    }
}
