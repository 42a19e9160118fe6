//! Names people give: topics, namespaces, keys, labels. Each check says what is wrong and where.

use crate::limits;

/// Checks a topic name: `[a-z0-9][a-z0-9._-]{0,127}`.
pub fn check_topic(name: &str) -> Result<(), String> {
    check_pattern(name, limits::TOPIC_LEN_MAX, |c| c.is_ascii_lowercase() || c.is_ascii_digit(), "._-")
        .map_err(|e| format!("must match [a-z0-9][a-z0-9._-]{{0,127}}; {e}"))
}

/// Checks a namespace: `[a-z0-9][a-z0-9_-]{0,63}`.
pub fn check_namespace(name: &str) -> Result<(), String> {
    check_pattern(name, limits::NAMESPACE_LEN_MAX, |c| c.is_ascii_lowercase() || c.is_ascii_digit(), "_-")
        .map_err(|e| format!("must match [a-z0-9][a-z0-9_-]{{0,63}}; {e}"))
}

/// Checks the name of a worker, pool, lane or capability.
pub fn check_worker_name(name: &str) -> Result<(), String> {
    check_pattern(name, limits::WORKER_ID_LEN_MAX, |c| c.is_ascii_alphanumeric(), "._@:/+=-")
        .map_err(|e| format!("must match [A-Za-z0-9][A-Za-z0-9._@:/+=_-]{{0,127}}; {e}"))
}

/// Checks the name of an identity: `[A-Za-z0-9][A-Za-z0-9._@-]{0,63}`. No colon: it stands between an issuer and its subjects.
pub fn check_identity(name: &str) -> Result<(), String> {
    check_pattern(name, limits::IDENTITY_NAME_LEN_MAX, |c| c.is_ascii_alphanumeric(), "._@-")
        .map_err(|e| format!("must match [A-Za-z0-9][A-Za-z0-9._@-]{{0,63}}; {e}"))
}

/// What the history of a job says of a schedule that made it in somebody's name. Names of identities have no blanks, so it
/// is the name of none; [`principal_of`] finds the one it stands for.
pub fn schedule_actor(schedule_id: &str, creator: &str) -> String {
    match creator {
        "" => format!("schedule:{schedule_id} (anonymous)"),
        creator => format!("schedule:{schedule_id} as {creator}"),
    }
}

/// In whose name an actor acts: its own, unless it is a schedule.
pub fn principal_of(actor: &str) -> Option<&str> {
    match actor.strip_prefix("schedule:").and_then(|rest| rest.split_once(' ')) {
        None => Some(actor),
        Some((_, who)) => who.strip_prefix("as "),
    }
}

/// Checks a key (idempotency, concurrency, rate): 1..=256 bytes, printable, not blank.
pub fn check_key(key: &str) -> Result<(), String> {
    if key.len() > limits::KEY_LEN_MAX {
        return Err(format!("must be at most {} bytes, got {}", limits::KEY_LEN_MAX, key.len()));
    }
    if key.trim().is_empty() {
        return Err("must not be blank".into());
    }
    match key.char_indices().find(|(_, c)| c.is_control()) {
        Some((at, c)) => Err(format!("must be printable; position {at} is {c:?}")),
        None => Ok(()),
    }
}

/// Checks one label. Keys that begin with `coretex.` are the product's.
pub fn check_label(key: &str, value: &str) -> Result<(), String> {
    check_key(key)?;
    if key.starts_with("coretex.") {
        return Err("the prefix `coretex.` is reserved".into());
    }
    if value.len() > limits::LABEL_LEN_MAX {
        return Err(format!("value must be at most {} bytes, got {}", limits::LABEL_LEN_MAX, value.len()));
    }
    match value.char_indices().find(|(_, c)| c.is_control()) {
        Some((at, c)) => Err(format!("value must be printable; position {at} is {c:?}")),
        None => Ok(()),
    }
}

/// A value for an error message: escaped, and cut to 120 characters.
pub fn shown(value: &str) -> String {
    let escaped: String = value.chars().take(120).flat_map(char::escape_debug).collect();
    match value.chars().nth(120) {
        Some(_) => format!("\"{escaped}…\" ({} bytes)", value.len()),
        None => format!("\"{escaped}\""),
    }
}

fn check_pattern(name: &str, len_max: usize, alnum: fn(char) -> bool, inner: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("it is empty".into());
    }
    for (at, c) in name.char_indices() {
        if !(alnum(c) || (at > 0 && (inner.contains(c) || c == '_' && inner.contains('_')))) {
            return Err(format!("position {at} is {c:?} in {}", shown(name)));
        }
    }
    if name.len() > len_max {
        return Err(format!("it has {} characters: {}", name.len(), shown(name)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_acts_in_the_name_of_whoever_applied_it() {
        assert_eq!(principal_of("ann"), Some("ann"));
        assert_eq!(principal_of(&schedule_actor("nightly", "corp:ann/x")), Some("corp:ann/x"));
        assert_eq!(principal_of(&schedule_actor("nightly", "")), None);
        // An issuer may be named so; a schedule is told from it by the blank.
        assert_eq!(principal_of("schedule:nightly"), Some("schedule:nightly"));
    }

    #[test]
    fn bad_topics_are_refused_with_the_first_bad_position() {
        for bad in ["", "A", "a b", "a\0", "a\nb", "é", "../x", "a*b>", &"a".repeat(10_000), "-a"] {
            assert!(check_topic(bad).is_err(), "{bad:?}");
        }
        assert!(check_topic("a b").is_err_and(|e| e.contains("position 1")));
        for good in ["a", "job.echo", "sys.destroy", "0-x_y.z"] {
            assert!(check_topic(good).is_ok(), "{good}");
        }
    }
}
