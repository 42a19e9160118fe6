//! What is sent: read from the input of a step, with nothing in it that would change what is sent after it.

use super::target::{Target, with_query};
use crate::given::{Given, kind_of};
use crate::{Facts, StepFailure};
use bytes::Bytes;
use coretex_domain::names::shown;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use serde_json::{Map, Value};

const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
const KEYS: &[&str] = &["url", "method", "headers", "query", "body"];
const HEADERS_MAX: usize = 64;
const HEADER_LEN_MAX: usize = 8 << 10;
const QUERY_MAX: usize = 256;
const URL_MAX: usize = 8 << 10;
/// The client's own: how bodies are framed, and whom a request is for.
const RESERVED: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// What another server may see as well, when one sends us on to it.
const HARMLESS: &[HeaderName] =
    &[header::ACCEPT, header::ACCEPT_LANGUAGE, header::CONTENT_TYPE, header::USER_AGENT];
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const SECRET: &str = "secret://";

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) target: Target,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

// === impl Request ===

impl Request {
    pub(crate) fn read(input: Value, facts: &Facts) -> Result<Request, StepFailure> {
        let mut given = Given::read("http", input, KEYS)?;
        let url = given.needed_text("url", URL_MAX);
        let method = given.word("method", METHODS);
        let mut headers = read_headers(&mut given);
        let query = read_query(&mut given);
        let body = given.any("body");
        let has_body = !body.is_null();
        if has_body && matches!(method, "GET" | "HEAD") {
            given.fault("body", format!("has no place in a {method}"));
        }
        let body = read_body(body, &mut headers);
        let target = match Target::parse(&url) {
            Ok(target) => Some(target),
            // What is missing was told.
            Err(_) if url.is_empty() => None,
            Err(told) => {
                given.fault("url", told);
                None
            }
        };
        let target = target.and_then(|target| {
            let path = with_query(&target.path, &query);
            match path.len() <= URL_MAX {
                true => Some(Target { path, ..target }),
                false => {
                    given.fault("query", format!("makes the address longer than {URL_MAX} bytes"));
                    None
                }
            }
        });
        given.finish()?;
        let (Some(target), Ok(method)) = (target, Method::from_bytes(method.as_bytes())) else {
            return Err(StepFailure::new(crate::given::INVALID, "input.url: must not be empty"));
        };
        complete(&mut headers, facts);
        Ok(Request { target, method, headers, body })
    }

    /// The same request sent on to another place by an answer of this status.
    pub(crate) fn sent_on(mut self, status: u16, target: Target) -> Request {
        let is_rewritten = status == 303 && self.method != Method::HEAD
            || matches!(status, 301 | 302) && self.method == Method::POST;
        if is_rewritten {
            self.method = Method::GET;
            self.body = Bytes::new();
            self.headers.remove(header::CONTENT_TYPE);
        }
        if !self.target.is_same_origin(&target) {
            let harmless = |name: &HeaderName| HARMLESS.contains(name);
            self.headers = self
                .headers
                .iter()
                .filter(|(name, _)| harmless(name))
                .map(|(n, v)| (n.clone(), v.clone()))
                .collect();
        }
        self.target = target;
        self
    }
}

fn read_headers(given: &mut Given) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in given.map("headers", HEADERS_MAX) {
        let key = format!("headers.{}", shown(&name));
        let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
            given.fault(&key, "is no name of a header");
            continue;
        };
        if RESERVED.contains(&header.as_str()) {
            given.fault(&key, "is set by the server itself");
            continue;
        }
        let text = match scalar(&value) {
            Some(text) if text.len() <= HEADER_LEN_MAX => text,
            Some(text) => {
                given.fault(&key, format!("has {} bytes, at most {HEADER_LEN_MAX} are taken", text.len()));
                continue;
            }
            None => {
                given.fault(&key, format!("is {}, where a text is wanted", kind_of(&value)));
                continue;
            }
        };
        if text.starts_with(SECRET) {
            given.fault(
                &key,
                "is a reference to a secret; steps of the library do not look them up, workers do",
            );
            continue;
        }
        match HeaderValue::from_str(&text) {
            Ok(value) => drop(headers.insert(header, value)),
            Err(_) => given.fault(&key, "has control characters in it"),
        }
    }
    headers
}

fn read_query(given: &mut Given) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for (name, value) in given.map("query", QUERY_MAX) {
        let values = match value {
            Value::Array(all) => all,
            Value::Null => continue,
            one => vec![one],
        };
        for value in values.iter().take(QUERY_MAX) {
            match scalar(value) {
                Some(text) => pairs.push((name.clone(), text)),
                None => {
                    let key = format!("query.{}", shown(&name));
                    given.fault(&key, format!("is {}, where a text or a number is wanted", kind_of(value)));
                }
            }
        }
    }
    pairs
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(is) => Some(is.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A text is sent as it is, anything else as JSON.
fn read_body(body: Value, headers: &mut HeaderMap) -> Bytes {
    let (kind, body) = match body {
        Value::Null => return Bytes::new(),
        Value::String(text) => ("text/plain; charset=utf-8", Bytes::from(text)),
        other => ("application/json", Bytes::from(other.to_string())),
    };
    headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static(kind));
    body
}

fn complete(headers: &mut HeaderMap, facts: &Facts) {
    let own = HeaderValue::from_static(concat!("coretex/", env!("CARGO_PKG_VERSION")));
    headers.entry(header::USER_AGENT).or_insert(own);
    headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    if let Ok(token) = HeaderValue::from_str(&facts.idempotency_token) {
        headers.entry(IDEMPOTENCY_KEY).or_insert(token);
    }
}

/// Headers of an answer as the output has them. What a server sets for a browser is not kept.
pub(crate) fn shown_headers(headers: &HeaderMap) -> Map<String, Value> {
    let mut out = Map::new();
    for name in headers.keys().filter(|name| **name != header::SET_COOKIE).take(HEADERS_MAX) {
        let values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        out.insert(name.to_string(), values.collect::<Vec<_>>().join(", ").into());
    }
    out
}
