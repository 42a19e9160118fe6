//! What a job's workers asked and were told, oldest first.

use crate::Engine;
use coretex_domain::limits::PAGE_EXAMINED_MAX;
use coretex_domain::receipt::Receipt;
use coretex_domain::resource::Kind;
use coretex_domain::{Job, JobId, Namespace, Reason, Refusal, Span, Time};
use std::sync::Arc;

/// Rows read from the store at a time.
const SCAN_BATCH: usize = 500;
/// A page answers short rather than take longer than this.
const PAGE_TIME_MAX: Span = Span(100);

/// One question for the receipts of a job.
#[derive(Clone, Debug)]
pub struct ReceiptQuery {
    pub namespace: Namespace,
    pub job_id: JobId,
    /// Create time and name of the last row seen.
    pub after: Option<(Time, Arc<str>)>,
    pub page_size: usize,
}

/// A page of receipts. It may be short and still have a next one.
#[derive(Clone, Debug)]
pub struct ReceiptPage {
    /// Name, time, and what was asked and told.
    pub receipts: Vec<(Arc<str>, Time, Receipt)>,
    pub next: Option<(Time, Arc<str>)>,
}

impl Engine {
    /// Receipts of one job in order of (create time, name). They are filed by their time: what is looked through are
    /// those of the namespace from the job's first day to its last.
    pub async fn list_receipts(&self, query: ReceiptQuery) -> Result<ReceiptPage, Refusal> {
        let job = self.get(&query.namespace, &query.job_id).await?;
        let of_job = format!("{}/", job.id);
        let (from, until) = life_of(&job);
        let mut after = query.after.or_else(|| Some((Time(from.0.saturating_sub(1)), "".into())));
        let (mut receipts, mut examined, mut has_more) = (Vec::new(), 0, true);
        let start = self.shared.env.clock.now().mono;
        while has_more && receipts.len() < query.page_size && examined < PAGE_EXAMINED_MAX {
            let (rows, more) = self
                .walk_resources(Kind::Receipt, &query.namespace, false, after.clone(), SCAN_BATCH)
                .await?;
            has_more = more;
            for row in rows {
                if row.create_time > until {
                    has_more = false;
                    break;
                }
                if receipts.len() == query.page_size {
                    has_more = true;
                    break;
                }
                examined += 1;
                after = Some((row.create_time, row.name.clone()));
                if row.name.starts_with(&of_job) {
                    let receipt = Receipt::of(&row).ok_or_else(|| damaged(&row.name))?;
                    receipts.push((row.name.clone(), row.create_time, receipt));
                }
            }
            if self.shared.env.clock.now().mono.since(start) > PAGE_TIME_MAX {
                break;
            }
        }
        Ok(ReceiptPage { receipts, next: after.filter(|_| has_more) })
    }
}

/// The earliest and latest time of a job, whatever its owner's clock did meanwhile; open jobs have no latest.
fn life_of(job: &Job) -> (Time, Time) {
    let times = || job.history.iter().map(|entry| entry.time);
    let from = times().fold(job.create_time, Time::min);
    let until = match job.state.kind().is_terminal() {
        true => times().fold(job.update_time, Time::max),
        false => Time::NEVER,
    };
    (from, until)
}

fn damaged(name: &str) -> Refusal {
    Refusal::new(Reason::DataCorruption, format!("the receipt {name} is damaged"))
}
