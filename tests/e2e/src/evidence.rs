//! What a suite counted: one file per suite in the folder that `CORETEX_EVIDENCE` names, rewritten as tests pass.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// The figures of one suite. Made once as a `static`, shared by its tests.
pub struct Evidence {
    suite: &'static str,
    figures: Mutex<Vec<(&'static str, u64)>>,
}

// === impl Evidence ===

impl Evidence {
    pub const fn of(suite: &'static str) -> Evidence {
        Evidence { suite, figures: Mutex::new(Vec::new()) }
    }

    /// Adds to a figure.
    pub fn add(&self, figure: &'static str, count: u64) {
        self.change(figure, |value| *value += count);
    }

    /// Keeps the largest of what is noted.
    pub fn max(&self, figure: &'static str, value: u64) {
        self.change(figure, |old| *old = value.max(*old));
    }

    fn change(&self, figure: &'static str, change: impl FnOnce(&mut u64)) {
        let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        let place = figures.iter().position(|(name, _)| *name == figure).unwrap_or_else(|| {
            figures.push((figure, 0));
            figures.len() - 1
        });
        change(&mut figures[place].1);
        let line = figures.iter().map(|(name, n)| format!("{name}={n}")).collect::<Vec<_>>().join(" ");
        if let Some(path) = self.path() {
            std::fs::write(&path, format!("{line}\n")).expect("the evidence folder can be written");
        }
    }

    fn path(&self) -> Option<PathBuf> {
        let folder = PathBuf::from(std::env::var_os("CORETEX_EVIDENCE")?);
        std::fs::create_dir_all(&folder).expect("the evidence folder can be made");
        Some(folder.join(format!("{}.txt", self.suite)))
    }
}
