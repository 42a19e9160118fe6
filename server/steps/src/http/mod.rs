//! `http`: a request in, the answer out; through a guard that knows whom a server may call on behalf of others.

mod address;
mod egress;
mod exchange;
mod request;
mod target;
#[cfg(test)]
mod tests;

pub use address::Network;
pub use egress::{Allow, Net, System};

use crate::{Facts, StepFailure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use egress::{Egress, refused, unreachable};
use exchange::{Answer, exchange};
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use request::{Request, shown_headers};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use target::Target;
use tokio::sync::OnceCell;

/// Whom steps may call.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Besides public addresses at ports 80 and 443.
    pub allow: Vec<Allow>,
    /// Authorities to trust besides those of this machine, PEM.
    pub authorities: Option<Vec<u8>>,
    /// The way to other machines.
    pub net: Arc<dyn Net>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { allow: Vec::new(), authorities: None, net: Arc::new(System) }
    }
}

/// Reads authorities, so that a file that is none is found before it is needed.
pub fn check_authorities(pem: &[u8]) -> Result<(), String> {
    exchange::tls(Some(pem)).map(drop)
}

/// From the name to the last byte, over all redirects.
const WITHIN: Duration = Duration::from_secs(30);
const REDIRECTS_MAX: usize = 3;
/// Waits that others ask for; a longer one is left to the retry policy.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);
/// Characters of an answer that a failure keeps.
const TOLD_MAX: usize = 4 << 10;

/// Makes requests for steps.
#[derive(Debug)]
pub(crate) struct Client {
    egress: Egress,
    authorities: Option<Vec<u8>>,
    tls: OnceCell<Arc<rustls::ClientConfig>>,
}

// === impl Client ===

impl Client {
    pub(crate) fn new(settings: Settings) -> Client {
        let Settings { allow, authorities, net } = settings;
        Client { egress: Egress::new(allow, net), authorities, tls: OnceCell::new() }
    }

    pub(crate) async fn step(&self, input: Value, facts: &Facts) -> Result<Value, StepFailure> {
        let request = Request::read(input, facts)?;
        let within = WITHIN.min(facts.within);
        let late = |_| StepFailure::passing("HTTP_TIMEOUT", format!("no whole answer within {within:?}"));
        let answer = tokio::time::timeout(within, self.follow(request, facts)).await.map_err(late)??;
        judge(answer)
    }

    /// Sends the request, and sends it on where an answer says so. Every place is judged anew.
    async fn follow(&self, mut request: Request, facts: &Facts) -> Result<Answer, StepFailure> {
        let tls = self.tls().await?;
        for _ in 0..=REDIRECTS_MAX {
            check_policy(&request.target, facts)?;
            let answer = exchange(&self.egress, &tls, &request).await?;
            let Some(target) = next(&request, &answer)? else { return Ok(answer) };
            request = request.sent_on(answer.status, target);
        }
        Err(StepFailure::new("HTTP_REDIRECTS", format!("it was sent on more than {REDIRECTS_MAX} times")))
    }

    async fn tls(&self) -> Result<Arc<rustls::ClientConfig>, StepFailure> {
        let read = || async {
            let authorities = self.authorities.clone();
            let read = tokio::task::spawn_blocking(move || exchange::tls(authorities.as_deref())).await;
            read.map_err(|error| error.to_string())?
        };
        self.tls.get_or_try_init(read).await.cloned().map_err(unreachable)
    }
}

/// What the policy says about the job holds besides what the settings say about the server.
fn check_policy(target: &Target, facts: &Facts) -> Result<(), StepFailure> {
    let Some(hosts) = &facts.hosts else { return Ok(()) };
    let (host, whole) = (target.host.to_string(), format!("{}:{}", target.host, target.port));
    match hosts.iter().any(|one| one.eq_ignore_ascii_case(&host) || one.eq_ignore_ascii_case(&whole)) {
        true => Ok(()),
        false => {
            let message = format!("{} is not in the network_allowlist of the policy", target.host);
            Err(StepFailure::new("EGRESS_REFUSED", message))
        }
    }
}

/// Where an answer sends the request on to.
fn next(request: &Request, answer: &Answer) -> Result<Option<Target>, StepFailure> {
    if !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = answer.headers.get(LOCATION).and_then(|location| location.to_str().ok());
    let Some(location) = location else { return Ok(None) };
    let target = request.target.join(location);
    let target = target.map_err(|told| refused(format!("it was sent on to an address that {told}")))?;
    if request.target.is_secure && !target.is_secure {
        return Err(refused(format!("it was sent on from https to {}", target.origin())));
    }
    Ok(Some(target))
}

fn judge(answer: Answer) -> Result<Value, StepFailure> {
    let status = answer.status;
    if (200..300).contains(&status) {
        return Ok(output(&answer));
    }
    let mut details = output(&answer);
    if let Some(body) = details.get_mut("body") {
        *body = crop(body.take());
    }
    if details["headers"].to_string().len() > TOLD_MAX {
        details["headers"] = json!({});
    }
    let message = format!("it was answered {status}");
    let failure = match status {
        408 | 429 | 500..=599 => StepFailure::passing("HTTP_STATUS", message),
        _ => StepFailure::new("HTTP_STATUS", message),
    };
    let asked = answer.headers.get(RETRY_AFTER).and_then(|after| after.to_str().ok()).and_then(wait);
    Err(StepFailure { retry_after: asked.filter(|_| failure.retryable), ..failure.with(details) })
}

/// The body as JSON where it says that it is, as text where it is one, else in base64.
fn output(answer: &Answer) -> Value {
    let kind = answer.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = kind == "application/json" || kind.ends_with("+json");
    let parsed = if is_json { serde_json::from_slice(&answer.body).ok() } else { None };
    let mut out = json!({ "status": answer.status, "headers": shown_headers(&answer.headers) });
    out["body"] = match (parsed, std::str::from_utf8(&answer.body)) {
        _ if answer.body.is_empty() => Value::Null,
        (Some(value), _) => value,
        (None, Ok(text)) => text.into(),
        (None, Err(_)) => {
            out["encoding"] = "base64".into();
            STANDARD.encode(&answer.body).into()
        }
    };
    out
}

/// A body that a failure keeps, short enough for people.
fn crop(body: Value) -> Value {
    let text = match &body {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match text.char_indices().nth(TOLD_MAX) {
        Some((cut, _)) => format!("{}…", text.get(..cut).unwrap_or_default()).into(),
        None => body,
    }
}

/// A `Retry-After`: seconds, or a date.
fn wait(text: &str) -> Option<Duration> {
    let wait = match text.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = jiff::fmt::rfc2822::parse(text.trim()).ok()?;
            Duration::try_from(date.timestamp().duration_since(jiff::Timestamp::now())).unwrap_or_default()
        }
    };
    (wait <= RETRY_AFTER_MAX).then_some(wait)
}
