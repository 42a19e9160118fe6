//! File systems that a store must not be on: those of other machines, and those of programs, which may be anything.

use std::path::Path;

/// By the magic number that statfs(2) gives.
const FOREIGN: [(u32, &str); 12] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x517b, "SMB"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9P"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x7375_7245, "Coda"),
    (0x564c, "NCP"),
    (0x0bd0_0bd0, "Lustre"),
];

/// The name of one that a store must not be on.
pub(super) fn foreign(magic: u32) -> Option<&'static str> {
    FOREIGN.iter().find(|(known, _)| *known == magic).map(|(_, name)| *name)
}

/// The magic number of the file system that a directory is on, or will be on once it is made.
pub(super) fn of(path: &Path) -> Option<u32> {
    let absolute = std::path::absolute(path).ok()?;
    let there = absolute.ancestors().find(|above| above.exists())?;
    let facts = rustix::fs::statfs(there).ok()?;
    // Some systems keep it in more bits, and some extend its sign.
    u32::try_from(facts.f_type & 0xffff_ffff).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_of_others_are_known_and_ones_of_this_machine_are_not_among_them() {
        for (magic, name) in
            [(0x6969, "NFS"), (0xff53_4d42, "CIFS"), (0xfe53_4d42, "SMB2"), (0x6573_5546, "FUSE")]
        {
            assert_eq!(foreign(magic), Some(name));
        }
        for (local, name) in
            [(0xef53, "ext4"), (0x5846_5342, "xfs"), (0x9123_683e, "btrfs"), (0x2fc1_2fc1, "zfs")]
        {
            assert_eq!(foreign(local), None, "{name}");
        }
    }

    #[test]
    fn the_file_system_of_this_machine_is_told_also_for_what_is_not_there_yet() {
        let directory = tempfile::tempdir().expect("a directory");
        let here = of(directory.path());
        assert!(here.is_some_and(|magic| magic != 0));
        assert_eq!(of(&directory.path().join("not/yet")), here);
        if std::path::Path::new("/proc/self").exists() {
            assert_eq!(of(Path::new("/proc/self")), Some(0x9fa0), "the number of procfs");
        }
    }
}
