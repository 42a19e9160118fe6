//! Section `store`: where jobs are kept, and how sure a yes is.

use super::layers::Layers;
use super::refusal::Refusal;
use super::{Profile, file_system};
use crate::units::Size;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// A store and its promises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    pub place: Place,
    pub ack: Ack,
    /// Size at which submits are refused. Absent: 80 % of the disk.
    pub max_bytes: Option<u64>,
    /// Directory that backups must be in. Absent: any absolute path.
    pub backup_root: Option<PathBuf>,
    /// A store that forgets is accepted in production.
    pub allow_weak: bool,
}

/// Where jobs are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In memory: gone with the process.
    Memory,
    /// In a directory of this machine.
    File(PathBuf),
}

/// When a yes is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// After `fdatasync`.
    Durable,
    /// After the write.
    Relaxed,
}

// === impl Store ===

impl Store {
    pub fn build(layers: &mut Layers) -> Option<Store> {
        let has_max = layers.value("store.max_bytes").is_some();
        let max_bytes = layers.parse::<Size>("store.max_bytes").map(|Size(bytes)| bytes);
        let (place, ack) = (layers.parse("store.url"), layers.parse("store.ack"));
        let allow_weak = layers.parse("store.allow_weak");
        let backup_root = layers.text("store.backup_root").map(PathBuf::from);
        if backup_root.as_ref().is_some_and(|root| !root.is_absolute()) {
            layers.refuse_value("store.backup_root", "it is not an absolute path");
        }
        if has_max && max_bytes.is_none() {
            return None;
        }
        Some(Store { place: place?, ack: ack?, max_bytes, backup_root, allow_weak: allow_weak? })
    }

    pub fn validate(&self, profile: Profile, layers: &mut Layers) {
        if profile == Profile::Dev {
            return;
        }
        if self.place == Place::Memory && !self.allow_weak {
            let mend = "keep jobs in `file:PATH`, or set store.allow_weak to true";
            layers.refuse_at(
                "store.url",
                Refusal::new("R6", "a memory store forgets every job when the process ends", mend),
            );
        }
        if self.ack == Ack::Relaxed && !self.allow_weak {
            let mend = "set store.ack to durable, or store.allow_weak to true";
            let message = "`relaxed` says yes before a job is on stable storage; a loss of power loses jobs";
            layers.refuse_at("store.ack", Refusal::new("R6", message, mend));
        }
        if let Place::File(path) = &self.place
            && let Some(refusal) = open_to_others(path)
        {
            layers.refuse_at("store.url", refusal);
        }
        if let Place::File(path) = &self.place
            && let Some(kind) =
                layers.file_system.or_else(|| file_system::of(path)).and_then(file_system::foreign)
        {
            let message = format!(
                "{} is on a file system of kind {kind}: that one server at a time has it open, and that a yes is on stable storage, cannot be relied on there",
                path.display()
            );
            let mend = "name a directory on a disk of this machine, or a block device attached to it";
            layers.refuse_at("store.url", Refusal::new("R12", message, mend));
        }
    }
}

/// A directory that is there must be its owner's alone.
fn open_to_others(path: &std::path::Path) -> Option<Refusal> {
    use std::os::unix::fs::PermissionsExt as _;
    let facts = match std::fs::metadata(path) {
        Ok(facts) => facts,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => {
            let message = format!("cannot look at {}: {error}", path.display());
            return Some(Refusal::new("R12", message, "name a directory that this user can use"));
        }
    };
    if !facts.is_dir() {
        let message = format!("{} is not a directory", path.display());
        return Some(Refusal::new("R12", message, "name a directory; it is made if it is not there"));
    }
    let mode = facts.permissions().mode() & 0o777;
    (mode & 0o007 != 0).then(|| {
        let message =
            format!("{} can be used by every user of this machine (mode {mode:03o})", path.display());
        Refusal::new("R12", message, format!("chmod 700 {}", path.display()))
    })
}

// === impl Place, Ack ===

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Place, String> {
        match text.split_once(':') {
            Some(("memory", "")) => Ok(Place::Memory),
            Some(("file", path)) if !path.is_empty() => {
                Ok(Place::File(PathBuf::from(path.strip_prefix("//").unwrap_or(path))))
            }
            Some(("file", _)) => Err("a path is missing after `file:`".into()),
            Some((kind, _)) => Err(format!(
                "there is no store of kind `{kind}` in this build; `file:PATH` and `memory:` are"
            )),
            // YAML reads `url: memory:` as a map, so that the short form is welcome.
            None if text == "memory" => Ok(Place::Memory),
            None => Err(format!("a kind is missing; write `file:{text}`")),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Memory => f.write_str("memory:"),
            Place::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl FromStr for Ack {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Ack, &'static str> {
        match text {
            "durable" => Ok(Ack::Durable),
            "relaxed" => Ok(Ack::Relaxed),
            _ => Err("it is `durable` or `relaxed`"),
        }
    }
}
