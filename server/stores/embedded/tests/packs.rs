//! The file store beside the memory store over random lives of jobs: every read, walk and cleaning must agree, wherever
//! the file store keeps a job by then: in memory, in a row, or in a pack.
#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use coretex_conformance::block_on;
use coretex_conformance::kit::{Kit, START, default_ns, walk};
use coretex_domain::job::{Event, Note, Spec, StateKind};
use coretex_domain::{Job, JobId, Payload, ShardId, Time};
use coretex_ports::memory::MemoryStore;
use coretex_ports::{Scan, Write};
use coretex_store_embedded::{FileStore, Settings, fsck};
use std::path::Path;
use std::sync::Arc;

const SEEDS: u64 = 16;
const STEPS: u64 = 300;

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Both stores and what should be in them.
struct Twins {
    file: Kit,
    memory: Kit,
    dice: Dice,
    jobs: Vec<Job>,
    made: u64,
    create: u64,
    packed_walks: u64,
}

fn open(root: &Path) -> Kit {
    let mut settings = Settings::new(root);
    settings.segment_bytes = 1 << 20;
    // Only when told to: then it is known what was indexed.
    settings.index_round = std::time::Duration::from_secs(3_600);
    block_on(Kit::claim(Arc::new(FileStore::open(settings).unwrap())))
}

impl Twins {
    async fn put(&mut self, job: &Job, fresh: u32) {
        let mut writes = vec![Write::Job { job: Arc::new(job.clone()), fresh }];
        if job.state.kind().leaves_dead_letter() && job.revision == job.history.len() as u64 && fresh == 1 {
            writes.push(Kit::letter(job));
        }
        self.memory.time = self.file.time;
        self.file.commit(writes.clone()).await;
        self.memory.commit(writes).await;
    }

    async fn submit(&mut self) {
        self.made += 1;
        self.create += self.dice.below(4);
        // Some ids tell another time than the one the job is filed under, some are names.
        let told = if self.dice.below(12) == 0 { self.create + 50_000 } else { self.create };
        let id = match self.dice.below(15) {
            0 => JobId::Named(format!("name-{}", self.made).into()),
            _ => JobId::make(told, u128::from(self.made) << 16, ShardId((self.made % 7) as u8)),
        };
        let topic = ["job.a", "job.b"][self.dice.below(2) as usize];
        let spec = Spec::new(topic, Payload::json(format!("{}", self.made)));
        let mut job = self.file.new_job(&default_ns(), id, self.create, spec);
        self.file.admit(&mut job);
        self.put(&job, 2).await;
        self.jobs.push(job);
    }

    async fn change(&mut self) {
        if self.jobs.is_empty() {
            return;
        }
        let n = self.dice.below(self.jobs.len() as u64) as usize;
        let mut job = self.jobs[n].clone();
        let expire = self.file.time + 1 + self.dice.below(400);
        match job.state.kind() {
            StateKind::Scheduled => {
                self.file.start(&mut job, "w");
                self.put(&job, 2).await;
            }
            StateKind::Running => {
                match self.dice.below(5) {
                    0 => self.file.fail(&mut job, expire),
                    1 => {
                        self.file.apply(&mut job, Event::Cancelled(None));
                        job.expire_time = Some(Time(expire));
                    }
                    _ => self.file.succeed(&mut job, expire),
                }
                self.put(&job, 1).await;
            }
            _ => {
                self.file.apply(&mut job, Event::Annotated(Box::new(Note::LateResult("late".into()))));
                self.put(&job, 1).await;
            }
        }
        self.jobs[n] = job;
    }

    async fn clean(&mut self) {
        let now = self.file.time + self.dice.below(300);
        self.file.settle().await;
        let (ours, theirs) = (self.file.clean(now, 10_000).await, self.memory.clean(now, 10_000).await);
        assert_eq!((ours.removed, ours.next_due), (theirs.removed, theirs.next_due));
        self.jobs.retain(|job| job.expire_time.is_none_or(|at| at.0 > now));
    }

    async fn compare(&mut self) {
        for job in &self.jobs {
            let (ours, theirs) = (self.file.read(&job.id).await, self.memory.read(&job.id).await);
            assert_eq!(ours, theirs);
            assert_eq!(ours.as_deref(), Some(job));
        }
        for descending in [false, true] {
            let mut scan = walk();
            let page = 1 + self.dice.below(16) as usize;
            let (low, high) = (START + self.dice.below(300), START + 100 + self.dice.below(600));
            if let Scan::Jobs { descending: d, from, to, state, topic, .. } = &mut scan {
                *d = descending;
                match self.dice.below(4) {
                    0 => (*from, *to) = (Time(low), Time(high)),
                    1 => *state = Some(StateKind::Succeeded),
                    2 => *topic = Some("job.b".into()),
                    _ => {}
                }
            }
            let wanted = |job: &Arc<Job>| {
                let Scan::Jobs { state, topic, .. } = &scan else { return true };
                state.is_none_or(|s| job.state.kind() == s)
                    && topic.as_ref().is_none_or(|t| job.spec.topic == *t)
            };
            let mut ours = self.file.walk_all(&scan, page).await;
            let mut theirs = self.memory.walk_all(&scan, page).await;
            ours.retain(wanted);
            theirs.retain(wanted);
            let ids = |jobs: &[Arc<Job>]| jobs.iter().map(|job| job.id.to_string()).collect::<Vec<_>>();
            assert_eq!(ids(&ours), ids(&theirs), "descending {descending}, pages of {page}");
            assert_eq!(ours, theirs);
            self.packed_walks += 1;
        }
    }
}

#[test]
fn both_stores_agree_wherever_a_job_is() {
    let (mut jobs, mut walks) = (0, 0);
    for seed in 0..SEEDS {
        let root = tempfile::tempdir().unwrap();
        let memory =
            block_on(Kit::claim(Arc::new(MemoryStore::new(coretex_ports::memory::Settings::default()))));
        let file = open(root.path());
        let dice = Dice(seed);
        let mut twins = Twins { file, memory, dice, jobs: vec![], made: 0, create: START, packed_walks: 0 };
        block_on(async {
            for _ in 0..STEPS {
                match twins.dice.below(60) {
                    0..20 => twins.submit().await,
                    20..55 => twins.change().await,
                    55..58 => twins.file.settle().await,
                    58 => twins.clean().await,
                    _ => twins.compare().await,
                }
            }
            twins.file.settle().await;
            twins.compare().await;
        });
        jobs += twins.made;
        walks += twins.packed_walks;
        let Twins { file, .. } = twins;
        block_on(file.store.close()).unwrap();
        drop(file);
        let report = fsck(root.path()).unwrap();
        assert!(report.findings.is_empty(), "seed {seed}: {:?}", report.findings);
    }
    println!("packs: {SEEDS} seeds, {jobs} jobs, {walks} walks compared with the memory store");
}
