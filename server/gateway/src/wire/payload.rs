//! Payloads: bytes stay as they are, `json` becomes canonical bytes; on the way out the caller chooses.

use super::{Faults, json};
use bytes::Bytes;
use coretex_contract::v1 as pb;
use coretex_domain::limits::CONTENT_TYPE_LEN_MAX;
use coretex_domain::payload::{ContentType, Payload};
use coretex_domain::{Reason, names::shown};

/// Payloads of this size or less are always copied out of the frame they came in.
const COPY_MAX: usize = 16 << 10;

/// Reads a payload. `frame` is about the size of the buffer its bytes share.
pub(crate) fn read(
    faults: &mut Faults,
    field: &str,
    payload: Option<pb::Payload>,
    payload_max: usize,
    frame: usize,
) -> Payload {
    let Some(payload) = payload else { return Payload::empty() };
    let content_type = ContentType::from_name(&payload.content_type);
    if let ContentType::Other(name) = &content_type {
        check_type(faults, field, name);
    }
    match payload.body {
        None => Payload { content_type, data: Bytes::new() },
        Some(pb::payload::Body::Data(data)) => {
            if too_large(faults, field, data.len(), payload_max) {
                return Payload::empty();
            }
            if content_type.is_json()
                && !data.is_empty()
                && let Err(fault) = json::check(&data)
            {
                faults.add_as(Reason::InvalidJson, format!("{field}.data"), fault.to_string());
            }
            Payload { content_type, data: unpinned(data, frame) }
        }
        Some(pb::payload::Body::Json(value)) => from_json(faults, field, content_type, &value, payload_max),
    }
}

fn from_json(
    faults: &mut Faults,
    field: &str,
    content_type: ContentType,
    value: &coretex_contract::Value,
    payload_max: usize,
) -> Payload {
    let content_type = if content_type == ContentType::None { ContentType::Json } else { content_type };
    if !content_type.is_json() {
        let message = format!("must declare JSON with `json`, got {}", shown(content_type.name()));
        faults.add(format!("{field}.content_type"), message);
    }
    match json::canonical(value) {
        Ok(text) if too_large(faults, field, text.len(), payload_max) => Payload::empty(),
        Ok(text) => Payload { content_type, data: text.into() },
        Err(rule) => {
            faults.add_as(Reason::InvalidJson, format!("{field}.json"), rule);
            Payload::empty()
        }
    }
}

fn too_large(faults: &mut Faults, field: &str, len: usize, payload_max: usize) -> bool {
    if len > payload_max {
        let message = format!("must be at most {payload_max} bytes, got {len}");
        faults.add_as(Reason::PayloadTooLarge, field, message);
    }
    len > payload_max
}

fn check_type(faults: &mut Faults, field: &str, name: &str) {
    faults.text(&format!("{field}.content_type"), name, CONTENT_TYPE_LEN_MAX);
    if name.chars().any(char::is_control) || !name.is_ascii() {
        faults.add(format!("{field}.content_type"), format!("must be printable ASCII, got {}", shown(name)));
    }
}

/// Bytes that do not keep a much larger buffer alive.
fn unpinned(data: Bytes, frame: usize) -> Bytes {
    match data.len() {
        0 => Bytes::new(),
        len if len <= COPY_MAX || len * 2 < frame => Bytes::copy_from_slice(&data),
        _ => data,
    }
}

/// Writes a payload the way the caller asked for; an empty one is left out.
pub(crate) fn write(payload: &Payload, format: pb::PayloadFormat) -> Option<pb::Payload> {
    if payload.is_empty() {
        return None;
    }
    let as_json = match format {
        pb::PayloadFormat::Json if payload.content_type.is_json() => json::to_value(&payload.data),
        pb::PayloadFormat::Json | pb::PayloadFormat::Data | pb::PayloadFormat::Unspecified => None,
    };
    let body = match as_json {
        Some(value) => pb::payload::Body::Json(value),
        None => pb::payload::Body::Data(payload.data.clone()),
    };
    Some(pb::Payload { content_type: payload.content_type.name().to_owned(), body: Some(body) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(content_type: &str, data: &'static [u8]) -> Result<Payload, coretex_domain::Refusal> {
        let mut faults = Faults::default();
        let payload = pb::Payload::data(content_type, data);
        let read = read(&mut faults, "spec.payload", Some(payload), 1 << 20, data.len());
        faults.into_result().map(|()| read)
    }

    #[test]
    fn declared_json_is_checked_and_kept_byte_for_byte() {
        let kept = parse("application/json", b" {\"b\":1, \"a\":2}").expect("JSON");
        assert_eq!(&kept.data[..], b" {\"b\":1, \"a\":2}");
        for kind in ["application/json", "application/json; charset=utf-8", "application/problem+json"] {
            let refusal = parse(kind, b"{\"a\":1,}").expect_err(kind);
            assert_eq!(refusal.reason, Reason::InvalidJson);
            assert!(refusal.message.contains("1:8"), "{}", refusal.message);
        }
        assert!(parse("text/plain", b"{\"a\":1,}").is_ok());
        assert!(parse("", b"\xff\xfe").is_ok());
        assert!(parse("text/pl\u{0}ain", b"x").is_err());
    }

    #[test]
    fn json_goes_out_as_asked() {
        let payload = Payload::json(&b"{\"a\":1}"[..]);
        let body = |format| write(&payload, format).and_then(|p| p.body);
        assert!(matches!(body(pb::PayloadFormat::Unspecified), Some(pb::payload::Body::Data(_))));
        assert!(matches!(body(pb::PayloadFormat::Json), Some(pb::payload::Body::Json(_))));
        let big = Payload::json(&b"[9007199254740993]"[..]);
        let body = write(&big, pb::PayloadFormat::Json).and_then(|p| p.body);
        assert!(
            matches!(body, Some(pb::payload::Body::Data(_))),
            "a number that would be rounded stays text"
        );
        assert!(write(&Payload::empty(), pb::PayloadFormat::Json).is_none());
    }

    #[test]
    fn size_has_its_own_reason() {
        let mut faults = Faults::default();
        read(&mut faults, "spec.payload", Some(pb::Payload::data("", vec![0; 11])), 10, 11);
        let refusal = faults.into_result().expect_err("too large");
        assert_eq!(refusal.reason, Reason::PayloadTooLarge);
        assert!(refusal.message.contains("at most 10 bytes, got 11"));
    }
}
