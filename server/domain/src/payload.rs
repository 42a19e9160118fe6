//! Opaque bytes with a content type.

use bytes::Bytes;
use std::sync::Arc;

/// What a job carries in or out. The bytes are the caller's; Coretex never re-encodes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    pub content_type: ContentType,
    pub data: Bytes,
}

/// Media type of a payload; the common ones cost no allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContentType {
    /// No type was given.
    None,
    /// `application/json`
    Json,
    /// `application/octet-stream`
    Binary,
    Other(Arc<str>),
}

impl Payload {
    pub fn empty() -> Payload {
        Payload { content_type: ContentType::None, data: Bytes::new() }
    }
    pub fn json(data: impl Into<Bytes>) -> Payload {
        Payload { content_type: ContentType::Json, data: data.into() }
    }
    pub fn is_empty(&self) -> bool {
        self.data.is_empty() && self.content_type == ContentType::None
    }
}

impl Default for Payload {
    fn default() -> Payload {
        Payload::empty()
    }
}

impl ContentType {
    pub fn from_name(name: &str) -> ContentType {
        match name {
            "" => ContentType::None,
            "application/json" => ContentType::Json,
            "application/octet-stream" => ContentType::Binary,
            other => ContentType::Other(other.into()),
        }
    }
    pub fn name(&self) -> &str {
        match self {
            ContentType::None => "",
            ContentType::Json => "application/json",
            ContentType::Binary => "application/octet-stream",
            ContentType::Other(name) => name,
        }
    }
    /// JSON proper or any `…+json` type.
    pub fn is_json(&self) -> bool {
        match self {
            ContentType::Json => true,
            ContentType::Other(name) => {
                let kind = name.split(';').next().unwrap_or_default().trim();
                kind.eq_ignore_ascii_case("application/json") || kind.ends_with("+json")
            }
            ContentType::None | ContentType::Binary => false,
        }
    }
}
