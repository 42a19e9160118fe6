//! The file store: one directory, no service beside it.
//!
//! The log is the commit: waiting groups are appended as one checksummed frame and one `fdatasync` makes them
//! durable, then they are answered. The index (SQLite) follows in rounds and carries its watermark; what is
//! committed and not yet indexed lives in the overlay, and reads look there first.
//! `docs/design/0001-file-store.md` has the reasons and the figures.

mod backup;
mod directory;
mod events;
mod frame;
mod fsck;
mod index;
mod log;
mod overlay;
mod readers;
mod recover;
mod resources;
mod scan;
mod segment;
mod settings;
mod shared;
mod space;
mod store;
mod writer;

pub use backup::restore;
pub use fsck::{FsckReport, fsck};
pub use settings::{Durability, Faults, Settings, WriteFault};
pub use store::FileStore;
