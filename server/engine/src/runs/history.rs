//! The history of a run: its newest entries are in its record, the older ones in parts.

use super::{not_found, parts, stored};
use crate::Engine;
use coretex_domain::limits::RUN_PIECE;
use coretex_domain::run::{Entry, Part, body::history_of_body};
use coretex_domain::{Namespace, Reason, Refusal, Run, RunId};
use std::sync::Arc;

impl Engine {
    /// Entries after a number, oldest first; and the run as it stands. Fewer than `limit` only at the end.
    pub async fn run_history(
        &self,
        namespace: &Namespace,
        id: &RunId,
        after: u64,
        limit: usize,
    ) -> Result<(Vec<Entry>, Arc<Run>), Refusal> {
        let run = stored(&self.shared, namespace, id).await?.ok_or_else(|| not_found(id))?;
        let entries = self.history_of(&run, after, limit).await?;
        Ok((entries, run))
    }

    /// The same for a run at hand.
    pub async fn history_of(&self, run: &Run, after: u64, limit: usize) -> Result<Vec<Entry>, Refusal> {
        let piece = RUN_PIECE as u64;
        let kept_from = run.history.first().map_or(run.revision + 1, |entry| entry.seq);
        let mut found: Vec<Entry> = Vec::new();
        let mut next = after;
        while found.len() < limit && next + 1 < kept_from {
            let part = Part::History(next / piece);
            let lost = || {
                let message = format!("the history of run {} after entry {next} is not there", run.id());
                Refusal::new(Reason::DataCorruption, message)
            };
            let body =
                parts(&self.shared, run, &[part]).await?.into_iter().flatten().next().ok_or_else(lost)?;
            let entries =
                history_of_body(&body).map_err(|what| Refusal::new(Reason::DataCorruption, what))?;
            found.extend(entries.into_iter().filter(|entry| entry.seq > next));
            next = found.last().map_or_else(|| Err(lost()), |entry| Ok(entry.seq))?;
        }
        found.extend(run.history.iter().filter(|entry| entry.seq > next).cloned());
        found.truncate(limit);
        Ok(found)
    }
}
