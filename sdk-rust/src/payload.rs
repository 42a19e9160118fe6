//! Content of inputs, results and checkpoints, and how values become it.

use crate::error::{Code, Error, Result, reason};
use crate::raw::{pb, wkt};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Media type of JSON.
pub const JSON: &str = "application/json";

/// Opaque content with a media type: the input of a job, its result, a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    data: Bytes,
    content_type: String,
}

/// What a handler can take, and what a result can be read as: anything with `serde::Deserialize` from JSON, or [`Payload`] as it is.
pub trait FromPayload: Sized {
    /// Reads the payload.
    fn from_payload(payload: Payload) -> Result<Self>;
}

/// What a handler can return, and what can be submitted: anything with `serde::Serialize` as JSON, or [`Payload`] as it is.
pub trait IntoPayload {
    /// Writes the payload.
    fn into_payload(self) -> Result<Payload>;
}

// === impl Payload ===

impl Payload {
    /// Bytes of a media type.
    pub fn new(content_type: impl Into<String>, data: impl Into<Bytes>) -> Self {
        Self { content_type: content_type.into(), data: data.into() }
    }

    /// Nothing.
    pub fn empty() -> Self {
        Self::default()
    }

    /// A value as JSON.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        match serde_json::to_vec(value) {
            Ok(data) => Ok(Self::new(JSON, data)),
            Err(error) => {
                let message = format!("{} cannot be written as JSON: {error}", std::any::type_name::<T>());
                Err(Error::new(Code::InvalidArgument, reason::PAYLOAD_ENCODE, message).with_source(error))
            }
        }
    }

    /// Reads JSON. An empty payload is read as `null`.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        let refuse = |message| Error::new(Code::InvalidArgument, reason::PAYLOAD_DECODE, message);
        if !self.is_empty() && !self.content_type.is_empty() && !self.content_type.contains("json") {
            let (wanted, found) = (std::any::type_name::<T>(), &self.content_type);
            return Err(refuse(format!("{wanted} is read from JSON, but the payload is `{found}`")));
        }
        let text: &[u8] = if self.is_empty() { b"null" } else { &self.data };
        serde_json::from_slice(text).map_err(|error| {
            refuse(format!("the payload is not a {}: {error}", std::any::type_name::<T>())).with_source(error)
        })
    }

    /// Its media type. Empty means unknown.
    pub fn content_type(&self) -> &str {
        &self.content_type
    }

    /// Its bytes.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// Its bytes, taken out.
    pub fn into_data(self) -> Bytes {
        self.data
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// True without bytes.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    pub(crate) fn into_pb(self) -> pb::Payload {
        pb::Payload { content_type: self.content_type, body: Some(pb::payload::Body::Data(self.data)) }
    }

    pub(crate) fn from_pb(payload: pb::Payload) -> Self {
        match payload.body {
            None => Self { data: Bytes::new(), content_type: payload.content_type },
            Some(pb::payload::Body::Data(data)) => Self { data, content_type: payload.content_type },
            Some(pb::payload::Body::Json(value)) => {
                let text =
                    serde_json::to_vec(&json_of(value)).expect("invariant: a JSON value can be written");
                Self::new(
                    if payload.content_type.is_empty() { JSON.into() } else { payload.content_type },
                    text,
                )
            }
        }
    }
}

// === impl FromPayload, IntoPayload ===

impl FromPayload for Payload {
    fn from_payload(payload: Payload) -> Result<Self> {
        Ok(payload)
    }
}

impl<T: DeserializeOwned> FromPayload for T {
    fn from_payload(payload: Payload) -> Result<Self> {
        payload.parse()
    }
}

impl IntoPayload for Payload {
    fn into_payload(self) -> Result<Payload> {
        Ok(self)
    }
}

impl<T: Serialize> IntoPayload for T {
    fn into_payload(self) -> Result<Payload> {
        Payload::json(&self)
    }
}

/// A free-form value of the contract as JSON. Whole numbers are written without a fraction.
pub(crate) fn json_of(value: wkt::Value) -> serde_json::Value {
    use wkt::value::Kind;
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
    match value.kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::NumberValue(number)) if number.fract() == 0.0 && number.abs() <= WHOLE_MAX => {
            #[expect(clippy::cast_possible_truncation, reason = "whole, and within the exact range")]
            let whole = number as i64;
            whole.into()
        }
        Some(Kind::NumberValue(number)) => number.into(),
        Some(Kind::StringValue(text)) => text.into(),
        Some(Kind::BoolValue(flag)) => flag.into(),
        Some(Kind::StructValue(fields)) => json_of_struct(fields),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(json_of).collect(),
    }
}

/// A free-form object of the contract as JSON.
pub(crate) fn json_of_struct(fields: wkt::Struct) -> serde_json::Value {
    serde_json::Value::Object(fields.fields.into_iter().map(|(key, value)| (key, json_of(value))).collect())
}

/// JSON as a free-form value of the contract.
pub(crate) fn value_of(json: serde_json::Value) -> wkt::Value {
    use wkt::value::Kind;
    let kind = match json {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(flag) => Kind::BoolValue(flag),
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        serde_json::Value::String(text) => Kind::StringValue(text),
        serde_json::Value::Array(items) => {
            Kind::ListValue(wkt::ListValue { values: items.into_iter().map(value_of).collect() })
        }
        serde_json::Value::Object(fields) => Kind::StructValue(wkt::Struct {
            fields: fields.into_iter().map(|(key, value)| (key, value_of(value))).collect(),
        }),
    };
    wkt::Value { kind: Some(kind) }
}

/// JSON as a free-form object of the contract. What is not an object becomes one with the key `value`.
pub(crate) fn struct_of(json: serde_json::Value) -> wkt::Struct {
    match value_of(json).kind {
        Some(wkt::value::Kind::StructValue(fields)) => fields,
        kind => wkt::Struct { fields: [("value".to_owned(), wkt::Value { kind })].into() },
    }
}
