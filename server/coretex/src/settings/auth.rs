//! Section `auth`: the API keys that may call.

use super::Profile;
use super::layers::Layers;
use super::refusal::{Refusal, VALUE};
use std::fmt;
use std::os::unix::fs::PermissionsExt as _;

/// Shortest key: 32 characters of base64 are 192 bits.
const KEY_LEN_MIN: usize = 32;
/// A key made by chance has more different characters than this.
const KEY_VARIETY_MIN: usize = 8;
/// Words that only samples have.
const SAMPLE_WORDS: [&str; 5] = ["changeme", "example", "sample", "secret-key", "password"];

/// Who may call. No keys: everybody.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Auth {
    pub keys: Vec<Key>,
}

/// A key and whom it stands for. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    pub name: String,
    pub secret: String,
    /// Namespaces it may use. Empty: all.
    pub namespaces: Vec<String>,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.keys).finish()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Auth {
    pub fn build(layers: &mut Layers) -> Auth {
        let mut auth = Auth::default();
        for (index, line) in layers.list("auth.keys").iter().enumerate() {
            let place = format!("{} item {}", layers.place("auth.keys"), index + 1);
            auth.add(line, &place, layers);
        }
        if let Some(path) = layers.text("auth.keys_file") {
            auth.add_file(&path, layers);
        }
        auth
    }

    fn add_file(&mut self, path: &str, layers: &mut Layers) {
        let mend = format!("chmod 600 {path}");
        match std::fs::metadata(path) {
            Ok(facts) if facts.permissions().mode() & 0o077 != 0 => {
                let message = format!("{path} can be read by other users of this machine");
                layers.refuse_at("auth.keys_file", Refusal::new("R3", message, mend));
            }
            Ok(_) | Err(_) => {}
        }
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                let mend = "name a file this user can read, with one NAME:KEY per line";
                let message = format!("cannot read {path}: {error}");
                return layers.refuse_at("auth.keys_file", Refusal::new("R2", message, mend));
            }
        };
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                self.add(line, &format!("{path}:{}", index + 1), layers);
            }
        }
    }

    /// Adds one key, or says what is wrong with it without saying it.
    fn add(&mut self, line: &str, place: &str, layers: &mut Layers) {
        let mend = "make one with: head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d =";
        let mut parts = line.splitn(3, ':');
        let (Some(name), Some(secret)) = (parts.next().filter(|name| !name.is_empty()), parts.next()) else {
            let refusal =
                Refusal::new(VALUE, "it is not NAME:KEY", "write NAME:KEY, the name is for the audit");
            return layers.refuse(refusal.at(place));
        };
        let namespaces =
            parts.next().map(|names| names.split('+').map(str::to_owned).collect()).unwrap_or_default();
        let length = secret.chars().count();
        let variety = secret.chars().collect::<std::collections::BTreeSet<_>>().len();
        let lower = secret.to_lowercase();
        let problem = match () {
            () if length < KEY_LEN_MIN => {
                Some(format!("the key of `{name}` has {length} characters, fewer than {KEY_LEN_MIN}"))
            }
            () if variety < KEY_VARIETY_MIN => Some(format!("the key of `{name}` is not random")),
            () if SAMPLE_WORDS.iter().any(|word| lower.contains(word)) => {
                Some(format!("the key of `{name}` is a sample"))
            }
            () if self.keys.iter().any(|key| key.secret == secret) => {
                Some(format!("the key of `{name}` is given twice"))
            }
            () => None,
        };
        match problem {
            Some(message) => layers.refuse(Refusal::new("R3", message, mend).at(place)),
            None => self.keys.push(Key { name: name.to_owned(), secret: secret.to_owned(), namespaces }),
        }
    }

    pub fn validate(&self, profile: Profile, layers: &mut Layers) {
        let was_given = layers.value("auth.keys").is_some() || layers.value("auth.keys_file").is_some();
        if profile == Profile::Production && self.keys.is_empty() {
            let message = if was_given { "there is no usable API key" } else { "nothing says who may call" };
            let mend = "set auth.keys_file to a file with one NAME:KEY per line, mode 600";
            layers.refuse(Refusal::new("R2", message, mend).at("auth.keys_file"));
        }
    }
}
