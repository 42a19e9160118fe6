//! Paths to values: keys joined by dots. A key that holds a dot itself stands in quotes: `a."b.c"`.

use serde_json::Value;

/// A way from the top of a configuration to a part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(pub Vec<String>);

impl std::str::FromStr for Path {
    type Err = String;

    /// Reads keys joined by dots; nothing is the top.
    fn from_str(text: &str) -> Result<Path, String> {
        let mut keys = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (key, after) = if let Some(quoted) = rest.strip_prefix('"') {
                quoted.split_once('"').ok_or("has a quote that is not closed")?
            } else {
                rest.split_at(rest.find('.').unwrap_or(rest.len()))
            };
            super::data::check_key(key)?;
            keys.push(key.to_owned());
            rest = match after.strip_prefix('.') {
                Some("") => return Err("ends with a dot".into()),
                Some(rest) => rest,
                None if after.is_empty() => "",
                None => return Err("has text between a quote and the next dot".into()),
            };
        }
        Ok(Path(keys))
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = String::new();
        self.0.iter().for_each(|key| push(&mut text, key));
        f.write_str(&text)
    }
}

/// Goes on by one key.
pub(super) fn push(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    if key.contains('.') || key.is_empty() {
        path.push('"');
        path.push_str(key);
        path.push('"');
    } else {
        path.push_str(key);
    }
}

/// The part of a configuration at a path.
pub fn lookup<'a>(data: &'a Value, path: &Path) -> Option<&'a Value> {
    path.0.iter().try_fold(data, |part, key| part.as_object()?.get(key))
}
