//! What the claims of a token mean: who it is about, from when to when, in which roles and namespaces. Pure.

use super::Why;
use coretex_domain::access::Roles;
use coretex_domain::names::check_namespace;
use coretex_domain::{Span, Time};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Names of roles at the provider, and what they are here.
pub type RoleNames = BTreeMap<String, Roles>;

/// How claims are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRules {
    /// Claim with the subject.
    pub subject: String,
    /// Claim with names of roles: a text with spaces between them, or a list. A name with dots leads into objects.
    pub roles: Option<String>,
    /// What those names mean. Others mean nothing.
    pub role_names: RoleNames,
    /// Roles of every token of the issuer.
    pub default_roles: Roles,
    /// Claim with the namespaces, a text or a list. A token without it is refused.
    pub namespaces: Option<String>,
    /// Namespaces no token of the issuer goes beyond. Empty: no such bound.
    pub namespaces_max: Vec<String>,
    /// How far clocks may differ.
    pub leeway: Span,
}

/// What they say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) subject: String,
    pub(super) roles: Roles,
    pub(super) namespaces: Vec<String>,
    pub(super) expires: Time,
}

// === impl Claims ===

impl Claims {
    pub(super) fn read(claims: &Map<String, Value>, rules: &ClaimRules, now: Time) -> Result<Claims, Why> {
        let expires = in_time(claims, rules.leeway, now)?;
        let subject = find(claims, &rules.subject).and_then(Value::as_str).unwrap_or_default();
        if subject.is_empty() || !subject.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Why("it has no usable subject"));
        }
        Ok(Claims {
            subject: subject.to_owned(),
            roles: roles(claims, rules)?,
            namespaces: namespaces(claims, rules)?,
            expires,
        })
    }
}

/// Whether the token is valid now; when it ends.
fn in_time(claims: &Map<String, Value>, leeway: Span, now: Time) -> Result<Time, Why> {
    let at = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(value) => match value.as_f64() {
            // Beyond 2^53 milliseconds no date is meant.
            Some(seconds) if (0.0..9e12).contains(&seconds) => Ok(Some(Time((seconds * 1_000.0) as u64))),
            Some(_) | None => Err(Why("one of its times is no time")),
        },
    };
    let (end, start, made) = (at("exp")?, at("nbf")?, at("iat")?);
    let end = end.ok_or(Why("it does not say when it ends"))?;
    if start.is_none() && made.is_none() {
        return Err(Why("it does not say from when it is valid"));
    }
    let latest = now.0.saturating_add(leeway.0);
    if start.into_iter().chain(made).any(|time| time.0 > latest) {
        return Err(Why("it is not valid yet"));
    }
    let end = Time(end.0.saturating_add(leeway.0));
    if end <= now { Err(Why("it has expired")) } else { Ok(end) }
}

fn roles(claims: &Map<String, Value>, rules: &ClaimRules) -> Result<Roles, Why> {
    let Some(name) = &rules.roles else { return Ok(rules.default_roles) };
    let given = match find(claims, name) {
        None => Vec::new(),
        Some(value) => words(value).ok_or(Why("its roles are no list of names"))?,
    };
    let meant = given.iter().filter_map(|name| rules.role_names.get(*name));
    Ok(meant.flat_map(|roles| roles.iter()).chain(rules.default_roles.iter()).collect())
}

fn namespaces(claims: &Map<String, Value>, rules: &ClaimRules) -> Result<Vec<String>, Why> {
    let Some(name) = &rules.namespaces else { return Ok(rules.namespaces_max.clone()) };
    let value = find(claims, name).ok_or(Why("it names no namespaces"))?;
    let given = words(value).ok_or(Why("its namespaces are no list of names"))?;
    let is_within =
        |name: &&str| rules.namespaces_max.is_empty() || rules.namespaces_max.iter().any(|n| n == name);
    let meant: Vec<String> = given
        .into_iter()
        .filter(|name| check_namespace(name).is_ok())
        .filter(is_within)
        .map(str::to_owned)
        .collect();
    // None here must not come to mean all.
    if meant.is_empty() { Err(Why("it names no namespace it may use")) } else { Ok(meant) }
}

/// The names in a claim: a list of texts, or one text with spaces between them.
fn words(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::String(text) => Some(text.split_whitespace().collect()),
        Value::Array(items) => items.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

/// A claim by its whole name, or by the way to it: `realm_access.roles`.
fn find<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(name) {
        return Some(value);
    }
    let (first, rest) = name.split_once('.')?;
    find(claims.get(first)?.as_object()?, rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coretex_domain::access::Role;
    use serde_json::json;

    fn rules() -> ClaimRules {
        ClaimRules {
            subject: "sub".into(),
            roles: Some("realm_access.roles".into()),
            role_names: [("devs".to_owned(), Roles::of(&[Role::Submitter]))].into(),
            default_roles: Roles::of(&[Role::Viewer]),
            namespaces: None,
            namespaces_max: Vec::new(),
            leeway: Span(30_000),
        }
    }

    fn read(claims: Value, rules: &ClaimRules) -> Result<Claims, Why> {
        let mut all =
            json!({"sub": "ann", "exp": 2_000, "iat": 900}).as_object().cloned().expect("an object");
        for (name, value) in claims.as_object().cloned().unwrap_or_default() {
            match value {
                Value::Null => drop(all.remove(&name)),
                value => drop(all.insert(name, value)),
            }
        }
        Claims::read(&all, rules, Time(1_000_000))
    }

    #[test]
    fn roles_are_those_that_are_mapped() {
        let of = |claims| read(claims, &rules()).map(|c| c.roles.names());
        assert_eq!(of(json!({})).as_deref(), Ok("viewer"));
        assert_eq!(
            of(json!({"realm_access": {"roles": ["devs", "admin"]}})).as_deref(),
            Ok("viewer, submitter")
        );
        assert_eq!(of(json!({"realm_access.roles": "x devs"})).as_deref(), Ok("viewer, submitter"));
        assert!(of(json!({"realm_access": {"roles": [1]}})).is_err());
    }

    #[test]
    fn namespaces_never_widen() {
        let bound = ClaimRules {
            namespaces: Some("tenants".into()),
            namespaces_max: vec!["a".into(), "b".into()],
            ..rules()
        };
        let of = |claims| read(claims, &bound).map(|c| c.namespaces);
        assert_eq!(of(json!({"tenants": ["a", "z"]})), Ok(vec!["a".to_owned()]));
        assert_eq!(of(json!({"tenants": "b"})), Ok(vec!["b".to_owned()]));
        for none in [json!({}), json!({"tenants": []}), json!({"tenants": ["z"]}), json!({"tenants": "*"})] {
            assert!(of(none).is_err());
        }
    }

    #[test]
    fn times_have_a_leeway_and_no_more() {
        let ok = |claims| read(claims, &rules()).is_ok();
        assert!(ok(json!({"exp": 971})) && !ok(json!({"exp": 970})));
        assert!(ok(json!({"nbf": 1_030})) && !ok(json!({"nbf": 1_031})));
        assert!(
            !ok(json!({"iat": 1_031})) && !ok(json!({"iat": null})) && ok(json!({"iat": null, "nbf": 1}))
        );
        for bad in [json!("2000"), json!(-1), json!(1e300), json!([2_000]), json!(true)] {
            assert!(!ok(json!({"exp": bad})), "{bad}");
        }
        assert!(!ok(json!({"exp": null})));
    }
}
