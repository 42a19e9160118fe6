//! Secrets of a server beside its store: what signs tokens, and what API keys are hashed with.

use crate::settings::{Place, Profile, Settings};
use crate::wiring::StartError;
use coretex_engine::Engine;
use coretex_engine::keys::ApiKey;
use coretex_ports::Env;
use std::path::Path;

/// File in a store's directory that holds what signs page and resume tokens.
const TOKEN_KEY_FILE: &str = "token.key";
/// File in a dev store's directory that holds what hashes of API keys are made with, where no other is named.
const PEPPER_FILE: &str = "keys.pepper";

/// What signs tokens: kept beside a file store, so that tokens survive a restart; made by chance for a memory store.
pub(crate) fn token_key(settings: &Settings, env: &Env) -> Result<[u8; 32], StartError> {
    let roll = || {
        let mut key = [0; 32];
        key[..16].copy_from_slice(&env.dice.bits().to_le_bytes());
        key[16..].copy_from_slice(&env.dice.bits().to_le_bytes());
        key
    };
    let Place::File(directory) = &settings.store.place else { return Ok(roll()) };
    let path = directory.join(TOKEN_KEY_FILE);
    let refuse =
        |error: std::io::Error| StartError::Machine(format!("cannot use {}: {error}", path.display()));
    let make = |key: [u8; 32]| write_secret(&path, &key).map(|()| key);
    match std::fs::read(&path) {
        Ok(bytes) if bytes.len() == 32 => {
            let mut key = [0; 32];
            key.copy_from_slice(&bytes);
            Ok(key)
        }
        Ok(_) => make(roll()).map_err(refuse),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => make(roll()).map_err(refuse),
        Err(error) => Err(refuse(error)),
    }
}

/// What API keys of the store are hashed with. In dev it is kept beside the store if no other is named; in production a copy
/// of the store must not bring it along, so that there it is named or there are no such keys.
pub(crate) fn pepper(settings: &Settings) -> Result<Option<Vec<u8>>, StartError> {
    if settings.only_safety {
        return Ok(None);
    }
    if settings.auth.pepper.is_some() || settings.profile == Profile::Production {
        return Ok(settings.auth.pepper.clone());
    }
    let Some(made) = coretex_gateway::random_bytes::<32>() else {
        return Err(StartError::Machine("this machine gives no random bytes".into()));
    };
    let Place::File(directory) = &settings.store.place else { return Ok(Some(made.to_vec())) };
    let path = directory.join(PEPPER_FILE);
    if !path.exists() {
        // As text, so that production can be given the same file.
        let text: String = made.iter().map(|byte| format!("{byte:02x}")).collect();
        let refuse = |error| StartError::Machine(format!("cannot make {}: {error}", path.display()));
        write_secret(&path, text.as_bytes()).map_err(refuse)?;
    }
    // One that cannot be used is not made anew: that would make every key of the store worthless.
    crate::settings::auth::read_pepper(&path).map(Some).map_err(StartError::Machine)
}

/// Whether the API keys of the store can be used, and whether there is one where all hangs on them.
pub(crate) fn check_keys(
    settings: &Settings,
    engine: &Engine,
    pepper: Option<&[u8]>,
) -> Result<(), StartError> {
    let now = engine.env().clock.now().wall;
    let rows = engine.api_key_rows();
    let all = rows.iter().filter_map(|row| ApiKey::read(row).ok());
    let open: Vec<_> = all.filter(|key| key.ended(now).is_none()).collect();
    let name = pepper.map(coretex_gateway::pepper_id);
    let strange = open.iter().filter(|key| name.as_ref() != Some(&key.facts.pepper)).count();
    if strange > 0 && settings.profile == Profile::Production {
        return Err(StartError::OtherPepper(strange));
    }
    if strange > 0 {
        tracing::warn!(
            keys = strange,
            "API keys of the store were hashed with another pepper and open nothing"
        );
    }
    if settings.auth.required
        && settings.auth.names_nobody()
        && open.len() == strange
        && !settings.only_safety
    {
        return Err(StartError::NoKey);
    }
    Ok(())
}

/// Written whole or not at all, readable by its owner only.
fn write_secret(path: &Path, secret: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let part = path.with_extension("part");
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    file.write_all(secret)?;
    file.sync_all()?;
    std::fs::rename(&part, path)
}
