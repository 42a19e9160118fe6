//! Walking jobs in order: the index and the overlay merged, the overlay winning.

use crate::index::order::{Key, Range};
use crate::index::read::{Columns, Reader};
use crate::index::{id_bytes, int};
use crate::overlay::Overlay;
use coretex_domain::job::StateKind;
use coretex_domain::{Job, JobId, Namespace, Time};
use coretex_ports::{JobSet, Page, Row, StoreError};
use rustc_hash::FxHashSet;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows one step looks at; a step that finds little answers short and says that there is more.
const EXAMINED_MAX: usize = 10_000;

/// What to walk; see `Scan::Jobs`.
pub(crate) struct Walk {
    pub(crate) namespace: Namespace,
    pub(crate) set: JobSet,
    pub(crate) topic: Option<Arc<str>>,
    pub(crate) state: Option<StateKind>,
    pub(crate) descending: bool,
    pub(crate) after: Option<(Time, JobId)>,
    pub(crate) from: Time,
    pub(crate) to: Time,
    pub(crate) limit: usize,
}

/// A job of the merged walk.
enum Met {
    Wanted(Arc<Job>),
    /// Does not match; kept only to say how far the walk came.
    Passed(Arc<Job>),
}

// === impl Walk ===

impl Walk {
    pub(crate) fn run(&self, overlay: &Overlay, reader: &mut Reader) -> Result<Page, StoreError> {
        let mut newer = self.overlaid(overlay, reader)?;
        let mut found: BTreeMap<Key, Met> = BTreeMap::new();
        let examined_all = self.indexed(reader, &self.deleted(overlay), &mut newer, &mut found)?;
        // Beyond the last row the index was asked for, more rows of the index may lie between those of the overlay.
        let horizon = if examined_all {
            None
        } else if self.descending {
            found.keys().next().cloned()
        } else {
            found.keys().next_back().cloned()
        };
        for (key, job) in newer {
            let within = horizon.as_ref().is_none_or(|h| if self.descending { key >= *h } else { key <= *h });
            if within && self.is_wanted(&job) {
                found.insert(key, Met::Wanted(job));
            }
        }
        Ok(self.page(found, examined_all))
    }

    fn page(&self, found: BTreeMap<Key, Met>, examined_all: bool) -> Page {
        let mut rows = Vec::new();
        let mut passed = None;
        let mut more = !examined_all;
        let walk: Box<dyn Iterator<Item = Met>> =
            if self.descending { Box::new(found.into_values().rev()) } else { Box::new(found.into_values()) };
        for met in walk {
            match met {
                Met::Wanted(_) if rows.len() == self.limit => {
                    passed = None;
                    more = true;
                    break;
                }
                Met::Wanted(job) => {
                    rows.push(Row::Job(job));
                    passed = None;
                }
                Met::Passed(job) => passed = Some(job),
            }
        }
        // A step that found too little hands out the last job it passed, so that the caller can go on after it.
        if more && rows.len() < self.limit {
            rows.extend(passed.map(Row::Job));
        }
        Page { rows, more }
    }

    fn is_wanted(&self, job: &Job) -> bool {
        self.topic.as_ref().is_none_or(|topic| job.spec.topic == *topic)
            && self.state.is_none_or(|state| job.state.kind() == state)
    }

    fn range(&self) -> Range {
        Range::new(self.from, self.to, self.after.as_ref(), self.descending)
    }

    /// Jobs of the overlay that lie ahead, whether wanted or not: they stand for their rows in the index.
    fn overlaid(
        &self,
        overlay: &Overlay,
        reader: &mut Reader,
    ) -> Result<BTreeMap<Key, Arc<Job>>, StoreError> {
        let jobs = overlay.jobs(|job| {
            job.namespace == self.namespace && job.create_time >= self.from && job.create_time <= self.to
        });
        let mut ahead = BTreeMap::new();
        let range = self.range();
        for job in jobs.into_values() {
            let key = (int(job.create_time.0), id_bytes(&job.id));
            if !range.is_ahead(&key) {
                continue;
            }
            let is_in_set = match self.set {
                JobSet::All => true,
                JobSet::DeadLetters => has_dead_letter(overlay, reader, &self.namespace, &job)?,
            };
            if !is_in_set {
                continue;
            }
            ahead.insert(key, job);
        }
        if let JobSet::DeadLetters = self.set {
            self.overlay_letters(overlay, reader, &mut ahead)?;
        }
        Ok(ahead)
    }

    /// Dead letters whose job is in the index already.
    fn overlay_letters(
        &self,
        overlay: &Overlay,
        reader: &mut Reader,
        ahead: &mut BTreeMap<Key, Arc<Job>>,
    ) -> Result<(), StoreError> {
        let mut ids = Vec::new();
        overlay.visit_side(|side| {
            let ours = side.dead.iter().filter(|(_, letter)| letter.namespace == self.namespace);
            ids.extend(ours.map(|(key, letter)| (*key, letter.job_id.clone())));
        });
        let range = self.range();
        for (job_key, id) in ids {
            let is_kept = overlay.side(|side| side.has_dead_letter(job_key)) != Some(false);
            if !is_kept || overlay.job(job_key).is_some() {
                continue;
            }
            if let Some(job) = reader.job(&self.namespace, &id)? {
                let key = (int(job.create_time.0), id_bytes(&job.id));
                if range.is_ahead(&key) {
                    ahead.insert(key, job);
                }
            }
        }
        Ok(())
    }

    /// Ids of jobs whose dead letters were deleted and may still be in the index.
    fn deleted(&self, overlay: &Overlay) -> FxHashSet<Vec<u8>> {
        let mut ids = FxHashSet::default();
        if let JobSet::DeadLetters = self.set {
            overlay.visit_side(|side| {
                let ours = side.dead_ended.values().filter(|(namespace, _)| *namespace == self.namespace);
                ids.extend(ours.map(|(_, id)| id_bytes(id)));
            });
        }
        ids
    }

    /// Walks the index. Rows that the overlay has too are taken from there (and out of `newer`). True if the
    /// walk came to the end.
    fn indexed(
        &self,
        reader: &mut Reader,
        deleted: &FxHashSet<Vec<u8>>,
        newer: &mut BTreeMap<Key, Arc<Job>>,
        found: &mut BTreeMap<Key, Met>,
    ) -> Result<bool, StoreError> {
        let Some(ns) = reader.name(self.namespace.as_str())? else { return Ok(true) };
        let topic = match &self.topic {
            Some(topic) => Some(reader.name(topic)?),
            None => None,
        };
        let state = self.state.map(|state| state as i64);
        let range = self.range();
        let mut wanted = 0;
        let mut examined = 0;
        let mut ended = true;
        let mut take = |columns: Columns, decode: &mut dyn FnMut() -> Result<Job, StoreError>| {
            if wanted > self.limit || examined >= EXAMINED_MAX {
                ended = false;
                return Ok(false);
            }
            examined += 1;
            let key = columns.key;
            let matches = topic.is_none_or(|t| t == Some(columns.topic))
                && state.is_none_or(|s| s == columns.state)
                && (deleted.is_empty() || !deleted.contains(&key.1));
            let met = match newer.remove(&key) {
                Some(job) if self.is_wanted(&job) => Met::Wanted(job),
                Some(job) => Met::Passed(job),
                None if matches => Met::Wanted(Arc::new(decode()?)),
                // Decoding every job that is passed by would cost more than the walk; the last one is enough.
                None if examined == EXAMINED_MAX => Met::Passed(Arc::new(decode()?)),
                None => return Ok(true),
            };
            wanted += usize::from(matches!(met, Met::Wanted(_)));
            found.insert(key, met);
            Ok(true)
        };
        match self.set {
            JobSet::All => reader.walk(ns, &range, &mut take)?,
            JobSet::DeadLetters => reader.walk_dead(ns, &range, &mut take)?,
        }
        Ok(ended)
    }
}

// === dead letters by id ===

/// Of these jobs, those whose dead letter is kept.
pub(crate) fn dead_letters(
    overlay: &Overlay,
    reader: &mut Reader,
    namespace: &Namespace,
    ids: &[JobId],
) -> Result<Page, StoreError> {
    let mut rows = Vec::new();
    for id in ids {
        let newer = overlay.job(id.key(namespace)).filter(|job| job.id == *id && job.namespace == *namespace);
        let found = match newer {
            Some(job) => Some(job),
            None => reader.job(namespace, id)?,
        };
        let Some(job) = found else { continue };
        if has_dead_letter(overlay, reader, namespace, &job)? {
            rows.push(Row::Job(job));
        }
    }
    Ok(Page { rows, more: false })
}

fn has_dead_letter(
    overlay: &Overlay,
    reader: &mut Reader,
    namespace: &Namespace,
    job: &Job,
) -> Result<bool, StoreError> {
    match overlay.side(|side| side.has_dead_letter(job.key())) {
        Some(has) => Ok(has),
        None => reader.has_dead_letter(namespace, &(int(job.create_time.0), id_bytes(&job.id))),
    }
}
