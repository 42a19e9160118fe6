//! Recover: open runs of a claim in; what their loops need to go on with them out.

use super::evaluate::whole;
use crate::shared::Shared;
use coretex_domain::Run;
use coretex_domain::resource::Kind;
use coretex_kernel::View;
use coretex_kernel::input::LoadRun;
use coretex_ports::Claim;
use std::sync::Arc;

/// An open run of a claim, with what it needs; without, where it only waits.
pub(crate) struct Recovered {
    pub(crate) run: Arc<Run>,
    pub(crate) rest: Option<LoadRun>,
}

/// Reads the open runs of a claim. The catalog must have been filled from it.
pub(crate) async fn gather(shared: &Shared, claim: &Claim) -> Vec<Recovered> {
    let rows = claim.resources.iter().filter(|row| row.kind == Kind::Run && row.is_live);
    let mut found = Vec::new();
    for row in rows {
        let run = match Run::of_resource(row) {
            Ok(run) => Arc::new(run),
            Err(what) => {
                tracing::error!(%what, "DATA_CORRUPTION: an open run cannot be read; it stays as it is");
                continue;
            }
        };
        let rest = match View::must_load(&run) {
            false => None,
            true => match whole(shared, run.clone()).await {
                Ok(rest) => Some(rest),
                Err(refusal) => {
                    tracing::error!(%refusal, run = %run.id(), "an open run cannot go on; it stays as it is");
                    None
                }
            },
        };
        found.push(Recovered { run, rest });
    }
    found
}
