//! The small rows: idempotency keys, dead letters, sessions, topics, secrets and output chunks.

use crate::decode::{own, pairs_of, retry_of, texts_of, timeouts_of};
use crate::encode::{put_pairs, put_retry, put_texts, put_timeouts};
use crate::event::{id_of, put_id};
use crate::intern::Interner;
use crate::{Damaged, VERSION, check_version, put, wire};
use coretex_domain::dead_letter::DeadLetter;
use coretex_domain::job::StateKind;
use coretex_domain::session::{Lane, Session};
use coretex_domain::topic::{Pause, Rate, Settings, Topic, TopicCall};
use coretex_domain::{JobId, Namespace, SessionId, ShardId, Span, Time};
use coretex_ports::{KeyRow, Write};

fn put_version(buf: &mut Vec<u8>) {
    put::uint(buf, 1, u64::from(VERSION));
}

pub fn put_key(buf: &mut Vec<u8>, row: &KeyRow) {
    put_version(buf);
    put::text(buf, 2, row.namespace.as_str());
    put::text(buf, 3, &row.key);
    put_id(buf, 4, &row.job_id);
    put::fixed(buf, 5, (row.fingerprint >> 64) as u64);
    put::fixed(buf, 6, row.fingerprint as u64);
    put::uint(buf, 7, row.create_time.0);
}

pub fn key_of(row: &wire::Key, interner: &mut Interner) -> Result<KeyRow, Damaged> {
    check_version(row.version)?;
    Ok(KeyRow {
        namespace: Namespace::new(interner.text(&row.namespace)),
        key: row.key.as_str().into(),
        job_id: id_of(row.job_id.as_ref())?,
        fingerprint: u128::from(row.fingerprint_high) << 64 | u128::from(row.fingerprint_low),
        create_time: Time(row.create_time),
    })
}

pub fn put_dead_letter(buf: &mut Vec<u8>, letter: &DeadLetter) {
    put_version(buf);
    put::text(buf, 2, letter.namespace.as_str());
    put_id(buf, 3, &letter.job_id);
    put::uint(buf, 4, u64::from(letter.shard.0));
    put::text(buf, 5, &letter.topic);
    put::uint(buf, 6, letter.state as u64);
    put::text(buf, 7, &letter.reason);
    put::fixed(buf, 8, letter.fingerprint);
    put::uint(buf, 9, letter.create_time.0);
    put::uint(buf, 10, letter.expire_time.0);
}

pub fn dead_letter_of(row: &wire::DeadLetter, interner: &mut Interner) -> Result<DeadLetter, Damaged> {
    check_version(row.version)?;
    Ok(DeadLetter {
        namespace: Namespace::new(interner.text(&row.namespace)),
        job_id: id_of(row.job_id.as_ref())?,
        shard: ShardId(u8::try_from(row.shard).map_err(|_| Damaged("dead letter with a bad shard".into()))?),
        topic: interner.text(&row.topic),
        state: StateKind::from_number(row.state)
            .ok_or_else(|| Damaged(format!("dead letter in unknown state {}", row.state)))?,
        reason: interner.text(&row.reason),
        fingerprint: row.fingerprint,
        create_time: Time(row.create_time),
        expire_time: Time(row.expire_time),
    })
}

pub fn put_dead_letter_end(buf: &mut Vec<u8>, namespace: &Namespace, job_id: &JobId) {
    put_version(buf);
    put::text(buf, 2, namespace.as_str());
    put_id(buf, 3, job_id);
}

pub fn dead_letter_end_of(row: &wire::DeadLetter, interner: &mut Interner) -> Result<Write, Damaged> {
    check_version(row.version)?;
    Ok(Write::DeadLetterEnd {
        namespace: Namespace::new(interner.text(&row.namespace)),
        job_id: id_of(row.job_id.as_ref())?,
    })
}

pub fn put_session(buf: &mut Vec<u8>, session: &Session) {
    put_version(buf);
    put::fixed(buf, 2, (session.session_id.0 >> 64) as u64);
    put::fixed(buf, 3, session.session_id.0 as u64);
    put::uint(buf, 4, u64::from(session.epoch));
    put::text(buf, 5, session.namespace.as_str());
    put::text(buf, 6, &session.worker_id);
    put::text(buf, 7, &session.principal);
    put::text(buf, 8, &session.pool);
    put_texts(buf, 9, &session.capabilities);
    put_pairs(buf, 10, &session.labels);
    for lane in &session.lanes {
        put::nested(buf, 11, |buf| {
            put::text(buf, 1, &lane.lane_id);
            put_texts(buf, 2, &lane.topics);
            put::uint(buf, 3, u64::from(lane.slots));
        });
    }
    put::uint(buf, 12, session.ttl.0);
    put::text(buf, 13, &session.sdk);
    put::text(buf, 14, &session.host);
    put::uint(buf, 15, session.create_time.0);
    put::flag(buf, 16, session.is_polling);
}

pub fn session_of(row: &wire::Session, interner: &mut Interner) -> Result<Session, Damaged> {
    check_version(row.version)?;
    let lanes = row.lanes.iter().map(|lane| Lane {
        lane_id: interner.text(&lane.lane_id),
        topics: texts_of(&lane.topics, interner),
        slots: lane.slots,
    });
    let lanes = lanes.collect();
    Ok(Session {
        session_id: SessionId(u128::from(row.id_high) << 64 | u128::from(row.id_low)),
        epoch: row.epoch,
        namespace: Namespace::new(interner.text(&row.namespace)),
        worker_id: interner.text(&row.worker_id),
        principal: interner.text(&row.principal),
        pool: interner.text(&row.pool),
        capabilities: texts_of(&row.capabilities, interner),
        labels: pairs_of(&row.labels, interner),
        lanes,
        ttl: Span(row.ttl),
        sdk: interner.text(&row.sdk),
        host: interner.text(&row.host),
        create_time: Time(row.create_time),
        is_polling: row.is_polling,
    })
}

pub fn put_session_end(buf: &mut Vec<u8>, id: SessionId) {
    put::fixed(buf, 1, (id.0 >> 64) as u64);
    put::fixed(buf, 2, id.0 as u64);
}

pub fn put_topic(buf: &mut Vec<u8>, topic: &Topic) {
    let s = &topic.settings;
    let rate = |buf: &mut Vec<u8>, tag, rate: Option<Rate>| {
        if let Some(rate) = rate {
            put::nested(buf, tag, |buf| {
                put::uint(buf, 1, u64::from(rate.limit));
                put::uint(buf, 2, rate.per.0);
            });
        }
    };
    put_version(buf);
    put::text(buf, 2, topic.namespace.as_str());
    put::text(buf, 3, &topic.name);
    put::opt_uint(buf, 4, s.concurrency_per_key.map(u64::from));
    put::opt_uint(buf, 5, s.max_running.map(u64::from));
    rate(buf, 6, s.rate);
    rate(buf, 7, s.rate_per_key);
    put::opt_uint(buf, 8, s.ageing.map(|v| v.0));
    put::opt_uint(buf, 9, s.retention.map(|v| v.0));
    put::opt_uint(buf, 10, s.dead_letter_retention.map(|v| v.0));
    put::flag(buf, 11, s.dead_letters_off);
    put_retry(buf, 12, &s.retry);
    put_timeouts(buf, 13, &s.timeouts);
    if let Some(pause) = &topic.paused {
        put::nested(buf, 14, |buf| {
            put::text(buf, 1, &pause.reason);
            put::uint(buf, 2, pause.since.0);
            put::text(buf, 3, &pause.actor);
        });
    }
    put::uint(buf, 15, topic.revision);
    put::uint(buf, 16, topic.update_time.0);
    for call in &topic.calls {
        put::nested(buf, 17, |buf| {
            put::fixed(buf, 1, (call.id >> 64) as u64);
            put::fixed(buf, 2, call.id as u64);
            put::fixed(buf, 3, (call.body >> 64) as u64);
            put::fixed(buf, 4, call.body as u64);
            put::uint(buf, 5, call.time.0);
        });
    }
}

pub fn topic_of(row: &wire::Topic, interner: &mut Interner) -> Result<Topic, Damaged> {
    check_version(row.version)?;
    let rate = |rate: &Option<wire::Rate>| rate.as_ref().map(|r| Rate { limit: r.limit, per: Span(r.per) });
    Ok(Topic {
        namespace: Namespace::new(interner.text(&row.namespace)),
        name: interner.text(&row.name),
        settings: Settings {
            concurrency_per_key: row.concurrency_per_key,
            max_running: row.max_running,
            rate: rate(&row.rate),
            rate_per_key: rate(&row.rate_per_key),
            ageing: row.ageing.map(Span),
            retention: row.retention.map(Span),
            dead_letter_retention: row.dead_letter_retention.map(Span),
            dead_letters_off: row.dead_letters_off,
            retry: row.retry.as_ref().map(|r| retry_of(r, interner)).unwrap_or_default(),
            timeouts: row.timeouts.as_ref().map(timeouts_of).unwrap_or_default(),
        },
        paused: row.paused.as_ref().map(|p| Pause {
            reason: interner.text(&p.reason),
            since: Time(p.since),
            actor: interner.text(&p.actor),
        }),
        revision: row.revision,
        update_time: Time(row.update_time),
        calls: row.calls.iter().map(call_of).collect(),
    })
}

fn call_of(call: &wire::TopicCall) -> TopicCall {
    let whole = |high: u64, low: u64| u128::from(high) << 64 | u128::from(low);
    TopicCall {
        id: whole(call.id_high, call.id_low),
        body: whole(call.body_high, call.body_low),
        time: Time(call.time),
    }
}

pub fn put_secret(buf: &mut Vec<u8>, id: u32, secret: &[u8; 32]) {
    put_version(buf);
    put::uint(buf, 2, u64::from(id));
    put::bytes(buf, 3, secret);
}

pub fn secret_of(row: &wire::Secret) -> Result<(u32, [u8; 32]), Damaged> {
    check_version(row.version)?;
    let secret = row.secret[..].try_into().map_err(|_| Damaged("secret of a wrong length".into()))?;
    Ok((row.id, secret))
}

pub fn put_output(
    buf: &mut Vec<u8>,
    namespace: &Namespace,
    job_id: &JobId,
    stream: &str,
    offset: u64,
    chunk: &[u8],
) {
    put_version(buf);
    put::text(buf, 2, namespace.as_str());
    put_id(buf, 3, job_id);
    put::text(buf, 4, stream);
    put::uint(buf, 5, offset);
    put::bytes(buf, 6, chunk);
}

pub fn output_of(row: &wire::Output, interner: &mut Interner) -> Result<coretex_ports::Write, Damaged> {
    check_version(row.version)?;
    Ok(coretex_ports::Write::Output {
        namespace: Namespace::new(interner.text(&row.namespace)),
        job_id: id_of(row.job_id.as_ref())?,
        stream: interner.text(&row.stream),
        offset: row.offset,
        chunk: own(&row.chunk),
    })
}
