//! Payloads: bytes out are bytes in.

use crate::Harness;
use crate::kit::{START, default_ns, made, named, new_write, open};
use coretex_domain::job::Spec;
use coretex_domain::payload::ContentType;
use coretex_domain::{Payload, limits};
use std::sync::Arc;

fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}

async fn survives(h: &dyn Harness, sizes: &[usize]) {
    let mut kit = open(h).await;
    let mut jobs = Vec::new();
    for (n, size) in sizes.iter().enumerate() {
        let payload = Payload { content_type: ContentType::Binary, data: noise(*size).into() };
        let job = kit.new_job(&default_ns(), made(n as u64), START + n as u64, Spec::new("t", payload));
        kit.put_new(&job).await;
        jobs.push(job);
    }
    for _ in 0..2 {
        for job in &jobs {
            kit.assert_stored(job).await;
        }
        kit.settle().await;
    }
    if !kit.forgets() {
        let kit = kit.reopen_after_crash(h).await;
        for job in &jobs {
            kit.assert_stored(job).await;
        }
    }
}

pub async fn empty_and_small_payloads_survive(h: &dyn Harness) {
    survives(h, &[0, 1, 7, 127, 128, 129, 16_383, 16_384]).await;
}

pub async fn large_payloads_survive(h: &dyn Harness) {
    survives(h, &[256 << 10, limits::PAYLOAD_MAX - 1, limits::PAYLOAD_MAX]).await;
}

pub async fn content_types_survive(h: &dyn Harness) {
    let mut kit = open(h).await;
    let types = [
        ContentType::None,
        ContentType::Json,
        ContentType::Binary,
        ContentType::Other("text/plain; charset=utf-8".into()),
        ContentType::Other("application/json".into()),
        ContentType::Other("".into()),
    ];
    for (n, content_type) in types.into_iter().enumerate() {
        let payload = Payload { content_type, data: b"x"[..].into() };
        let job = kit.new_job(&default_ns(), made(n as u64), START, Spec::new("t", payload));
        kit.put_new(&job).await;
        kit.settle().await;
        kit.assert_stored(&job).await;
    }
}

pub async fn hostile_text_survives(h: &dyn Harness) {
    let mut kit = open(h).await;
    let texts = [
        "a\0b",
        "🦀 four bytes",
        "quote ' \" ; --",
        "line\nbreak\r\t",
        "\u{feff}bom",
        "\\u0000",
        "%s%n{}",
        "é́",
    ];
    for (n, text) in texts.iter().enumerate() {
        let mut spec = Spec::new("t", Payload::empty());
        spec.options_mut().labels = vec![((*text).into(), (*text).into())];
        spec.options_mut().concurrency_key = Some((*text).into());
        let mut job = kit.new_job(&default_ns(), named(&format!("h-{n}")), START, spec);
        job.rare_mut().cancel = Some(coretex_domain::job::Cancel {
            reason: (*text).into(),
            actor: (*text).into(),
            time: coretex_domain::Time(1),
        });
        let key = kit.key(text, &job.id);
        kit.commit(vec![new_write(&job), coretex_ports::Write::Key(Arc::new(key.clone()))]).await;
        for _ in 0..2 {
            kit.assert_stored(&job).await;
            assert_eq!(kit.store.read_key(default_ns(), (*text).into()).await, Ok(Some(key.clone())));
            kit.settle().await;
        }
    }
}

pub async fn results_survive_every_byte(h: &dyn Harness) {
    let mut kit = open(h).await;
    let mut job = kit.submit(1).await;
    kit.start(&mut job, "w");
    kit.succeed(&mut job, u64::MAX);
    let every: Vec<u8> = (0..=255).collect();
    job.result = Some(Payload { content_type: ContentType::None, data: every.into() });
    kit.put(&job, 3).await;
    kit.settle().await;
    kit.assert_stored(&job).await;
}

pub async fn large_results_and_failures_survive(h: &dyn Harness) {
    let mut kit = open(h).await;
    let mut done = kit.submit(1).await;
    kit.start(&mut done, "w");
    kit.succeed(&mut done, u64::MAX);
    done.result = Some(Payload::json(noise(limits::PAYLOAD_MAX)));
    kit.put(&done, 3).await;
    let mut failed = kit.submit(2).await;
    kit.start(&mut failed, "w");
    kit.fail(&mut failed, u64::MAX);
    if let Some(failure) = &mut failed.rare_mut().failure {
        failure.details = Payload { content_type: ContentType::Binary, data: noise(64 << 10).into() };
        failure.stack = "s".repeat(16 << 10).into();
    }
    kit.put(&failed, 3).await;
    for _ in 0..2 {
        kit.assert_stored(&done).await;
        kit.assert_stored(&failed).await;
        kit.settle().await;
    }
}
