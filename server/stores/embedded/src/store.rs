//! The port on top of the threads: hands calls over and never blocks on the disk itself.

use crate::directory::{Directory, index_path, refuse};
use crate::events::{self, Cursors};
use crate::index::read::Reader;
use crate::index::write::Writer;
use crate::index::{self, Identity};
use crate::log::{Log, Message, QUEUE_MAX};
use crate::overlay::{Jobs, Overlay};
use crate::readers::Readers;
use crate::recover::recover;
use crate::resources;
use crate::scan::{self, Walk};
use crate::segment::{self, Place};
use crate::settings::{Durability, Settings};
use crate::shared::{Shared, lock};
use crate::space::Space;
use crate::writer::{Command, IndexThread};
use coretex_domain::{Job, JobId, Namespace, Time, limits};
use coretex_ports::{
    AckLevel, BackupReport, BoxFuture, Claim, Cleaned, Group, Guarantees, KeyRow, Outcome, Page, Row, Scan,
    Stats, Store, StoreError,
};
use futures::channel::oneshot;
use std::future::ready;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Share of the disk a store may fill unless told otherwise, in percent.
const DISK_SHARE_MAX: u64 = 80;

/// A store in one directory; held by one process at a time.
pub struct FileStore {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    log: Option<SyncSender<Message>>,
    index: Option<Sender<Command>>,
    readers: Arc<Readers>,
    cursors: Arc<Cursors>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    directory: Mutex<Option<Directory>>,
}

// === impl FileStore ===

impl FileStore {
    /// Opens a store, making it if the directory is empty; returns when everything committed is back.
    pub fn open(settings: Settings) -> Result<FileStore, StoreError> {
        let directory = Directory::hold(&settings.directory, true)?;
        let root = directory.root().to_owned();
        let mut connection = index::open_writer(&index_path(&root))?;
        let found = segment::list(&root, true)?;
        let identity = match index::identity(&connection)? {
            Some(identity) => {
                index::upgrade(&mut connection, &identity)?;
                identity
            }
            None => create(&mut connection, &found)?,
        };
        private_files(&root)?;
        let mut reader = Reader::new(index::open_reader(&index_path(&root))?);
        let recovered = recover(&identity, found, &mut reader, true)?;
        let faults = settings.faults.clone();
        let space = Space::new(root, settings.segment_bytes, faults, recovered.ready, recovered.next);
        let overlay = Overlay::new(identity.place.clone(), settings.overlay_bytes_max);
        let mut jobs = recovered.jobs;
        if recovered.end.ordinal > identity.place.ordinal {
            overlay.publish(&mut jobs, recovered.others.iter(), &recovered.end);
        }
        let bytes_max = settings.bytes_max.unwrap_or_else(|| disk_share(directory.root()));
        let segment = recovered.segments.back().filter(|s| s.number == recovered.end.segment).cloned();
        let shared =
            Arc::new(Shared::new(settings, identity.key, overlay, space, recovered.segments, bytes_max));
        let writer = Writer::new(connection)?;
        shared.counts.newest_made.store(writer.newest_made()?, Ordering::Release);
        Inner::start(shared, writer, reader, identity.place, recovered.end, segment, directory)
            .map(|inner| FileStore { inner: Arc::new(inner) })
            .map_err(|e| refuse("cannot start a thread", &e))
    }
}

/// Makes the index of a new store, or of one whose index was lost but whose log goes back to the beginning.
fn create(connection: &mut rusqlite::Connection, found: &[segment::Found]) -> Result<Identity, StoreError> {
    let place = Place::start();
    let key = match found.iter().find_map(|f| f.header.as_ref()) {
        Some(first) if first.ordinal == 0 => first.key,
        Some(first) => {
            return Err(StoreError::Corrupt {
                place: "index.db".into(),
                what: format!("it is missing, and the log begins at frame {} only", first.ordinal + 1),
            });
        }
        None => random_key().map_err(|e| refuse("cannot read /dev/urandom", &e))?,
    };
    index::create(connection, &key, &place)?;
    Ok(Identity::fresh(key, place))
}

fn random_key() -> std::io::Result<[u8; 32]> {
    let mut key = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut key)?;
    Ok(key)
}

/// SQLite makes its files with the process's umask; others must not read them.
fn private_files(root: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::PermissionsExt as _;
    for name in ["index.db", "index.db-wal", "index.db-shm"] {
        let path = root.join(name);
        if path.exists() {
            let mode = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(&path, mode).map_err(|e| refuse(path.display(), &e))?;
        }
    }
    Ok(())
}

fn disk_share(root: &Path) -> u64 {
    rustix::fs::statvfs(root).map_or(u64::MAX, |disk| disk.f_blocks * disk.f_frsize / 100 * DISK_SHARE_MAX)
}

// === impl Inner ===

impl Inner {
    fn start(
        shared: Arc<Shared>,
        writer: Writer,
        reader: Reader,
        indexed: Place,
        end: Place,
        segment: Option<segment::Segment>,
        directory: Directory,
    ) -> std::io::Result<Inner> {
        let mut readers = vec![reader];
        for _ in 1..shared.settings.readers.max(1) {
            let more = index::open_reader(&index_path(directory.root())).map_err(std::io::Error::other)?;
            readers.push(Reader::new(more));
        }
        let (readers, mut threads) = Readers::start(readers)?;
        let (log, log_inbox) = sync_channel(QUEUE_MAX);
        let (index, index_inbox) = channel();
        let mut start = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.into()).spawn(run).map(|thread| threads.push(thread))
        };
        let space = shared.clone();
        start("store-space", Box::new(move || space.space.run()))?;
        let log_thread = Log::new(shared.clone(), log_inbox, end, segment);
        start("store-log", Box::new(move || log_thread.run()))?;
        let index_thread = IndexThread::new(shared.clone(), index_inbox, writer, indexed);
        start("store-index", Box::new(move || index_thread.run()))?;
        Ok(Inner {
            shared,
            log: Some(log),
            index: Some(index),
            readers: Arc::new(readers),
            cursors: Arc::new(Cursors::default()),
            threads: Mutex::new(threads),
            directory: Mutex::new(Some(directory)),
        })
    }

    fn send_log(&self, message: Message) {
        // A thread that is gone drops the message and with it the reply, which the caller sees.
        let _ = self.log.as_ref().map(|log| log.send(message));
    }

    fn send_index(&self, command: Command) {
        let _ = self.index.as_ref().map(|index| index.send(command));
        self.shared.overlay.wake();
    }

    /// Ends all threads and lets go of the directory.
    fn stop(&self) {
        self.shared.space.stop();
        self.readers.stop();
        self.shared.overlay.wake();
        for thread in lock(&self.threads).drain(..) {
            let _ = thread.join();
        }
        lock(&self.directory).take();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.fail(closed());
        self.log.take();
        self.index.take();
        self.stop();
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("the store is closed".into())
}

/// The answer of a thread, or that it is gone.
async fn answered<T>(answer: oneshot::Receiver<Result<T, StoreError>>) -> Result<T, StoreError> {
    answer.await.unwrap_or_else(|_| Err(closed()))
}

/// What an owner finds: the overlay first, then the index, so that a row on its way is seen in one of them.
fn load(shared: &Shared, place: Place, reader: &mut Reader) -> Result<Claim, StoreError> {
    let newer: Jobs = shared.overlay.jobs(|_| true);
    let mut open: Vec<Arc<Job>> = Vec::new();
    let mut sessions = std::collections::BTreeMap::new();
    let mut topics = std::collections::BTreeMap::new();
    let mut secrets = std::collections::BTreeMap::new();
    let mut resources = std::collections::BTreeMap::new();
    let mut ended_sessions = Vec::new();
    shared.overlay.visit_side(|side| {
        for (id, session) in &side.sessions {
            match session {
                Some(session) => drop(sessions.insert(*id, session.clone())),
                None => {
                    sessions.remove(id);
                    ended_sessions.push(*id);
                }
            }
        }
        topics.extend(side.topics.iter().map(|(key, topic)| (key.clone(), topic.clone())));
        secrets.extend(side.secrets.iter().map(|(id, secret)| (*id, *secret)));
        resources.extend(side.resources.iter().map(|(key, one)| (key.clone(), one.clone())));
    });
    reader.open_jobs(|job| {
        if !newer.contains_key(&job.key()) {
            open.push(Arc::new(job));
        }
    })?;
    open.extend(newer.into_values().filter(|job| !job.state.kind().is_terminal()));
    open.sort_unstable_by(|a, b| {
        (&a.namespace, a.create_time, &a.id).cmp(&(&b.namespace, b.create_time, &b.id))
    });
    for session in reader.sessions()? {
        if !ended_sessions.contains(&session.session_id) {
            sessions.entry(session.session_id).or_insert_with(|| Arc::new(session));
        }
    }
    for topic in reader.topics()? {
        topics.entry((topic.namespace.clone(), topic.name.clone())).or_insert_with(|| Arc::new(topic));
    }
    for one in reader.live_resources()? {
        resources.entry(one.key()).or_insert_with(|| Some(Arc::new(one)));
    }
    for (id, secret) in reader.secrets()? {
        secrets.entry(id).or_insert(secret);
    }
    Ok(Claim {
        epoch: place.epoch,
        open,
        topics: topics.into_values().collect(),
        resources: resources.into_values().flatten().filter(|one| one.is_live).collect(),
        sessions: sessions.into_values().collect(),
        sequences: place.sequences,
        secrets: secrets.into_iter().collect(),
    })
}

fn scan_output(
    shared: &Shared,
    reader: &mut Reader,
    namespace: &Namespace,
    id: &JobId,
    stream: &Arc<str>,
    offset: u64,
    limit: usize,
) -> Result<Page, StoreError> {
    let mut chunks = std::collections::BTreeMap::new();
    let key = id.key(namespace);
    shared.overlay.visit_side(|side| {
        if let Some(outputs) = side.outputs.get(&key) {
            let range = outputs.chunks.range((stream.clone(), offset)..=(stream.clone(), u64::MAX));
            chunks.extend(range.map(|((_, at), chunk)| (*at, chunk.clone())));
        }
    });
    for (at, chunk) in reader.outputs(namespace, id, stream, offset, limit.saturating_add(1))? {
        chunks.entry(at).or_insert(chunk);
    }
    let more = chunks.len() > limit;
    let rows = chunks.into_iter().take(limit).map(|(offset, chunk)| Row::Output { offset, chunk });
    Ok(Page { rows: rows.collect(), more })
}

impl Store for FileStore {
    fn guarantees(&self) -> Guarantees {
        let durable = self.inner.shared.settings.durability == Durability::Durable;
        Guarantees {
            name: "file",
            ack: if durable { AckLevel::Fsync } else { AckLevel::Os },
            survives_process_crash: true,
            survives_power_loss: durable,
            is_shared: false,
            pipelined: true,
            value_max: limits::PAYLOAD_MAX,
        }
    }

    fn claim(&self, owner: &str) -> BoxFuture<Result<Claim, StoreError>> {
        let (reply, answer) = oneshot::channel();
        self.inner.send_log(Message::Claim(owner.to_owned(), reply));
        let (shared, readers) = (self.inner.shared.clone(), self.inner.readers.clone());
        Box::pin(async move {
            let place = answered(answer).await?;
            readers.run(move |reader| load(&shared, place, reader)).await
        })
    }

    fn commit(&self, group: Group) -> BoxFuture<Outcome> {
        if let Err(why) = self.inner.shared.check() {
            return Box::pin(ready(Outcome::Refused(why)));
        }
        let (reply, answer) = oneshot::channel();
        self.inner.send_log(Message::Commit(group, reply));
        let shared = self.inner.shared.clone();
        Box::pin(async move {
            answer.await.unwrap_or_else(|_| match shared.check() {
                // The log thread ended in good order and never took it.
                Err(why) => Outcome::Refused(why),
                Ok(()) => Outcome::Unknown("the log thread is gone".into()),
            })
        })
    }

    fn read(
        &self,
        namespace: Namespace,
        ids: Vec<JobId>,
    ) -> BoxFuture<Result<Vec<Option<Arc<Job>>>, StoreError>> {
        let shared = self.inner.shared.clone();
        if let Err(why) = shared.check() {
            return Box::pin(ready(Err(why)));
        }
        let newest = |id: &JobId| {
            let job = shared.overlay.job(id.key(&namespace));
            job.filter(|job| job.id == *id && job.namespace == namespace)
        };
        let mut found: Vec<Option<Arc<Job>>> = ids.iter().map(newest).collect();
        // Read after the overlay: what leaves it is counted first. Most submits name an id nobody used before, and
        // are spared the way to a reader thread.
        let indexed = shared.counts.newest_made.load(Ordering::Acquire);
        let is_known = |id: &JobId, job: &Option<Arc<Job>>| job.is_some() || id.made_at_ms() > Some(indexed);
        if ids.iter().zip(&found).all(|(id, job)| is_known(id, job)) {
            return Box::pin(ready(Ok(found)));
        }
        self.inner.readers.run(move |reader| {
            for (slot, id) in found.iter_mut().zip(&ids) {
                if slot.is_none() {
                    *slot = reader.job(&namespace, id)?;
                }
            }
            Ok(found)
        })
    }

    fn read_key(&self, namespace: Namespace, key: Arc<str>) -> BoxFuture<Result<Option<KeyRow>, StoreError>> {
        if let Err(why) = self.inner.shared.check() {
            return Box::pin(ready(Err(why)));
        }
        let place = (namespace, key);
        if let Some(row) = self.inner.shared.overlay.side(|side| side.keys.get(&place).cloned()) {
            return Box::pin(ready(Ok(Some(KeyRow::clone(&row)))));
        }
        self.inner.readers.run(move |reader| reader.key(&place.0, &place.1))
    }

    fn scan(&self, scan: Scan) -> BoxFuture<Result<Page, StoreError>> {
        let (shared, cursors) = (self.inner.shared.clone(), self.inner.cursors.clone());
        if let Err(why) = shared.check() {
            return Box::pin(ready(Err(why)));
        }
        self.inner.readers.run(move |reader| match scan {
            Scan::Jobs { namespace, set, topic, state, descending, after, from, to, limit } => {
                let walk = Walk { namespace, set, topic, state, descending, after, from, to, limit };
                walk.run(&shared.overlay, reader)
            }
            Scan::DeadLetters { namespace, ids } => {
                scan::dead_letters(&shared.overlay, reader, &namespace, &ids)
            }
            Scan::Resources { kind, namespace, descending, after, limit } => {
                let walk = resources::Walk { kind, namespace, descending, after, limit };
                walk.run(&shared.overlay, reader)
            }
            Scan::Named(keys) => resources::named(&shared.overlay, reader, &keys),
            Scan::Events { after, limit } => {
                events::scan(&shared, &cursors, &mut reader.interner, &after, limit)
            }
            Scan::Output { namespace, job_id, stream, offset, limit } => {
                scan_output(&shared, reader, &namespace, &job_id, &stream, offset, limit)
            }
        })
    }

    fn clean(&self, now: Time, limit: usize) -> BoxFuture<Result<Cleaned, StoreError>> {
        if let Err(why) = self.inner.shared.check() {
            return Box::pin(ready(Err(why)));
        }
        let (reply, answer) = oneshot::channel();
        self.inner.send_index(Command::Clean(now, limit, reply));
        Box::pin(answered(answer))
    }

    fn refuses_growth(&self) -> Option<StoreError> {
        self.inner.shared.growth_refusal()
    }

    fn backup(&self, directory: PathBuf) -> BoxFuture<Result<BackupReport, StoreError>> {
        if let Err(why) = self.inner.shared.check() {
            return Box::pin(ready(Err(why)));
        }
        if let Err(why) = crate::backup::prepare(&directory) {
            return Box::pin(ready(Err(why)));
        }
        let (reply, answer) = oneshot::channel();
        self.inner.send_index(Command::Settle(reply));
        let readers = self.inner.readers.clone();
        Box::pin(async move {
            answered(answer).await?;
            readers.run(move |reader| crate::backup::write(reader, &directory)).await
        })
    }

    fn stats(&self) -> Stats {
        let shared = &self.inner.shared;
        Stats {
            bytes: shared.used(),
            commits: shared.counts.commits.load(Ordering::Relaxed),
            records: shared.counts.records.load(Ordering::Relaxed),
            lag: shared.overlay.lag(),
            indexed: shared.counts.indexed.load(Ordering::Relaxed),
        }
    }

    fn close(&self) -> BoxFuture<Result<(), StoreError>> {
        let inner = self.inner.clone();
        let (reply, answer) = oneshot::channel();
        inner.send_log(Message::Close(reply));
        Box::pin(async move {
            // A thread that is gone has nothing left to make durable.
            let logged = answer.await.unwrap_or(Ok(()));
            let (reply, answer) = oneshot::channel();
            inner.send_index(Command::Close(reply));
            let indexed = answer.await.unwrap_or(Ok(()));
            inner.stop();
            logged.and(indexed)
        })
    }
}
