//! Identity providers whose tokens are believed.

use super::check_name;
use super::item::{Item, roles};
use crate::settings::layers::Layers;
use crate::units::Span;
use coretex_gateway::{Algorithm, ClaimRules, Issuer, KeySource, RoleNames};
use std::path::PathBuf;
use std::time::Duration;

const FIELDS: [&str; 14] = [
    "name",
    "issuer",
    "audiences",
    "algorithms",
    "jwks_file",
    "jwks_url",
    "jwks_ca",
    "subject_claim",
    "roles_claim",
    "roles",
    "default_roles",
    "namespaces_claim",
    "namespaces",
    "leeway",
];
const MEND: &str = "write {name: corp, issuer: https://id.example.org, audiences: [coretex], algorithms: [RS256], jwks_url: https://id.example.org/jwks, roles_claim: groups, roles: {devs: submitter}}; docs/guide/access.md has every field";
/// Clocks that differ more are wrong.
const LEEWAY_MAX: Duration = Duration::from_secs(60);
const LEEWAY: Duration = Duration::from_secs(30);

pub(super) fn build(layers: &mut Layers) -> Vec<Issuer> {
    let place = layers.place("auth.jwt");
    let mut issuers: Vec<Issuer> = Vec::new();
    for (index, line) in layers.list("auth.jwt").iter().enumerate() {
        let place = format!("{place} item {}", index + 1);
        let Some(item) = Item::read(line, place, &FIELDS, MEND, layers) else { continue };
        let Some(issuer) = issuer(&item, layers) else { continue };
        let is_there = |other: &Issuer| other.name == issuer.name || other.issuer == issuer.issuer;
        match issuers.iter().any(is_there) {
            true => item.refuse("another item has the same name or issuer", layers),
            false => issuers.push(issuer),
        }
    }
    issuers
}

fn issuer(item: &Item, layers: &mut Layers) -> Option<Issuer> {
    let name = item.required("name", layers);
    if let Some(message) = name.as_ref().and_then(|name| check_name(name).err()) {
        item.refuse(message, layers);
    }
    let issuer = item.required("issuer", layers);
    let audiences = item.list("audiences", layers);
    if audiences.is_empty() || audiences.iter().any(String::is_empty) {
        item.refuse("`audiences` must name at least one audience", layers);
    }
    let algorithms = algorithms(item, layers);
    let keys = keys(item, layers);
    let claims = claims(item, layers);
    Some(Issuer { name: name?, issuer: issuer?, audiences, algorithms, keys: keys?, claims: claims? })
}

fn algorithms(item: &Item, layers: &mut Layers) -> Vec<Algorithm> {
    let names = item.list("algorithms", layers);
    let known = Algorithm::ALL.map(Algorithm::name).join(", ");
    if names.is_empty() {
        item.refuse(format!("`algorithms` must name at least one of {known}"), layers);
    }
    let mut read = Vec::new();
    for name in names {
        match Algorithm::parse(&name) {
            Some(algorithm) => read.push(algorithm),
            None => {
                item.refuse(format!("{} is not one of {known}", coretex_domain::names::shown(&name)), layers)
            }
        }
    }
    read
}

fn keys(item: &Item, layers: &mut Layers) -> Option<KeySource> {
    let (file, url) = (item.text("jwks_file", layers), item.text("jwks_url", layers));
    let (source, problem) = match (file, url) {
        (Some(path), None) => {
            let read = std::fs::read(&path).map_err(|error| format!("cannot be read: {error}"));
            let problem = read.and_then(|jwks| KeySource::check(&jwks)).err();
            (KeySource::File(PathBuf::from(&path)), problem.map(|why| format!("`jwks_file` {path}: {why}")))
        }
        (None, Some(url)) => {
            let problem = KeySource::check_url(&url).err().map(|why| format!("`jwks_url` {url}: {why}"));
            (KeySource::Url { url, ca_pem: authorities(item, layers)? }, problem)
        }
        (Some(_), Some(_)) | (None, None) => {
            item.refuse("either `jwks_file` or `jwks_url` is wanted", layers);
            return None;
        }
    };
    if let Some(problem) = problem {
        item.refuse(problem, layers);
        return None;
    }
    Some(source)
}

/// The authorities of the provider's certificate, if they are not those of the machine.
fn authorities(item: &Item, layers: &mut Layers) -> Option<Option<Vec<u8>>> {
    use rustls::pki_types::pem::PemObject as _;
    let Some(path) = item.text("jwks_ca", layers) else { return Some(None) };
    let pem = match std::fs::read(&path) {
        Ok(pem) => pem,
        Err(error) => {
            item.refuse(format!("`jwks_ca` {path}: cannot be read: {error}"), layers);
            return None;
        }
    };
    let has_one =
        rustls::pki_types::CertificateDer::pem_slice_iter(&pem).any(|certificate| certificate.is_ok());
    if !has_one {
        item.refuse(format!("`jwks_ca` {path}: there is no certificate in it"), layers);
        return None;
    }
    Some(Some(pem))
}

fn claims(item: &Item, layers: &mut Layers) -> Option<ClaimRules> {
    let mut role_names = RoleNames::new();
    for (name, names) in item.lists("roles", layers) {
        match roles(&names) {
            Ok(held) => drop(role_names.insert(name, held)),
            Err(message) => item.refuse(format!("`roles`: {message}"), layers),
        }
    }
    let roles_claim = item.text("roles_claim", layers);
    let default_roles = item.roles("default_roles", layers);
    if roles_claim.is_some() == role_names.is_empty() {
        item.refuse("`roles_claim` and `roles` go together: the claim, and what its names mean", layers);
    }
    if role_names.is_empty() && default_roles.is_empty() {
        item.refuse("no token would have a role; set `roles_claim` and `roles`, or `default_roles`", layers);
    }
    let leeway = match item.text("leeway", layers).map(|text| text.parse::<Span>()) {
        None => LEEWAY,
        Some(Ok(Span(leeway))) if leeway <= LEEWAY_MAX => leeway,
        Some(Ok(_)) => {
            item.refuse(format!("`leeway` is more than {}", Span(LEEWAY_MAX)), layers);
            return None;
        }
        Some(Err(error)) => {
            item.refuse(format!("`leeway`: {error}"), layers);
            return None;
        }
    };
    Some(ClaimRules {
        subject: item.text("subject_claim", layers).unwrap_or_else(|| "sub".into()),
        roles: roles_claim,
        role_names,
        default_roles,
        namespaces: item.text("namespaces_claim", layers),
        namespaces_max: item.namespaces("namespaces", layers),
        leeway: coretex_domain::Span(u64::try_from(leeway.as_millis()).ok()?),
    })
}
