//! Resources: a head that stores file by, and a body that is only passed on.

use crate::decode::own;
use crate::intern::Interner;
use crate::{Damaged, VERSION, check_version, put, wire};
use coretex_domain::resource::{Kind, Resource, ResourceKey};
use coretex_domain::{Namespace, ShardId, Time};

pub fn put_resource(buf: &mut Vec<u8>, one: &Resource) {
    put_key(buf, one.kind, &one.namespace, &one.name);
    put::uint(buf, 5, u64::from(one.shard.0));
    put::uint(buf, 6, one.revision);
    put::flag(buf, 7, one.is_live);
    put::uint(buf, 8, one.create_time.0);
    put::uint(buf, 9, one.update_time.0);
    put::opt_uint(buf, 10, one.expire_time.map(|time| time.0));
    put::bytes(buf, 11, &one.body);
}

pub fn put_resource_end(buf: &mut Vec<u8>, key: &ResourceKey) {
    put_key(buf, key.kind, &key.namespace, &key.name);
}

fn put_key(buf: &mut Vec<u8>, kind: Kind, namespace: &Namespace, name: &str) {
    put::uint(buf, 1, u64::from(VERSION));
    put::uint(buf, 2, kind as u64);
    put::text(buf, 3, namespace.as_str());
    put::text(buf, 4, name);
}

pub fn resource_of(row: &wire::Resource, interner: &mut Interner) -> Result<Resource, Damaged> {
    let ResourceKey { kind, namespace, name } = key_of(row, interner)?;
    Ok(Resource {
        kind,
        namespace,
        name,
        shard: ShardId(u8::try_from(row.shard).map_err(|_| Damaged("resource with a bad shard".into()))?),
        revision: row.revision,
        is_live: row.is_live,
        create_time: Time(row.create_time),
        update_time: Time(row.update_time),
        expire_time: row.expire_time.map(Time),
        body: own(&row.body),
    })
}

pub fn key_of(row: &wire::Resource, interner: &mut Interner) -> Result<ResourceKey, Damaged> {
    check_version(row.version)?;
    let kind = Kind::from_number(row.kind)
        .ok_or_else(|| Damaged(format!("resource of unknown kind {}", row.kind)))?;
    Ok(ResourceKey::new(kind, Namespace::new(interner.text(&row.namespace)), row.name.as_str()))
}
