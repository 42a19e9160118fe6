//! Whom client certificates stand for.

use super::check_name;
use super::item::Item;
use crate::settings::layers::Layers;
use coretex_gateway::CertificateRule;

const FIELDS: [&str; 4] = ["uri", "name", "namespaces", "roles"];
const MEND: &str =
    "write {uri: spiffe://example.org/ops, name: ops, roles: [operator]}; a URI may end in `/*`";

pub(super) fn build(layers: &mut Layers) -> Vec<CertificateRule> {
    let place = layers.place("auth.certificates");
    let mut rules: Vec<CertificateRule> = Vec::new();
    for (index, line) in layers.list("auth.certificates").iter().enumerate() {
        let place = format!("{place} item {}", index + 1);
        let Some(item) = Item::read(line, place, &FIELDS, MEND, layers) else { continue };
        if index == 0 && layers.value("tls.client_ca").is_none() {
            item.refuse("no client shows a certificate: there is no tls.client_ca", layers);
        }
        let Some(rule) = rule(&item, layers) else { continue };
        match rules.iter().any(|other| other.uri == rule.uri) {
            true => item.refuse(format!("another item has the URI {}", rule.uri), layers),
            false => rules.push(rule),
        }
    }
    // The first that fits decides: a whole URI before the one above it, the longer before the shorter.
    rules.sort_by_key(|rule| (rule.uri.ends_with('*'), std::cmp::Reverse(rule.uri.len())));
    rules
}

fn rule(item: &Item, layers: &mut Layers) -> Option<CertificateRule> {
    let (uri, name) = (item.required("uri", layers), item.required("name", layers));
    if let Some(message) = name.as_ref().and_then(|name| check_name(name).err()) {
        item.refuse(message, layers);
    }
    let namespaces = item.namespaces("namespaces", layers);
    let roles = item.roles("roles", layers);
    if roles.is_empty() {
        item.refuse("`roles` must name at least one role", layers);
    }
    let uri = uri?;
    let whole = uri.strip_suffix("/*").unwrap_or(&uri);
    let is_good =
        whole.split_once("://").is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty())
            && whole.bytes().all(|b| b.is_ascii_graphic())
            && !whole.contains('*');
    if !is_good {
        let shown = coretex_domain::names::shown(&uri);
        item.refuse(format!("{shown} is no URI, or has a `*` that is not at the end after a `/`"), layers);
    }
    Some(CertificateRule { uri, name: name?, namespaces, roles })
}
