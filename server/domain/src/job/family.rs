//! Jobs that jobs made: what a job knows of its children, and a child of its parent. All of a family live on one shard.

use super::{Job, Reserved};
use crate::id::{JobId, JobKey, Namespace, ShardId};
use crate::time::Time;
use std::sync::Arc;

/// What makes a job part of a family. Most jobs have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Family {
    /// The outermost job above it, which no job spawned; none for such a job, and where that was not noted.
    pub root: Option<JobId>,
    /// Generations above it; 0 for a job that no job spawned.
    pub depth: u32,
    /// It is cancelled when its parent ends otherwise than SUCCEEDED.
    pub closes_with_parent: bool,
    /// What it was given out of its parent's budget.
    pub borrowed: Reserved,
    /// What it gave to its children and did not get back.
    pub lent: Reserved,
    /// What it spawned, once each, whatever its worker asks again.
    pub spawns: Vec<Spawn>,
}

/// One question that made children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spawn {
    /// Its name, unique among those of the job over all its attempts.
    pub name: Arc<str>,
    /// Hash of all that was asked.
    pub asked: u128,
    pub count: u32,
    /// When it was decided; the ids of the children carry it.
    pub time: Time,
}

// === impl Spawn ===

impl Spawn {
    /// The ids of its children, in order: always the same.
    pub fn child_ids(&self, namespace: &Namespace, parent: &JobId) -> Vec<JobId> {
        let shard = parent.shard(namespace);
        (0..self.count).map(|index| self.child_id(namespace, parent, index, shard)).collect()
    }

    fn child_id(&self, namespace: &Namespace, parent: &JobId, index: u32, shard: ShardId) -> JobId {
        let mut hash = blake3::Hasher::new();
        let parent = parent.to_string();
        for part in [namespace.as_str(), "spawn", &parent, &self.name] {
            hash.update(part.as_bytes()).update(&[0]);
        }
        hash.update(&index.to_le_bytes());
        let mut bits = [0; 16];
        bits.copy_from_slice(&hash.finalize().as_bytes()[..16]);
        // Children of one question sort by index: it takes the first twelve bits after the time.
        let chance = (u128::from_le_bytes(bits) & ((1 << 62) - 1)) | ((u128::from(index) & 0xfff) << 62);
        JobId::make(self.time.0, chance, shard)
    }
}

// === impl Job: its family ===

impl Job {
    pub fn family(&self) -> Option<&Family> {
        self.rare.as_deref()?.family.as_deref()
    }

    pub fn family_mut(&mut self) -> &mut Family {
        self.rare_mut().family.get_or_insert_default()
    }

    /// Generations above it.
    pub fn depth(&self) -> u32 {
        self.family().map_or(0, |family| family.depth)
    }

    /// The outermost job of its family, for its children: itself if no job spawned it.
    pub fn root(&self) -> Option<JobId> {
        match self.family() {
            Some(family) if family.depth > 0 => family.root.clone(),
            Some(_) | None => Some(self.id.clone()),
        }
    }

    /// The parent whose end, unless it succeeded, is its own.
    pub fn bound_to(&self) -> Option<JobKey> {
        self.family().filter(|family| family.closes_with_parent)?;
        self.parent()
    }

    /// The parent out of whose budget it was given something.
    pub fn borrowed_from(&self) -> Option<(JobKey, Reserved)> {
        let borrowed = self.family()?.borrowed;
        if borrowed.is_empty() { None } else { Some((self.parent()?, borrowed)) }
    }

    fn parent(&self) -> Option<JobKey> {
        let parent = JobId::parse(self.spec.options().parent_job_id.as_deref()?).ok()?;
        Some(parent.key(&self.namespace))
    }

    /// What it gave to its children.
    pub fn lent(&self) -> Reserved {
        self.family().map(|family| family.lent).unwrap_or_default()
    }

    /// What it was given and did not use: its parent has it back.
    pub fn unused_of_borrowed(&self, borrowed: Reserved) -> Reserved {
        let used = self.rare().usage.as_ref();
        let (tokens, cost_micros) = used.map_or((0, 0), |used| (used.tokens(), used.cost_micros));
        let lent = self.lent();
        Reserved {
            tokens: borrowed.tokens.saturating_sub(tokens).saturating_sub(lent.tokens),
            cost_micros: borrowed.cost_micros.saturating_sub(cost_micros).saturating_sub(lent.cost_micros),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Payload;
    use crate::job::{Spec, Usage};

    fn spawn(name: &str, count: u32) -> Spawn {
        Spawn { name: name.into(), asked: 1, count, time: Time(77) }
    }

    #[test]
    fn children_have_the_same_ids_whenever_they_are_named_and_live_with_their_parent() {
        let namespace = Namespace::new("team");
        for parent in [JobId::make(5, 9, ShardId(7)), JobId::Named("nightly".into())] {
            let first = spawn("1", 256).child_ids(&namespace, &parent);
            assert_eq!(first, spawn("1", 256).child_ids(&namespace, &parent));
            assert!(first.is_sorted() && first.windows(2).all(|pair| pair[0] != pair[1]));
            assert!(first.iter().all(|id| id.shard(&namespace) == parent.shard(&namespace)));
            assert!(first.iter().all(|id| id.made_at_ms() == Some(77)));
            assert_ne!(first, spawn("2", 256).child_ids(&namespace, &parent));
            assert_ne!(first, spawn("1", 256).child_ids(&Namespace::new("other"), &parent));
        }
    }

    #[test]
    fn what_a_child_used_or_gave_on_does_not_come_back() {
        let mut spec = Spec::new("job.child", Payload::empty());
        spec.options_mut().parent_job_id = Some("nightly".into());
        let (id, namespace) = (JobId::make(1, 1, ShardId(0)), Namespace::new("default"));
        let mut job = Job::submitted(id, namespace, Arc::new(spec), 1, Time(1), None);
        assert_eq!((job.borrowed_from(), job.bound_to(), job.depth()), (None, None, 0));
        assert_eq!(job.root(), Some(job.id.clone()), "whose parent did not spawn it");
        let borrowed = Reserved { tokens: 100, cost_micros: 5 };
        let family = job.family_mut();
        (family.borrowed, family.lent, family.closes_with_parent) =
            (borrowed, Reserved { tokens: 30, cost_micros: 0 }, true);
        job.rare_mut().usage = Some(Usage { tokens_in: 40, cost_micros: 9, ..Usage::default() });
        let parent = JobId::Named("nightly".into()).key(&job.namespace);
        assert_eq!((job.borrowed_from(), job.bound_to()), (Some((parent, borrowed)), Some(parent)));
        assert_eq!(job.unused_of_borrowed(borrowed), Reserved { tokens: 30, cost_micros: 0 });
    }
}
