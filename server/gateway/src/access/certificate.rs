//! Client certificates: whom one stands for, by the URI in its subject alternative name. Its common name says nothing.

use super::principal::{Principal, PrincipalKind};
use super::validity;
use coretex_domain::Time;
use coretex_domain::access::Roles;
use rustls::pki_types::CertificateDer;
use std::time::UNIX_EPOCH;

/// Whom certificates with a URI stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRule {
    /// A whole URI, or one that ends in `/*` and stands for all below it.
    pub uri: String,
    /// Name of the identity; below `/*` the rest of the URI follows after a colon.
    pub name: String,
    /// Namespaces it may use. Empty: all.
    pub namespaces: Vec<String>,
    pub roles: Roles,
}

/// The principal of a certificate that the handshake has found good. None: no rule names it.
///
/// A certificate with more than one URI says two things about its holder, and is believed in neither.
pub(crate) fn identify(der: &CertificateDer<'_>, rules: &[CertificateRule]) -> Option<Principal> {
    let certificate = webpki::EndEntityCert::try_from(der).ok()?;
    let mut uris = certificate.valid_uri_names();
    let (Some(uri), None) = (uris.next(), uris.next()) else { return None };
    let (_, end) = validity::of(der)?;
    let millis = u64::try_from(end.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()?;
    let (rule, name) = rules.iter().find_map(|rule| Some((rule, name_for(rule, uri)?)))?;
    Some(Principal {
        name: name.into(),
        kind: PrincipalKind::Certificate,
        namespaces: rule.namespaces.clone().into(),
        roles: rule.roles,
        credential: uri.into(),
        expires: Some(Time(millis)),
    })
}

/// The name a rule gives to a URI, if it is about it.
fn name_for(rule: &CertificateRule, uri: &str) -> Option<String> {
    let Some(above) = rule.uri.strip_suffix('*') else {
        return (rule.uri == uri).then(|| rule.name.clone());
    };
    let rest = uri.strip_prefix(above)?;
    // Nothing that could be read in another way: no escapes, no empty or dotted segments.
    let is_plain = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    };
    rest.split('/').all(is_plain).then(|| format!("{}:{rest}", rule.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    fn rule(uri: &str, name: &str) -> CertificateRule {
        CertificateRule { uri: uri.into(), name: name.into(), namespaces: Vec::new(), roles: Roles::ADMIN }
    }

    fn certificate(uris: &[&str], common_name: &str) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["host.example".to_owned()]).expect("names");
        let name = |uri: &&str| SanType::URI((*uri).try_into().expect("ASCII"));
        params.subject_alt_names.extend(uris.iter().map(name));
        params.distinguished_name.push(rcgen::DnType::CommonName, common_name);
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().clone()
    }

    #[test]
    fn a_uri_names_its_holder_and_a_common_name_does_not() {
        let rules = [rule("spiffe://a/ops", "ops"), rule("spiffe://a/workers/*", "workers")];
        let name =
            |uris: &[&str], cn: &str| identify(&certificate(uris, cn), &rules).map(|p| p.name.to_string());
        assert_eq!(name(&["spiffe://a/ops"], "x").as_deref(), Some("ops"));
        assert_eq!(name(&["spiffe://a/workers/eu/1"], "x").as_deref(), Some("workers:eu/1"));
        assert_eq!(name(&[], "spiffe://a/ops"), None, "only a common name");
        assert_eq!(name(&["spiffe://a/ops", "spiffe://a/workers/1"], "x"), None, "two URIs");
        for other in [
            "spiffe://a/ops/",
            "spiffe://a/OPS",
            "spiffe://b/ops",
            "spiffe://a/workers/",
            "spiffe://a/workers",
            "spiffe://a/workers/../ops",
            "spiffe://a/workers//1",
            "spiffe://a/workers/%2e%2e",
        ] {
            assert_eq!(name(&[other], "x"), None, "{other}");
        }
        let found = identify(&certificate(&["spiffe://a/ops"], "x"), &rules).expect("known");
        assert!(found.expires.is_some() && found.kind == PrincipalKind::Certificate);
    }
}
