//! `coretex admin keys generate` and `hash`: API keys of settings files. Nothing leaves this machine, and no server is asked.

use super::shown::{Format, line, note, print_document};
use crate::outcome::{Failure, Outcome};
use crate::settings::auth;
use coretex_domain::access::{Role, Roles};
use coretex_domain::names::check_namespace;
use coretex_gateway::{KeyHash, key_of, random_bytes};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Keys are short; what is longer was not meant to be one.
const INPUT_MAX: u64 = 1 << 12;

/// Commands about API keys of settings files.
#[derive(Debug, clap::Subcommand)]
pub(super) enum KeysCommand {
    /// Make a key, and the line of the keys file that lets it in, without a server
    Generate {
        /// Name of the identity, for the audit
        #[arg(long)]
        name: String,
        /// Role, may be repeated: viewer, submitter, operator, worker, policy-admin, admin, auditor
        #[arg(long = "role", required = true, value_parser = Role::parse)]
        roles: Vec<Role>,
        /// Namespace it may use, may be repeated; left out: all
        #[arg(long = "only", value_name = "NAMESPACE", value_parser = namespace)]
        namespaces: Vec<String>,
        /// When it ends, for example 2027-01-31T00:00:00Z; left out: never
        #[arg(long, value_parser = expiry)]
        expires: Option<String>,
        /// Keep the hash instead of the key: file of auth.pepper_file, made if it is not there
        #[arg(long, value_name = "FILE")]
        pepper_file: Option<PathBuf>,
    },
    /// Read a key from standard input and print its hash, for `auth.keys`, without a server
    Hash {
        /// File of auth.pepper_file
        #[arg(long, value_name = "FILE")]
        pepper_file: PathBuf,
    },
}

/// Runs the command.
pub(super) fn run(command: KeysCommand, format: Format) -> Outcome {
    match command {
        KeysCommand::Generate { name, roles, namespaces, expires, pepper_file } => {
            auth::check_name(&name).map_err(Failure::Usage)?;
            let roles: Roles = roles.into_iter().collect();
            let key = key_of(chance()?);
            let secret = match &pepper_file {
                Some(path) => hash(&pepper_at(path)?, &key)?,
                None => key.clone(),
            };
            let entry =
                auth::line(&name, &secret, &namespaces, roles, expires.as_deref().unwrap_or_default());
            match format {
                Format::Table => {
                    line(&key)?;
                    note(
                        "this is the key; it is shown this once. The line that lets it in, for auth.keys_file:",
                    );
                    line(&entry)
                }
                format => print_document(format, &serde_json::json!({"key": key, "line": entry}), true),
            }
        }
        KeysCommand::Hash { pepper_file } => {
            let pepper = auth::read_pepper(&pepper_file).map_err(Failure::Machine)?;
            let mut text = String::new();
            let read = std::io::stdin().take(INPUT_MAX).read_to_string(&mut text);
            read.map_err(|error| Failure::machine("cannot read the key", error))?;
            let hash = hash(&pepper, text.trim())?;
            match format {
                Format::Table => line(&hash),
                format => print_document(format, &serde_json::json!({ "hash": hash }), true),
            }
        }
    }
}

fn chance<const N: usize>() -> Result<[u8; N], Failure> {
    random_bytes().ok_or_else(|| Failure::Machine("this machine gives no random bytes".into()))
}

fn hash(pepper: &[u8], key: &str) -> Result<String, Failure> {
    let message = "that is no key of ours: ctx_, 8 characters, _ and 43 characters; `coretex admin keys generate` makes one";
    let hash = KeyHash::of(pepper, key).ok_or_else(|| Failure::Usage(message.into()))?;
    Ok(hash.to_string())
}

/// The pepper in a file; a new one where there is none. Two who make one at a time agree on the first.
fn pepper_at(path: &Path) -> Result<Vec<u8>, Failure> {
    let doing = format!("cannot make {}", path.display());
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match made {
        Ok(mut file) => {
            let text: String = chance::<32>()?.iter().map(|byte| format!("{byte:02x}")).collect();
            let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
            written.map_err(|error| Failure::machine(doing, error))?;
            note(format!("{} was made; set auth.pepper_file to it", path.display()));
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(Failure::machine(doing, error)),
    }
    auth::read_pepper(path).map_err(Failure::Machine)
}

fn namespace(text: &str) -> Result<String, String> {
    check_namespace(text).map(|()| text.to_owned())
}

fn expiry(text: &str) -> Result<String, String> {
    auth::time(text).map(|_| text.to_owned())
}
