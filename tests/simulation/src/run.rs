//! Many seeds on a few threads; each run stays on one.

use crate::cover::Cover;
use crate::options::{Narrow, Options};
use crate::planted::Planted;
use crate::world::{Outcome, World};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// One run.
pub fn run(options: Options) -> Outcome {
    World::new(options).run()
}

/// A seed that broke a promise.
#[derive(Clone, Debug)]
pub struct Failure {
    pub seed: u64,
    pub narrow: Narrow,
    pub violation: String,
}

/// What a batch of seeds came to.
#[derive(Default)]
pub struct Batch {
    pub cover: Cover,
    pub failures: Vec<Failure>,
}

/// Runs seeds on `jobs` threads until all are done or `stop_at` have failed.
pub fn batch(seeds: &[(u64, Narrow)], planted: Option<Planted>, jobs: usize, stop_at: usize) -> Batch {
    let next = AtomicU64::new(0);
    let is_enough = AtomicBool::new(false);
    let total = Mutex::new(Batch::default());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while !is_enough.load(Ordering::Relaxed) {
                    let at = next.fetch_add(1, Ordering::Relaxed) as usize;
                    let Some((seed, narrow)) = seeds.get(at) else { return };
                    let mut options = Options::of(*seed).narrowed(narrow);
                    options.planted = planted;
                    let outcome = caught(options);
                    let Ok(mut total) = total.lock() else { return };
                    total.cover.add(&outcome.cover);
                    if let Some(violation) = outcome.violation {
                        total.failures.push(Failure { seed: *seed, narrow: narrow.clone(), violation });
                        if total.failures.len() >= stop_at {
                            is_enough.store(true, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let mut batch = total.into_inner().unwrap_or_default();
    batch.failures.sort_by_key(|f| f.seed);
    batch
}

/// A panic of the kernel is a broken promise like any other.
pub fn caught(options: Options) -> Outcome {
    let run = std::panic::AssertUnwindSafe(|| run(options));
    std::panic::catch_unwind(run).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
            .unwrap_or_else(|| "a panic without words".into());
        Outcome {
            violation: Some(format!("PANIC: {text}")),
            hash: 0,
            trace: Vec::new(),
            cover: Cover::default(),
        }
    })
}
