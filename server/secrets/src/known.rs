//! The values this process knows of. They are kept for as long as it lives: a worker may report one that was replaced since.

use crate::redactor::Redactor;
use crate::secret::Secret;
use coretex_domain::Payload;
use coretex_domain::payload::ContentType;
use coretex_domain::redact::REDACTED;
use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

static IS_ON: AtomicBool = AtomicBool::new(false);
static REDACTOR: RwLock<Option<Arc<Redactor>>> = RwLock::new(None);
/// Oldest first.
static VALUES: Mutex<Vec<Secret>> = Mutex::new(Vec::new());

/// Values looked for: four times as many as a server has. Beyond it those that were replaced longest ago are forgotten.
const KNOWN_MAX: usize = 4_000;

/// True if there is anything to look for.
pub fn is_on() -> bool {
    IS_ON.load(Ordering::Relaxed)
}

/// What finds them; none without values.
pub fn redactor() -> Option<Arc<Redactor>> {
    match is_on() {
        true => REDACTOR.read().unwrap_or_else(PoisonError::into_inner).clone(),
        false => None,
    }
}

/// Makes values known, besides those that are. Done before they are handed to anybody.
pub fn register<'a>(values: impl IntoIterator<Item = &'a Secret>) -> Result<(), String> {
    let mut known = VALUES.lock().unwrap_or_else(PoisonError::into_inner);
    let given: Vec<Secret> = values.into_iter().cloned().collect();
    if given.iter().all(|value| known.contains(value)) {
        return Ok(());
    }
    let mut all: Vec<Secret> = known.iter().filter(|value| !given.contains(value)).cloned().collect();
    all.extend(given);
    all.drain(..all.len().saturating_sub(KNOWN_MAX));
    let redactor = Redactor::of(all.iter().map(Secret::expose))?;
    *known = all;
    let is_on = redactor.is_some();
    *REDACTOR.write().unwrap_or_else(PoisonError::into_inner) = redactor.map(Arc::new);
    IS_ON.store(is_on, Ordering::Release);
    Ok(())
}

/// A text without values, and without parts of them where it was cut.
pub fn text(text: &str) -> Cow<'_, str> {
    match redactor().and_then(|redactor| redactor.redact_text(text)) {
        Some(redacted) => Cow::Owned(redacted),
        None => Cow::Borrowed(text),
    }
}

/// The same in place.
pub fn arc(text: &mut Arc<str>) {
    if let Some(redacted) = redactor().and_then(|redactor| redactor.redact_text(text)) {
        *text = redacted.into();
    }
}

/// A payload without values. JSON stays JSON: where it would not, all of it goes.
pub fn payload(payload: &mut Payload) {
    let Some(redactor) = redactor() else { return };
    if let ContentType::Other(name) = &mut payload.content_type
        && let Some(redacted) = redactor.redact_text(name)
    {
        *name = redacted.into();
    }
    let Some(redacted) = redactor.redact(&payload.data) else { return };
    let is_json = |bytes: &[u8]| serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok();
    payload.data = match payload.content_type.is_json() && is_json(&payload.data) && !is_json(&redacted) {
        true => format!("\"{REDACTED}\"").into(),
        false => redacted.into(),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_registered_is_taken_out_and_json_stays_json() {
        let values = ["known-value-1", "8675309123"].map(|value| Secret::new(value.into()).unwrap());
        register(&values).unwrap();
        register(&values).unwrap();
        assert!(is_on());
        assert_eq!(text("a known-value-1 b"), "a [redacted] b");
        assert!(matches!(text("nothing"), Cow::Borrowed(_)));
        let mut json = Payload::json(r#"{"a":"known-value-1"}"#);
        payload(&mut json);
        assert_eq!(json, Payload::json(r#"{"a":"[redacted]"}"#));
        let mut number = Payload::json(r#"{"a":8675309123}"#);
        payload(&mut number);
        assert_eq!(number, Payload::json(r#""[redacted]""#));
    }
}
