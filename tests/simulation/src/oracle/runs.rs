//! What runs promise.

use super::Oracle;
use crate::runs::RunWish;
use crate::store::SimStore;
use coretex_domain::Run;

impl Oracle {
    /// A run is told of: never ahead of its commit, and as it was asked for (I-04, I-05, I-13).
    pub(crate) fn on_run_told(&mut self, wish: &RunWish, run: &Run, store: &SimStore) {
        let id = run.id();
        let Some(stored) = store.run(&run.plea.namespace, id) else {
            return self.violate("I-03", || format!("run {id} was told of and is not in the store"));
        };
        if stored.revision < run.revision {
            let (told, has) = (run.revision, stored.revision);
            self.violate("I-04", || format!("run {id} was told at revision {told}, the store has {has}"));
        }
        match wish {
            RunWish::Start(starting) if starting.fingerprint() != stored.plea.fingerprint => {
                self.violate("I-05", || format!("run {id} is another than was asked for"));
            }
            RunWish::Cancel { .. } if stored.ending.is_none() && !stored.is_over() => {
                self.violate("I-13", || format!("run {id} was said to be cancelled and goes on"));
            }
            _ => {}
        }
    }
}
