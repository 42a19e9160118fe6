//! Backups: a copy of the index at a watermark holds everything committed before it, so no log goes with it.
//! Restoring starts a new log after that watermark, under an epoch no owner of the old one can hold.

use crate::directory::{Directory, index_path, private, refuse, sync_dir};
use crate::index::read::Reader;
use crate::index::{self, identity, place_bytes, put_meta, sealed, sql};
use crate::segment::Place;
use coretex_ports::{BackupReport, StoreError};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

const MANIFEST: &str = "MANIFEST";
const COPY: &str = "index.db";
/// Epochs between a store and one restored from its backup: an owner that goes on with the old one could never
/// claim so often.
const EPOCH_LEAP: u64 = 1 << 32;

/// Makes the directory of a backup, which must be empty.
pub(crate) fn prepare(directory: &Path) -> Result<(), StoreError> {
    empty_dir(directory)
}

fn empty_dir(directory: &Path) -> Result<(), StoreError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|e| refuse(directory.display(), &e))?;
    let mut entries = fs::read_dir(directory).map_err(|e| refuse(directory.display(), &e))?;
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(StoreError::Unavailable(format!("{} is not empty", directory.display()))),
    }
}

/// Copies the index as a reader sees it while its writer goes on; the manifest comes last: a backup without one
/// is not whole.
pub(crate) fn write(reader: &Reader, directory: &Path) -> Result<BackupReport, StoreError> {
    let path = directory.join(COPY);
    let text = path.to_str().ok_or_else(|| StoreError::Unavailable("the path is not UTF-8".into()))?;
    reader.connection.execute("VACUUM INTO ?1", [text]).map_err(sql)?;
    let io = |e: std::io::Error| refuse(path.display(), &e);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(io)?;
    let file = File::open(&path).map_err(io)?;
    file.sync_all().map_err(io)?;
    let bytes = file.metadata().map_err(io)?.len();
    let (jobs, place) = look_into(&path)?;
    let manifest = format!(
        "coretex-backup 1\nfile {COPY}\nbytes {bytes}\nblake3 {}\njobs {jobs}\nepoch {}\nframe {}\n",
        hash_of(&path)?,
        place.epoch,
        place.ordinal,
    );
    let manifest = format!("{manifest}self {}\n", blake3::hash(manifest.as_bytes()).to_hex());
    let path = directory.join(MANIFEST);
    let io = |e: std::io::Error| refuse(path.display(), &e);
    let mut file = private().create_new(true).open(&path).map_err(io)?;
    file.write_all(manifest.as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
    sync_dir(directory).map_err(io)?;
    Ok(BackupReport { bytes: bytes + manifest.len() as u64, jobs })
}

fn look_into(path: &Path) -> Result<(u64, Place), StoreError> {
    let connection = index::open_reader(path)?;
    let count = "SELECT (SELECT count(*) FROM jobs) + coalesce((SELECT sum(count) FROM packs), 0)";
    let jobs: i64 = connection.query_row(count, [], |row| row.get(0)).map_err(sql)?;
    let known = identity(&connection)?.ok_or_else(|| index::damaged("meta", "no watermark"))?;
    Ok((u64::try_from(jobs).unwrap_or(0), known.place))
}

fn hash_of(path: &Path) -> Result<String, StoreError> {
    let io = |e: std::io::Error| refuse(path.display(), &e);
    let mut file = File::open(path).map_err(io)?;
    let mut hasher = blake3::Hasher::new();
    let mut bytes = vec![0; 1 << 20];
    loop {
        match file.read(&mut bytes).map_err(io)? {
            0 => return Ok(hasher.finalize().to_hex().to_string()),
            n => hasher.update(&bytes[..n]),
        };
    }
}

/// Checks a backup and makes a new store of it. The new directory must be empty. Secrets are kept; tokens and
/// leases of the old store are stale, because no epoch of the new one was ever given out before.
pub fn restore(backup: &Path, directory: &Path) -> Result<BackupReport, StoreError> {
    let report = check_manifest(backup)?;
    empty_dir(directory)?;
    let held = Directory::hold(directory, true)?;
    let target = index_path(held.root());
    let io = |e: std::io::Error| refuse(target.display(), &e);
    fs::copy(backup.join(COPY), &target).map_err(io)?;
    fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).map_err(io)?;
    File::open(&target).and_then(|file| file.sync_all()).map_err(io)?;
    let connection = index::open_writer(&target)?;
    let known = identity(&connection)?.ok_or_else(|| index::damaged("meta", "no watermark"))?;
    let place = Place {
        segment: known.place.segment + 1,
        offset: 0,
        epoch: known.place.epoch + EPOCH_LEAP,
        ..known.place
    };
    put_meta(&connection, "place", &sealed(place_bytes(&place)))?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(sql)?;
    // Reading every open job now is cheaper than finding out at the first start.
    Reader::new(connection).open_jobs(drop)?;
    sync_dir(held.root()).map_err(|e| refuse(held.root().display(), &e))?;
    Ok(report)
}

fn check_manifest(backup: &Path) -> Result<BackupReport, StoreError> {
    let path = backup.join(MANIFEST);
    let text = fs::read_to_string(&path).map_err(|e| refuse(path.display(), &e))?;
    let corrupt = |what: &str| StoreError::Corrupt { place: path.display().to_string(), what: what.into() };
    let (body, own) = text.rsplit_once("self ").ok_or_else(|| corrupt("no checksum"))?;
    if blake3::hash(body.as_bytes()).to_hex().as_str() != own.trim() {
        return Err(corrupt("the manifest fails its checksum"));
    }
    let field = |name: &str| {
        let found = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        found.ok_or_else(|| corrupt(&format!("no {name}")))
    };
    if field("coretex-backup")? != "1" {
        return Err(corrupt("the backup was written by a newer release"));
    }
    let number = |name: &str| field(name)?.parse::<u64>().map_err(|e| corrupt(&e.to_string()));
    let (bytes, jobs) = (number("bytes")?, number("jobs")?);
    let file = backup.join(COPY);
    let len = fs::metadata(&file).map_err(|e| refuse(file.display(), &e))?.len();
    if len != bytes || hash_of(&file)? != field("blake3")? {
        return Err(StoreError::Corrupt {
            place: file.display().to_string(),
            what: "differs from its manifest".into(),
        });
    }
    Ok(BackupReport { bytes: bytes + text.len() as u64, jobs })
}
