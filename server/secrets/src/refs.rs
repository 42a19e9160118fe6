//! References: `secret://NAME` as a whole JSON string, or as a whole label.

use crate::secret::{NAME_LEN_MAX, is_name_byte};
use coretex_domain::Job;
use memchr::memmem;
use std::sync::{Arc, LazyLock};

/// What a reference begins with.
pub const SCHEME: &str = "secret://";
/// As it begins in JSON; some writers escape the slashes.
const QUOTED: &[u8] = b"\"secret:";
/// Made once: most texts are short, and have none.
static FINDER: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(QUOTED));
/// References of one job that are listed; more than it may ask for at a time.
pub const REFS_MAX: usize = 256;

/// The names a job refers to: in its JSON payload, its labels and its configuration. In order, each once.
pub fn of_job(job: &Job) -> Vec<Arc<str>> {
    let mut found = Vec::new();
    if job.spec.payload.content_type.is_json() {
        in_json(&job.spec.payload.data, &mut found);
    }
    for (_, value) in job.spec.options.iter().flat_map(|options| options.labels.iter()) {
        found.extend(of_text(value).map(Arc::from));
    }
    if let Some(data) = job.rare().config.as_ref().and_then(|config| config.data.as_ref()) {
        in_json(&data.text, &mut found);
    }
    if found.len() > 1 {
        found.sort_unstable();
        found.dedup();
        found.truncate(REFS_MAX);
    }
    found
}

/// The name, if the whole text is a reference.
pub fn of_text(text: &str) -> Option<&str> {
    let name = text.strip_prefix(SCHEME)?;
    crate::check_name(name).is_ok().then_some(name)
}

/// Adds the names in a JSON text. A text without any costs one search.
pub fn in_json(text: &[u8], found: &mut Vec<Arc<str>>) {
    for at in FINDER.find_iter(text) {
        let Some(rest) = text.get(at + QUOTED.len()..) else { return };
        let rest = [&b"//"[..], b"\\/\\/", b"/\\/", b"\\//"].iter().find_map(|lead| rest.strip_prefix(*lead));
        let Some(rest) = rest else { continue };
        let len = rest.iter().take(NAME_LEN_MAX + 1).take_while(|byte| is_name_byte(**byte)).count();
        let (name, after) = rest.split_at(len);
        let is_whole = (1..=NAME_LEN_MAX).contains(&len) && after.first() == Some(&b'"');
        // A quote behind a backslash begins no string.
        let is_begin = at == 0 || text.get(at - 1) != Some(&b'\\');
        if let (true, true, Ok(name)) = (is_whole, is_begin, std::str::from_utf8(name)) {
            found.push(name.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<Arc<str>> {
        let mut found = Vec::new();
        in_json(text.as_bytes(), &mut found);
        found
    }

    #[test]
    fn only_whole_strings_are_references() {
        assert_eq!(
            found(r#"{"a":"secret://A","b":["secret:\/\/b.c-d_1"]}"#),
            [Arc::from("A"), Arc::from("b.c-d_1")]
        );
        let long = format!("\"secret://{}\"", "a".repeat(65));
        for none in [
            r#"{"a":"use secret://A"}"#,
            r#"{"a":"secret://A now"}"#,
            r#"{"a":"say \"secret://A\""}"#,
            r#"{"a":"secret://"}"#,
            r#"{"a":"secret:A"}"#,
            r#"{"a":"Secret://A"}"#,
            r#"{"a":"secret://é"}"#,
            r#""secret://A"#,
            &long,
            "",
        ] {
            assert!(found(none).is_empty(), "{none}");
        }
        assert_eq!(of_text("secret://A"), Some("A"));
        assert_eq!(of_text("secret://A "), None);
        assert_eq!(of_text("A"), None);
    }
}
