//! Keys as they are shown, filtered and ordered.

use crate::wire::time::timestamp;
use coretex_contract::v1 as pb;
use coretex_domain::Time;
use coretex_domain::access::Role;
use coretex_domain::filter::{Field, Found, Kind, Row, Schema, optional};
use coretex_engine::keys::ApiKey;
use std::borrow::Cow;

pub(super) const FIELDS: Schema = &[
    Field { name: "key_id", kind: Kind::Text },
    Field { name: "name", kind: Kind::Text },
    Field { name: "identity", kind: Kind::Text },
    Field { name: "state", kind: Kind::Word(&["ACTIVE", "EXPIRED", "REVOKED"]) },
    Field { name: "role", kind: Kind::Text },
    Field { name: "namespace", kind: Kind::Text },
    Field { name: "create_time", kind: Kind::Time },
    Field { name: "expire_time", kind: Kind::Time },
    Field { name: "last_used_time", kind: Kind::Time },
];
pub(super) const ORDERS: [&str; 4] = ["create_time desc", "create_time asc", "name asc", "name desc"];

/// A key and what is shown of it.
pub(super) struct KeyRow<'a> {
    pub(super) key: &'a ApiKey,
    pub(super) shown: &'a pb::ApiKey,
    pub(super) used: Option<Time>,
}

impl Row for KeyRow<'_> {
    fn field(&self, name: &'static str, _key: &str) -> Found<'_> {
        let (key, shown) = (self.key, self.shown);
        let time = |time: Option<Time>| time.map_or(Found::Unset, Found::Time);
        match name {
            "key_id" => optional(Some(&shown.key_id)),
            "name" => optional(Some(&shown.name)),
            "identity" => optional(Some(&shown.identity)),
            "state" => Found::Text(Cow::Borrowed(state_name(shown.state()))),
            "role" => Found::Texts(key.roles.iter().map(Role::name).collect()),
            "namespace" => Found::Texts(key.facts.namespaces.iter().map(String::as_str).collect()),
            "create_time" => Found::Time(key.create_time),
            "expire_time" => time(key.expires()),
            "last_used_time" => time(self.used),
            _ => Found::Unset,
        }
    }
}

fn state_name(state: pb::ApiKeyState) -> &'static str {
    match state {
        pb::ApiKeyState::Unspecified => "",
        pb::ApiKeyState::Active => "ACTIVE",
        pb::ApiKeyState::Expired => "EXPIRED",
        pb::ApiKeyState::Revoked => "REVOKED",
    }
}

/// What a list in this order is sorted by: never the same for two keys.
pub(super) fn sort_key(key: &ApiKey, order: &str) -> String {
    match order.starts_with("name") {
        true => format!("{}\0{}", key.facts.name, key.id),
        false => format!("{:020}\0{}", key.create_time.0, key.id),
    }
}

pub(super) fn write(key: &ApiKey, used: Option<Time>, now: Time) -> pb::ApiKey {
    let state = match (key.revoked(), key.ended(now)) {
        (Some(_), _) => pb::ApiKeyState::Revoked,
        (None, Some(_)) => pb::ApiKeyState::Expired,
        (None, None) => pb::ApiKeyState::Active,
    };
    let overlap = key.facts.former.as_ref().map(coretex_engine::keys::Former::until);
    pb::ApiKey {
        key_id: key.id.to_string(),
        name: key.facts.name.clone(),
        identity: key.identity(),
        roles: key.roles.iter().map(|role| role.name().to_owned()).collect(),
        namespaces: key.facts.namespaces.clone(),
        state: state.into(),
        create_time: Some(timestamp(key.create_time)),
        created_by: key.facts.created_by.clone(),
        expire_time: key.expires().map(timestamp),
        revoke_time: key.revoked().map(timestamp),
        revoked_by: key.facts.revoked_by.clone(),
        last_used_time: used.map(|at| timestamp(Time(at.0 / 1_000 * 1_000))),
        rotate_time: key.rotated().map(timestamp),
        overlap_end_time: overlap.filter(|end| *end > now).map(timestamp),
    }
}
