//! The policy of a file: put in force at start, and again whenever the file says something else.

use coretex_domain::{Namespace, Refusal};
use coretex_engine::api::Caller;
use coretex_engine::{Apply, Engine};
use coretex_policy::Bundle;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How often the file is looked at. One `stat` costs less than being told by the system is worth.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A bundle and where it was read.
#[derive(Clone, Debug)]
pub struct PolicyFile {
    /// Where it was read.
    pub path: PathBuf,
    /// As it was written.
    pub yaml: String,
    /// As it was understood.
    pub bundle: Bundle,
}

/// Puts the bundle in force, unless it is already. The file is named as the one who did.
pub(crate) async fn apply(engine: &Engine, file: &PolicyFile) -> Result<(), Refusal> {
    let present = engine.policy_info(&file.bundle.name, 0).await.ok();
    if present.is_some_and(|present| present.in_force && *present.digest == *file.bundle.version()) {
        return Ok(());
    }
    let actor = format!("file:{}", file.path.display()).into();
    let caller = Caller { namespace: Namespace::installation(), actor };
    let apply = Apply {
        bundle: file.bundle.clone(),
        yaml: file.yaml.as_str().into(),
        is_shadow: false,
        revision: 0,
        comment: "".into(),
    };
    let done = engine.apply_policy(&caller, apply, None).await?;
    tracing::info!(
        policy = %done.policy.name, version = done.policy.version, file = %file.path.display(),
        differences = done.differences.len(), "the policy of the file is in force"
    );
    Ok(())
}

/// Looks at the file for as long as the engine lives. One that cannot be used changes nothing.
pub(crate) async fn follow(engine: Engine, mut file: PolicyFile) {
    let mut seen = changed_at(&file.path);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = changed_at(&file.path);
        if now == seen {
            continue;
        }
        seen = now;
        match read(&file.path) {
            Ok(newer) => {
                file = newer;
                if let Err(refusal) = apply(&engine, &file).await {
                    tracing::error!(%refusal, file = %file.path.display(), "the policy of the file was not taken");
                    // Tried again at the next look.
                    seen = None;
                }
            }
            Err(why) => {
                tracing::error!(why, file = %file.path.display(), "the policy of the file cannot be used; the one before stays in force");
            }
        }
    }
}

fn read(path: &Path) -> Result<PolicyFile, String> {
    let yaml = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let bundle = Bundle::parse(&yaml).map_err(|problems| problems.to_string())?;
    Ok(PolicyFile { path: path.to_owned(), yaml, bundle })
}

fn changed_at(path: &Path) -> Option<(SystemTime, u64)> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}
