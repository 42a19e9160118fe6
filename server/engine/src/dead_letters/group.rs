//! Groups of dead letters: jobs in, one by one; counts, times and samples by fingerprint out.

use coretex_domain::dead_letter::DeadLetter;
use coretex_domain::limits::GROUPS_MAX;
use coretex_domain::{Job, JobId, Time};
use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::sync::Arc;

/// Ids a group shows.
const SAMPLE: usize = 5;

/// Dead letters that share a fingerprint.
#[derive(Clone, Debug)]
pub struct Group {
    /// The one that was left last.
    pub newest: DeadLetter,
    pub message: Arc<str>,
    pub count: u64,
    pub retried: u64,
    pub first_time: Time,
    /// Of the jobs that were met first: the newest where the walk comes down.
    pub sample: Vec<JobId>,
}

#[derive(Clone, Debug, Default)]
pub struct Groups {
    /// The largest first, then the one that grew last.
    pub groups: Vec<Group>,
    pub count: u64,
    pub is_exact: bool,
}

#[derive(Default)]
pub(super) struct Grouping {
    groups: FxHashMap<u64, Group>,
    count: u64,
    /// A dead letter of one group too many was met.
    is_over: bool,
}

impl Grouping {
    pub(super) fn take(&mut self, job: &Arc<Job>) {
        let Some(letter) = DeadLetter::kept(job) else { return };
        if self.groups.len() >= GROUPS_MAX && !self.groups.contains_key(&letter.fingerprint) {
            self.is_over = true;
            return;
        }
        self.count += 1;
        let message = || job.failure().map_or_else(|| "".into(), |failure| failure.message.clone());
        let left_at = letter.create_time;
        let group = self.groups.entry(letter.fingerprint).or_insert_with(|| Group {
            newest: letter.clone(),
            message: message(),
            count: 0,
            retried: 0,
            first_time: left_at,
            sample: Vec::new(),
        });
        group.count += 1;
        group.retried += u64::from(job.rare().retried_as.is_some());
        group.first_time = group.first_time.min(left_at);
        if left_at > group.newest.create_time {
            group.message = message();
            group.newest = letter;
        }
        if group.sample.len() < SAMPLE {
            group.sample.push(job.id.clone());
        }
    }

    pub(super) fn finish(self, is_exact: bool) -> Groups {
        let mut groups: Vec<Group> = self.groups.into_values().collect();
        groups.sort_by_key(|group| {
            (Reverse(group.count), Reverse(group.newest.create_time), group.newest.fingerprint)
        });
        Groups { groups, count: self.count, is_exact: is_exact && !self.is_over }
    }
}
