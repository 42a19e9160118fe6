//! Checking a store while no server runs: the log and its chain, the index against the log, every job against
//! its history, and the rows that must go with jobs (I-02, I-05, I-14, I-17).

use crate::directory::{Directory, index_path};
use crate::frame::{Kind, SEGMENT_HEADER_LEN};
use crate::index::read::Reader;
use crate::index::{self, Identity, id_bytes, int, sql};
use crate::overlay::{Jobs, Side};
use crate::recover::{recover, replay_segment};
use crate::segment::{self, Place, Segment, segment_name};
use coretex_domain::job::EventKind;
use coretex_domain::topic::Topic;
use coretex_domain::{Job, JobId, JobKey, Namespace};
use coretex_ports::{StoreError, Write};
use coretex_records::{Interner, LogWrite, decode_batch};
use rustc_hash::FxHashMap;
use std::path::Path;
use std::sync::Arc;

/// Findings kept in full; the rest is only counted.
const FINDINGS_MAX: usize = 1_000;

/// What a check saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FsckReport {
    pub jobs: u64,
    pub open: u64,
    /// Entries in the histories of all jobs.
    pub events: u64,
    pub keys: u64,
    pub dead_letters: u64,
    /// Those the index has.
    pub resources: u64,
    pub segments: u64,
    pub frames: u64,
    /// Jobs whose index row was compared with the log.
    pub compared: u64,
    pub findings_total: u64,
    /// What is wrong; at most the first thousand.
    pub findings: Vec<String>,
}

/// What the kept part of the log says about a job up to the watermark of the index.
struct Told {
    namespace: Namespace,
    id: JobId,
    revision: u64,
}

struct Check {
    report: FsckReport,
    reader: Reader,
    newer: Jobs,
    side: Side,
    topics: FxHashMap<(Namespace, Arc<str>), Arc<Topic>>,
}

// === impl FsckReport ===

impl FsckReport {
    pub fn is_clean(&self) -> bool {
        self.findings_total == 0
    }

    fn find(&mut self, what: impl std::fmt::Display) {
        self.findings_total += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(what.to_string());
        }
    }
}

/// Checks the store in `directory`, which no process may hold. An error means that it could not be checked;
/// what is wrong with it is in the report.
pub fn fsck(directory: &Path) -> Result<FsckReport, StoreError> {
    let held = Directory::hold(directory, false)?;
    let root = held.root();
    let mut reader = Reader::new(index::open_reader(&index_path(root))?);
    let mut report = FsckReport::default();
    check_tables(&reader, &mut report)?;
    let Some(identity) = index::identity(&reader.connection)? else {
        report.find("the index has no tables");
        return Ok(report);
    };
    let recovered = match recover(&identity, segment::list(root, false)?, &mut reader, false) {
        Ok(recovered) => recovered,
        Err(e) => {
            report.find(e);
            return Ok(report);
        }
    };
    report.segments = recovered.segments.len() as u64;
    let told = match walk_log(&identity, recovered.segments.iter().cloned().collect(), &mut report) {
        Ok(told) => told,
        Err(e) => {
            report.find(e);
            FxHashMap::default()
        }
    };
    let mut side = Side::default();
    for write in &recovered.others {
        side.put(write);
    }
    let mut check = Check { report, reader, newer: recovered.jobs, side, topics: FxHashMap::default() };
    check.compare(told)?;
    check.load_topics(&recovered.others)?;
    check.jobs()?;
    check.keys()?;
    check.dead_letters()?;
    if identity.has_resources() {
        check.resources()?;
    }
    Ok(check.report)
}

fn check_tables(reader: &Reader, report: &mut FsckReport) -> Result<(), StoreError> {
    let mut statement = reader.connection.prepare("PRAGMA integrity_check(100)").map_err(sql)?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0)).map_err(sql)?;
    for row in rows {
        let line = row.map_err(sql)?;
        if line != "ok" {
            report.find(format_args!("index.db: {line}"));
        }
    }
    Ok(())
}

/// Walks every frame that is kept, checks the chain over segments, and notes what each job came to before the
/// watermark of the index.
fn walk_log(
    identity: &Identity,
    segments: Vec<Segment>,
    report: &mut FsckReport,
) -> Result<FxHashMap<JobKey, Told>, StoreError> {
    let mut told: FxHashMap<JobKey, Told> = FxHashMap::default();
    let mut interner = Interner::default();
    let mut sequences: Box<[u64; 256]> = Box::new([0; 256]);
    let mut end: Option<Place> = None;
    for segment in segments {
        let header = segment.read_header()?;
        let damaged = |what: String| StoreError::Corrupt {
            place: format!("log/{}", segment_name(segment.number)),
            what,
        };
        if end.as_ref().is_some_and(|end| (end.ordinal, end.hash) != (header.ordinal, header.prev)) {
            return Err(damaged("does not go on where the segment before it ends".into()));
        }
        let mut place = Place {
            segment: segment.number,
            offset: SEGMENT_HEADER_LEN as u64,
            ordinal: header.ordinal,
            hash: header.prev,
            sequences: header.sequences,
            ..Place::start()
        };
        sequences.clone_from(&place.sequences);
        replay_segment(identity, &segment, &mut place, |header, body| {
            report.frames += 1;
            if header.kind != Kind::Batch {
                return Ok(());
            }
            let groups = decode_batch(body, &mut interner).map_err(|e| damaged(e.to_string()))?;
            for write in groups.into_iter().flat_map(|group| group.writes) {
                let LogWrite::Job(record) = write else { continue };
                check_sequences(&record, &mut interner, &mut sequences, report)?;
                if header.ordinal <= identity.place.ordinal {
                    let key = record.id.key(&record.namespace);
                    let revision = record.revision();
                    told.insert(key, Told { namespace: record.namespace, id: record.id, revision });
                }
            }
            Ok(())
        })?;
        end = Some(place);
    }
    Ok(told)
}

fn check_sequences(
    record: &coretex_records::LogJob,
    interner: &mut Interner,
    sequences: &mut [u64; 256],
    report: &mut FsckReport,
) -> Result<(), StoreError> {
    let newest = &mut sequences[usize::from(record.shard().0)];
    let taken = record.event_rows(interner, |row| {
        if row.entry.seq <= *newest {
            report
                .find(format_args!("event {} of shard {} comes after {newest}", row.entry.seq, row.shard.0));
        }
        *newest = row.entry.seq.max(*newest);
    });
    taken.map_err(|e| StoreError::Corrupt { place: format!("log, job {}", record.id), what: e.to_string() })
}

// === impl Check ===

impl Check {
    /// The index at its watermark must say what the log says up to there. A job may be missing if it had ended:
    /// then it was cleaned.
    fn compare(&mut self, told: FxHashMap<JobKey, Told>) -> Result<(), StoreError> {
        for told in told.into_values() {
            let Some(job) = self.reader.job(&told.namespace, &told.id)? else { continue };
            self.report.compared += 1;
            if job.revision != told.revision {
                self.report.find(format_args!(
                    "job {}: the index has revision {}, the log {}",
                    told.id, job.revision, told.revision
                ));
            }
        }
        Ok(())
    }

    fn load_topics(&mut self, others: &[Write]) -> Result<(), StoreError> {
        let stored = self.reader.topics()?.into_iter().map(Arc::new);
        let newer = others
            .iter()
            .filter_map(|write| if let Write::Topic(t) = write { Some(t.clone()) } else { None });
        let all = stored.chain(newer).map(|topic| ((topic.namespace.clone(), topic.name.clone()), topic));
        self.topics = all.collect();
        Ok(())
    }

    fn jobs(&mut self) -> Result<(), StoreError> {
        let mut ended = Vec::new();
        let (newer, report) = (&self.newer, &mut self.report);
        self.reader.all_jobs(|job| {
            if !newer.contains_key(&job.key()) {
                check_job(&job, report);
                if job.state.kind().leaves_dead_letter() {
                    ended.push(Arc::new(job));
                }
            }
            Ok(())
        })?;
        for job in newer.values() {
            check_job(job, report);
            if job.state.kind().leaves_dead_letter() {
                ended.push(job.clone());
            }
        }
        for job in ended {
            let key = (int(job.create_time.0), id_bytes(&job.id));
            let has = match self.side.has_dead_letter(job.key()) {
                Some(has) => has,
                None => self.reader.has_dead_letter(&job.namespace, &key)?,
            };
            // A topic may have been told not to keep them before the job ended; one told since proves nothing.
            let topic = self.topics.get(&(job.namespace.clone(), job.spec.topic.clone()));
            let may_lack =
                topic.is_some_and(|t| t.settings.dead_letters_off || job.end_time <= Some(t.update_time));
            if !has && !may_lack && !job.has_deleted_dead_letter() {
                self.report.find(format_args!("job {} gave up and left no dead letter", job.id));
            }
        }
        Ok(())
    }

    fn find(&mut self, namespace: &Namespace, id: &JobId) -> Result<Option<Arc<Job>>, StoreError> {
        match self.newer.get(&id.key(namespace)) {
            Some(job) => Ok(Some(job.clone())),
            None => self.reader.job(namespace, id),
        }
    }

    fn keys(&mut self) -> Result<(), StoreError> {
        let mut keys = self.reader.keys()?;
        keys.retain(|row| !self.side.keys.contains_key(&(row.namespace.clone(), row.key.clone())));
        keys.extend(self.side.keys.values().map(|row| (**row).clone()));
        self.report.keys = keys.len() as u64;
        for row in keys {
            if self.find(&row.namespace, &row.job_id)?.is_none() {
                self.report
                    .find(format_args!("key {:?} names job {}, which is not there", row.key, row.job_id));
            }
        }
        Ok(())
    }

    fn dead_letters(&mut self) -> Result<(), StoreError> {
        let mut letters = self.reader.dead_letters()?;
        letters.retain(|letter| self.side.has_dead_letter(letter.job_id.key(&letter.namespace)).is_none());
        letters.extend(self.side.dead.values().map(|letter| (**letter).clone()));
        self.report.dead_letters = letters.len() as u64;
        for letter in letters {
            match self.find(&letter.namespace, &letter.job_id)? {
                None => {
                    self.report.find(format_args!("dead letter of job {}, which is not there", letter.job_id))
                }
                Some(job) if !job.state.kind().leaves_dead_letter() => {
                    let state = job.state.kind().name();
                    self.report.find(format_args!("dead letter of job {}, which is {state}", letter.job_id));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

impl Check {
    /// Reading them checks them.
    fn resources(&mut self) -> Result<(), StoreError> {
        let stored = self.reader.all_resources();
        match stored {
            Ok(stored) => self.report.resources = stored.len() as u64,
            Err(damage @ StoreError::Corrupt { .. }) => self.report.find(damage),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn check_job(job: &Job, report: &mut FsckReport) {
    report.jobs += 1;
    report.open += u64::from(!job.state.kind().is_terminal());
    report.events += job.history.len() as u64;
    if !job.is_fold_of_history() {
        report.find(format_args!("job {} is not what its history says", job.id));
    }
    if job.revision != job.history.len() as u64 {
        report.find(format_args!(
            "job {} has revision {} and {} entries",
            job.id,
            job.revision,
            job.history.len()
        ));
    }
    if job.shard != job.id.shard(&job.namespace) {
        report.find(format_args!("job {} is on shard {}", job.id, job.shard.0));
    }
    if job.history.windows(2).any(|pair| pair[0].seq >= pair[1].seq) {
        report.find(format_args!("history of job {} is out of order", job.id));
    }
    let ends = job.history.iter().filter(|entry| ends_a_job(entry.event.kind())).count();
    if ends > 1 {
        report.find(format_args!("job {} ended {ends} times", job.id));
    }
}

fn ends_a_job(kind: EventKind) -> bool {
    match kind {
        EventKind::Succeeded
        | EventKind::Failed
        | EventKind::TimedOut
        | EventKind::Expired
        | EventKind::Denied
        | EventKind::Cancelled => true,
        EventKind::Submitted
        | EventKind::Admitted
        | EventKind::Deferred
        | EventKind::ApprovalRequested
        | EventKind::Approved
        | EventKind::ApprovalVoided
        | EventKind::Rejudged
        | EventKind::Dispatched
        | EventKind::Returned
        | EventKind::Started
        | EventKind::Released
        | EventKind::AttemptFailed
        | EventKind::RetryDue
        | EventKind::CancelRequested
        | EventKind::Annotated => false,
    }
}
