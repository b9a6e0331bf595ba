//! What an honest layer becomes, and that an evil one stays where it belongs.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;

/// A tar under construction.
struct Layer(tar::Builder<Vec<u8>>);

impl Layer {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn entry(mut self, kind: EntryType, name: &str, link: &str, data: &[u8], mode: u32) -> Self {
        let mut header = tar::Header::new_gnu();
        // The builder refuses evil names, so they go in by hand.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_gnu_mut().unwrap().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_size(data.len() as u64);
        header.set_mode(mode);
        header.set_uid(nix::unistd::getuid().as_raw().into());
        header.set_gid(nix::unistd::getgid().as_raw().into());
        header.set_mtime(1_000_000);
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    fn file(self, name: &str, data: &str) -> Self {
        self.entry(EntryType::Regular, name, "", data.as_bytes(), 0o644)
    }

    fn dir(self, name: &str) -> Self {
        self.entry(EntryType::Directory, name, "", b"", 0o755)
    }

    fn symlink(self, name: &str, to: &str) -> Self {
        self.entry(EntryType::Symlink, name, to, b"", 0o777)
    }

    fn hardlink(self, name: &str, to: &str) -> Self {
        self.entry(EntryType::Link, name, to, b"", 0o644)
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

fn unpack_onto(root: &Path, layer: Layer) -> Result<()> {
    let bytes = layer.bytes();
    let diff_id = Digest::of(&bytes);
    unpack_tar(Box::new(io::Cursor::new(bytes)), &diff_id, root)
}

/// A root with a sibling that nothing may touch.
fn sandbox() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(dir.path().join("secret"), "untouched").unwrap();
    (dir, root)
}

#[test]
fn an_honest_layer_is_unpacked() {
    let (_dir, root) = sandbox();
    let layer = Layer::new()
        .dir("./bin/")
        .entry(EntryType::Regular, "./bin/su", "", b"#!", 0o4755)
        .hardlink("bin/su2", "bin/su")
        .symlink("sbin", "bin")
        .file("deep/er/file", "x")
        .file("sbin/through-link", "y")
        .entry(EntryType::Fifo, "pipe", "", b"", 0o600);
    unpack_onto(&root, layer).unwrap();
    let su = fs::metadata(root.join("bin/su")).unwrap();
    assert_eq!(su.permissions().mode() & 0o7777, 0o4755);
    assert_eq!(su.ino(), fs::metadata(root.join("bin/su2")).unwrap().ino());
    assert_eq!(su.mtime(), 1_000_000);
    assert_eq!(fs::metadata(root.join("bin")).unwrap().mtime(), 1_000_000);
    assert_eq!(fs::read_to_string(root.join("bin/through-link")).unwrap(), "y");
    assert_eq!(fs::read_link(root.join("sbin")).unwrap(), Path::new("bin"));
    assert!(root.join("deep/er/file").exists() && root.join("pipe").exists());
}

#[test]
fn whiteouts_remove_what_is_below_and_not_what_is_new() {
    let (_dir, root) = sandbox();
    unpack_onto(&root, Layer::new().file("a/old", "1").file("a/sub/old", "1").file("b", "1")).unwrap();
    let layer =
        Layer::new().file("a/new", "2").file("a/.wh..wh..opq", "").file(".wh.b", "").file(".wh.none", "");
    unpack_onto(&root, layer).unwrap();
    assert!(root.join("a/new").exists());
    assert!(!root.join("a/old").exists() && !root.join("a/sub").exists() && !root.join("b").exists());
}

#[test]
fn a_directory_takes_the_place_of_a_file_and_the_other_way() {
    let (_dir, root) = sandbox();
    unpack_onto(&root, Layer::new().file("a", "1").file("d/x", "1").symlink("l", "/nowhere")).unwrap();
    unpack_onto(&root, Layer::new().dir("a").file("d", "2").file("l", "3")).unwrap();
    assert!(root.join("a").is_dir() && root.join("d").is_file());
    assert_eq!(fs::read_to_string(root.join("l")).unwrap(), "3");
}

#[test]
fn paths_do_not_leave_the_root() {
    for name in ["../secret", "../../secret", "/../secret", "a/../../secret"] {
        let (dir, root) = sandbox();
        let _ = unpack_onto(&root, Layer::new().file(name, "evil"));
        assert_eq!(fs::read_to_string(dir.path().join("secret")).unwrap(), "untouched", "{name}");
    }
}

#[test]
fn links_do_not_leave_the_root() {
    for target in ["..", "../..", "/", "/proc/self/cwd", "/proc/1/root"] {
        let (dir, root) = sandbox();
        let outside = dir.path().display().to_string();
        let _ = unpack_onto(&root, Layer::new().symlink("up", target).file("up/secret", "evil"));
        let _ = unpack_onto(&root, Layer::new().symlink("abs", &outside).file("abs/secret", "evil"));
        let _ = unpack_onto(&root, Layer::new().symlink("up2", target).file("up2/.wh.secret", ""));
        assert_eq!(fs::read_to_string(dir.path().join("secret")).unwrap(), "untouched", "{target}");
    }
}

#[test]
fn hard_links_reach_only_inside() {
    let (dir, root) = sandbox();
    let secret = dir.path().join("secret").display().to_string();
    for target in ["../secret", secret.as_str()] {
        assert!(unpack_onto(&root, Layer::new().hardlink("stolen", target)).is_err(), "{target}");
        assert!(!root.join("stolen").exists());
    }
    let _ = unpack_onto(&root, Layer::new().symlink("s", "..").hardlink("stolen", "s/secret"));
    assert!(!root.join("stolen").exists());
}

#[test]
fn a_symlink_is_replaced_and_not_written_through() {
    let (dir, root) = sandbox();
    let layer = Layer::new().symlink("f", "../secret").file("f", "evil").symlink("g", "../secret");
    unpack_onto(&root, layer).unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("secret")).unwrap(), "untouched");
    assert_eq!(fs::read_to_string(root.join("f")).unwrap(), "evil");
}

#[test]
fn whiteouts_without_a_name_are_refused() {
    for name in [".wh.", ".wh..", ".wh..."] {
        let (dir, root) = sandbox();
        assert!(unpack_onto(&root, Layer::new().file(name, "")).is_err(), "{name}");
        assert!(dir.path().join("secret").exists());
    }
}

#[test]
fn other_content_than_promised_is_refused() {
    let (_dir, root) = sandbox();
    let bytes = Layer::new().file("a", "1").bytes();
    let error = unpack_tar(Box::new(io::Cursor::new(bytes)), &Digest::of(b"other"), &root).unwrap_err();
    assert!(error.to_string().contains("wrong diff id"), "{error}");
}

#[test]
fn a_cut_layer_is_an_error() {
    let (_dir, root) = sandbox();
    let mut bytes = Layer::new().file("a", &"x".repeat(2000)).bytes();
    bytes.truncate(700);
    let diff_id = Digest::of(&bytes);
    assert!(unpack_tar(Box::new(io::Cursor::new(bytes)), &diff_id, &root).is_err());
}
