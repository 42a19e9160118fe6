//! The index: SQLite behind the log. It is always the exact state of the log at its watermark, less what was
//! cleaned. One connection writes; readers have read-only ones of their own.

pub(crate) mod clean;
mod decoder;
mod jobs;
pub(crate) mod order;
pub(crate) mod pack;
pub(crate) mod read;
pub(crate) mod write;

use crate::frame::Key;
use crate::segment::Place;
use coretex_domain::JobId;
use coretex_ports::StoreError;
use coretex_records::Damaged;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _};
use std::path::Path;
use xxhash_rust::xxh3::xxh3_64;

/// Version of the tables. Older ones are brought up to it when the store is opened, newer ones refused.
const SCHEMA_VERSION: u32 = 3;
const OLDEST_VERSION: u32 = 2;
/// States below this number are open.
pub(crate) const FIRST_ENDED: i64 = 7;

/// Jobs in (namespace, create time, id) order: new ones go to the end of the tree. Open jobs and those that left a
/// dead letter have rows; others move to packs when they end.
const SCHEMA: &str = "
CREATE TABLE meta(name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE names(number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE decisions(number INTEGER PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE jobs(
  ns INTEGER NOT NULL, create_ms INTEGER NOT NULL, id BLOB NOT NULL, state INTEGER NOT NULL,
  topic INTEGER NOT NULL, expire_ms INTEGER, record BLOB NOT NULL,
  PRIMARY KEY(ns, create_ms, id)) WITHOUT ROWID;
CREATE INDEX jobs_open ON jobs(ns, create_ms, id) WHERE state < 7;
CREATE INDEX jobs_expiry ON jobs(expire_ms) WHERE expire_ms IS NOT NULL;
CREATE TABLE packs(
  number INTEGER PRIMARY KEY, ns INTEGER NOT NULL, first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL,
  expire_ms INTEGER NOT NULL, count INTEGER NOT NULL, record BLOB NOT NULL);
CREATE INDEX packs_order ON packs(ns, first_ms, last_ms);
CREATE INDEX packs_expiry ON packs(expire_ms);
CREATE TABLE moved(ns INTEGER NOT NULL, id BLOB NOT NULL, create_ms INTEGER NOT NULL, PRIMARY KEY(ns, id)) WITHOUT ROWID;
CREATE TABLE keys(ns INTEGER NOT NULL, key TEXT NOT NULL, job BLOB NOT NULL, record BLOB NOT NULL, PRIMARY KEY(ns, key)) WITHOUT ROWID;
CREATE INDEX keys_job ON keys(ns, job);
CREATE TABLE dead_letters(
  ns INTEGER NOT NULL, create_ms INTEGER NOT NULL, id BLOB NOT NULL, record BLOB NOT NULL,
  PRIMARY KEY(ns, create_ms, id)) WITHOUT ROWID;
CREATE TABLE sessions(id BLOB PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE topics(ns INTEGER NOT NULL, name TEXT NOT NULL, record BLOB NOT NULL, PRIMARY KEY(ns, name)) WITHOUT ROWID;
CREATE TABLE secrets(id INTEGER PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE outputs(
  ns INTEGER NOT NULL, id BLOB NOT NULL, stream TEXT NOT NULL, position INTEGER NOT NULL, chunk BLOB NOT NULL,
  PRIMARY KEY(ns, id, stream, position)) WITHOUT ROWID;
";

/// Tables that version 2 did not have.
const RESOURCES: &str = "
CREATE TABLE resources(
  kind INTEGER NOT NULL, ns INTEGER NOT NULL, name TEXT NOT NULL, create_ms INTEGER NOT NULL,
  live INTEGER NOT NULL, expire_ms INTEGER, record BLOB NOT NULL, PRIMARY KEY(kind, ns, name)) WITHOUT ROWID;
CREATE INDEX resources_order ON resources(kind, ns, create_ms, name);
CREATE INDEX resources_live ON resources(kind) WHERE live = 1;
CREATE INDEX resources_expiry ON resources(expire_ms) WHERE expire_ms IS NOT NULL;
";

/// What a store is, once and for ever.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) key: Key,
    /// Where the index stands.
    pub(crate) place: Place,
    /// Of its tables.
    version: u32,
}

impl Identity {
    /// A store just made.
    pub(crate) fn fresh(key: Key, place: Place) -> Identity {
        Identity { key, place, version: SCHEMA_VERSION }
    }

    pub(crate) fn has_resources(&self) -> bool {
        self.version > OLDEST_VERSION
    }
}

/// An error of the index in the words of the port.
pub(crate) fn sql(e: rusqlite::Error) -> StoreError {
    let place = "index.db".to_owned();
    match e.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::DiskFull,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StoreError::Corrupt { place, what: e.to_string() }
        }
        Some(_) => StoreError::Unavailable(format!("index: {e}")),
        // Not from the engine: a value of another type than the column's.
        None => StoreError::Corrupt { place, what: e.to_string() },
    }
}

pub(crate) fn damaged(table: &str, e: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt { place: format!("index.db, table {table}"), what: e.to_string() }
}

/// Opens the index for its one writer, making it if it is missing.
pub(crate) fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(sql)?;
    connection
        .execute_batch(
            "PRAGMA page_size=16384; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;
             PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=-32768; PRAGMA cell_size_check=ON;
             PRAGMA temp_store=MEMORY; PRAGMA busy_timeout=100;",
        )
        .map_err(sql)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Opens the index for reading.
pub(crate) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(sql)?;
    connection
        .execute_batch("PRAGMA cache_size=-8192; PRAGMA cell_size_check=ON; PRAGMA busy_timeout=5000;")
        .map_err(sql)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Makes the tables of a new index, whose log begins at `place`.
pub(crate) fn create(connection: &mut Connection, key: &Key, place: &Place) -> Result<(), StoreError> {
    let transaction = connection.transaction().map_err(sql)?;
    transaction.execute_batch(SCHEMA).map_err(sql)?;
    transaction.execute_batch(RESOURCES).map_err(sql)?;
    put_meta(&transaction, "store", &sealed(store_bytes(key)))?;
    put_meta(&transaction, "place", &sealed(place_bytes(place)))?;
    put_meta(&transaction, "fence", &sealed(vec![0; 8]))?;
    transaction.commit().map_err(sql)?;
    // Durable before the first frame that relies on the key.
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(sql)
}

/// Reads what a store is; None if the index has no tables yet.
pub(crate) fn identity(connection: &Connection) -> Result<Option<Identity>, StoreError> {
    let made: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'meta'", [], |row| row.get(0))
        .map_err(sql)?;
    if made == 0 {
        return Ok(None);
    }
    let store = meta(connection, "store")?;
    let (version, key) = store.split_at_checked(4).ok_or_else(|| damaged("meta", "short store row"))?;
    let version = u32::from_le_bytes(version.try_into().map_err(|e| damaged("meta", e))?);
    if version > SCHEMA_VERSION {
        return Err(StoreError::Newer { version, known: SCHEMA_VERSION });
    }
    if version < OLDEST_VERSION {
        return Err(StoreError::Unavailable(format!(
            "the store was written by a release too long ago (tables {version}, this one reads {OLDEST_VERSION} to {SCHEMA_VERSION})"
        )));
    }
    let key = key.try_into().map_err(|e| damaged("meta", e))?;
    let place = place_of(&meta(connection, "place")?).ok_or_else(|| damaged("meta", "bad watermark"))?;
    Ok(Some(Identity { key, place, version }))
}

/// Brings the tables of an older release up to this one.
pub(crate) fn upgrade(connection: &mut Connection, identity: &Identity) -> Result<(), StoreError> {
    if identity.version == SCHEMA_VERSION {
        return Ok(());
    }
    let transaction = connection.transaction().map_err(sql)?;
    transaction.execute_batch(RESOURCES).map_err(sql)?;
    put_meta(&transaction, "store", &sealed(store_bytes(&identity.key)))?;
    transaction.commit().map_err(sql)
}

fn store_bytes(key: &Key) -> Vec<u8> {
    let mut store = SCHEMA_VERSION.to_le_bytes().to_vec();
    store.extend_from_slice(key);
    store
}

/// The latest time that any job in the index tells.
fn fence(connection: &Connection) -> Result<u64, StoreError> {
    let bytes = meta(connection, "fence")?.try_into().map_err(|_| damaged("meta", "bad fence"))?;
    Ok(u64::from_le_bytes(bytes))
}

fn meta(connection: &Connection, name: &str) -> Result<Vec<u8>, StoreError> {
    let value: Option<Vec<u8>> = connection
        .query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0))
        .optional()
        .map_err(sql)?;
    let value = value.ok_or_else(|| damaged("meta", format_args!("no row {name}")))?;
    unsealed(&value).map(<[u8]>::to_vec).map_err(|e| damaged("meta", e))
}

pub(crate) fn put_meta(connection: &Connection, name: &str, value: &[u8]) -> Result<(), StoreError> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO meta(name, value) VALUES(?1, ?2)")
        .and_then(|mut statement| statement.execute((name, value)))
        .map(|_| ())
        .map_err(sql)
}

/// Appends the checksum every record in the index ends with.
pub(crate) fn sealed(mut record: Vec<u8>) -> Vec<u8> {
    seal(&mut record);
    record
}

pub(crate) fn seal(record: &mut Vec<u8>) {
    let sum = xxh3_64(record);
    record.extend_from_slice(&sum.to_le_bytes());
}

pub(crate) fn unsealed(bytes: &[u8]) -> Result<&[u8], Damaged> {
    let short = || Damaged("record shorter than its checksum".into());
    let (record, sum) = bytes.split_last_chunk::<8>().ok_or_else(short)?;
    if xxh3_64(record).to_le_bytes() == *sum {
        Ok(record)
    } else {
        Err(Damaged("record fails its checksum".into()))
    }
}

/// An id as a key: made ids before names, each in its own order.
pub(crate) fn id_bytes(id: &JobId) -> Vec<u8> {
    match id {
        JobId::Made(uuid) => {
            let mut bytes = vec![0; 17];
            bytes[1..].copy_from_slice(&uuid.to_be_bytes());
            bytes
        }
        JobId::Named(name) => {
            let mut bytes = Vec::with_capacity(1 + name.len());
            bytes.push(1);
            bytes.extend_from_slice(name.as_bytes());
            bytes
        }
    }
}

/// The name in such a key, if it is one.
pub(crate) fn name_in(key: &[u8]) -> Option<&str> {
    let (&1, name) = key.split_first()? else { return None };
    std::str::from_utf8(name).ok()
}

/// A time or offset as SQLite holds it.
pub(crate) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(crate) fn place_bytes(place: &Place) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64 + 2048);
    for number in [place.segment, place.offset, place.ordinal, place.epoch, place.time] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(&place.hash);
    for sequence in place.sequences.iter() {
        bytes.extend_from_slice(&sequence.to_le_bytes());
    }
    bytes
}

pub(crate) fn place_of(bytes: &[u8]) -> Option<Place> {
    let (numbers, rest) = bytes.split_at_checked(40)?;
    let (hash, rest) = rest.split_first_chunk::<16>()?;
    let u64s = |bytes: &[u8]| -> Vec<u64> {
        let (chunks, _) = bytes.as_chunks::<8>();
        chunks.iter().map(|chunk| u64::from_le_bytes(*chunk)).collect()
    };
    let numbers = u64s(numbers);
    let sequences: Box<[u64; 256]> = u64s(rest).into_boxed_slice().try_into().ok()?;
    let [segment, offset, ordinal, epoch, time] = numbers[..] else { return None };
    Some(Place { segment, offset, ordinal, hash: *hash, epoch, time, sequences })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_the_release_before_are_brought_up_to_this_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("index.db");
        let mut connection = open_writer(&path).unwrap();
        create(&mut connection, &[7; 32], &Place::start()).unwrap();
        let mut old = OLDEST_VERSION.to_le_bytes().to_vec();
        old.extend_from_slice(&[7; 32]);
        connection.execute_batch("DROP TABLE resources").unwrap();
        put_meta(&connection, "store", &sealed(old)).unwrap();
        let found = identity(&connection).unwrap().unwrap();
        assert!(!found.has_resources());
        upgrade(&mut connection, &found).unwrap();
        let found = identity(&connection).unwrap().unwrap();
        assert!(found.has_resources() && found.key == [7; 32]);
        assert!(read::Reader::new(open_reader(&path).unwrap()).live_resources().unwrap().is_empty());
        upgrade(&mut connection, &found).unwrap();
    }

    #[test]
    fn tables_of_a_later_release_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let mut connection = open_writer(&directory.path().join("index.db")).unwrap();
        create(&mut connection, &[7; 32], &Place::start()).unwrap();
        let mut later = (SCHEMA_VERSION + 1).to_le_bytes().to_vec();
        later.extend_from_slice(&[7; 32]);
        put_meta(&connection, "store", &sealed(later)).unwrap();
        let newer = StoreError::Newer { version: SCHEMA_VERSION + 1, known: SCHEMA_VERSION };
        assert!(matches!(identity(&connection), Err(found) if found == newer));
    }
}
