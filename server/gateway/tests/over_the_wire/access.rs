//! Who may do what, over the wire.

mod certificates;
mod limits;
mod paths;
pub(crate) mod roles;
mod streams;
mod tokens;

use crate::running_server::Server;
use coretex_domain::access::{Role, Roles};
use coretex_gateway::{Access, ApiKeys, GatewaySettings, Identity};

/// A key, the name of its identity, its namespaces and its role.
pub(crate) type Named<'a> = (&'a str, &'a str, &'a [&'a str], Role);

pub(crate) fn identity(name: &str, namespaces: &[&str], role: Role) -> Identity {
    Identity {
        name: name.into(),
        namespaces: namespaces.iter().map(ToString::to_string).collect(),
        roles: Roles::of(&[role]),
        expires: None,
    }
}

pub(crate) fn keys(named: &[Named<'_>]) -> ApiKeys {
    named.iter().fold(ApiKeys::new(&[9; 32]), |keys, (key, name, namespaces, role)| {
        keys.with(key, identity(name, namespaces, *role))
    })
}

/// A server with a key for each role, whose text is the name of the role.
pub(crate) async fn server_of_roles() -> Server {
    let named: Vec<Named<'_>> =
        Role::ALL.into_iter().map(|role| (role.name(), role.name(), &[][..], role)).collect();
    server(Access::closed().keys(keys(&named))).await
}

async fn server(access: Access) -> Server {
    Server::with(GatewaySettings { access, ..Default::default() }).await
}
