//! API keys: lines of a file, of a variable or of the settings; the key itself, or its hash.

use super::check_name;
use super::item::{Item, roles};
use crate::settings::Profile;
use crate::settings::layers::Layers;
use crate::settings::refusal::{Refusal, VALUE};
use coretex_domain::Time;
use coretex_domain::access::Roles;
use coretex_domain::names::check_namespace;
use coretex_gateway::{KeyHash, prefix_of};
use std::fmt;
use std::os::unix::fs::PermissionsExt as _;

/// Shortest secret of a server for others: 32 characters of base64 are 192 bits.
const SECRET_LEN_MIN: usize = 32;
/// A secret made by chance has more different characters than this.
const VARIETY_MIN: usize = 8;
/// Words that only samples have.
const SAMPLE_WORDS: [&str; 5] = ["changeme", "example", "sample", "secret-key", "password"];
const FIELDS: [&str; 6] = ["name", "key", "hash", "namespaces", "roles", "expires"];
const MEND: &str =
    "write NAME:KEY:NAMESPACE+NAMESPACE:ROLE+ROLE:EXPIRY, or {name: …, key: … or hash: …, roles: […]}";
const GENERATE: &str = "make one with: coretex admin keys generate --name NAME --role ROLE";

/// A key and whom it stands for. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    pub name: String,
    pub secret: Secret,
    /// Namespaces it may use. Empty: all.
    pub namespaces: Vec<String>,
    pub roles: Roles,
    pub expires: Option<Time>,
}

/// What is known of a key.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    Plain(String),
    Hash(KeyHash),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("name", &self.name)
            .field("roles", &self.roles.names())
            .finish_non_exhaustive()
    }
}

/// A key as it is written, before anything is believed.
struct Written {
    name: String,
    secret: String,
    namespaces: Vec<String>,
    roles: Vec<String>,
    expires: Option<String>,
}

struct Keys<'a> {
    profile: Profile,
    has_pepper: bool,
    keys: Vec<Key>,
    layers: &'a mut Layers,
}

pub(super) fn build(profile: Profile, has_pepper: bool, layers: &mut Layers) -> Vec<Key> {
    let lines = layers.list("auth.keys");
    let place = layers.place("auth.keys");
    let file = layers.text("auth.keys_file");
    let mut keys = Keys { profile, has_pepper, keys: Vec::new(), layers };
    for (index, line) in lines.iter().enumerate() {
        keys.add(line, &format!("{place} item {}", index + 1));
    }
    if let Some(path) = file {
        keys.add_file(&path);
    }
    keys.keys
}

/// What hashes of keys are made with.
pub(super) fn pepper(layers: &mut Layers) -> Option<Vec<u8>> {
    let path = layers.text("auth.pepper_file")?;
    check_mode(&path, "auth.pepper_file", layers);
    let mend = "make one with: coretex admin keys generate --name NAME --role ROLE --pepper-file FILE";
    match read_pepper(std::path::Path::new(&path)) {
        Ok(pepper) => Some(pepper),
        Err(message) => {
            layers.refuse_at("auth.pepper_file", Refusal::new("R3", message, mend));
            None
        }
    }
}

/// Reads a pepper, or says why it is none.
pub(crate) fn read_pepper(path: &std::path::Path) -> Result<Vec<u8>, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let pepper = bytes.trim_ascii_end();
    match pepper.len() {
        length if length < SECRET_LEN_MIN => {
            Err(format!("{} has {length} bytes, fewer than {SECRET_LEN_MIN}", path.display()))
        }
        _ => Ok(pepper.to_vec()),
    }
}

pub(in crate::settings) fn check_mode(path: &str, key: &'static str, layers: &mut Layers) {
    if std::fs::metadata(path).is_ok_and(|facts| facts.permissions().mode() & 0o077 != 0) {
        let message = format!("{path} can be read by other users of this machine");
        layers.refuse_at(key, Refusal::new("R3", message, format!("chmod 600 {path}")));
    }
}

// === impl Keys ===

impl Keys<'_> {
    fn add_file(&mut self, path: &str) {
        check_mode(path, "auth.keys_file", self.layers);
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                let mend =
                    "name a file this user can read, with lines that `coretex admin keys generate` prints";
                let message = format!("cannot read {path}: {error}");
                return self.layers.refuse_at("auth.keys_file", Refusal::new("R2", message, mend));
            }
        };
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                self.add(line, &format!("{path}:{}", index + 1));
            }
        }
    }

    /// Adds one key, or says what is wrong with it without saying it.
    fn add(&mut self, line: &str, place: &str) {
        let written = match line.starts_with('{') {
            true => of_map(line, place, self.layers),
            false => of_line(line, place, self.layers),
        };
        let Some(written) = written else { return };
        match self.check(written) {
            Ok(key) => self.keys.push(key),
            Err(refusal) => self.layers.refuse(refusal.at(place)),
        }
    }

    fn check(&self, written: Written) -> Result<Key, Refusal> {
        let Written { name, secret, namespaces, roles: names, expires } = written;
        check_name(&name).map_err(|message| Refusal::new(VALUE, message, MEND))?;
        for namespace in &namespaces {
            check_namespace(namespace)
                .map_err(|problem| Refusal::new(VALUE, format!("a namespace of `{name}` {problem}"), MEND))?;
        }
        let secret = self.secret(&name, secret)?;
        let mut held = roles(&names)
            .map_err(|message| Refusal::new(VALUE, format!("the key of `{name}`: {message}"), MEND))?;
        if held.is_empty() {
            match self.profile {
                Profile::Dev => held = Roles::ADMIN,
                Profile::Production => {
                    let mend =
                        "name its roles, for example NAME:KEY::submitter; docs/access/roles.md has the table";
                    return Err(Refusal::new("R2", format!("the key of `{name}` has no role"), mend));
                }
            }
        }
        let expires = expires.map(|text| time(&text)).transpose().map_err(|message| {
            Refusal::new(
                VALUE,
                format!("the key of `{name}`: {message}"),
                "write for example 2027-01-31T00:00:00Z",
            )
        })?;
        Ok(Key { name, secret, namespaces, roles: held, expires })
    }

    /// The key or its hash, unless it is weak or there already.
    fn secret(&self, name: &str, secret: String) -> Result<Secret, Refusal> {
        let refuse = |message: String| Refusal::new("R3", message, GENERATE);
        if KeyHash::is_meant(&secret) {
            let hash =
                KeyHash::parse(&secret).ok_or_else(|| refuse(format!("the hash of `{name}` is no hash")))?;
            if !self.has_pepper {
                let mend = "set auth.pepper_file to the file that `coretex admin keys` made the hash with";
                return Err(Refusal::new("R3", format!("the hash of `{name}` needs auth.pepper_file"), mend));
            }
            return match self.has_prefix(hash.prefix()) {
                true => Err(refuse(format!("the key of `{name}` is given twice"))),
                false => Ok(Secret::Hash(hash)),
            };
        }
        if let Some(message) = weakness(name, &secret).filter(|_| self.profile == Profile::Production) {
            return Err(refuse(message));
        }
        let is_there = prefix_of(&secret).is_some_and(|prefix| self.has_prefix(prefix))
            || self.keys.iter().any(|key| matches!(&key.secret, Secret::Plain(other) if *other == secret));
        match (secret.is_empty(), is_there) {
            (true, _) => Err(refuse(format!("the key of `{name}` is empty"))),
            (false, true) => Err(refuse(format!("the key of `{name}` is given twice"))),
            (false, false) => Ok(Secret::Plain(secret)),
        }
    }

    fn has_prefix(&self, prefix: &str) -> bool {
        self.keys.iter().any(|key| match &key.secret {
            Secret::Plain(plain) => prefix_of(plain) == Some(prefix),
            Secret::Hash(hash) => hash.prefix() == prefix,
        })
    }
}

/// A line of a keys file: what [`of_line`] reads.
pub(crate) fn line(name: &str, secret: &str, namespaces: &[String], roles: Roles, expires: &str) -> String {
    let roles: Vec<&str> = roles.iter().map(coretex_domain::access::Role::name).collect();
    let line = format!("{name}:{secret}:{}:{}:{expires}", namespaces.join("+"), roles.join("+"));
    line.trim_end_matches(':').to_owned()
}

fn of_line(line: &str, place: &str, layers: &mut Layers) -> Option<Written> {
    let mut parts = line.splitn(5, ':');
    let (Some(name), Some(secret)) = (parts.next().filter(|name| !name.is_empty()), parts.next()) else {
        layers.refuse(Refusal::new(VALUE, "it is not NAME:KEY", MEND).at(place));
        return None;
    };
    let mut list = || {
        let names = parts.next().filter(|names| !names.is_empty());
        names.map(|names| names.split('+').map(str::to_owned).collect()).unwrap_or_default()
    };
    let (namespaces, roles) = (list(), list());
    Some(Written {
        name: name.to_owned(),
        secret: secret.to_owned(),
        namespaces,
        roles,
        expires: parts.next().map(str::to_owned),
    })
}

fn of_map(line: &str, place: &str, layers: &mut Layers) -> Option<Written> {
    let item = Item::read(line, place.to_owned(), &FIELDS, MEND, layers)?;
    let secret = match (item.has("key"), item.has("hash")) {
        (true, false) => item.text("key", layers),
        (false, true) => item.text("hash", layers),
        (true, true) | (false, false) => {
            item.refuse("either `key` or `hash` is wanted", layers);
            None
        }
    };
    if item.has("hash") && secret.as_ref().is_some_and(|text| !KeyHash::is_meant(text)) {
        item.refuse("`hash` is not what `coretex admin keys hash` prints", layers);
        return None;
    }
    let name = item.required("name", layers);
    let namespaces = item.namespaces("namespaces", layers);
    let roles = item.list("roles", layers);
    let expires = item.text("expires", layers);
    Some(Written { name: name?, secret: secret?, namespaces, roles, expires })
}

/// Why a secret should not guard a server for others.
fn weakness(name: &str, secret: &str) -> Option<String> {
    let variety = secret.chars().collect::<std::collections::BTreeSet<_>>().len();
    let lower = secret.to_lowercase();
    match () {
        () if secret.len() < SECRET_LEN_MIN => {
            Some(format!("the key of `{name}` has {} bytes, fewer than {SECRET_LEN_MIN}", secret.len()))
        }
        () if variety < VARIETY_MIN => Some(format!("the key of `{name}` is not random")),
        () if SAMPLE_WORDS.iter().any(|word| lower.contains(word)) => {
            Some(format!("the key of `{name}` is a sample"))
        }
        () => None,
    }
}

/// A point in time as RFC 3339 writes it.
pub(crate) fn time(text: &str) -> Result<Time, String> {
    let shown = || coretex_domain::names::shown(text);
    let at: jiff::Timestamp = text.parse().map_err(|_| format!("{} is no time of RFC 3339", shown()))?;
    u64::try_from(at.as_millisecond()).map(Time).map_err(|_| format!("{} is before 1970", shown()))
}
