//! What schedules did, page by page.

use super::rows;
use crate::Engine;
use coretex_domain::limits::PAGE_EXAMINED_MAX;
use coretex_domain::resource::Kind;
use coretex_domain::{Namespace, Refusal, Span, Time};
use coretex_schedule::Fire;
use std::sync::Arc;

/// Rows read from the store at a time.
const SCAN_BATCH: usize = 500;
/// A page answers short rather than take longer than this.
const PAGE_TIME_MAX: Span = Span(100);

/// One question for fires.
#[derive(Clone)]
pub struct FireQuery {
    pub namespace: Namespace,
    /// Of one schedule; none: of all.
    pub schedule_id: Option<Arc<str>>,
    /// Every row of these is shown to it; those it accepts are answered.
    pub accepts: Arc<dyn Fn(&Fire) -> bool + Send + Sync>,
    pub descending: bool,
    /// Nominal time and name of the last row seen.
    pub after: Option<(Time, Arc<str>)>,
    pub page_size: usize,
}

/// A page of fires. It may be short and still have a next one.
#[derive(Clone, Debug)]
pub struct FirePage {
    pub fires: Vec<Fire>,
    pub next: Option<(Time, Arc<str>)>,
}

impl Engine {
    /// One page in order of (nominal time, name).
    pub async fn list_fires(&self, query: FireQuery) -> Result<FirePage, Refusal> {
        let of_schedule = query.schedule_id.as_ref().map(|id| format!("{id}/"));
        let is_ours = |name: &str| of_schedule.as_ref().is_none_or(|prefix| name.starts_with(prefix));
        let mut fires = Vec::new();
        let mut after = query.after;
        let (mut examined, mut has_more) = (0, true);
        let start = self.shared.env.clock.now().mono;
        while has_more && fires.len() < query.page_size && examined < PAGE_EXAMINED_MAX {
            let (kind, namespace) = (Kind::ScheduleFire, &query.namespace);
            let (found, more) =
                self.walk_resources(kind, namespace, query.descending, after.clone(), SCAN_BATCH).await?;
            has_more = more;
            for one in found {
                if fires.len() == query.page_size {
                    has_more = true;
                    break;
                }
                examined += 1;
                after = Some((one.create_time, one.name.clone()));
                if !is_ours(&one.name) {
                    continue;
                }
                let fire = rows::fire(&one)?;
                if (query.accepts)(&fire) {
                    fires.push(fire);
                }
            }
            if self.shared.env.clock.now().mono.since(start) > PAGE_TIME_MAX {
                break;
            }
        }
        Ok(FirePage { fires, next: after.filter(|_| has_more) })
    }
}
