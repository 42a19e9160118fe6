//! The other rows: keys, sessions, topics, secrets and output.

use crate::Harness;
use crate::kit::{Kit, default_ns, hour, made, named, new_write, ns, open};
use bytes::Bytes;
use coretex_domain::job::spec::{RetryPolicy, Timeouts};
use coretex_domain::session::{Lane, Session};
use coretex_domain::topic::{Pause, Rate, Settings, Topic, TopicCall};
use coretex_domain::{JobId, SessionId, ShardId, Span, Time};
use coretex_ports::{Row, Scan, Write};
use std::sync::Arc;

async fn key_of(kit: &Kit, namespace: &str, key: &str) -> Option<JobId> {
    kit.store.read_key(ns(namespace), key.into()).await.expect("a read").map(|row| row.job_id)
}

pub async fn a_key_names_its_job(h: &dyn Harness) {
    let kit = open(h).await;
    let row = kit.key("k-1", &made(1));
    kit.commit(vec![Write::Key(Arc::new(row.clone()))]).await;
    assert_eq!(kit.store.read_key(default_ns(), "k-1".into()).await, Ok(Some(row)));
}

pub async fn an_absent_key_is_none(h: &dyn Harness) {
    let kit = open(h).await;
    assert_eq!(key_of(&kit, "default", "k").await, None);
    kit.settle().await;
    assert_eq!(key_of(&kit, "default", "k").await, None);
}

pub async fn keys_are_apart_by_namespace(h: &dyn Harness) {
    let kit = open(h).await;
    let mut other = kit.key("k", &made(2));
    other.namespace = ns("other");
    kit.commit(vec![Write::Key(Arc::new(kit.key("k", &made(1)))), Write::Key(Arc::new(other))]).await;
    for _ in 0..2 {
        assert_eq!(key_of(&kit, "default", "k").await, Some(made(1)));
        assert_eq!(key_of(&kit, "other", "k").await, Some(made(2)));
        assert_eq!(key_of(&kit, "third", "k").await, None);
        kit.settle().await;
    }
}

pub async fn a_key_row_is_replaced_by_a_newer_one(h: &dyn Harness) {
    let kit = open(h).await;
    kit.commit(vec![Write::Key(Arc::new(kit.key("k", &made(1))))]).await;
    kit.settle().await;
    kit.commit(vec![Write::Key(Arc::new(kit.key("k", &named("two"))))]).await;
    assert_eq!(key_of(&kit, "default", "k").await, Some(named("two")));
    kit.settle().await;
    assert_eq!(key_of(&kit, "default", "k").await, Some(named("two")));
}

pub async fn keys_survive_indexing(h: &dyn Harness) {
    let kit = open(h).await;
    let rows: Vec<_> = (0..500).map(|n| Arc::new(kit.key(&format!("key é {n}"), &made(n)))).collect();
    kit.commit(rows.iter().cloned().map(Write::Key).collect()).await;
    kit.settle().await;
    for row in rows {
        assert_eq!(kit.store.read_key(default_ns(), row.key.clone()).await, Ok(Some((*row).clone())));
    }
}

fn session(n: u64) -> Session {
    Session {
        session_id: SessionId::make(1_700_000_000_000 + n, u128::from(n) << 8, ShardId(3)),
        epoch: 1,
        namespace: default_ns(),
        worker_id: "w-1".into(),
        principal: "key:abc".into(),
        pool: "".into(),
        capabilities: vec!["gpu".into()],
        labels: vec![("zone".into(), "b".into())],
        lanes: vec![Lane { lane_id: "default".into(), topics: vec!["a".into(), "b".into()], slots: 20 }],
        ttl: Span::secs(15),
        sdk: "rust/0.1".into(),
        host: "box".into(),
        create_time: Time(5),
        is_polling: true,
    }
}

fn sorted<T: Clone>(rows: &[Arc<T>], key: impl Fn(&T) -> String) -> Vec<T> {
    let mut rows: Vec<T> = rows.iter().map(|row| (**row).clone()).collect();
    rows.sort_by_key(key);
    rows
}

pub async fn sessions_come_back_at_a_claim(h: &dyn Harness) {
    let kit = open(h).await;
    kit.commit(vec![Write::Session(Arc::new(session(1)))]).await;
    kit.settle().await;
    kit.commit(vec![Write::Session(Arc::new(session(2)))]).await;
    let kit = kit.reclaim().await;
    assert_eq!(sorted(&kit.claim.sessions, |s| s.session_id.to_string()), [session(1), session(2)]);
}

pub async fn an_ended_session_is_gone(h: &dyn Harness) {
    let kit = open(h).await;
    kit.commit((1..4).map(|n| Write::Session(Arc::new(session(n)))).collect()).await;
    kit.commit(vec![Write::SessionEnd(session(1).session_id)]).await;
    kit.settle().await;
    kit.commit(vec![Write::SessionEnd(session(2).session_id)]).await;
    let kit = kit.reclaim().await;
    assert_eq!(sorted(&kit.claim.sessions, |s| s.session_id.to_string()), [session(3)]);
    kit.settle().await;
    let kit = kit.reclaim().await;
    assert_eq!(kit.claim.sessions.len(), 1);
}

pub async fn a_resumed_session_keeps_one_row(h: &dyn Harness) {
    let kit = open(h).await;
    kit.commit(vec![Write::Session(Arc::new(session(1)))]).await;
    kit.settle().await;
    let resumed = Session { epoch: 2, ..session(1) };
    kit.commit(vec![Write::Session(Arc::new(resumed.clone()))]).await;
    let kit = kit.reclaim().await;
    assert_eq!(sorted(&kit.claim.sessions, |s| s.session_id.to_string()), [resumed]);
}

fn topic(name: &str, revision: u64) -> Topic {
    Topic {
        namespace: default_ns(),
        name: name.into(),
        settings: Settings {
            concurrency_per_key: Some(2),
            max_running: Some(0),
            rate: Some(Rate { limit: 5, per: Span::secs(1) }),
            rate_per_key: Some(Rate { limit: 1, per: Span(0) }),
            ageing: Some(Span::secs(30)),
            retention: Some(hour()),
            dead_letter_retention: Some(Span::days(14)),
            dead_letters_off: true,
            retry: RetryPolicy { max_attempts: Some(9), jitter: Some(0.5), ..RetryPolicy::default() },
            timeouts: Timeouts { stall: Some(Span(7)), ..Timeouts::default() },
        },
        paused: Some(Pause { reason: "lunch".into(), since: Time(4), actor: "bob".into() }),
        revision,
        update_time: Time(8),
        calls: vec![TopicCall { id: 1 << 100, body: 7, time: Time(3) }],
    }
}

pub async fn topics_come_back_whole(h: &dyn Harness) {
    let kit = open(h).await;
    let plain = Topic { settings: Settings::default(), paused: None, ..topic("plain", 1) };
    kit.commit(vec![Write::Topic(Arc::new(topic("job.echo", 1))), Write::Topic(Arc::new(plain.clone()))])
        .await;
    let kit = kit.reclaim().await;
    kit.settle().await;
    let kit = kit.reclaim().await;
    assert_eq!(sorted(&kit.claim.topics, |t| t.name.to_string()), [topic("job.echo", 1), plain]);
}

pub async fn the_newest_topic_wins(h: &dyn Harness) {
    let kit = open(h).await;
    for revision in 1..6 {
        kit.commit(vec![Write::Topic(Arc::new(topic("t", revision)))]).await;
        if revision % 2 == 0 {
            kit.settle().await;
        }
    }
    let kit = kit.reclaim().await;
    assert_eq!(sorted(&kit.claim.topics, |t| t.name.to_string()), [topic("t", 5)]);
}

pub async fn secrets_come_back(h: &dyn Harness) {
    let kit = open(h).await;
    assert!(kit.claim.secrets.is_empty());
    kit.commit(vec![Write::Secret(1, [7; 32])]).await;
    kit.settle().await;
    kit.commit(vec![Write::Secret(2, [0; 32])]).await;
    let kit = kit.reclaim().await;
    assert_eq!(kit.claim.secrets, [(1, [7; 32]), (2, [0; 32])]);
}

fn chunk(stream: &str, offset: u64, bytes: &[u8]) -> Write {
    Write::Output {
        namespace: default_ns(),
        job_id: made(1),
        stream: stream.into(),
        offset,
        chunk: Bytes::copy_from_slice(bytes),
    }
}

async fn output(kit: &Kit, stream: &str, offset: u64, limit: usize) -> (Vec<(u64, Bytes)>, bool) {
    let page = kit
        .scan(Scan::Output { namespace: default_ns(), job_id: made(1), stream: stream.into(), offset, limit })
        .await;
    let row = |row: &Row| match row {
        Row::Output { offset, chunk } => (*offset, chunk.clone()),
        Row::Job(_) | Row::Event(_) | Row::Resource(_) => panic!("not output"),
    };
    (page.rows.iter().map(row).collect(), page.more)
}

pub async fn output_is_read_in_order(h: &dyn Harness) {
    let kit = open(h).await;
    kit.commit(vec![chunk("out", 3, b"def"), chunk("out", 0, b"abc")]).await;
    kit.settle().await;
    kit.commit(vec![chunk("out", 6, b"\0\xff")]).await;
    let (rows, more) = output(&kit, "out", 0, 10).await;
    let whole: Vec<u8> = rows.iter().flat_map(|(_, chunk)| chunk.to_vec()).collect();
    assert_eq!((&whole[..], more), (&b"abcdef\0\xff"[..], false));
    assert_eq!(output(&kit, "out", 4, 10).await.0.len(), 1);
}

pub async fn output_pages_go_on_where_they_stopped(h: &dyn Harness) {
    let kit = open(h).await;
    for n in 0..50 {
        kit.commit(vec![chunk("out", n * 2, &n.to_be_bytes()[6..])]).await;
        if n == 20 {
            kit.settle().await;
        }
    }
    let (mut at, mut all) = (0, Vec::new());
    loop {
        let (rows, more) = output(&kit, "out", at, 7).await;
        all.extend(rows.iter().map(|(offset, _)| *offset));
        at = all.last().map_or(0, |last| last + 1);
        if !more {
            break;
        }
    }
    assert_eq!(all, (0..50).map(|n| n * 2).collect::<Vec<_>>());
}

pub async fn output_streams_are_apart(h: &dyn Harness) {
    let kit = open(h).await;
    kit.commit(vec![chunk("out", 0, b"o"), chunk("err", 0, b"e")]).await;
    for _ in 0..2 {
        assert_eq!(output(&kit, "err", 0, 9).await.0, [(0, Bytes::from_static(b"e"))]);
        assert!(output(&kit, "none", 0, 9).await.0.is_empty());
        kit.settle().await;
    }
}

pub async fn rows_commit_with_their_job(h: &dyn Harness) {
    let mut kit = open(h).await;
    let job = kit.plain(1);
    let mut writes = vec![new_write(&job), Write::Key(Arc::new(kit.key("k", &job.id)))];
    writes.extend([
        Write::Session(Arc::new(session(1))),
        Write::Topic(Arc::new(topic("t", 1))),
        chunk("o", 0, b"x"),
    ]);
    kit.commit(writes).await;
    kit.assert_stored(&job).await;
    assert_eq!(key_of(&kit, "default", "k").await, Some(made(1)));
    assert_eq!(output(&kit, "o", 0, 5).await.0.len(), 1);
    let kit = kit.reclaim().await;
    assert_eq!((kit.claim.sessions.len(), kit.claim.topics.len()), (1, 1));
}
