//! How long what has ended is kept: as its job says, else its topic, else its namespace, else the default.

use super::{LifeOfNode, Oracle};
use coretex_domain::job::Job;
use coretex_domain::topic::{Retention, Settings};
use coretex_domain::{JobKey, Span};
use coretex_kernel::input::Write as KernelWrite;
use rustc_hash::FxHashMap;
use std::ops::Range;

const JOBS: Span = Span::hours(24);
const DEAD_LETTERS: Span = Span::hours(14 * 24);

/// How long the namespace ever said that things are kept, and who knew.
#[derive(Default)]
pub(super) struct Kept {
    versions: Vec<Retention>,
    /// The newest version at the last turn of each loop: it hears of newer ones in its next turn.
    heard: FxHashMap<(LifeOfNode, usize), usize>,
    /// What may have been in force when a job ended, until that is committed.
    ends: FxHashMap<JobKey, Range<usize>>,
}

impl Oracle {
    /// From here on the namespace keeps what ends for so long.
    pub(crate) fn on_retention(&mut self, retention: Retention) {
        self.kept.versions.push(retention);
    }

    /// A loop decided a group. It may have ended jobs before it heard of a new version in the same turn.
    pub(crate) fn on_ends(&mut self, life: LifeOfNode, who: usize, writes: &[KernelWrite]) {
        let newest = self.kept.versions.len().saturating_sub(1);
        let from = self.kept.heard.insert((life, who), newest).unwrap_or(0);
        for write in writes {
            if let KernelWrite::Job { job, .. } = write
                && job.state.kind().is_terminal()
            {
                self.kept.ends.insert(job.key(), from..newest + 1);
            }
        }
    }

    /// The end of a job sets it. Every version of the topic may have been in force.
    pub(super) fn check_expiry_of(&mut self, old: Option<&Job>, job: &Job) {
        let (kind, Some(end)) = (job.state.kind(), job.end_time) else { return };
        if !kind.is_terminal() || old.is_some_and(|old| old.state.kind().is_terminal()) {
            return;
        }
        let Some(of) = self.kept.ends.remove(&job.key()) else {
            return self.violate("RETENTION", || format!("job {} ended and no loop ended it", job.id));
        };
        let versions = self.kept.versions.get(of).unwrap_or_default();
        let rows = self.rows.get(&job.spec.topic).map_or(&[][..], |rows| rows.as_slice());
        let nothing = Settings::default();
        let settings = || rows.iter().map(|(_, row)| &row.settings).chain([&nothing]);
        let own = job.spec.options().retention;
        let leaves = kind.leaves_dead_letter();
        let is_right = |of: &Retention, topic: &Settings| {
            let record = own.or(topic.retention).or(of.jobs).unwrap_or(JOBS);
            let letter = topic.dead_letter_retention.or(of.dead_letters).unwrap_or(DEAD_LETTERS);
            let keep = if leaves && !topic.dead_letters_off { record.max(letter) } else { record };
            job.expire_time == Some(end + keep)
        };
        if !versions.iter().any(|of| settings().any(|topic| is_right(of, topic))) {
            let (id, found, all) = (&job.id, job.expire_time, versions.to_vec());
            self.violate("RETENTION", || {
                format!("job {id} ended {} at {end:?} and is kept until {found:?}: {all:?}", kind.name())
            });
        }
    }
}
