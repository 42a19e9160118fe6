//! Figures for Prometheus: those of the engine, and one histogram per method and code.

use crate::gate::Gate;
use crate::methods::Methods;
use coretex_domain::approval::ApprovalState;
use coretex_domain::job::StateKind;
use coretex_engine::metrics::{BUCKETS, Histogram, OTHER_TOPICS, TOPICS_MAX};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tonic::Code;

/// Codes of gRPC.
const CODES: usize = 17;

/// What the gateway counts.
pub(crate) struct Metrics {
    pub(crate) methods: Arc<Methods>,
    /// By method, then code; a place is made when its first call ends.
    rpc: Vec<[std::sync::OnceLock<Box<Histogram>>; CODES]>,
    pub(crate) panics: AtomicU64,
    pub(crate) faults: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) refused_connections: AtomicU64,
}

/// What a gateway counts, for its own listener and for that of [`crate::serve_metrics`]. Clones share it.
#[derive(Clone)]
pub struct Counts(pub(crate) Arc<Metrics>);

impl Default for Counts {
    fn default() -> Counts {
        Counts(Arc::new(Metrics::new(Arc::new(Methods::of_contract()))))
    }
}

impl Metrics {
    pub(crate) fn new(methods: Arc<Methods>) -> Metrics {
        let rpc = methods.all.iter().map(|_| Default::default()).collect();
        Metrics {
            methods,
            rpc,
            panics: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            refused_connections: AtomicU64::new(0),
        }
    }

    /// A call of a method ended.
    pub(crate) fn ended(&self, method: usize, code: Code, took: Duration) {
        let code = usize::try_from(i32::from(code)).unwrap_or(2);
        if let Some(place) = self.rpc.get(method).and_then(|codes| codes.get(code)) {
            place.get_or_init(Box::default).observe(took.as_secs_f64());
        }
    }
}

/// Everything, as OpenMetrics text.
pub(crate) async fn render(gate: &Gate) -> String {
    let mut out = String::with_capacity(16 << 10);
    engine(gate, &mut out);
    queues(gate, &mut out).await;
    gateway(&gate.metrics, &mut out);
    out.push_str("# EOF\n");
    out
}

fn counter(out: &mut String, name: &str, help: &str, value: &AtomicU64) {
    let _ = writeln!(
        out,
        "# HELP {name} {help}\n# TYPE {name} counter\n{name}_total {}",
        value.load(Ordering::Relaxed)
    );
}

fn gauge(out: &mut String, name: &str, help: &str, value: u64) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
}

fn histogram(out: &mut String, name: &str, labels: &str, histogram: &Histogram) {
    let (counts, sum) = histogram.snapshot();
    let sep = if labels.is_empty() { "" } else { "," };
    let mut total = 0;
    for (bound, count) in BUCKETS.iter().zip(counts) {
        total += count;
        let _ = writeln!(out, "{name}_bucket{{{labels}{sep}le=\"{bound}\"}} {total}");
    }
    total += counts.last().copied().unwrap_or_default();
    let _ = writeln!(out, "{name}_bucket{{{labels}{sep}le=\"+Inf\"}} {total}");
    let braces = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
    let _ = writeln!(out, "{name}_sum{braces} {sum}\n{name}_count{braces} {total}");
}

fn engine(gate: &Gate, out: &mut String) {
    let m = gate.engine.metrics();
    let info = gate.engine.info();
    let stats = gate.engine.stats();
    counter(out, "coretex_jobs_submitted", "Jobs accepted.", &m.jobs_submitted);
    counter(out, "coretex_attempts", "Attempts started.", &m.attempts);
    counter(out, "coretex_dead_letters", "Dead letters left.", &m.dead_letters);
    counter(out, "coretex_stale_updates", "Updates of workers whose lease was closed.", &m.stale_updates);
    counter(out, "coretex_returned_offers", "Leases that never started.", &m.returned_offers);
    counter(out, "coretex_protocol_errors", "Worker frames that were ignored.", &m.protocol_errors);
    counter(
        out,
        "coretex_policy_outages",
        "Questions that a policy kernel elsewhere did not answer.",
        &m.policy_outages,
    );
    counter(out, "coretex_invariant_violations", "Broken promises. Must stay 0.", &m.invariant_violations);
    let _ = writeln!(
        out,
        "# HELP coretex_jobs_completed Jobs ended, by topic and state.\n# TYPE coretex_jobs_completed counter"
    );
    for (topic, state, count) in m.jobs_completed.all() {
        let state = state.name();
        let _ = writeln!(out, "coretex_jobs_completed_total{{topic=\"{topic}\",state=\"{state}\"}} {count}");
    }
    let _ =
        writeln!(out, "# HELP coretex_policy_decisions Verdicts.\n# TYPE coretex_policy_decisions counter");
    let verdicts = ["ALLOW", "DENY", "REQUIRE_APPROVAL", "THROTTLE", "ALLOW_WITH_CONSTRAINTS"];
    for (verdict, count) in verdicts.iter().zip(&m.decisions) {
        let _ = writeln!(
            out,
            "coretex_policy_decisions_total{{verdict=\"{verdict}\"}} {}",
            count.load(Ordering::Relaxed)
        );
    }
    let _ = writeln!(
        out,
        "# HELP coretex_approvals Approvals that ended, by how.\n# TYPE coretex_approvals counter"
    );
    for (state, count) in ApprovalState::ALL.iter().zip(&m.approvals).skip(1) {
        let count = count.load(Ordering::Relaxed);
        let _ = writeln!(out, "coretex_approvals_total{{state=\"{}\"}} {count}", state.name());
    }
    fires(&m.schedule_fires, out);
    gauge(out, "coretex_approvals_pending", "Approvals that are open.", gate.engine.pending_approvals());
    for (name, help, h) in [
        (
            "coretex_policy_seconds",
            "How long one judgement by a bundle takes; one in 64 is observed, the built-in policy is not.",
            &*m.policy_seconds,
        ),
        ("coretex_commit_seconds", "How long commits take.", &m.commit_seconds),
        ("coretex_job_schedule_to_start_seconds", "From runnable to started.", &m.schedule_to_start),
        ("coretex_job_run_seconds", "From started to ended.", &m.run_seconds),
    ] {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
        histogram(out, name, "", h);
    }
    let commits = m.commits.load(Ordering::Relaxed);
    let writes = m.commit_writes.load(Ordering::Relaxed);
    let name = "coretex_commit_batch_size";
    let _ = writeln!(
        out,
        "# HELP {name} Writes per commit.\n# TYPE {name} summary\n{name}_sum {writes}\n{name}_count {commits}"
    );
    gauge(out, "coretex_open_jobs", "Jobs that have not ended.", info.open_jobs);
    gauge(out, "coretex_worker_sessions", "Sessions of workers.", info.sessions);
    gauge(out, "coretex_store_bytes", "Bytes the store uses.", stats.bytes);
    gauge(out, "coretex_store_lag_records", "Records committed and not indexed.", stats.lag);
}

fn fires(fires: &[AtomicU64; 3], out: &mut String) {
    let _ = writeln!(
        out,
        "# HELP coretex_schedule_fires Times of schedules that were handled, by outcome.\n# TYPE coretex_schedule_fires counter"
    );
    for (outcome, count) in ["STARTED", "SKIPPED", "FAILED"].iter().zip(fires) {
        let count = count.load(Ordering::Relaxed);
        let _ = writeln!(out, "coretex_schedule_fires_total{{outcome=\"{outcome}\"}} {count}");
    }
}

/// Queues and slots of all namespaces.
async fn queues(gate: &Gate, out: &mut String) {
    let now = gate.now();
    let mut depths: std::collections::BTreeMap<String, (u64, f64)> = Default::default();
    let mut slots: std::collections::BTreeMap<String, u64> = Default::default();
    for counts in gate.engine.topic_counts().await.unwrap_or_default() {
        let waiting = counts.by_state.get(StateKind::Scheduled as usize).copied().unwrap_or_default();
        let age = counts.oldest_ready.map_or(0, |ready| now.since(ready).0);
        let name = bounded(&counts.topic.topic, depths.len(), |name| depths.contains_key(name));
        let entry = depths.entry(name).or_default();
        *entry = (entry.0 + waiting, entry.1.max(age as f64 / 1_000.0));
    }
    for worker in gate.engine.all_workers().iter().filter(|w| w.is_connected) {
        let count: u64 = worker.session.lanes.iter().map(|l| u64::from(l.slots)).sum();
        let pool = bounded(&worker.session.pool, slots.len(), |name| slots.contains_key(name));
        *slots.entry(pool).or_default() += count;
    }
    out.push_str(
        "# HELP coretex_job_queue_depth Jobs waiting for a worker.\n# TYPE coretex_job_queue_depth gauge\n",
    );
    for (topic, (depth, _)) in &depths {
        let _ = writeln!(out, "coretex_job_queue_depth{{topic=\"{topic}\"}} {depth}");
    }
    out.push_str("# HELP coretex_job_queue_age_seconds Age of the longest waiting job.\n# TYPE coretex_job_queue_age_seconds gauge\n");
    for (topic, (_, age)) in &depths {
        let _ = writeln!(out, "coretex_job_queue_age_seconds{{topic=\"{topic}\"}} {age}");
    }
    out.push_str(
        "# HELP coretex_worker_slots Slots of connected workers.\n# TYPE coretex_worker_slots gauge\n",
    );
    for (pool, count) in &slots {
        let _ = writeln!(out, "coretex_worker_slots{{pool=\"{pool}\"}} {count}");
    }
}

/// A label, or that of the rest once there are many.
fn bounded(name: &str, count: usize, is_known: impl Fn(&str) -> bool) -> String {
    let is_shown = count < TOPICS_MAX || is_known(name);
    if is_shown { name.to_owned() } else { OTHER_TOPICS.to_owned() }
}

fn gateway(metrics: &Metrics, out: &mut String) {
    counter(out, "coretex_panics", "Panics of handlers that were caught. Must stay 0.", &metrics.panics);
    counter(out, "coretex_faults", "Calls answered SERVER_FAULT. Must stay 0.", &metrics.faults);
    gauge(out, "coretex_connections", "Connections open.", metrics.connections.load(Ordering::Relaxed));
    counter(out, "coretex_connections_refused", "Connections over the limit.", &metrics.refused_connections);
    let name = "coretex_rpc_seconds";
    let _ = writeln!(out, "# HELP {name} How long calls take, streams as a whole.\n# TYPE {name} histogram");
    for (method, codes) in metrics.methods.all.iter().zip(&metrics.rpc) {
        for (code, place) in (0i32..).zip(codes) {
            if let Some(found) = place.get() {
                let code = Code::from_i32(code);
                let labels =
                    format!("service=\"{}\",method=\"{}\",code=\"{code:?}\"", method.service, method.name);
                histogram(out, name, &labels, found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_method_and_code() {
        let metrics = Metrics::new(Arc::new(Methods::of_contract()));
        let method = metrics.methods.find("/coretex.v1.JobService/GetJob");
        metrics.ended(method, Code::NotFound, Duration::from_millis(2));
        let mut out = String::new();
        gateway(&metrics, &mut out);
        let labels = "service=\"coretex.v1.JobService\",method=\"GetJob\",code=\"NotFound\"";
        assert!(out.contains(&format!("coretex_rpc_seconds_count{{{labels}}} 1")), "{out}");
        assert!(out.contains(&format!("coretex_rpc_seconds_bucket{{{labels},le=\"0.0025\"}} 1")), "{out}");
    }
}
