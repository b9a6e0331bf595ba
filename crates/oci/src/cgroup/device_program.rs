//! Version 2 asks an eBPF program about every use of a device. This assembles it and attaches it, by bpf(2) alone.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use super::device_rules::{DeviceList, Exception};
use crate::error::{Context, Result};

/// struct bpf_insn.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Insn {
    pub(super) code: u8,
    /// Destination register in the low four bits, source in the high ones.
    pub(super) registers: u8,
    pub(super) offset: i16,
    pub(super) immediate: i32,
}

// Instructions: load a word from memory, 32-bit move, and, shift right, 64-bit move of a constant, jumps on a
// constant (32 bits where marked), exit.
const LOAD_WORD: u8 = 0x61;
const MOVE_32: u8 = 0xbc;
const AND_32: u8 = 0x54;
const SHIFT_RIGHT_32: u8 = 0x74;
const SET_64: u8 = 0xb7;
const JUMP_NOT_EQUAL_32: u8 = 0x56;
const JUMP_EQUAL_32: u8 = 0x16;
const EXIT: u8 = 0x95;

// Registers: the result, the context, and our own.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

/// The kernel's numbers of device types.
const KIND_BLOCK: i32 = 1;
const KIND_CHARACTER: i32 = 2;

/// What attached programs of one group are at most; the kernel's own limit.
const MAX_PROGRAMS: usize = 64;

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_DETACH: libc::c_long = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_PROG_QUERY: libc::c_long = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// The program for a list. The context is three words: permissions above type, major, minor.
pub(super) fn assemble(list: &DeviceList) -> Vec<Insn> {
    let mut program = vec![
        insn(LOAD_WORD, KIND, CONTEXT, 0, 0),
        insn(MOVE_32, ACCESS, KIND, 0, 0),
        insn(AND_32, KIND, 0, 0, 0xffff),
        insn(SHIFT_RIGHT_32, ACCESS, 0, 0, 16),
        insn(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        insn(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for exception in &list.exceptions {
        program.extend(exception_code(exception, list.allow_by_default));
    }
    program.extend(answer(list.allow_by_default));
    program
}

fn exception_code(exception: &Exception, allow_by_default: bool) -> Vec<Insn> {
    let kind = if exception.block { KIND_BLOCK } else { KIND_CHARACTER };
    let mut code = vec![insn(JUMP_NOT_EQUAL_32, KIND, 0, 0, kind)];
    code.push(insn(MOVE_32, SCRATCH, ACCESS, 0, 0));
    if allow_by_default {
        // Denied if any of what is asked for is excepted.
        code.push(insn(AND_32, SCRATCH, 0, 0, exception.access as i32));
        code.push(insn(JUMP_EQUAL_32, SCRATCH, 0, 0, 0));
    } else {
        // Allowed if all of what is asked for is excepted.
        code.push(insn(AND_32, SCRATCH, 0, 0, !exception.access as i32));
        code.push(insn(JUMP_NOT_EQUAL_32, SCRATCH, 0, 0, 0));
    }
    let numbers = [(MAJOR, exception.major), (MINOR, exception.minor)];
    for (register, number) in numbers.into_iter().filter_map(|(r, n)| Some((r, n?))) {
        code.push(insn(JUMP_NOT_EQUAL_32, register, 0, 0, number as i32));
    }
    code.extend(answer(!allow_by_default));
    let length = code.len();
    for (index, instruction) in code.iter_mut().enumerate() {
        if matches!(instruction.code, JUMP_EQUAL_32 | JUMP_NOT_EQUAL_32) {
            instruction.offset = (length - index - 1) as i16;
        }
    }
    code
}

fn answer(allow: bool) -> [Insn; 2] {
    [insn(SET_64, RESULT, 0, 0, i32::from(allow)), insn(EXIT, 0, 0, 0, 0)]
}

fn insn(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Insn {
    Insn { code, registers: destination | source << 4, offset, immediate }
}

/// Attaches the program for `list` to a group and takes off those that were there before.
pub(super) fn replace(dir: &Path, list: &DeviceList) -> Result<()> {
    let group = File::open(dir).doing(|| format!("open {}", dir.display()))?;
    let old = attached(&group).doing(|| "list device programs of the cgroup".to_owned())?;
    if !(list.allow_by_default && list.exceptions.is_empty()) {
        let program = load(&assemble(list)).doing(|| "load the eBPF program for devices".to_owned())?;
        let attach =
            [group.as_raw_fd() as u32, program.as_raw_fd() as u32, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI];
        bpf(BPF_PROG_ATTACH, attach.as_ptr().cast(), size_of_val(&attach))
            .doing(|| "attach the eBPF program for devices".to_owned())?;
    }
    for program in old {
        let detach = [group.as_raw_fd() as u32, program.as_raw_fd() as u32, BPF_CGROUP_DEVICE, 0];
        bpf(BPF_PROG_DETACH, detach.as_ptr().cast(), size_of_val(&detach))
            .doing(|| "detach an old eBPF program for devices".to_owned())?;
    }
    Ok(())
}

fn load(program: &[Insn]) -> io::Result<OwnedFd> {
    /// The first fields of union bpf_attr for BPF_PROG_LOAD.
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
    }
    let attributes = Load {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    let fd = bpf(BPF_PROG_LOAD, (&raw const attributes).cast(), size_of::<Load>())?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// The device programs that are attached to the group itself.
fn attached(group: &File) -> io::Result<Vec<OwnedFd>> {
    /// The first fields of union bpf_attr for BPF_PROG_QUERY.
    #[repr(C)]
    struct Query {
        target: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        ids: u64,
        count: u32,
        padding: u32,
    }
    let mut ids = [0_u32; MAX_PROGRAMS];
    let mut query = Query {
        target: group.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: MAX_PROGRAMS as u32,
        padding: 0,
    };
    bpf(BPF_PROG_QUERY, (&raw mut query).cast_const().cast(), size_of::<Query>())?;
    // SAFETY: the kernel has written the count through the pointer it was given.
    let count = unsafe { std::ptr::read_volatile(&raw const query.count) } as usize;
    ids[..count.min(MAX_PROGRAMS)].iter().map(|id| program_by_id(*id)).collect()
}

fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    let attributes = [id, 0, 0];
    let fd = bpf(BPF_PROG_GET_FD_BY_ID, attributes.as_ptr().cast(), size_of_val(&attributes))?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn bpf(command: libc::c_long, attributes: *const libc::c_void, size: usize) -> io::Result<libc::c_long> {
    // SAFETY: attributes points to size bytes that live until the call returns, as do the buffers that they name.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
