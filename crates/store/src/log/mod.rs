//! The write-ahead log: segments of frames, and the snapshots that make old segments superfluous.
//!
//! The layout and its reasons are in `docs/adr/0002-store-on-disk.md`.

mod frame;
mod record;
mod recover;
mod segment;
mod snapshot;

pub(crate) use record::{Record, encode_change, encode_entry, encode_record};
pub(crate) use recover::{Recovered, recover};
pub(crate) use segment::{Log, Spare};
pub(crate) use snapshot::{SnapshotDecoder, SnapshotMeta, decode_snapshot, encode_snapshot, write_snapshot};

/// The version of everything in the data directory, in the file [`FORMAT_FILE`].
pub(crate) const FORMAT: u32 = 1;
const FORMAT_FILE: &str = "FORMAT";
/// A name of a file that is being written; what a crash leaves of it is removed.
const TEMPORARY: &str = ".tmp";

/// A closure that gives an I/O error its file and operation.
pub(crate) fn io_error<'a>(
    disk: &'a dyn crate::disk::Disk,
    operation: &'static str,
    name: &'a str,
) -> impl FnOnce(std::io::Error) -> crate::Error + 'a {
    move |source| {
        let full =
            matches!(source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
        let file = disk.path(name);
        if full {
            return crate::Error::NoSpace(format!("{operation} {}: {source}", file.display()));
        }
        crate::Error::Io { operation, file, source: std::sync::Arc::new(source) }
    }
}
