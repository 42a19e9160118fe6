//! Configuration: changes with compare-and-set, history, what jobs get of it, and that all of it survives.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use coretex_domain::config::{Chain, Level, Path, Scope};
use coretex_domain::job::StateKind;
use coretex_domain::job::spec::{Options, Spec};
use coretex_domain::limits::CONFIG_REVISIONS_MAX;
use coretex_domain::policy::{Answer, Decision, Facts, Policy, Rules, Verdict};
use coretex_domain::{Job, Namespace, Payload, Reason, Refusal, Span, Time};
use coretex_engine::api::{Ask, Caller, Once, Settings};
use coretex_engine::clock::{SystemClock, SystemDice};
use coretex_engine::{ConfigChange, ConfigEdit, Engine, ScopeConfig};
use coretex_ports::memory::MemoryStore;
use coretex_ports::{Env, Store};
use coretex_store_embedded::FileStore;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

async fn engine_with(store: Arc<dyn Store>, policy: Policy) -> Engine {
    let env = Env { clock: Arc::new(SystemClock::new()), dice: Arc::new(SystemDice::new()) };
    let policy = Arc::new(policy);
    let settings = Settings { loops: 2, drain_grace: Span(200), policy, ..Settings::default() };
    Engine::start(store, env, settings).await.unwrap()
}

async fn engine(store: &MemoryStore) -> Engine {
    engine_with(Arc::new(store.clone()), Policy::built_in()).await
}

fn caller(namespace: &str) -> Caller {
    Caller { namespace: Namespace::new(namespace), actor: "ann".into() }
}

fn team(id: &str) -> Scope {
    Scope { level: Level::Team, id: id.into() }
}

async fn set(engine: &Engine, scope: Scope, revision: u64, data: Value) -> Result<ScopeConfig, Refusal> {
    let edit = ConfigEdit::Replace(data);
    engine.change_config(&caller("default"), None, scope, revision, "why".into(), edit).await
}

async fn submit(engine: &Engine, namespace: &str, labels: &[(&str, &str)]) -> Arc<Job> {
    let mut spec = Spec::new("job.c", Payload::json("{}"));
    if !labels.is_empty() {
        let labels = labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        spec.options = Some(Box::new(Options { labels, ..Options::default() }));
    }
    let ask = Ask { spec: Arc::new(spec), job_id: None };
    engine.submit(&caller(namespace), vec![ask], "", None).await.unwrap().remove(0).unwrap().job
}

fn value(job: &Job) -> Option<Value> {
    job.rare().config.as_ref().map(|config| config.value().clone())
}

#[tokio::test]
async fn a_scope_has_revisions_that_survive_and_can_be_gone_back_to() {
    let store = MemoryStore::default();
    let first = engine(&store).await;
    let (here, org) = (Namespace::new("default"), Scope::org());
    let made = set(&first, org.clone(), 0, json!({"a": 1, "b": {"c": 2}})).await.unwrap();
    assert_eq!((made.revision, made.change, &*made.actor), (1, ConfigChange::Set, "ann"));
    let stale = set(&first, org.clone(), 7, json!({})).await.unwrap_err();
    assert_eq!(stale.reason, Reason::RevisionMismatch);
    assert!(stale.message.contains("is at revision 1, not 7"), "{}", stale.message);
    let patch = ConfigEdit::Merge(json!({"a": null, "b": {"d": 3}}));
    let merged = first.change_config(&CALLER, None, org.clone(), 1, "".into(), patch).await.unwrap();
    assert_eq!(merged.data, Some(json!({"b": {"c": 2, "d": 3}})));
    let gone =
        first.change_config(&CALLER, None, org.clone(), 2, "".into(), ConfigEdit::Delete).await.unwrap();
    assert_eq!((gone.revision, gone.data), (3, None));
    assert_eq!(first.config(&here, &org).unwrap_err().reason, Reason::ConfigNotFound);
    let again = first.change_config(&CALLER, None, org.clone(), 0, "".into(), ConfigEdit::Delete);
    assert_eq!(again.await.unwrap_err().reason, Reason::ConfigNotFound);
    first.stop().await;

    let second = engine(&store.reopen()).await;
    let back = |to| second.rollback_config(&CALLER, None, Scope::org(), 0, "back".into(), to);
    assert_eq!(back(9).await.unwrap_err().reason, Reason::ConfigNotFound);
    let refused = back(3).await.unwrap_err();
    assert!(refused.message.contains("revision 3 deleted it"), "{}", refused.message);
    let restored = back(1).await.unwrap();
    assert_eq!((restored.revision, restored.restored), (4, Some(1)));
    assert_eq!(second.config(&here, &org).unwrap().data, Some(json!({"a": 1, "b": {"c": 2}})));
    assert_eq!(restored.create_time, made.create_time);
    let (all, more) = second.config_history(&here, &org, None, 10).await.unwrap();
    let told: Vec<(u64, ConfigChange)> = all.iter().map(|one| (one.revision, one.change)).collect();
    let wanted = [
        (4, ConfigChange::Rollback),
        (3, ConfigChange::Delete),
        (2, ConfigChange::Set),
        (1, ConfigChange::Set),
    ];
    assert_eq!((told.as_slice(), more), (wanted.as_slice(), false));
    let (page, more) = second.config_history(&here, &org, Some(4), 2).await.unwrap();
    assert_eq!((page.iter().map(|one| one.revision).collect::<Vec<_>>(), more), (vec![3, 2], true));
}

static CALLER: std::sync::LazyLock<Caller> = std::sync::LazyLock::new(|| caller("default"));

#[tokio::test]
async fn a_repeated_call_makes_one_revision_and_old_revisions_go() {
    let engine = engine(&MemoryStore::default()).await;
    let once = Some(Once { id: 1, body: 1 });
    for _ in 0..3 {
        let edit = ConfigEdit::Replace(json!({"a": 1}));
        let made = engine.change_config(&CALLER, once, Scope::org(), 0, "".into(), edit).await.unwrap();
        assert_eq!(made.revision, 1);
    }
    for n in 1..=CONFIG_REVISIONS_MAX + 5 {
        set(&engine, Scope::org(), n, json!({"n": n})).await.unwrap();
    }
    let here = Namespace::new("default");
    let newest = CONFIG_REVISIONS_MAX + 6;
    let (last, more) = engine.config_history(&here, &Scope::org(), Some(9), 10).await.unwrap();
    assert_eq!((last.iter().map(|one| one.revision).collect::<Vec<_>>(), more), (vec![8, 7], false));
    assert_eq!(engine.config(&here, &Scope::org()).unwrap().revision, newest);
    let refused = engine.rollback_config(&CALLER, None, Scope::org(), 0, "".into(), 6).await.unwrap_err();
    assert_eq!(refused.reason, Reason::ConfigNotFound);
}

#[tokio::test]
async fn jobs_are_submitted_under_what_is_in_force() {
    let engine = engine(&MemoryStore::default()).await;
    assert!(
        submit(&engine, "default", &[("team", "a")]).await.rare.is_none(),
        "nothing is there: nothing is kept"
    );
    let system = caller("other");
    let base = ConfigEdit::Replace(json!({"model": "small", "limit": 5}));
    engine.change_config(&system, None, Scope::system(), 0, "".into(), base).await.unwrap();
    set(&engine, Scope::org(), 0, json!({"model": "big"})).await.unwrap();
    set(&engine, team("a"), 0, json!({"limit": null, "tags": [1]})).await.unwrap();

    let plain = submit(&engine, "default", &[]).await;
    assert_eq!(value(&plain), Some(json!({"model": "big", "limit": 5})));
    let of_team = submit(&engine, "default", &[("team", "a"), ("x", "y")]).await;
    assert_eq!(value(&of_team), Some(json!({"model": "big", "tags": [1]})));
    let elsewhere = submit(&engine, "other", &[("team", "a")]).await;
    assert_eq!(value(&elsewhere), Some(json!({"model": "small", "limit": 5})));
    let unknown = submit(&engine, "default", &[("team", "b")]).await;
    let (one, two) = (plain.rare().config.clone().unwrap(), unknown.rare().config.clone().unwrap());
    assert!(Arc::ptr_eq(&one, &two), "jobs under one configuration share it");

    // What a job was submitted under stays, whatever comes later.
    set(&engine, team("a"), 0, json!({"tags": [2]})).await.unwrap();
    let effective = engine.config_of_job(&of_team).await.unwrap();
    assert_eq!(effective.data, json!({"model": "big", "tags": [1]}));
    assert_eq!(effective.digest, of_team.rare().config.as_ref().unwrap().digest);
    let now = engine
        .effective_config(&Namespace::new("default"), &Chain { team: Some("a".into()), ..Chain::default() });
    let now = now.unwrap();
    assert_eq!(now.data, json!({"model": "big", "limit": 5, "tags": [2]}));
    let source = &now.layers[now.sources["tags"]];
    assert_eq!((source.scope.clone(), source.revision), (team("a"), 2));

    // A retry by hand is a new job: it is submitted under what is in force then.
    engine.cancel(&CALLER, &of_team.id, "".into()).await.unwrap();
    let retried = engine.retry(&CALLER, &of_team.id, None, "").await.unwrap().job;
    assert_eq!(value(&retried), Some(json!({"model": "big", "limit": 5, "tags": [2]})));
}

/// Puts everything off, and notes the configuration it was shown.
#[derive(Debug, Default)]
struct Noting(Mutex<Vec<Option<Value>>>);

impl Rules for Noting {
    fn judge(&self, facts: Facts<'_>) -> Arc<Decision> {
        self.0.lock().unwrap().push(facts.config.cloned());
        let built_in = Policy::built_in().judge(Facts { config: None, ..facts }, Time(0));
        let Answer::Decided(decision) = built_in else { unreachable!("the built-in policy always answers") };
        Arc::new(Decision { verdict: Verdict::Throttle, ..Decision::clone(&decision) })
    }
}

#[tokio::test]
async fn policies_see_the_configuration_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let open = || {
        let settings = coretex_store_embedded::Settings::new(directory.path());
        Arc::new(FileStore::open(settings).unwrap()) as Arc<dyn Store>
    };
    let before = Arc::new(Noting::default());
    let first = engine_with(open(), Policy::of(1, before.clone())).await;
    set(&first, Scope::org(), 0, json!({"limit": 0.1})).await.unwrap();
    let job = submit(&first, "default", &[]).await;
    assert_eq!(job.state.kind(), StateKind::Pending);
    assert_eq!(before.0.lock().unwrap().as_slice(), [Some(json!({"limit": 0.1}))]);
    set(&first, Scope::org(), 0, json!({"limit": 2})).await.unwrap();
    first.stop().await;
    drop(first);

    let after = Arc::new(Noting::default());
    let second = engine_with(open(), Policy::of(2, after.clone())).await;
    for _ in 0..500 {
        if !after.0.lock().unwrap().is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(after.0.lock().unwrap().first(), Some(&Some(json!({"limit": 0.1}))));
    let kept = second.get(&Namespace::new("default"), &job.id).await.unwrap();
    assert_eq!(kept.rare().config, job.rare().config);
    second.stop().await;
}

#[tokio::test]
async fn schemas_bind_their_scope_and_those_below() {
    let engine = engine(&MemoryStore::default()).await;
    let schema = json!({"required": ["model"], "properties": {"limit": {"maximum": 10}}});
    let llm: Path = "llm".parse().unwrap();
    let put = |scope, revision, schema| {
        engine.set_config_schema(&CALLER, None, scope, "llm".parse().unwrap(), revision, schema)
    };
    set(&engine, team("a"), 0, json!({"llm": {"limit": 99}})).await.unwrap();
    assert_eq!(put(Scope::org(), 0, schema.clone()).await.unwrap().revision, 1);
    assert_eq!(put(Scope::org(), 5, schema.clone()).await.unwrap_err().reason, Reason::RevisionMismatch);
    let refused = put(team("a"), 0, schema).await.unwrap_err();
    assert_eq!((refused.reason, refused.violations.len()), (Reason::SchemaViolation, 2), "{refused}");

    set(&engine, Scope::org(), 0, json!({"other": 1})).await.unwrap();
    let refused = set(&engine, team("b"), 0, json!({"llm": {"limit": 11}})).await.unwrap_err();
    let fields: Vec<&str> = refused.violations.iter().map(|v| v.field.as_str()).collect();
    assert_eq!(fields, ["data.llm.model", "data.llm.limit"]);
    set(&engine, Scope::org(), 0, json!({"llm": {"model": "big"}})).await.unwrap();
    set(&engine, team("b"), 0, json!({"llm": {"limit": 9}})).await.unwrap();
    let refused = set(&engine, team("b"), 0, json!({"llm": {"model": null}})).await.unwrap_err();
    assert_eq!(refused.violations[0].field, "data.llm.model");
    let rolled = engine.rollback_config(&CALLER, None, team("a"), 0, "".into(), 1).await.unwrap_err();
    assert_eq!(rolled.reason, Reason::SchemaViolation);

    assert_eq!(engine.config_schemas(&Namespace::new("default"), None).unwrap().len(), 1);
    assert!(engine.config_schemas(&Namespace::new("other"), None).unwrap().is_empty());
    assert!(engine.delete_config_schema(&CALLER, None, Scope::org(), llm.clone(), 1).await.unwrap());
    let gone = engine.delete_config_schema(&CALLER, None, Scope::org(), llm, 0).await.unwrap_err();
    assert_eq!(gone.reason, Reason::ConfigNotFound);
    set(&engine, team("b"), 0, json!({"llm": {"limit": 11}})).await.unwrap();
}

#[tokio::test]
async fn a_watch_tells_every_change_of_its_layers_in_order_and_goes_on_where_it_was() {
    let engine = engine(&MemoryStore::default()).await;
    let here = Namespace::new("default");
    let chain = Chain { team: Some("a".into()), ..Chain::default() };
    let mut watch = engine.watch_config(&here, &chain, None).await.unwrap();
    let first = watch.next().await.unwrap();
    assert_eq!((first.change, first.config.data), (None, json!({})));
    set(&engine, Scope::org(), 0, json!({"n": 1})).await.unwrap();
    set(&engine, team("other"), 0, json!({"n": 100})).await.unwrap();
    let second = watch.next().await.unwrap();
    assert_eq!((second.change.unwrap().scope, second.config.data), (Scope::org(), json!({"n": 1})));
    let position = watch.position();
    drop(watch);

    set(&engine, team("a"), 0, json!({"m": 1})).await.unwrap();
    set(&engine, Scope::org(), 0, json!({"n": 2})).await.unwrap();
    set(&engine, team("a"), 0, json!({"m": 2})).await.unwrap();
    let edit = ConfigEdit::Delete;
    engine.change_config(&CALLER, None, Scope::org(), 0, "".into(), edit).await.unwrap();
    let mut resumed = engine.watch_config(&here, &chain, Some(position)).await.unwrap();
    let mut told = Vec::new();
    for _ in 0..4 {
        told.push(resumed.next().await.unwrap().config.data);
    }
    assert_eq!(
        told,
        [json!({"n": 1, "m": 1}), json!({"n": 2, "m": 1}), json!({"n": 2, "m": 2}), json!({"m": 2})]
    );
    let quiet = tokio::time::timeout(std::time::Duration::from_millis(50), resumed.next()).await;
    assert!(quiet.is_err(), "nothing is told twice");

    // After more changes than are told one by one, the state is told.
    let position = resumed.position();
    for n in 0..120 {
        set(&engine, team("a"), 0, json!({"n": n})).await.unwrap();
    }
    let mut resumed = engine.watch_config(&here, &chain, Some(position)).await.unwrap();
    let step = resumed.next().await.unwrap();
    assert_eq!((step.change, step.config.data), (None, json!({"n": 119})));
}
