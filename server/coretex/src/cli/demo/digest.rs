//! What the demo's jobs compute, and the files they compute it of.

use crate::outcome::{Failure, Outcome};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Directories that hold nothing one wrote oneself.
const SKIPPED: [&str; 4] = [".git", "target", "node_modules", ".coretex"];
const CHUNK: usize = 64 << 10;

/// Input of a `job.file.digest` job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Wanted {
    pub path: PathBuf,
}

/// Its result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Digest {
    pub size: u64,
    pub lines: u64,
    pub words: u64,
    pub sha256: String,
}

/// Reads a file once and says what is in it.
pub(super) fn digest(path: &Path) -> std::io::Result<Digest> {
    let mut file = File::open(path)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; CHUNK]);
    let (mut size, mut lines, mut words, mut in_word) = (0, 0, 0, false);
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
        size += count as u64;
        for byte in &buffer[..count] {
            lines += u64::from(*byte == b'\n');
            let is_space = byte.is_ascii_whitespace();
            words += u64::from(!is_space && !in_word);
            in_word = !is_space;
        }
    }
    let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Digest { size, lines, words, sha256 })
}

/// The readable files under a directory, in order, links not followed.
pub(super) fn files(directory: &Path, most: usize) -> Outcome<Vec<PathBuf>> {
    let root = directory
        .canonicalize()
        .map_err(|error| Failure::machine(format!("cannot look into {}", directory.display()), error))?;
    let (mut found, mut open) = (Vec::new(), vec![root.clone()]);
    while let Some(directory) = open.pop() {
        // A directory that cannot be read has no files for us.
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            let is_skipped = || entry.file_name().to_str().is_none_or(|name| SKIPPED.contains(&name));
            if kind.is_dir() && !is_skipped() {
                open.push(entry.path());
            } else if kind.is_file() && entry.path().to_str().is_some() && File::open(entry.path()).is_ok() {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found.truncate(most);
    match found.is_empty() {
        true => Err(Failure::Machine(format!("there are no files under {}", root.display()))),
        false => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_counted_and_hashed() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("a.txt");
        std::fs::write(&path, "one two\n  three\n").expect("write");
        let found = digest(&path).expect("digest");
        assert_eq!((found.size, found.lines, found.words), (16, 2, 3));
        assert_eq!(found.sha256.len(), 64);
        std::fs::write(&path, "").expect("write");
        let empty = digest(&path).expect("digest").sha256;
        assert_eq!(empty, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn files_are_found_in_order_and_without_what_tools_left() {
        let dir = tempfile::tempdir().expect("temp dir");
        for name in ["b", "target/c", "a/d", ".git/e"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("dir");
            std::fs::write(path, name).expect("write");
        }
        let names = files(dir.path(), 10).expect("files");
        let root = dir.path().canonicalize().expect("root");
        assert_eq!(names, [root.join("a/d"), root.join("b")]);
        assert!(files(Path::new("/nowhere/at/all"), 1).is_err());
    }
}
