//! Slow and broken disks and wrong clocks of members, by a library that is loaded into them.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::Run;

const SHIM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/etcd/shim.c");

/// What can be wrong; the order is that of the library.
#[derive(Clone, Copy)]
pub enum Fault {
    SyncDelayMs,
    SyncErrno,
    ClockOffsetMs,
}

const FAULTS: [Fault; 3] = [Fault::SyncDelayMs, Fault::SyncErrno, Fault::ClockOffsetMs];

/// The library, compiled.
pub struct Shim(PathBuf);

impl Shim {
    /// None: there is no C compiler, or the binary loads no libraries.
    pub fn compile(dir: &Path) -> Option<Self> {
        testkit::find_program("cc")?;
        let library = dir.join("shim.so");
        Run::new(&["cc", "-shared", "-fPIC", "-O1", "-o", library.to_str()?, SHIM]).output().ok();
        let binary = testkit::corten_binary();
        let loads = Run::new(&["ldd".as_ref(), binary.as_os_str()]).output();
        (loads.status.success() && loads.stdout.contains("libc.so")).then_some(Self(library))
    }
}

/// What is wrong with one member.
pub struct Faults {
    file: File,
    path: PathBuf,
}

impl Faults {
    pub fn new(path: PathBuf) -> Self {
        let file = File::options().create(true).truncate(true).write(true).open(&path).unwrap();
        let this = Self { file, path };
        FAULTS.into_iter().for_each(|fault| this.set(fault, 0));
        this
    }

    pub fn set(&self, fault: Fault, value: i64) {
        self.file.write_all_at(&value.to_ne_bytes(), fault as u64 * 8).unwrap();
    }

    pub fn clear(&self) {
        // A clock that was set stays so.
        [Fault::SyncDelayMs, Fault::SyncErrno].into_iter().for_each(|fault| self.set(fault, 0));
    }

    pub fn load_into(&self, command: &mut Command, shim: &Shim) {
        command.env("LD_PRELOAD", &shim.0).env("ETCD_TEST_FAULTS", &self.path);
    }
}
