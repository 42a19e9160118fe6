//! What cases are made of: a store under a claim, jobs, and ways to move them on.

use crate::Harness;
use coretex_domain::dead_letter::DeadLetter;
use coretex_domain::job::{Close, Closed, Entry, Event, Failure, Job, Lease, Spec, StateKind};
use coretex_domain::policy::{Answer, Decision, Facts, Policy};
use coretex_domain::{JobId, Namespace, Payload, SessionId, ShardId, Span, Time};
use coretex_ports::{Claim, Group, JobSet, KeyRow, Outcome, Page, Row, Scan, Store, StoreError, Write};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

/// Create time of job 0.
pub const START: u64 = 1_700_000_000_000;

static ALLOW: LazyLock<Arc<Decision>> = LazyLock::new(|| {
    let spec = Spec::new("t", Payload::empty());
    match Policy::built_in()
        .judge(Facts { namespace: "default", submitter: None, spec: &spec, config: None }, Time(0))
    {
        Answer::Decided(decision) => decision,
        Answer::Deferred { .. } | Answer::Asked => unreachable!("the built-in policy always answers"),
    }
});

/// An opened and claimed store, and the sequence counters of its owner.
pub struct Kit {
    pub store: Arc<dyn Store>,
    pub epoch: u64,
    pub claim: Claim,
    pub sequences: Box<[u64; 256]>,
    pub time: u64,
}

pub fn ns(name: &str) -> Namespace {
    Namespace::new(name)
}

pub fn default_ns() -> Namespace {
    ns("default")
}

/// The id of job `n`: made at `START + n`, on shard `n % 256`.
pub fn made(n: u64) -> JobId {
    let chance = u128::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 16;
    JobId::make(START + n, chance, ShardId(n.to_le_bytes()[0]))
}

pub fn named(name: &str) -> JobId {
    JobId::Named(name.into())
}

pub fn lease(serial: u32, worker: &str) -> Box<Lease> {
    Box::new(Lease {
        serial,
        id: u64::from(serial) | 3 << 56,
        session: SessionId(77 << 90 | 5),
        worker_id: worker.into(),
        lane_id: "default".into(),
    })
}

/// Opens and claims.
pub async fn open(harness: &dyn Harness) -> Kit {
    Kit::claim(harness.open()).await
}

/// One walk step with the usual settings.
pub fn walk() -> Scan {
    Scan::Jobs {
        namespace: default_ns(),
        set: JobSet::All,
        topic: None,
        state: None,
        descending: false,
        after: None,
        from: Time(0),
        to: Time::NEVER,
        limit: 1_000,
    }
}

pub fn jobs_of(page: &Page) -> Vec<Arc<Job>> {
    let job = |row: &Row| match row {
        Row::Job(job) => Some(job.clone()),
        Row::Event(_) | Row::Output { .. } | Row::Resource(_) => None,
    };
    page.rows.iter().filter_map(job).collect()
}

pub fn ids_of(page: &Page) -> Vec<JobId> {
    jobs_of(page).iter().map(|job| job.id.clone()).collect()
}

// === impl Kit ===

impl Kit {
    pub async fn claim(store: Arc<dyn Store>) -> Kit {
        let claim = store.claim("conformance").await.expect("a claim on an open store");
        let (epoch, sequences) = (claim.epoch, claim.sequences.clone());
        Kit { store, epoch, claim, sequences, time: START }
    }

    pub fn entry(&mut self, shard: ShardId, event: Event) -> Entry {
        self.time += 1;
        let seq = &mut self.sequences[usize::from(shard.0)];
        *seq += 1;
        Entry { seq: *seq, time: Time(self.time), event }
    }

    /// A new job in PENDING, not committed.
    pub fn new_job(&mut self, namespace: &Namespace, id: JobId, create: u64, spec: Spec) -> Job {
        let shard = id.shard(namespace);
        let entry = self.entry(shard, Event::Submitted { actor: Some("tester".into()) });
        let mut job = Job::submitted(
            id,
            namespace.clone(),
            Arc::new(spec),
            entry.seq,
            entry.time,
            Some("tester".into()),
        );
        job.create_time = Time(create);
        job
    }

    /// Job `n` in PENDING with a small JSON payload, not committed.
    pub fn plain(&mut self, n: u64) -> Job {
        let spec = Spec::new("job.echo", Payload::json(format!("{{\"n\":{n}}}")));
        self.new_job(&default_ns(), made(n), START + n, spec)
    }

    pub fn apply(&mut self, job: &mut Job, event: Event) {
        let entry = self.entry(job.shard, event);
        job.apply(entry).expect("cases make legal moves");
    }

    pub fn admit(&mut self, job: &mut Job) {
        job.decision = Some(ALLOW.clone());
        self.apply(job, Event::Admitted { place: self.time << 20 });
    }

    pub fn start(&mut self, job: &mut Job, worker: &str) {
        let serial = job.counters.lease_serial + 1;
        self.apply(job, Event::Dispatched(lease(serial, worker)));
        self.apply(job, Event::Started);
    }

    pub fn succeed(&mut self, job: &mut Job, expire: u64) {
        self.apply(job, Event::Succeeded);
        job.result = Some(Payload::json(r#"{"ok":true}"#));
        job.expire_time = Some(Time(expire));
    }

    pub fn fail(&mut self, job: &mut Job, expire: u64) {
        let closed = Closed { close: Close::NonRetryable, kind: "Boom".into(), message: "it broke".into() };
        self.apply(job, Event::Failed(Box::new(closed)));
        job.rare_mut().failure = Some(Failure {
            kind: "Boom".into(),
            message: "it broke".into(),
            retryable: false,
            details: Payload::empty(),
            stack: "at line 1".into(),
        });
        job.expire_time = Some(Time(expire));
    }

    pub fn letter(job: &Job) -> Write {
        let letter = DeadLetter::of(job, job.expire_time.unwrap_or(Time::NEVER));
        Write::DeadLetter(Arc::new(letter.expect("the job gave up")))
    }

    pub fn group(&self, writes: Vec<Write>) -> Group {
        Group { epoch: self.epoch, time: Time(self.time), writes }
    }

    pub async fn commit(&self, writes: Vec<Write>) {
        assert_eq!(self.store.commit(self.group(writes)).await, Outcome::Committed);
    }

    /// Commits a job whose last `fresh` entries are new, and hands it back as stored.
    pub async fn put(&self, job: &Job, fresh: u32) -> Arc<Job> {
        let job = Arc::new(job.clone());
        self.commit(vec![Write::Job { job: job.clone(), fresh }]).await;
        job
    }

    pub async fn put_new(&self, job: &Job) -> Arc<Job> {
        self.put(job, job.history.len() as u32).await
    }

    /// Commits job `n` as scheduled.
    pub async fn submit(&mut self, n: u64) -> Job {
        let mut job = self.plain(n);
        self.admit(&mut job);
        self.put_new(&job).await;
        job
    }

    /// Commits jobs `range` as scheduled, many to a group.
    pub async fn submit_all(&mut self, range: std::ops::Range<u64>) -> Vec<Job> {
        let mut jobs = Vec::new();
        for n in range {
            let mut job = self.plain(n);
            self.admit(&mut job);
            jobs.push(job);
        }
        for chunk in jobs.chunks(256) {
            self.commit(chunk.iter().map(new_write).collect()).await;
        }
        jobs
    }

    /// Commits job `n` as succeeded, in two steps.
    pub async fn run(&mut self, n: u64, expire: u64) -> Job {
        let mut job = self.submit(n).await;
        self.start(&mut job, "w-1");
        self.put(&job, 2).await;
        self.succeed(&mut job, expire);
        self.put(&job, 1).await;
        job
    }

    /// Commits job `n` as failed with its dead letter.
    pub async fn run_to_failure(&mut self, n: u64, expire: u64) -> Job {
        let mut job = self.submit(n).await;
        self.start(&mut job, "w-1");
        self.fail(&mut job, expire);
        self.commit(vec![Write::Job { job: Arc::new(job.clone()), fresh: 3 }, Kit::letter(&job)]).await;
        job
    }

    pub fn key(&self, key: &str, id: &JobId) -> KeyRow {
        KeyRow {
            namespace: default_ns(),
            key: key.into(),
            job_id: id.clone(),
            fingerprint: 0x1234_5678_9abc_def0_0fed_cba9_8765_4321,
            create_time: Time(START),
        }
    }

    pub async fn read(&self, id: &JobId) -> Option<Arc<Job>> {
        self.read_in(&default_ns(), id).await
    }

    pub async fn read_in(&self, namespace: &Namespace, id: &JobId) -> Option<Arc<Job>> {
        let found = self.store.read(namespace.clone(), vec![id.clone()]).await.expect("a read");
        assert_eq!(found.len(), 1);
        found.into_iter().next().flatten()
    }

    /// Asserts that a job is stored exactly as given.
    pub async fn assert_stored(&self, job: &Job) {
        let found = self.read_in(&job.namespace, &job.id).await;
        assert_eq!(found.as_deref(), Some(job), "job {}", job.id);
    }

    pub async fn scan(&self, scan: Scan) -> Page {
        self.store.scan(scan).await.expect("a scan")
    }

    /// All pages of a walk, `limit` rows each.
    pub async fn walk_all(&self, scan: &Scan, limit_of_page: usize) -> Vec<Arc<Job>> {
        let mut all: Vec<Arc<Job>> = Vec::new();
        for _ in 0..100_000 {
            let mut step = scan.clone();
            if let Scan::Jobs { after, limit, .. } = &mut step {
                *limit = limit_of_page;
                if let Some(last) = all.last() {
                    *after = Some((last.create_time, last.id.clone()));
                }
            }
            let page = self.scan(step).await;
            assert!(page.rows.len() <= limit_of_page);
            all.extend(jobs_of(&page));
            if !page.more {
                return all;
            }
            assert!(!page.rows.is_empty(), "a page without rows must be the last");
        }
        panic!("the walk does not end");
    }

    /// Makes the store index what it has, so that later reads cannot come from memory alone.
    pub async fn settle(&self) {
        // Cleaning nothing makes every backend finish what it does in the background.
        self.store.clean(Time(0), 0).await.expect("cleaning");
    }

    pub async fn reclaim(self) -> Kit {
        Kit::claim(self.store).await
    }

    pub async fn reopen_cleanly(self, harness: &dyn Harness) -> Kit {
        self.store.close().await.expect("a clean close");
        drop(self.store);
        open(harness).await
    }

    pub async fn reopen_after_crash(self, harness: &dyn Harness) -> Kit {
        harness.crash(self.store);
        open(harness).await
    }

    /// True if a crash loses everything, as promised by the backend.
    pub fn forgets(&self) -> bool {
        !self.store.guarantees().survives_process_crash
    }

    pub async fn backup(&self, to: PathBuf) -> Result<coretex_ports::BackupReport, StoreError> {
        self.store.backup(to).await
    }

    pub async fn clean(&self, now: u64, limit: usize) -> coretex_ports::Cleaned {
        self.store.clean(Time(now), limit).await.expect("cleaning")
    }
}

/// The write of a job that is new.
pub fn new_write(job: &Job) -> Write {
    Write::Job { job: Arc::new(job.clone()), fresh: job.history.len() as u32 }
}

pub fn state_of(job: Option<&Arc<Job>>) -> Option<StateKind> {
    job.map(|job| job.state.kind())
}

pub fn hour() -> Span {
    Span::hours(1)
}
