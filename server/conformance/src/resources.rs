//! Resources: found by key, walked in order, live ones handed out at a claim.

use crate::Harness;
use crate::kit::{Kit, ns, open};
use bytes::Bytes;
use coretex_domain::resource::{Kind, Resource, ResourceKey};
use coretex_domain::{Namespace, ShardId, Time};
use coretex_ports::{Row, Scan, Write};
use std::sync::Arc;

fn resource(kind: Kind, namespace: &str, name: &str, create: u64) -> Resource {
    Resource {
        kind,
        namespace: ns(namespace),
        name: name.into(),
        shard: ShardId::CATALOG,
        revision: 1,
        is_live: false,
        create_time: Time(create),
        update_time: Time(create + 1),
        expire_time: None,
        body: Bytes::copy_from_slice(format!("{kind} {name}").as_bytes()),
    }
}

fn write(one: &Resource) -> Write {
    Write::Resource(Arc::new(one.clone()))
}

async fn named(kit: &Kit, keys: Vec<ResourceKey>) -> Vec<Resource> {
    let page = kit.scan(Scan::Named(keys)).await;
    assert!(!page.more);
    page.rows.iter().map(plain).collect()
}

fn plain(row: &Row) -> Resource {
    match row {
        Row::Resource(one) => (**one).clone(),
        Row::Job(_) | Row::Event(_) | Row::Output { .. } => panic!("not a resource"),
    }
}

/// All names of a kind and namespace, in pages of `limit`.
async fn walk(kit: &Kit, kind: Kind, namespace: &str, descending: bool, limit: usize) -> Vec<String> {
    let mut after: Option<(Time, Arc<str>)> = None;
    let mut names = Vec::new();
    for _ in 0..10_000 {
        let scan = Scan::Resources { kind, namespace: ns(namespace), descending, after, limit };
        let page = kit.scan(scan).await;
        assert!(page.rows.len() <= limit);
        let rows: Vec<Resource> = page.rows.iter().map(plain).collect();
        names.extend(rows.iter().map(|one| one.name.to_string()));
        if !page.more {
            return names;
        }
        after = rows.last().map(|one| (one.create_time, one.name.clone()));
        assert!(after.is_some(), "a page without rows must be the last");
    }
    panic!("the walk does not end");
}

pub async fn resources_are_found_by_key(h: &dyn Harness) {
    let kit = open(h).await;
    let a =
        Resource { is_live: true, expire_time: Some(Time(99)), ..resource(Kind::Policy, "default", "a", 5) };
    let b = resource(Kind::Policy, "other", "a", 6);
    let c = resource(Kind::Config, "default", "a", 7);
    kit.commit(vec![write(&a), write(&b), write(&c)]).await;
    let absent = ResourceKey::new(Kind::Secret, ns("default"), "a");
    for _ in 0..2 {
        let found = named(&kit, vec![c.key(), absent.clone(), a.key(), b.key()]).await;
        assert_eq!(found, [c.clone(), a.clone(), b.clone()]);
        kit.settle().await;
    }
}

pub async fn the_newest_resource_wins(h: &dyn Harness) {
    let kit = open(h).await;
    let mut one = resource(Kind::Config, "default", "x", 5);
    for revision in 1..6 {
        one.revision = revision;
        one.body = Bytes::from(vec![0; 1 + revision as usize]);
        kit.commit(vec![write(&one)]).await;
        if revision % 2 == 0 {
            kit.settle().await;
        }
        assert_eq!(named(&kit, vec![one.key()]).await, [one.clone()]);
    }
    assert_eq!(walk(&kit, Kind::Config, "default", false, 10).await, ["x"]);
}

pub async fn a_removed_resource_is_gone(h: &dyn Harness) {
    let kit = open(h).await;
    let all: Vec<Resource> = (0..4).map(|n| resource(Kind::Config, "default", &format!("c{n}"), n)).collect();
    kit.commit(all.iter().map(write).collect()).await;
    kit.commit(vec![Write::ResourceEnd(all[0].key())]).await;
    kit.settle().await;
    kit.commit(vec![Write::ResourceEnd(all[1].key()), Write::ResourceEnd(all[0].key())]).await;
    for _ in 0..2 {
        assert_eq!(walk(&kit, Kind::Config, "default", false, 1).await, ["c2", "c3"]);
        assert!(named(&kit, vec![all[1].key()]).await.is_empty());
        kit.settle().await;
    }
    kit.commit(vec![write(&all[1])]).await;
    assert_eq!(walk(&kit, Kind::Config, "default", true, 2).await, ["c3", "c2", "c1"]);
}

pub async fn resources_are_walked_in_order(h: &dyn Harness) {
    let kit = open(h).await;
    let mut names = Vec::new();
    for n in 0..40_u64 {
        // Pairs share a create time; names decide between them.
        let name = format!("n{:02}", 99 - n);
        kit.commit(vec![write(&resource(Kind::Audit, "*", &name, n / 2))]).await;
        names.push((n / 2, name));
        if n % 13 == 0 {
            kit.settle().await;
        }
    }
    kit.commit(vec![write(&resource(Kind::Audit, "default", "elsewhere", 3))]).await;
    names.sort();
    let ascending: Vec<String> = names.into_iter().map(|(_, name)| name).collect();
    let descending: Vec<String> = ascending.iter().rev().cloned().collect();
    for limit in [1, 7, 100] {
        assert_eq!(walk(&kit, Kind::Audit, "*", false, limit).await, ascending);
        assert_eq!(walk(&kit, Kind::Audit, "*", true, limit).await, descending);
    }
    assert!(walk(&kit, Kind::Approval, "*", false, 9).await.is_empty());
}

pub async fn live_resources_come_back_at_a_claim(h: &dyn Harness) {
    let kit = open(h).await;
    assert!(kit.claim.resources.is_empty());
    let live = |name: &str| Resource { is_live: true, ..resource(Kind::Approval, "default", name, 1) };
    kit.commit(vec![
        write(&live("a")),
        write(&live("b")),
        write(&resource(Kind::Approval, "default", "c", 1)),
    ])
    .await;
    kit.settle().await;
    kit.commit(vec![write(&live("d")), write(&Resource { is_live: false, ..live("a") })]).await;
    let names = |kit: &Kit| {
        let mut names: Vec<String> = kit.claim.resources.iter().map(|one| one.name.to_string()).collect();
        names.sort();
        names
    };
    let kit = kit.reclaim().await;
    assert_eq!(names(&kit), ["b", "d"]);
    kit.commit(vec![Write::ResourceEnd(live("b").key())]).await;
    let kit = kit.reclaim().await;
    assert_eq!(names(&kit), ["d"]);
    kit.settle().await;
    let kit = kit.reclaim().await;
    assert_eq!(names(&kit), ["d"]);
}

pub async fn due_resources_are_removed(h: &dyn Harness) {
    let kit = open(h).await;
    let due =
        |name: &str, at: u64| Resource { expire_time: Some(Time(at)), ..resource(Kind::Call, "*", name, 1) };
    kit.commit(vec![write(&due("a", 10)), write(&due("b", 20)), write(&due("c", 30))]).await;
    kit.commit(vec![write(&resource(Kind::Call, "*", "kept", 1))]).await;
    kit.settle().await;
    // Put off before it was due.
    kit.commit(vec![write(&due("a", 40))]).await;
    let cleaned = kit.clean(25, 10).await;
    assert_eq!((cleaned.removed, cleaned.next_due), (1, Some(Time(30))));
    kit.settle().await;
    assert_eq!(walk(&kit, Kind::Call, "*", false, 9).await, ["a", "c", "kept"]);
    kit.clean(1_000, 1).await;
    kit.clean(1_000, 1).await;
    assert_eq!(walk(&kit, Kind::Call, "*", false, 9).await, ["kept"]);
}

pub async fn resources_survive_a_reopen(h: &dyn Harness) {
    let kit = open(h).await;
    let one = Resource { is_live: true, ..resource(Kind::Namespace, "*", "team-ä", 5) };
    kit.commit(vec![write(&one), write(&resource(Kind::Audit, "*", "0001", 6))]).await;
    if kit.forgets() {
        return;
    }
    let kit = kit.reopen_after_crash(h).await;
    assert_eq!(kit.claim.resources.iter().map(|r| (**r).clone()).collect::<Vec<_>>(), vec![one.clone()]);
    assert_eq!(walk(&kit, Kind::Audit, "*", false, 9).await, ["0001"]);
    kit.commit(vec![Write::ResourceEnd(one.key())]).await;
    let kit = kit.reopen_cleanly(h).await;
    assert!(kit.claim.resources.is_empty());
    assert!(walk(&kit, Kind::Namespace, Namespace::installation().as_str(), false, 9).await.is_empty());
}
