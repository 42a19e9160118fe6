//! Reading the index: jobs by id and in order, keys, output, and what an owner needs at a claim.

use super::decoder::Decoder;
use super::jobs::find_pack;
use super::order::{Key, PackWalk, Range, all_packs, packs_query};
use super::pack;
use super::{FIRST_ENDED, damaged, id_bytes, int, sql, unsealed};
use bytes::Bytes;
use coretex_domain::policy::Decision;
use coretex_domain::resource::{Kind, Resource, ResourceKey};
use coretex_domain::session::Session;
use coretex_domain::topic::Topic;
use coretex_domain::{Job, JobId, Namespace, Time};
use coretex_ports::{KeyRow, StoreError};
use coretex_records::{Interner, resource, row, wire};
use prost::Message as _;
use rusqlite::fallible_streaming_iterator::FallibleStreamingIterator as _;
use rusqlite::{Connection, OptionalExtension as _, params};
use rustc_hash::FxHashMap;
use std::cell::RefCell;
use std::sync::Arc;

/// A read-only view of the index with what it has learnt so far.
pub(crate) struct Reader {
    pub(crate) connection: Connection,
    pub(crate) interner: Interner,
    names: FxHashMap<String, i64>,
    decisions: RefCell<FxHashMap<u32, Arc<Decision>>>,
}

/// Columns of a job, in the order of every query for jobs.
const COLUMNS: &str = "ns, create_ms, id, state, topic, expire_ms, record";

/// What a walk tells of a job at once; the record is only touched where it is wanted.
pub(crate) struct Columns {
    pub(crate) key: Key,
    pub(crate) state: i64,
    pub(crate) topic: i64,
}

/// Finds the create time under which a job is filed.
pub(crate) fn create_ms(connection: &Connection, ns: i64, id: &JobId) -> Result<Option<i64>, StoreError> {
    let bytes = id_bytes(id);
    let moved: Option<i64> = connection
        .prepare_cached("SELECT create_ms FROM moved WHERE ns = ?1 AND id = ?2")
        .and_then(|mut s| s.query_row(params![ns, bytes], |row| row.get(0)).optional())
        .map_err(sql)?;
    Ok(moved.or(id.made_at_ms().map(int)))
}

// === impl Reader ===

impl Reader {
    pub(crate) fn new(connection: Connection) -> Reader {
        Reader {
            connection,
            interner: Interner::default(),
            names: FxHashMap::default(),
            decisions: RefCell::default(),
        }
    }

    /// The number of a namespace or topic; None if the index has never met it.
    pub(crate) fn name(&mut self, name: &str) -> Result<Option<i64>, StoreError> {
        if let Some(number) = self.names.get(name) {
            return Ok(Some(*number));
        }
        let found: Option<i64> = self
            .connection
            .prepare_cached("SELECT number FROM names WHERE name = ?1")
            .and_then(|mut s| s.query_row([name], |row| row.get(0)).optional())
            .map_err(sql)?;
        if let Some(number) = found {
            self.names.insert(name.to_owned(), number);
        }
        Ok(found)
    }

    pub(crate) fn job(&mut self, namespace: &Namespace, id: &JobId) -> Result<Option<Arc<Job>>, StoreError> {
        let Some(ns) = self.name(namespace.as_str())? else { return Ok(None) };
        // A made id tells its create time unless it was derived; names never do.
        if let Some(made) = id.made_at_ms()
            && let Some(job) = self.job_at(ns, int(made), id)?
        {
            return Ok(Some(job));
        }
        let Some(create) = create_ms(&self.connection, ns, id)? else { return Ok(None) };
        self.job_at(ns, create, id)
    }

    fn job_at(&mut self, ns: i64, create: i64, id: &JobId) -> Result<Option<Arc<Job>>, StoreError> {
        if let Some(job) = self.row_at(ns, create, id)? {
            return Ok(Some(job));
        }
        if let Some(job) = self.packed_at(ns, create, id)? {
            return Ok(Some(job));
        }
        // It may have left its pack for a row between the two looks. Nothing goes the other way.
        self.row_at(ns, create, id)
    }

    fn row_at(&mut self, ns: i64, create: i64, id: &JobId) -> Result<Option<Arc<Job>>, StoreError> {
        let (connection, mut decoder) = self.split();
        let text = format!("SELECT {COLUMNS} FROM jobs WHERE ns = ?1 AND create_ms = ?2 AND id = ?3");
        let mut statement = connection.prepare_cached(&text).map_err(sql)?;
        let mut rows = statement.query(params![ns, create, id_bytes(id)]).map_err(sql)?;
        match rows.next().map_err(sql)? {
            Some(row) => Ok(Some(Arc::new(decoder.row(row)?))),
            None => Ok(None),
        }
    }

    fn packed_at(&mut self, ns: i64, create: i64, id: &JobId) -> Result<Option<Arc<Job>>, StoreError> {
        let JobId::Made(uuid) = *id else { return Ok(None) };
        let (connection, mut decoder) = self.split();
        let Some((_, pack)) = find_pack(connection, ns, create, uuid)? else { return Ok(None) };
        let found = pack.find(create, uuid).map(|n| decoder.packed(&pack.entries[n], pack.record(n)));
        found.transpose().map(|job| job.map(Arc::new))
    }

    fn split(&mut self) -> (&Connection, Decoder<'_>) {
        let Reader { connection, interner, decisions, .. } = self;
        let connection: &Connection = connection;
        (connection, Decoder { connection, interner, decisions })
    }

    /// Hands every open job, then nothing else, to `take`.
    pub(crate) fn open_jobs(&mut self, mut take: impl FnMut(Job)) -> Result<(), StoreError> {
        let (connection, mut decoder) = self.split();
        let text = format!(
            "SELECT {COLUMNS} FROM jobs INDEXED BY jobs_open WHERE state < {FIRST_ENDED} ORDER BY ns, create_ms, id"
        );
        let mut statement = connection.prepare(&text).map_err(sql)?;
        let mut rows = statement.query([]).map_err(sql)?;
        while let Some(row) = rows.next().map_err(sql)? {
            take(decoder.row(row)?);
        }
        Ok(())
    }

    /// Every job there is; for checks.
    pub(crate) fn all_jobs(
        &mut self,
        mut take: impl FnMut(Job) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let (connection, mut decoder) = self.split();
        let mut statement = connection.prepare(&format!("SELECT {COLUMNS} FROM jobs")).map_err(sql)?;
        let mut rows = statement.query([]).map_err(sql)?;
        while let Some(row) = rows.next().map_err(sql)? {
            take(decoder.row(row)?)?;
        }
        let text = "SELECT 1 FROM jobs WHERE ns = ?1 AND create_ms = ?2 AND id = ?3";
        let mut has_row = connection.prepare(text).map_err(sql)?;
        all_packs(connection, |ns, pack| {
            for (n, entry) in pack.entries.iter().enumerate() {
                let job = decoder.packed(entry, pack.record(n))?;
                if has_row.exists(params![ns, entry.create_ms, entry.id()]).map_err(sql)? {
                    return Err(damaged("packs", format_args!("job {} is in a pack and has a row", job.id)));
                }
                take(job)?;
            }
            Ok(())
        })
    }

    /// Walks a part of a namespace in key order. `take` gets the columns and a way to decode the record, and says
    /// whether to go on.
    pub(crate) fn walk(
        &mut self,
        ns: i64,
        range: &Range,
        mut take: impl FnMut(Columns, &mut dyn FnMut() -> Result<Job, StoreError>) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let (connection, mut decoder) = self.split();
        // One view of both tables: a job must not move from one to the other under the walk.
        let view = connection.unchecked_transaction().map_err(sql)?;
        let query = format!("SELECT {COLUMNS} FROM jobs {}", range.clause());
        let mut statement = connection.prepare_cached(&query).map_err(sql)?;
        let mut rows =
            statement.query(params![ns, range.low, range.high, range.mark.0, range.mark.1]).map_err(sql)?;
        let mut packs = connection.prepare_cached(&packs_query(range.descending)).map_err(sql)?;
        let lowest = range.low.saturating_sub(pack::SPAN_MAX_MS);
        let packs = packs.query(params![ns, lowest, range.high, range.low]).map_err(sql)?;
        let mut packs = PackWalk::new(packs, range);
        rows.advance().map_err(sql)?;
        loop {
            let row_key = rows.get().map(|row| Ok((row.get(1)?, row.get(2)?))).transpose().map_err(sql)?;
            let pack_key = packs.next_key()?;
            let takes_row = match (&row_key, pack_key) {
                (None, None) => break,
                (Some(row), Some(pack)) => range.is_before(row, pack),
                (row, _) => row.is_some(),
            };
            let goes_on = if takes_row {
                let (Some(key), Some(row)) = (row_key, rows.get()) else { break };
                let (state, topic) = (row.get(3).map_err(sql)?, row.get(4).map_err(sql)?);
                let goes_on = take(Columns { key, state, topic }, &mut || decoder.row(row))?;
                rows.advance().map_err(sql)?;
                goes_on
            } else {
                let Some((key, packed)) = packs.take() else { break };
                let entry = packed.entry();
                let columns = Columns { key, state: entry.state.into(), topic: entry.topic };
                take(columns, &mut || decoder.packed(entry, packed.pack.record(packed.n)))?
            };
            if !goes_on {
                break;
            }
        }
        drop(view);
        Ok(())
    }

    /// Walks jobs that left a dead letter; they have rows.
    pub(crate) fn walk_dead(
        &mut self,
        ns: i64,
        range: &Range,
        mut take: impl FnMut(Columns, &mut dyn FnMut() -> Result<Job, StoreError>) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let (connection, mut decoder) = self.split();
        let query = format!(
            "SELECT ns, create_ms, id, j.state, j.topic, j.expire_ms, j.record
             FROM dead_letters d JOIN jobs j USING(ns, create_ms, id) {}",
            range.clause()
        );
        let mut statement = connection.prepare_cached(&query).map_err(sql)?;
        let mut rows =
            statement.query(params![ns, range.low, range.high, range.mark.0, range.mark.1]).map_err(sql)?;
        while let Some(row) = rows.next().map_err(sql)? {
            let key = (row.get(1).map_err(sql)?, row.get(2).map_err(sql)?);
            let (state, topic) = (row.get(3).map_err(sql)?, row.get(4).map_err(sql)?);
            if !take(Columns { key, state, topic }, &mut || decoder.row(row))? {
                break;
            }
        }
        Ok(())
    }

    pub(crate) fn key(&mut self, namespace: &Namespace, key: &str) -> Result<Option<KeyRow>, StoreError> {
        let Some(ns) = self.name(namespace.as_str())? else { return Ok(None) };
        let found: Option<Vec<u8>> = self
            .connection
            .prepare_cached("SELECT record FROM keys WHERE ns = ?1 AND key = ?2")
            .and_then(|mut s| s.query_row(params![ns, key], |row| row.get(0)).optional())
            .map_err(sql)?;
        let interner = &mut self.interner;
        found
            .map(|record| {
                let wire = wire::Key::decode(unsealed(&record).map_err(|e| damaged("keys", e))?);
                let wire = wire.map_err(|e| damaged("keys", e))?;
                row::key_of(&wire, interner).map_err(|e| damaged("keys", e))
            })
            .transpose()
    }

    pub(crate) fn outputs(
        &mut self,
        namespace: &Namespace,
        id: &JobId,
        stream: &str,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Bytes)>, StoreError> {
        let Some(ns) = self.name(namespace.as_str())? else { return Ok(Vec::new()) };
        let text = "SELECT position, chunk FROM outputs WHERE ns = ?1 AND id = ?2 AND stream = ?3 AND position >= ?4 ORDER BY position LIMIT ?5";
        let mut statement = self.connection.prepare_cached(text).map_err(sql)?;
        let parameters = params![ns, id_bytes(id), stream, int(offset), int(limit as u64)];
        let mut rows = statement.query(parameters).map_err(sql)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next().map_err(sql)? {
            let (position, chunk): (i64, Vec<u8>) = (row.get(0).map_err(sql)?, row.get(1).map_err(sql)?);
            let chunk = unsealed(&chunk).map_err(|e| damaged("outputs", e))?;
            found.push((u64::try_from(position).unwrap_or(0), Bytes::copy_from_slice(chunk)));
        }
        Ok(found)
    }

    /// The first column of `query`, checked and decoded.
    fn records<M: prost::Message + Default, T>(
        &mut self,
        table: &str,
        decode: impl Fn(&M, &mut Interner) -> Result<T, coretex_records::Damaged>,
    ) -> Result<Vec<T>, StoreError> {
        let mut statement = self.connection.prepare(&format!("SELECT record FROM {table}")).map_err(sql)?;
        let mut rows = statement.query([]).map_err(sql)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next().map_err(sql)? {
            let record: Vec<u8> = row.get(0).map_err(sql)?;
            let message = M::decode(unsealed(&record).map_err(|e| damaged(table, e))?);
            let message = message.map_err(|e| damaged(table, e))?;
            found.push(decode(&message, &mut self.interner).map_err(|e| damaged(table, e))?);
        }
        Ok(found)
    }

    pub(crate) fn sessions(&mut self) -> Result<Vec<Session>, StoreError> {
        self.records("sessions", row::session_of)
    }

    pub(crate) fn topics(&mut self) -> Result<Vec<Topic>, StoreError> {
        self.records("topics", row::topic_of)
    }

    pub(crate) fn secrets(&mut self) -> Result<Vec<(u32, [u8; 32])>, StoreError> {
        self.records("secrets", |wire: &wire::Secret, _| row::secret_of(wire))
    }

    pub(crate) fn live_resources(&mut self) -> Result<Vec<Resource>, StoreError> {
        self.records("resources WHERE live = 1", resource::resource_of)
    }

    /// Every resource there is; for checks.
    pub(crate) fn all_resources(&mut self) -> Result<Vec<Resource>, StoreError> {
        self.records("resources", resource::resource_of)
    }

    pub(crate) fn resource(&mut self, key: &ResourceKey) -> Result<Option<Resource>, StoreError> {
        let Some(ns) = self.name(key.namespace.as_str())? else { return Ok(None) };
        let record: Option<Vec<u8>> = self
            .connection
            .prepare_cached("SELECT record FROM resources WHERE kind = ?1 AND ns = ?2 AND name = ?3")
            .and_then(|mut s| {
                s.query_row(params![key.kind as i64, ns, &*key.name], |row| row.get(0)).optional()
            })
            .map_err(sql)?;
        record.map(|record| self.resource_in(&record)).transpose()
    }

    /// At most `limit` resources beyond `after` in walking order.
    pub(crate) fn resources(
        &mut self,
        kind: Kind,
        namespace: &Namespace,
        descending: bool,
        after: Option<&(Time, Arc<str>)>,
        limit: usize,
    ) -> Result<Vec<Resource>, StoreError> {
        let Some(ns) = self.name(namespace.as_str())? else { return Ok(Vec::new()) };
        let (beyond, order) = if descending { ("<", "DESC") } else { (">", "ASC") };
        let start = if descending { (i64::MAX, "") } else { (-1, "") };
        let (create, name) = after.map_or(start, |(time, name)| (int(time.0), &**name));
        let text = format!(
            "SELECT record FROM resources WHERE kind = ?1 AND ns = ?2 AND (create_ms, name) {beyond} (?3, ?4)
             ORDER BY create_ms {order}, name {order} LIMIT ?5"
        );
        let mut records = Vec::new();
        {
            let mut statement = self.connection.prepare_cached(&text).map_err(sql)?;
            let parameters = params![kind as i64, ns, create, name, int(limit as u64)];
            let mut rows = statement.query(parameters).map_err(sql)?;
            while let Some(row) = rows.next().map_err(sql)? {
                records.push(row.get::<_, Vec<u8>>(0).map_err(sql)?);
            }
        }
        records.iter().map(|record| self.resource_in(record)).collect()
    }

    fn resource_in(&mut self, record: &[u8]) -> Result<Resource, StoreError> {
        let table = "resources";
        let message = wire::Resource::decode(unsealed(record).map_err(|e| damaged(table, e))?);
        let message = message.map_err(|e| damaged(table, e))?;
        resource::resource_of(&message, &mut self.interner).map_err(|e| damaged(table, e))
    }

    pub(crate) fn keys(&mut self) -> Result<Vec<KeyRow>, StoreError> {
        self.records("keys", row::key_of)
    }

    pub(crate) fn dead_letters(
        &mut self,
    ) -> Result<Vec<coretex_domain::dead_letter::DeadLetter>, StoreError> {
        self.records("dead_letters", row::dead_letter_of)
    }

    /// True if the job filed under `key` (create time and id) left a dead letter.
    pub(crate) fn has_dead_letter(
        &mut self,
        namespace: &Namespace,
        key: &(i64, Vec<u8>),
    ) -> Result<bool, StoreError> {
        let Some(ns) = self.name(namespace.as_str())? else { return Ok(false) };
        self.connection
            .prepare_cached("SELECT 1 FROM dead_letters WHERE ns = ?1 AND create_ms = ?2 AND id = ?3")
            .and_then(|mut s| s.exists(params![ns, key.0, key.1]))
            .map_err(sql)
    }
}
