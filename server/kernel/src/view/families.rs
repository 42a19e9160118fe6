//! Which open children end with which parents: a function of the jobs in the view.

use super::View;
use coretex_domain::{Job, JobKey};
use std::collections::BTreeSet;
use std::sync::Arc;

impl View {
    pub(super) fn bind(&mut self, key: JobKey, job: &Arc<Job>) {
        if let Some(parent) = job.bound_to() {
            self.families.entry(parent).or_default().insert(key);
        }
    }

    pub(super) fn unbind(&mut self, key: JobKey, job: &Arc<Job>) {
        let Some(parent) = job.bound_to() else { return };
        let Some(children) = self.families.get_mut(&parent) else { return };
        children.remove(&key);
        if children.is_empty() {
            self.families.remove(&parent);
        }
    }

    /// Open children that end with this job.
    pub(crate) fn bound_children(&self, parent: JobKey) -> BTreeSet<JobKey> {
        self.families.get(&parent).cloned().unwrap_or_default()
    }

    /// Open jobs that would end with the outermost job this one is bound to, as far as `most`.
    pub(crate) fn bound_together(&self, key: JobKey, most: usize) -> usize {
        let mut outermost = key;
        while let Some(parent) = self.job(outermost).and_then(|job| job.bound_to()) {
            outermost = parent;
        }
        let (mut to_visit, mut count) = (vec![outermost], 0);
        while let Some(next) = to_visit.pop().filter(|_| count <= most) {
            let children = self.families.get(&next);
            count += children.map_or(0, BTreeSet::len);
            to_visit.extend(children.into_iter().flatten());
        }
        count
    }
}
