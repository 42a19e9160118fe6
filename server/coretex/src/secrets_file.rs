//! The file of secrets, read again whenever it changes. One that cannot be used changes nothing.

use crate::settings::Secrets;
use crate::settings::secrets::read;
use coretex_secrets::REDACTED_LEN_MIN;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What tells one state of a file from another.
type Seen = Option<(SystemTime, u64, u64, u32)>;

/// Looks at the file for as long as the server lives.
pub(crate) async fn follow(secrets: Secrets, path: PathBuf) {
    let mut seen = state(&path);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = state(&path);
        if now == seen {
            continue;
        }
        seen = now;
        match take(&secrets, &path) {
            Ok(count) => {
                tracing::info!(count, file = %path.display(), "the secrets of the file are in force")
            }
            Err(why) => {
                tracing::error!(why, file = %path.display(), "the file of secrets cannot be used; those before stay in force");
            }
        }
    }
}

/// Puts what the file says in the place of what it said before.
fn take(secrets: &Secrets, path: &Path) -> Result<usize, String> {
    if state(path).is_some_and(|(.., mode)| mode & 0o077 != 0) {
        return Err("it can be read by other users of this machine".into());
    }
    let mut values = secrets.environment.clone();
    values.join(&read(path)?);
    let count = values.len();
    secrets.vault.replace(values)?;
    warn_of_short(secrets);
    Ok(count)
}

/// Values that are too short to be told from other text are handed out, and not taken out of anything.
pub(crate) fn warn_of_short(secrets: &Secrets) {
    let values = secrets.vault.values();
    let short = values.all().filter(|value| value.expose().len() < REDACTED_LEN_MIN).count();
    if short > 0 {
        tracing::warn!(
            short,
            "secrets with fewer than {REDACTED_LEN_MIN} bytes are not taken out of results and logs"
        );
    }
}

fn state(path: &Path) -> Seen {
    let facts = std::fs::metadata(path).ok()?;
    Some((facts.modified().ok()?, facts.len(), facts.ino(), facts.permissions().mode()))
}
