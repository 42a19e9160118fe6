//! Section `secrets`: values that jobs ask for by name, from a file and from the environment.

use super::Profile;
use super::auth::check_mode;
use super::catalog::{CATALOG, FOREIGN};
use super::layers::Layers;
use super::policy::Policy;
use super::refusal::{Refusal, VALUE};
use coretex_secrets::{ANY_NAMESPACE, Values, Vault, refs};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// A file of secrets is read whole.
const FILE_LEN_MAX: u64 = 1 << 20;
const PREFIX_LEN_MAX: usize = 64;
const MEND: &str = "docs/guide/secrets.md has the form of names and values";

/// Where secrets come from, and those there are.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// Read again whenever it changes.
    pub file: Option<PathBuf>,
    /// Those of the environment, which stay as they are.
    pub environment: Values,
    /// All of them.
    pub vault: Arc<Vault>,
}

impl Secrets {
    /// Reads them, and puts them in the place of references in other settings. Done before all other sections.
    pub fn build(layers: &mut Layers) -> Secrets {
        let environment = std::mem::take(&mut layers.secrets);
        let file = layers.text("secrets.file").map(PathBuf::from);
        let mut values = environment.clone();
        if let Some(path) = &file {
            check_mode(&path.display().to_string(), "secrets.file", layers);
            match read(path) {
                Ok(found) => values.join(&found),
                Err(message) => {
                    let mend = "write `NAMESPACE:` with `NAME: value` lines under it, values in quotes; docs/guide/secrets.md has an example";
                    layers.refuse_at("secrets.file", Refusal::new(VALUE, message, mend));
                }
            }
        }
        layers.resolve(&values);
        let vault = Arc::<Vault>::default();
        if let Err(message) = vault.replace(values) {
            layers.refuse_at("secrets.file", Refusal::new(VALUE, message, MEND));
        }
        Secrets { file, environment, vault }
    }

    /// A policy of a server for others refers to secrets that are there.
    pub fn validate(&self, profile: Profile, policy: &Policy, layers: &mut Layers) {
        let Some(file) = policy.file.as_ref().filter(|_| profile == Profile::Production) else { return };
        let values = self.vault.values();
        for name in in_text(&file.yaml).filter(|name| !values.has_somewhere(name)) {
            let message = format!("{} refers to secret://{name}, which no provider has", file.path.display());
            layers.refuse_at("policy.file", unresolved(message));
        }
    }
}

/// A reference that leads nowhere.
pub(crate) fn unresolved(message: String) -> Refusal {
    Refusal::new(
        "R16",
        message,
        "add the value to secrets.file or to the environment, or take the reference out",
    )
}

/// Names after `secret://` anywhere in a text.
fn in_text(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices(refs::SCHEME).filter_map(|(at, scheme)| {
        let rest = text.get(at + scheme.len()..)?;
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c)));
        let name = rest.get(..end.unwrap_or(rest.len()))?;
        coretex_secrets::check_name(name).is_ok().then_some(name)
    })
}

/// Reads a file of secrets: maps of names to values, by namespace. What is wrong is said without any value.
pub(crate) fn read(path: &Path) -> Result<Values, String> {
    let shown = path.display();
    let cannot = |error: std::io::Error| format!("cannot read {shown}: {error}");
    let facts = std::fs::metadata(path).map_err(cannot)?;
    if facts.len() > FILE_LEN_MAX {
        return Err(format!("{shown} has {} bytes, more than {FILE_LEN_MAX}", facts.len()));
    }
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(cannot)?);
    if text.trim().is_empty() {
        return Ok(Values::default());
    }
    let maps: BTreeMap<String, BTreeMap<String, String>> =
        serde_saphyr::from_str(&text).map_err(|error| {
            // The reader quotes what it cannot use: only the place is told.
            let line = error.location().map(|at| format!(":{}", at.line())).unwrap_or_default();
            format!("{shown}{line} is not a map of namespaces to maps of names to texts")
        })?;
    let mut values = Values::default();
    for (namespace, names) in maps {
        for (name, value) in names {
            values.add(&namespace, &name, value).map_err(|message| format!("{shown}: {message}"))?;
        }
    }
    Ok(values)
}

/// Checks what variables of secrets begin with: no variable of a setting may.
pub(super) fn check_prefix(prefix: &str) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    if !(4..=PREFIX_LEN_MAX).contains(&prefix.len()) || !prefix.chars().all(is_plain) {
        return Err(format!("`{prefix}` is not 4 to {PREFIX_LEN_MAX} of A-Z, 0-9 and _"));
    }
    let names = CATALOG.iter().map(|known| known.env).chain(FOREIGN.iter().copied());
    match names.filter(|name| name.starts_with(prefix)).min() {
        Some(name) => Err(format!("`{prefix}` is also what {name} begins with, which is no secret")),
        None => Ok(()),
    }
}

/// Secrets in variables: `PREFIX` and `NAME`, or `NAMESPACE__NAME`. The variables of the process are looked at besides those given.
pub(super) fn of_environment(
    prefix: &str,
    given: &BTreeMap<String, String>,
) -> (Values, Vec<(String, String)>) {
    let (mut values, mut problems) = (Values::default(), Vec::new());
    let mut found = BTreeMap::new();
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with(prefix)) else { continue };
        match value.into_string() {
            Ok(value) => drop(found.insert(name.to_owned(), value)),
            Err(_) => problems.push((name.to_owned(), "its value is not UTF-8".to_owned())),
        }
    }
    let ours = given.iter().filter(|(name, _)| name.starts_with(prefix));
    found.extend(ours.map(|(name, value)| (name.clone(), value.clone())));
    for (variable, value) in found {
        let rest = variable.strip_prefix(prefix).unwrap_or_default();
        let (namespace, name) = match rest.split_once("__") {
            Some((namespace, name)) if !namespace.is_empty() => (namespace_of(namespace), name),
            _ => (ANY_NAMESPACE.to_owned(), rest),
        };
        if let Err(message) = values.add(&namespace, name, value) {
            problems.push((variable, message));
        }
    }
    (values, problems)
}

/// Variables are written in capitals, without dashes: `TEAM_A` is the namespace `team-a`.
fn namespace_of(text: &str) -> String {
    match coretex_domain::names::check_namespace(text) {
        Ok(()) => text.to_owned(),
        Err(_) => text.to_ascii_lowercase().replace('_', "-"),
    }
}
