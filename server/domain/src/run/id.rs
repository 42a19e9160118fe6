//! Names of runs, and of the jobs their steps are.

use crate::id::{IdError, JobId, JobKey, Namespace, ShardId};
use std::fmt;
use std::sync::Arc;

/// Longest part of a chosen run id after `run_`.
pub const CHOSEN_LEN_MAX: usize = 60;

/// The name of a run: `run_` and 26 characters if the server made it, `run_[a-z0-9-]{1,60}` if the client chose it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(Arc<str>);

/// What a run is filed under in memory: a look-up by it still compares namespace and id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunKey(pub u128);

// === impl RunId ===

impl RunId {
    /// Makes an id from a time, 74 bits of chance and a shard.
    pub fn make(time_ms: u64, chance: u128, shard: ShardId) -> RunId {
        match JobId::make(time_ms, chance, shard) {
            JobId::Made(uuid) => RunId::of_uuid(uuid),
            JobId::Named(name) => RunId(name),
        }
    }

    fn of_uuid(uuid: u128) -> RunId {
        let made = JobId::Made(uuid).to_string();
        RunId(format!("run_{}", made.trim_start_matches("job_")).into())
    }

    /// Parses an id, made or chosen.
    pub fn parse(text: &str) -> Result<RunId, IdError> {
        let Some(rest) = text.strip_prefix("run_") else {
            return Err(IdError("must begin with `run_`".into()));
        };
        if rest.is_empty() || rest.len() > CHOSEN_LEN_MAX {
            let told = format!("after `run_` must come 1..={CHOSEN_LEN_MAX} characters, got {}", rest.len());
            return Err(IdError(told));
        }
        match rest.chars().find(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-')) {
            Some(c) => Err(IdError(format!("after `run_` come characters of a-z, 0-9 and `-`; got {c:?}"))),
            None => Ok(RunId(text.into())),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn name(&self) -> &Arc<str> {
        &self.0
    }

    pub fn shard(&self, namespace: &Namespace) -> ShardId {
        JobId::Named(self.0.clone()).shard(namespace)
    }

    /// True for ids as the server makes them. No client chooses such a one.
    pub fn is_made(&self) -> bool {
        self.uuid().is_some()
    }

    fn uuid(&self) -> Option<u128> {
        crate::id::decode32(self.0.strip_prefix("run_")?)
    }

    pub fn key(&self, namespace: &Namespace) -> RunKey {
        RunKey(self.uuid().unwrap_or_else(|| JobId::Named(self.0.clone()).key(namespace).0))
    }

    /// The job of one of its steps. `path` is what comes after the id and a colon.
    pub fn job(&self, path: &str) -> JobId {
        JobId::Named(format!("{}:{path}", self.0).into())
    }

    /// The run a job is a step of, if its name says so.
    pub fn of_job(job: &JobId) -> Option<RunId> {
        match job {
            JobId::Named(name) if name.starts_with("run_") => {
                name.split_once(':').map(|(run, _)| RunId(run.into()))
            }
            JobId::Named(_) | JobId::Made(_) => None,
        }
    }

    /// What the name of a job says after its run: the step, iterations and indexes.
    pub fn path_of(job: &JobId) -> Option<&str> {
        match job {
            JobId::Named(name) if name.starts_with("run_") => name.split_once(':').map(|(_, path)| path),
            JobId::Named(_) | JobId::Made(_) => None,
        }
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl RunKey ===

impl RunKey {
    /// The id it was made of, if the server made that.
    pub fn id(self) -> Option<RunId> {
        let version = (self.0 >> 76) & 0xf;
        (version == 7).then(|| RunId::of_uuid(self.0))
    }

    /// Where the run holds a slot, as if it were a job.
    pub fn as_holder(self) -> JobKey {
        JobKey(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_parse_and_find_their_shard() {
        let namespace = Namespace::new("default");
        let made = RunId::make(1_700_000_000_000, 77 << 8, ShardId(9));
        assert_eq!(RunId::parse(made.as_str()), Ok(made.clone()));
        assert_eq!(made.shard(&namespace), ShardId(9));
        let job = made.job("publish:3");
        assert_eq!((job.shard(&namespace), RunId::of_job(&job)), (ShardId(9), Some(made.clone())));
        assert_eq!(RunId::path_of(&job), Some("publish:3"));
        let chosen = RunId::parse("run_nightly-7").unwrap();
        assert_eq!(chosen.job("a").shard(&namespace), chosen.shard(&namespace));
        assert_eq!(RunId::of_job(&JobId::Named("order-1".into())), None);
        assert_eq!(made.key(&namespace).id(), Some(made.clone()));
        assert_eq!((made.is_made(), chosen.is_made(), chosen.key(&namespace).id()), (true, false, None));
        assert_ne!(chosen.key(&namespace), chosen.key(&Namespace::new("other")));
        for bad in ["", "run_", "job_1", "run_A", "run_a b", "run_a:b", &format!("run_{}", "x".repeat(61))] {
            assert!(RunId::parse(bad).is_err(), "{bad:?}");
        }
    }
}
