//! A payload as an expression sees it: parsed once, and only if something looks inside.

use crate::fault::Fault;
use crate::inputs::Lazy;
use crate::value::Value;
use serde_json::Value as Json;
use std::cell::OnceCell;

/// Bytes that may be JSON.
#[derive(Debug)]
pub struct Payload<'p> {
    bytes: &'p [u8],
    content_type: &'p str,
    read_max: usize,
    /// `size` gives the bytes of it.
    has_size: bool,
    parsed: OnceCell<Result<Json, Fault>>,
}

/// True if a content type is JSON, or any type that is written in it.
pub fn is_json(content_type: &str) -> bool {
    let name = content_type.split(';').next().unwrap_or_default().trim();
    name.eq_ignore_ascii_case("application/json") || name.to_ascii_lowercase().ends_with("+json")
}

impl<'p> Payload<'p> {
    /// A payload that is looked into if it has at most `read_max` bytes.
    pub fn new(bytes: &'p [u8], content_type: &'p str, read_max: usize) -> Payload<'p> {
        Payload { bytes, content_type, read_max, has_size: false, parsed: OnceCell::new() }
    }

    /// Lets `size` give the bytes, whatever they are, in place of the items or fields inside.
    pub fn sized_in_bytes(self) -> Payload<'p> {
        Payload { has_size: true, ..self }
    }

    fn parse(&self) -> Result<Json, Fault> {
        if !is_json(self.content_type) {
            return Err(Fault::new("the payload is not declared as JSON"));
        }
        if self.bytes.len() > self.read_max {
            return Err(Fault::new(format!(
                "the payload has {} bytes, at most {} can be looked into",
                self.bytes.len(),
                self.read_max
            )));
        }
        serde_json::from_slice(self.bytes)
            .map_err(|error| Fault::new(format!("the payload is not JSON: {error}")))
    }
}

impl Lazy for Payload<'_> {
    fn open(&self) -> Result<Value<'_>, Fault> {
        let parsed = self.parsed.get_or_init(|| self.parse());
        parsed.as_ref().map(Value::of_json).map_err(Fault::clone)
    }

    fn size(&self) -> Option<usize> {
        self.has_size.then_some(self.bytes.len())
    }

    fn told(&self) -> &'static str {
        "the payload"
    }
}
