//! A small virtual machine under software emulation, for what the machine at hand does not have: another kernel, and
//! cgroups of version 2.
//!
//! The kernel is Debian's for clouds, downloaded and unpacked, never installed. The machine boots from a disk made on
//! the spot: busybox, the programs it is given, and a script whose findings come back over a serial line.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::process::on_path;

/// The package that depends on the newest kernel.
const META_PACKAGE: &str = "linux-image-cloud-amd64";
/// What must be loaded before the disk can be read.
const EARLY_MODULES: [&str; 2] = ["virtio_pci", "virtio_blk"];
/// Megabytes of the disk, which takes only what is written to it.
const DISK_MB: u32 = 2048;
/// Megabytes of memory.
const MEMORY_MB: u32 = 2048;
/// What begins a finding on the serial line.
const FINDING: &str = "@@ ";
/// The finding after which the machine is switched off.
const END: &str = "end";

/// A kernel with its modules.
pub struct Kernel {
    image: PathBuf,
    /// The folder that holds `lib/modules`.
    root: PathBuf,
    release: String,
}

impl Kernel {
    /// Unpacks the kernel in `cache`, downloaded if it is not there yet. An error says why there is none.
    pub fn fetch(cache: &Path) -> anyhow::Result<Self> {
        for program in ["qemu-system-x86_64", "mke2fs", "depmod", "cpio", "strip"] {
            if !on_path(program) {
                bail!("{program} is not installed");
            }
        }
        let root = cache.join("kernel");
        if !root.join("complete").exists() {
            unpack(cache, &root)?;
        }
        let modules =
            fs::read_dir(root.join("lib/modules"))?.next().context("the package has no modules")??;
        let release = modules.file_name().to_string_lossy().into_owned();
        Ok(Self { image: root.join(format!("boot/vmlinuz-{release}")), root, release })
    }

    /// The files of the modules `names` and of all they need, relative to the modules' folder.
    fn files_of(&self, names: &[&str]) -> anyhow::Result<Vec<String>> {
        let list = fs::read_to_string(self.modules().join("modules.dep"))?;
        let mut files = Vec::new();
        for name in names {
            let line = list.lines().find(|line| {
                line.split(':').next().is_some_and(|file| file.ends_with(&format!("/{name}.ko")))
            });
            let line = line.with_context(|| format!("the kernel has no module {name}"))?;
            files.extend(line.split([':', ' ']).filter(|word| !word.is_empty()).map(str::to_owned));
        }
        files.sort();
        files.dedup();
        Ok(files)
    }

    fn modules(&self) -> PathBuf {
        self.root.join("lib/modules").join(&self.release)
    }
}

fn unpack(cache: &Path, root: &Path) -> anyhow::Result<()> {
    let _ = fs::remove_dir_all(root);
    fs::create_dir_all(root)?;
    let package = newest_package()?;
    finish(Command::new("apt-get").args(["download", "-qq", &package]).current_dir(cache))?;
    let prefix = format!("{package}_");
    let file = fs::read_dir(cache)?
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .context("apt-get has downloaded nothing")?;
    finish(Command::new("dpkg-deb").arg("-x").arg(file.path()).arg(root))?;
    fs::remove_file(file.path())?;
    let modules = fs::read_dir(root.join("lib/modules"))?.next().context("the package has no modules")??;
    finish(Command::new("depmod").arg("-b").arg(root).arg(modules.file_name()))?;
    Ok(fs::write(root.join("complete"), "")?)
}

/// The concrete package that the meta package stands for today.
fn newest_package() -> anyhow::Result<String> {
    let ask = || finish(Command::new("apt-cache").args(["depends", "--important", META_PACKAGE]));
    let listed = match ask() {
        Ok(listed) if listed.contains("Depends:") => listed,
        _ => {
            finish(Command::new("apt-get").args(["update", "-qq"]))?;
            ask()?
        }
    };
    let name = listed.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    Ok(name.with_context(|| format!("no package {META_PACKAGE}"))?.to_owned())
}

/// Runs a command to its end and gives what it printed.
fn finish(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What is on the disk of a machine.
pub struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// A disk with busybox and the kernel's modules, its files kept in `folder` until it is made.
    pub fn new(kernel: &Kernel, folder: &Path) -> anyhow::Result<Self> {
        let disk = Self { folder: folder.join("root") };
        for place in [
            "bin",
            "dev",
            "etc",
            "lib/modules",
            "proc",
            "root",
            "run",
            "sbin",
            "sys",
            "tmp",
            "usr/bin",
            "usr/sbin",
            "var/lib",
        ] {
            fs::create_dir_all(disk.folder.join(place))?;
        }
        disk.add(Path::new("/bin/busybox"), "bin/busybox")?;
        // The kernel loads modules by this program when it needs them.
        symlink("/bin/busybox", disk.folder.join("sbin/modprobe"))?;
        finish(
            Command::new("cp")
                .args(["-a", "--reflink=auto"])
                .arg(kernel.modules())
                .arg(disk.folder.join("lib/modules")),
        )?;
        Ok(disk)
    }

    /// Adds a file, with its permissions.
    pub fn add(&self, from: &Path, to: &str) -> anyhow::Result<()> {
        let to = self.folder.join(to);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::copy(from, &to).with_context(|| format!("copy {}", from.display()))?;
        Ok(())
    }

    /// Adds a text file.
    pub fn write(&self, to: &str, text: &str) -> anyhow::Result<()> {
        let to = self.folder.join(to);
        fs::write(&to, text).with_context(|| format!("write {}", to.display()))
    }

    /// Adds a program without its debug information, and the libraries that it is linked to.
    pub fn add_program(&self, from: &Path, to: &str) -> anyhow::Result<()> {
        let from = from.canonicalize().with_context(|| format!("find {}", from.display()))?;
        self.add(&from, to)?;
        finish(Command::new("strip").arg(self.folder.join(to)))?;
        // A program without libraries makes ldd fail, and needs nothing.
        let libraries = finish(Command::new("ldd").arg(&from)).unwrap_or_default();
        for path in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
            self.add(Path::new(path), path.trim_start_matches('/'))?;
        }
        Ok(())
    }

    fn make(&self, image: &Path) -> anyhow::Result<()> {
        let size = format!("{DISK_MB}m");
        finish(
            Command::new("mke2fs")
                .args(["-q", "-F", "-t", "ext4", "-d"])
                .arg(&self.folder)
                .arg(image)
                .arg(size),
        )?;
        Ok(fs::remove_dir_all(&self.folder)?)
    }
}

/// What a step of the script said, and its exit status.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The exit status.
    pub status: i32,
    /// What it printed on either stream, trimmed.
    pub text: String,
}

/// A running machine, killed when dropped.
pub struct Vm {
    child: Child,
    lines: Receiver<String>,
    console: PathBuf,
    deadline: Instant,
    findings: BTreeMap<String, Finding>,
}

impl Vm {
    /// Boots `kernel` with `disk`, its files kept in `folder`. The machine runs the shell script `script`, in which
    /// `try NAME COMMAND…` reports what a command said, and may take as long as `limit` altogether.
    pub fn boot(
        kernel: &Kernel,
        disk: &Disk,
        folder: &Path,
        script: &str,
        limit: Duration,
    ) -> anyhow::Result<Self> {
        disk.write("init", INIT)?;
        disk.write("story.sh", &format!("{TRY}{script}"))?;
        fs::set_permissions(disk.folder.join("init"), fs::Permissions::from_mode(0o755))?;
        let (image, early, console) =
            (folder.join("disk"), folder.join("initramfs"), folder.join("console.log"));
        disk.make(&image)?;
        make_initramfs(kernel, folder, &early)?;
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
            .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"])
            .args(["-m", &MEMORY_MB.to_string()])
            .arg("-kernel")
            .arg(&kernel.image)
            .arg("-initrd")
            .arg(&early)
            .args(["-append", "console=ttyS0 panic=-1 quiet"])
            .arg("-drive")
            .arg(format!("file={},if=virtio,format=raw,cache=unsafe", image.display()))
            .args(["-netdev", "user,id=wire,restrict=on", "-device", "virtio-net-pci,netdev=wire,romfile="])
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .args(["-serial", "stdio"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        // SAFETY: between fork and exec only an async-signal-safe system call is made.
        unsafe {
            // A test that is killed takes its machine with it.
            command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        let mut child = command.spawn().context("start qemu")?;
        let lines = read_lines(child.stdout.take().context("piped")?);
        Ok(Self { child, lines, console, deadline: Instant::now() + limit, findings: BTreeMap::new() })
    }

    /// Waits for what the step `name` of the script found. Panics with the console's last lines if the machine ends
    /// before, or takes too long.
    #[track_caller]
    pub fn finding(&mut self, name: &str) -> Finding {
        loop {
            if let Some(finding) = self.findings.get(name) {
                return finding.clone();
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.note(&line),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("{name}: not there in time\n{}", self.console_tail())
                }
                Err(RecvTimeoutError::Disconnected) => panic!("{name}: never found\n{}", self.console_tail()),
            }
        }
    }

    /// What a step printed. Panics if it failed.
    #[track_caller]
    pub fn ok(&mut self, name: &str) -> String {
        let finding = self.finding(name);
        assert_eq!(finding.status, 0, "{name}: {}\n{}", finding.text, self.explain());
        finding.text
    }

    fn note(&mut self, line: &str) {
        let Some((name, status, text)) = parse(line) else { return };
        println!("vm: {name} ({status}) {text}");
        self.findings.insert(name, Finding { status, text });
    }

    /// What else the machine says, to its end, and its console's last lines.
    fn explain(&mut self) -> String {
        while !self.findings.contains_key(END) {
            let left = self.deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.note(&line),
                Err(_) => break,
            }
        }
        self.console_tail()
    }

    fn console_tail(&self) -> String {
        let text = fs::read(&self.console).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).replace('\r', "");
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_lines(stream: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            if line.map_or(true, |line| sender.send(line).is_err()) {
                return;
            }
        }
    });
    receiver
}

/// A finding is one line: its name, the exit status, and the text as hexadecimal numbers, which no serial line
/// changes.
fn parse(line: &str) -> Option<(String, i32, String)> {
    let mut words = line.trim().strip_prefix(FINDING)?.split(' ');
    let (name, status) = (words.next()?, words.next()?.parse().ok()?);
    let digits = words.next().unwrap_or_default();
    let pairs = digits.as_bytes().chunks_exact(2);
    let bytes: Option<Vec<u8>> =
        pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    Some((name.to_owned(), status, String::from_utf8_lossy(&bytes?).trim().to_owned()))
}

/// The first root: loads what the disk needs and goes over to it.
fn make_initramfs(kernel: &Kernel, folder: &Path, image: &Path) -> anyhow::Result<()> {
    let root = folder.join("early");
    let modules = root.join("lib/modules").join(&kernel.release);
    for place in ["bin", "dev", "proc", "sys", "disk"] {
        fs::create_dir_all(root.join(place))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox"))?;
    for file in kernel.files_of(&EARLY_MODULES)?.iter().map(String::as_str).chain(["modules.dep"]) {
        let to = modules.join(file);
        fs::create_dir_all(to.parent().unwrap_or(&modules))?;
        fs::copy(kernel.modules().join(file), to)?;
    }
    fs::write(root.join("init"), EARLY_INIT.replace("MODULES", &EARLY_MODULES.join(" ")))?;
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
    let names = finish(Command::new("find").arg(".").current_dir(&root))?;
    let mut archive = Command::new("cpio")
        .args(["--quiet", "-o", "-H", "newc"])
        .current_dir(&root)
        .stdin(Stdio::piped())
        .stdout(File::create(image)?)
        .spawn()
        .context("cpio")?;
    archive.stdin.take().context("piped")?.write_all(names.as_bytes())?;
    if !archive.wait()?.success() {
        bail!("cpio has failed");
    }
    Ok(fs::remove_dir_all(root)?)
}

const EARLY_INIT: &str = "#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox modprobe -a MODULES
until /bin/busybox mount -t ext4 /dev/vda /disk; do /bin/busybox sleep 1; done
/bin/busybox umount /dev /sys /proc
exec /bin/busybox switch_root /disk /init
";

const INIT: &str = "#!/bin/busybox sh
/bin/busybox --install -s
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts dev /dev/pts
mount -t tmpfs tmp /dev/shm
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec </dev/null >/dev/ttyS0 2>&1 3>/dev/ttyS1
hostname vm
ip link set lo up
modprobe virtio_net
ip address add 10.0.2.15/24 dev eth0
ip link set eth0 up
ip route add default via 10.0.2.2
sh /story.sh
echo '@@ end 0' >&3
sync
poweroff -f
";

/// Each command of a story has a limit, so that one that hangs does not hide what the others find.
const TRY: &str = "try() {
  name=$1
  shift
  text=$(timeout 120 \"$@\" 2>&1 3>&-)
  echo \"@@ $name $? $(printf %s \"$text\" | od -An -v -tx1 | tr -d ' \\n')\" >&3
}
";
