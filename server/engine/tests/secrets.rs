//! Secrets are told to the worker that holds the lease, by the names the job refers to, and nothing is said about any other.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use coretex_domain::job::spec::Spec;
use coretex_domain::session::Lane;
use coretex_domain::{Namespace, Payload, Reason, Span};
use coretex_engine::api::*;
use coretex_engine::clock::{SystemClock, SystemDice};
use coretex_engine::{Attached, Engine, OutputPiece};
use coretex_ports::Env;
use coretex_ports::memory::MemoryStore;
use coretex_secrets::{Values, Vault};
use std::sync::Arc;
use std::time::Duration;

const VALUE: &str = "engine-test-value-1";

fn values(all: &[(&str, &str, &str)]) -> Values {
    let mut values = Values::default();
    all.iter().for_each(|(namespace, name, value)| values.add(namespace, name, (*value).to_owned()).unwrap());
    values
}

/// An engine with a vault, a worker on it, and what it holds.
struct Stage {
    engine: Engine,
    vault: Arc<Vault>,
    attached: Attached,
    caller: Caller,
}

impl Stage {
    async fn new(worker: &str) -> Stage {
        let vault = Arc::<Vault>::default();
        let all = [
            ("default", "DB", VALUE),
            ("default", "OWN", "not referred to"),
            ("other", "OTHER", "a tenant's"),
        ];
        vault.replace(values(&all)).unwrap();
        let env = Env { clock: Arc::new(SystemClock::new()), dice: Arc::new(SystemDice::new()) };
        let store = Arc::new(MemoryStore::new(coretex_ports::memory::Settings::default()));
        let settings = Settings { drain_grace: Span(200), secrets: vault.clone(), ..Settings::default() };
        let engine = Engine::start(store, env, settings).await.unwrap();
        let attached = join(&engine, worker).await;
        let caller = Caller { namespace: Namespace::new("default"), actor: "".into() };
        Stage { engine, vault, attached, caller }
    }

    async fn lease(&mut self, payload: &str) -> Assignment {
        let mut spec = Spec::new("job.secret", Payload::json(payload.to_owned()));
        spec.options_mut().labels = vec![("db".into(), "secret://LABEL".into())];
        let asked = vec![coretex_engine::api::Ask { spec: Arc::new(spec), job_id: None }];
        self.engine.submit(&self.caller, asked, "", None).await.unwrap().remove(0).unwrap();
        frame(&mut self.attached, |frame| match frame {
            ServerFrame::Assign { mut assignments, .. } => assignments.pop(),
            _ => None,
        })
        .await
    }
}

async fn join(engine: &Engine, worker: &str) -> Attached {
    let hello = Hello {
        namespace: Namespace::new("default"),
        principal: "p".into(),
        worker_id: worker.into(),
        pool: "".into(),
        capabilities: vec![],
        labels: vec![],
        lanes: vec![Lane { lane_id: "l".into(), topics: vec!["job.secret".into()], slots: 4 }],
        sdk: "test".into(),
        host: "".into(),
        heartbeat: None,
        ttl: Some(Span::secs(30)),
    };
    let (_, attached) = engine.hello(hello).await.unwrap();
    attached.handle.credit(vec![("l".into(), 4)]);
    attached
}

async fn frame<T>(attached: &mut Attached, wanted: impl Fn(ServerFrame) -> Option<T>) -> T {
    loop {
        let frame = tokio::time::timeout(Duration::from_secs(10), attached.outbox.next()).await;
        if let Some(found) = wanted(frame.expect("a frame").expect("an open stream")) {
            return found;
        }
    }
}

async fn ask(
    attached: &mut Attached,
    lease: u64,
    ask_id: u64,
    names: &[&str],
) -> Result<Vec<String>, Refusal> {
    let names = names.iter().map(|name| (*name).into()).collect();
    attached.handle.ask(AskOfWorker::new(lease, ask_id, AskQuestion::Secret { names }));
    frame(attached, |frame| match frame {
        ServerFrame::Secrets { ask_id: answered, values, .. } if answered == ask_id => {
            Some(Ok(values.iter().map(|(_, value)| value.expose().to_owned()).collect()))
        }
        ServerFrame::Answer { ask_id: answered, answer, .. } if answered == ask_id => {
            Some(answer.map(|told| {
                panic!("no values: {told:?}");
            }))
        }
        _ => None,
    })
    .await
}

#[tokio::test]
async fn every_refusal_is_the_same_and_the_answer_is_for_the_lease_alone() {
    let mut stage = Stage::new("w").await;
    let lease = stage.lease(r#"{"a":"secret://DB","b":"secret://OTHER","c":"secret://NONE"}"#).await;
    let refs: Vec<&str> = lease.secret_refs.iter().map(AsRef::as_ref).collect();
    assert_eq!(refs, ["DB", "LABEL", "NONE", "OTHER"]);
    let id = lease.lease_id;
    assert_eq!(ask(&mut stage.attached, id, 1, &["DB"]).await.unwrap(), [VALUE]);
    let mut said = Vec::new();
    for (ask_id, names) in
        [(2, &["OWN"][..]), (3, &["OTHER"]), (4, &["NONE"]), (5, &["x"]), (6, &["DB", "LABEL"])]
    {
        let refusal = ask(&mut stage.attached, id, ask_id, names).await.unwrap_err();
        assert_eq!(refusal.reason, Reason::SecretRefused);
        said.push((refusal.message, refusal.facts, refusal.retry_after));
    }
    assert!(said.windows(2).all(|two| two[0] == two[1]), "{said:?}");
    // Another worker of the same namespace does not hold it.
    let mut other = join(&stage.engine, "w2").await;
    assert_eq!(ask(&mut other, id, 9, &["DB"]).await.unwrap_err().reason, Reason::StaleLease);

    // The same again, with what the value is then; never as another question.
    assert_eq!(ask(&mut stage.attached, id, 1, &["DB"]).await.unwrap(), [VALUE]);
    stage.vault.replace(values(&[("*", "DB", "engine-test-value-2")])).unwrap();
    assert_eq!(ask(&mut stage.attached, id, 1, &["DB"]).await.unwrap(), ["engine-test-value-2"]);
    let other = ask(&mut stage.attached, id, 1, &["NONE"]).await.unwrap_err();
    assert_eq!(other.reason, Reason::IdempotencyConflict);
    stage.vault.replace(Values::default()).unwrap();
    assert_eq!(ask(&mut stage.attached, id, 1, &["DB"]).await.unwrap_err().reason, Reason::SecretRefused);

    let (records, _) = stage.engine.audit_records(false, None, 50).await.unwrap();
    let records: Vec<_> = records.iter().map(|one| (&*one.outcome, &*one.subject, &*one.detail)).collect();
    let job = lease.job.id.to_string();
    let told = ("OK", job.as_str(), "worker w was told the secrets DB");
    let refused = ("FAILED_PRECONDITION", job.as_str(), "worker w asked for the secrets OWN");
    assert_eq!(records, [told, refused, told, told], "each answer, and the first refusal");
    stage.engine.stop().await;
}

#[tokio::test]
async fn what_a_worker_says_is_stored_without_values_also_of_output_that_was_never_ended() {
    let mut stage = Stage::new("w").await;
    let lease = stage.lease("{}").await;
    assert!(ask(&mut stage.attached, lease.lease_id, 1, &["DB"]).await.is_err(), "not referred to");
    let handle = &stage.attached.handle;
    let text = format!("out {VALUE}, then {}", &VALUE[..12]);
    for (n, piece) in text.as_bytes().chunks(5).enumerate() {
        let first_offset = n as u64 * 5;
        let chunks = vec![bytes::Bytes::copy_from_slice(piece)];
        let piece = OutputPiece { first_offset, chunks, is_durable: true, is_end: false, dropped: 0 };
        handle.output(lease.lease_id, "log".into(), piece).await;
    }
    let result = Payload::json(format!("{{\"v\":\"{VALUE}\"}}"));
    let update = Update::new(LeaseName::Id(lease.lease_id), UpdateKind::Succeeded(result));
    handle.report(1, vec![update]).await.unwrap();
    let job = stage.engine.wait(&stage.caller.namespace, &lease.job.id, Span::secs(5)).await.unwrap();
    assert_eq!(job.result, Some(Payload::json(r#"{"v":"[redacted]"}"#)));
    let out =
        stage.engine.read_output(&stage.caller.namespace, &lease.job.id, "log", 0, false).await.unwrap();
    let out: Vec<u8> = out.chunks.iter().flat_map(|chunk| chunk.chunk.to_vec()).collect();
    assert_eq!(String::from_utf8(out).unwrap(), "out [redacted]*********, then [redacted]**");
    stage.engine.stop().await;
}
