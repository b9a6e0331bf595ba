//! Profiles are compiled and run in an interpreter of the few instructions that the assembler uses.

use super::*;
use serde_json::json;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const X86_64: u32 = 0xC000_003E;
const X86: u32 = 0x4000_0003;

fn errno(number: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | number as u32
}

fn filter(profile: serde_json::Value) -> Filter {
    Filter::compile(&serde_json::from_value(profile).unwrap()).unwrap()
}

fn run(filter: &Filter, arch: u32, number: u32, args: &[u64]) -> u32 {
    let mut data = [number, arch, 0, 0].to_vec();
    for index in 0..6 {
        let value = args.get(index).copied().unwrap_or(0);
        data.extend([value as u32, (value >> 32) as u32]);
    }
    let (mut pc, mut a) = (0, 0_u32);
    loop {
        let i = filter.program[pc];
        pc += 1;
        let jump = |yes: bool| usize::from(if yes { i.jt } else { i.jf });
        match i.code {
            0x20 => a = data[i.k as usize / 4],
            0x54 => a &= i.k,
            0x05 => pc += i.k as usize,
            0x15 => pc += jump(a == i.k),
            0x25 => pc += jump(a > i.k),
            0x35 => pc += jump(a >= i.k),
            0x06 => return i.k,
            other => panic!("instruction {other:#x}"),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn names_select_calls_of_each_architecture() {
    let filter = filter(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            {"names": ["read", "openat", "no_such_call"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
        ],
    }));
    assert_eq!(run(&filter, X86_64, 0, &[]), ALLOW);
    assert_eq!(run(&filter, X86_64, 1, &[]), errno(libc::EPERM));
    assert_eq!(run(&filter, X86_64, 257, &[]), ALLOW);
    assert_eq!(run(&filter, X86_64, 435, &[]), errno(libc::ENOSYS));
    assert_eq!(run(&filter, X86_64, 436, &[]), errno(libc::ENOSYS), "newer than the profile");
    assert_eq!(run(&filter, X86_64, 0x4000_0000, &[]), errno(libc::ENOSYS), "x32");
    assert_eq!(run(&filter, X86, 3, &[]), ALLOW);
    assert_eq!(run(&filter, X86, 0, &[]), errno(libc::EPERM));
    assert_eq!(run(&filter, 0xC000_00B7, 63, &[]), libc::SECCOMP_RET_KILL_THREAD);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn conditions_compare_all_64_bits() {
    let big = 0x1_0000_0005_u64;
    let table = [
        ("SCMP_CMP_EQ", [false, true, false]),
        ("SCMP_CMP_NE", [true, false, true]),
        ("SCMP_CMP_LT", [true, false, false]),
        ("SCMP_CMP_LE", [true, true, false]),
        ("SCMP_CMP_GT", [false, false, true]),
        ("SCMP_CMP_GE", [false, true, true]),
    ];
    for (op, expected) in table {
        let filter = filter(json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW",
                "args": [{"index": 2, "value": big, "op": op}]}],
        }));
        let below = [big - 1, 5, 0x5, 0xFFFF_FFFF];
        let above = [big + 1, 0x2_0000_0000, u64::MAX, 0x1_FFFF_FFFF];
        for value in below {
            assert_eq!(run(&filter, X86_64, 0, &[0, 0, value]) == ALLOW, expected[0], "{op} {value:#x}");
        }
        assert_eq!(run(&filter, X86_64, 0, &[0, 0, big]) == ALLOW, expected[1], "{op}");
        for value in above {
            assert_eq!(run(&filter, X86_64, 0, &[0, 0, value]) == ALLOW, expected[2], "{op} {value:#x}");
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn conditions_on_several_arguments_hold_together_and_on_one_are_alternatives() {
    let filter = filter(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [
                {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 2, "op": "SCMP_CMP_EQ"}]},
            {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [
                {"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [
                {"index": 0, "value": 0x7E02_0000_u64, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]},
        ],
    }));
    assert_eq!(run(&filter, X86_64, 41, &[1, 2]), ALLOW);
    assert_eq!(run(&filter, X86_64, 41, &[1, 3]), errno(libc::EPERM));
    assert_eq!(run(&filter, X86_64, 135, &[8]), ALLOW);
    assert_eq!(run(&filter, X86_64, 135, &[9]), errno(libc::EPERM));
    assert_eq!(run(&filter, X86_64, 56, &[17]), ALLOW);
    assert_eq!(run(&filter, X86_64, 56, &[0x1000_0000]), errno(libc::EPERM));
}

#[test]
fn what_cannot_be_done_is_refused() {
    let compile =
        |profile| Filter::compile(&serde_json::from_value(profile).unwrap()).unwrap_err().to_string();
    let notify = json!({"defaultAction": "SCMP_ACT_NOTIFY"});
    assert_eq!(compile(notify), "not supported: seccomp action SCMP_ACT_NOTIFY");
    let listener = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/x"});
    assert_eq!(compile(listener), "not supported: seccomp listeners");
}
