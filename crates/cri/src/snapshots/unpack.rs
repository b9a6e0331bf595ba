//! Unpacks one layer's tar onto the layers below it.
//!
//! This happens on an overlay of the layers below with the new layer's directory on top, so that links, implied
//! directories and whiteouts mean what they mean in the whole image, and the kernel writes down the difference.

use std::collections::HashSet;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::SFlag;
use nix::sys::time::TimeSpec;
use tar::{Archive, Entry, EntryType};

use super::mount::{OverlayMount, unmount};
use super::tree::{Metadata, Place, Tree, clean};
use crate::disk;
use crate::error::{Error, Result};
use crate::images::digest::{Digest, Hasher};

const WHITEOUT_PREFIX: &[u8] = b".wh.";
const WHITEOUT_META_PREFIX: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const PAX_XATTR: &str = "SCHILY.xattr.";
/// Attributes an image may bring. Not `trusted.overlay.*`: with those it could reach into other layers.
const XATTR_PREFIXES: [&str; 3] = ["user.", "security.capability", "system.posix_acl_"];
/// More entries than any image has; one that goes on for ever is stopped here.
const MAX_ENTRIES: usize = 4_000_000;

/// Unpacks `tar` to `target`, an empty directory of a layer on top of `below` (the uppermost first, siblings of the
/// target's parent), and checks the tar's digest. `scratch` is a path for mounting, removed again.
pub fn unpack_layer(
    tar: Box<dyn Read>,
    diff_id: &Digest,
    target: &Path,
    below: &[PathBuf],
    scratch: &Path,
) -> Result<()> {
    if below.is_empty() {
        return unpack_tar(tar, diff_id, target);
    }
    let merged = scratch.join("merged");
    disk::make_private_dir(&scratch.join("work"))?;
    // `layers`, two levels above `layers/N/fs`.
    let base = target.ancestors().nth(2).unwrap_or(Path::new("/"));
    let lower = below.iter().map(|p| p.strip_prefix(base).unwrap_or(p).to_owned()).collect();
    let upper = Some((target.to_owned(), scratch.join("work")));
    OverlayMount { base: base.to_owned(), lower, upper, target: merged.clone(), volatile: true }.mount()?;
    let result = unpack_tar(tar, diff_id, &merged);
    unmount(&merged)?;
    disk::remove_tree(scratch)?;
    result
}

fn unpack_tar(tar: Box<dyn Read>, diff_id: &Digest, root: &Path) -> Result<()> {
    let mut reader = HashingReader { inner: tar, hasher: Hasher::default() };
    let mut unpacker = Unpacker {
        tree: Tree::open(root).map_err(Error::io("open", root))?,
        unpacked: HashSet::new(),
        directories: Vec::new(),
    };
    unpacker.run(&mut reader)?;
    // The digest covers what follows the archive's end, too.
    io::copy(&mut reader, &mut io::sink()).map_err(|e| Error::Image(format!("read layer: {e}")))?;
    let got = reader.hasher.finish();
    if got != *diff_id {
        return Err(Error::Image(format!(
            "wrong diff id calculated on extraction {got}, expected {diff_id}"
        )));
    }
    Ok(())
}

struct HashingReader<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

struct Unpacker {
    tree: Tree,
    /// What this layer itself brought: an opaque marker does not hide it.
    unpacked: HashSet<PathBuf>,
    /// Directories with their times, set last since unpacking into them changes them.
    directories: Vec<(PathBuf, TimeSpec)>,
}

impl Unpacker {
    fn run(&mut self, reader: &mut dyn Read) -> Result<()> {
        let broken = |e: io::Error| Error::Image(format!("read layer: {e}"));
        let mut archive = Archive::new(reader);
        for (count, entry) in archive.entries().map_err(broken)?.enumerate() {
            if count == MAX_ENTRIES {
                return Err(Error::Image(format!("the layer has more than {MAX_ENTRIES} entries")));
            }
            let mut entry = entry.map_err(broken)?;
            let name = PathBuf::from(std::ffi::OsStr::from_bytes(&entry.path_bytes()));
            self.apply(&mut entry, &clean(&name))
                .map_err(|source| Error::Io { doing: format!("unpack {}", name.display()), source })?;
        }
        for (path, mtime) in std::mem::take(&mut self.directories).into_iter().rev() {
            // It may have been hidden by a later entry.
            if let Ok(place) = self.tree.existing_place(&path) {
                let _ = place.set_mtime(mtime);
            }
        }
        Ok(())
    }

    fn apply<R: Read>(&mut self, entry: &mut Entry<'_, R>, path: &Path) -> io::Result<()> {
        let Some(name) = path.file_name().map(|n| n.as_bytes().to_owned()) else {
            return self.apply_to_root(entry);
        };
        if name.starts_with(WHITEOUT_PREFIX) {
            return self.whiteout(path, &name);
        }
        let place = self.tree.place(path)?;
        if self.write(entry, &place, path)? {
            self.unpacked.insert(path.to_owned());
        }
        Ok(())
    }

    fn apply_to_root<R: Read>(&mut self, entry: &Entry<'_, R>) -> io::Result<()> {
        if entry.header().entry_type() != EntryType::Directory {
            return Ok(());
        }
        let metadata = metadata_of(entry)?;
        let root = self.tree.root_path().join(".");
        std::os::unix::fs::chown(&root, Some(metadata.uid), Some(metadata.gid))?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(metadata.mode & 0o7777);
        std::fs::set_permissions(&root, mode)
    }

    fn whiteout(&mut self, path: &Path, name: &[u8]) -> io::Result<()> {
        let parent = path.parent().unwrap_or(Path::new(""));
        let place = self.tree.place(path)?;
        if name == OPAQUE {
            let unpacked = &self.unpacked;
            return self.tree.remove_children(&place.dir, |child| {
                let child = parent.join(child);
                unpacked.contains(&child) || unpacked.iter().any(|p| p.starts_with(&child))
            });
        }
        if name.starts_with(WHITEOUT_META_PREFIX) {
            return Ok(());
        }
        let hidden = &name[WHITEOUT_PREFIX.len()..];
        if hidden.is_empty() || hidden == b"." || hidden == b".." {
            return Err(io::Error::other("a whiteout without a name"));
        }
        let name = std::ffi::CString::new(hidden)?;
        self.tree.remove(&Place { dir: place.dir, name })
    }

    /// Writes an entry; false if it is of a kind that is no file.
    fn write<R: Read>(&mut self, entry: &mut Entry<'_, R>, place: &Place, path: &Path) -> io::Result<bool> {
        let kind = entry.header().entry_type();
        let metadata = metadata_of(entry)?;
        let attributes = attributes_of(entry)?;
        match kind {
            EntryType::Directory => self.directory(place, path, &metadata)?,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.tree.remove(place)?;
                let mut file = place.create_file()?;
                io::copy(entry, &mut file)?;
            }
            EntryType::Link => {
                let target = entry.link_name_bytes().ok_or_else(|| io::Error::other("a link to nothing"))?;
                let target = clean(Path::new(std::ffi::OsStr::from_bytes(&target)));
                if target == path {
                    return Ok(true);
                }
                let target = self.tree.existing_place(&target)?;
                self.tree.remove(place)?;
                place.link_to(&target)?;
                // Owner, mode and time are its target's.
                return Ok(true);
            }
            EntryType::Symlink => {
                let to = entry.link_name_bytes().ok_or_else(|| io::Error::other("a link to nothing"))?;
                self.tree.remove(place)?;
                place.symlink(Path::new(std::ffi::OsStr::from_bytes(&to)))?;
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                self.tree.remove(place)?;
                let header = entry.header();
                let number = |n: io::Result<Option<u32>>| n.ok().flatten().unwrap_or(0);
                let flag = match kind {
                    EntryType::Char => SFlag::S_IFCHR,
                    EntryType::Block => SFlag::S_IFBLK,
                    _ => SFlag::S_IFIFO,
                };
                place.make_node(flag, number(header.device_major()), number(header.device_minor()))?;
            }
            _ => return Ok(false),
        }
        let is_symlink = kind == EntryType::Symlink;
        place.set_owner_and_mode(&metadata, is_symlink)?;
        attributes.iter().try_for_each(|(name, value)| place.set_xattr(name, value))?;
        place.set_mtime(metadata.mtime)?;
        Ok(true)
    }

    fn directory(&mut self, place: &Place, path: &Path, metadata: &Metadata) -> io::Result<()> {
        let is_dir = |mode: u32| mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits();
        match place.stat()? {
            Some(stat) if is_dir(stat.st_mode) => {}
            Some(_) => {
                self.tree.remove(place)?;
                place.make_dir()?;
            }
            None => place.make_dir()?,
        }
        self.directories.push((path.to_owned(), metadata.mtime));
        Ok(())
    }
}

fn metadata_of<R: Read>(entry: &Entry<'_, R>) -> io::Result<Metadata> {
    let header = entry.header();
    let id = |id: u64| u32::try_from(id).map_err(|_| io::Error::other("an owner beyond 32 bits"));
    Ok(Metadata {
        uid: id(header.uid()?)?,
        gid: id(header.gid()?)?,
        mode: header.mode()?,
        mtime: TimeSpec::new(i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0), 0),
    })
}

fn attributes_of<R: Read>(entry: &mut Entry<'_, R>) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    for extension in entry.pax_extensions()?.into_iter().flatten() {
        let extension = extension?;
        let Ok(key) = extension.key() else { continue };
        if let Some(name) = key.strip_prefix(PAX_XATTR)
            && XATTR_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        {
            found.push((name.to_owned(), extension.value_bytes().to_owned()));
        }
    }
    Ok(found)
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
