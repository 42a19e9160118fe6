//! What is said when a command fails: to people on one or a few lines, to programs as a document.

use super::shown::{Format, clean, note, yaml};
use crate::outcome::Failure;
use coretex_sdk::{Error, reason};
use serde_json::{Value, json};

/// Says why, on standard error.
pub(super) fn say(failure: &Failure, format: Format, is_explained: bool) {
    match (failure, format) {
        (Failure::Said(_), _) => {}
        (Failure::Settings(refusals), Format::Table) => {
            note(refusals.lines(is_explained).trim_end());
            if !is_explained {
                note("coretex did not start; `--explain` shows how to mend it");
            }
        }
        (failure, Format::Table) => note(clean(&text(failure))),
        (failure, format) => {
            let document = document(failure);
            match format {
                Format::Yaml => note(yaml(&document).unwrap_or_default().trim_end()),
                Format::Json | Format::Table => note(format!("{document:#}")),
            }
        }
    }
}

fn text(failure: &Failure) -> String {
    match failure {
        Failure::Usage(message) => format!("error: {message}"),
        Failure::Machine(message) => format!("error: {message}"),
        Failure::Refused(error) => refused_text(error),
        Failure::Settings(_) | Failure::Said(_) => String::new(),
    }
}

fn refused_text(error: &Error) -> String {
    let mut text = format!("error: {}", error.message());
    if !error.reason().is_empty() {
        text.push_str(&format!(" ({})", error.reason()));
    }
    for violation in error.violations() {
        text.push_str(&format!("\n  {}: {}", violation.field, violation.message));
    }
    if let Some(hint) = hint(error) {
        text.push_str(&format!("\n  hint: {hint}"));
    }
    text
}

fn hint(error: &Error) -> Option<String> {
    match error.reason() {
        reason::UNREACHABLE if error.message().contains("certificate") => {
            Some("the server's certificate is not trusted: name its authority with --tls-ca".into())
        }
        reason::UNREACHABLE => Some("is the server running, and is --addr right? `coretex dev` starts one".into()),
        "CREDENTIAL_REQUIRED" | "CREDENTIAL_INVALID" => Some("give a key with CORETEX_API_KEY".into()),
        reason::CONNECTION_LOST | "OUTCOME_UNKNOWN" => {
            Some("the change may or may not have been made; repeat with the same --key or --request-id to learn which".into())
        }
        _ => error.retry_after().map(|after| format!("try again in {}", super::table::rough(after))),
    }
}

/// A refusal as a document.
fn document(failure: &Failure) -> Value {
    let of = |code: &str, reason: &str, message: &str| json!({"error": {"code": code, "reason": reason, "message": message}});
    match failure {
        Failure::Usage(message) => of("INVALID_ARGUMENT", "USAGE", message),
        Failure::Machine(message) => of("FAILED_PRECONDITION", "MACHINE", message),
        Failure::Said(_) => Value::Null,
        Failure::Settings(refusals) => {
            let reasons = refusals.0.iter().map(|refusal| {
                json!({"code": refusal.code, "place": refusal.place, "message": refusal.message, "mend": refusal.mend})
            });
            json!({"error": {
                "code": "FAILED_PRECONDITION",
                "reason": "SETTINGS",
                "message": "the settings are refused",
                "reasons": reasons.collect::<Vec<_>>(),
            }})
        }
        Failure::Refused(error) => {
            let mut document = of(&code_name(error), error.reason(), error.message());
            let violations =
                error.violations().iter().map(|v| json!({"field": v.field, "message": v.message}));
            document["error"]["violations"] = violations.collect();
            if let Some(after) = error.retry_after() {
                document["error"]["retry_after"] = json!(format!("{}s", after.as_secs_f64()));
            }
            document
        }
    }
}

/// The name gRPC has for a class of errors.
fn code_name(error: &Error) -> String {
    let camel = format!("{:?}", error.code());
    let mut name = String::new();
    for c in camel.chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use coretex_sdk::raw::tonic::Status;

    #[test]
    fn codes_have_their_grpc_names() {
        let error = Error::from(Status::invalid_argument("no"));
        assert_eq!(code_name(&error), "INVALID_ARGUMENT");
        let error = Error::from(Status::not_found("no"));
        assert_eq!(document(&Failure::from(error))["error"]["code"], "NOT_FOUND");
    }

    #[test]
    fn settings_are_refused_reason_by_reason() {
        let refusal = crate::settings::Refusal::new("R1", "open", "close it").at("listen");
        let shown = document(&Failure::Settings(refusal.into()));
        assert_eq!(shown["error"]["reasons"][0]["code"], "R1");
    }
}
