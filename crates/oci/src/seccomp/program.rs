//! The assembler: rules by call number become a binary search over ranges of numbers.

use super::arch::Arch;
use super::{Instruction, RulesByNumber};
use crate::error::{Error, Result};
use crate::spec::SeccompArg;

// Offsets in struct seccomp_data, on little-endian machines.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_ARGS: u32 = 16;
/// Set in the number of every x32 call.
const X32_BIT: u32 = 0x4000_0000;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const IF_EQ: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_GT: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const IF_GE: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// What a call gets if all conditions hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) conditions: Vec<Condition>,
    pub(super) action: u32,
}

/// A comparison of an argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    index: u32,
    operator: Operator,
    mask: u64,
    value: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl Condition {
    pub(super) fn new(arg: &SeccompArg) -> Result<Self> {
        let (operator, mask, value) = match arg.op.as_str() {
            "SCMP_CMP_EQ" => (Operator::Eq, u64::MAX, arg.value),
            "SCMP_CMP_NE" => (Operator::Ne, u64::MAX, arg.value),
            "SCMP_CMP_LT" => (Operator::Lt, u64::MAX, arg.value),
            "SCMP_CMP_LE" => (Operator::Le, u64::MAX, arg.value),
            "SCMP_CMP_GT" => (Operator::Gt, u64::MAX, arg.value),
            "SCMP_CMP_GE" => (Operator::Ge, u64::MAX, arg.value),
            "SCMP_CMP_MASKED_EQ" => (Operator::Eq, arg.value, arg.value_two),
            other => return Err(Error::Invalid(format!("seccomp operator {other:?}"))),
        };
        if arg.index > 5 {
            return Err(Error::Invalid(format!("seccomp argument {}", arg.index)));
        }
        Ok(Self { index: arg.index, operator, mask, value })
    }
}

/// Where a comparison goes on.
#[derive(Clone, Copy)]
enum Target {
    Next,
    /// The end of this condition: it holds.
    Holds,
    /// The end of this rule: it does not apply.
    Fails,
}

enum Step {
    Plain(u16, u32),
    If(u16, u32, Target, Target),
}

/// The whole program. `newer` is for numbers above all that are named.
pub(super) fn assemble(blocks: &[(Arch, RulesByNumber)], default: u32, newer: u32) -> Vec<Instruction> {
    let mut program = vec![instruction(LOAD, OFFSET_ARCH)];
    for (arch, rules) in blocks {
        let block = block(*arch, rules, default, newer);
        program.push(branch(IF_EQ, arch.audit(), 1, 0));
        program.push(instruction(JUMP, block.len() as u32));
        program.extend(block);
    }
    program.push(instruction(RETURN, libc::SECCOMP_RET_KILL_THREAD));
    program
}

fn block(arch: Arch, rules: &RulesByNumber, default: u32, newer: u32) -> Vec<Instruction> {
    let mut block = vec![instruction(LOAD, OFFSET_NUMBER)];
    if arch == Arch::X86_64 {
        block.push(branch(IF_GE, X32_BIT, 0, 1));
        block.push(instruction(RETURN, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32));
    }
    block.extend(search(&ranges(arch, rules, default, newer)));
    block
}

/// Code for all numbers from the first one on, up to where the next range begins.
type Range = (u32, Vec<Instruction>);

fn ranges(arch: Arch, rules: &RulesByNumber, default: u32, newer: u32) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    let mut push = |start: u32, code: Vec<Instruction>| {
        if ranges.last().is_none_or(|(_, last)| *last != code) {
            ranges.push((start, code));
        }
    };
    let mut next = 0;
    for (number, rules) in rules {
        if *number > next {
            push(next, vec![instruction(RETURN, default)]);
        }
        push(*number, decide(arch, rules, default));
        next = number + 1;
    }
    push(next, vec![instruction(RETURN, newer)]);
    ranges
}

/// Halves the ranges until one is left. Both halves end in returns, so nothing runs on into the other.
fn search(ranges: &[Range]) -> Vec<Instruction> {
    if let [(_, code)] = ranges {
        return code.clone();
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let (low, boundary) = (search(low), high[0].0);
    let mut code = vec![branch(IF_GE, boundary, 0, 1), instruction(JUMP, low.len() as u32)];
    code.extend(low);
    code.extend(search(high));
    code
}

fn decide(arch: Arch, rules: &[Rule], default: u32) -> Vec<Instruction> {
    let mut code = Vec::new();
    for rule in rules {
        code.extend(rule_code(arch, rule));
        if rule.conditions.is_empty() {
            return code;
        }
    }
    code.push(instruction(RETURN, default));
    code
}

/// A rule has at most six conditions of at most eight steps, so that its jumps fit a byte.
fn rule_code(arch: Arch, rule: &Rule) -> Vec<Instruction> {
    let conditions: Vec<Vec<Step>> = rule.conditions.iter().map(|c| condition_steps(arch, c)).collect();
    let end: usize = conditions.iter().map(Vec::len).sum::<usize>() + 1;
    let mut code = Vec::new();
    for steps in conditions {
        let holds = code.len() + steps.len();
        for step in steps {
            let here = code.len() + 1;
            let offset = |target| match target {
                Target::Next => 0,
                Target::Holds => (holds - here) as u8,
                Target::Fails => (end - here) as u8,
            };
            code.push(match step {
                Step::Plain(operation, k) => instruction(operation, k),
                Step::If(operation, k, yes, no) => branch(operation, k, offset(yes), offset(no)),
            });
        }
    }
    code.push(instruction(RETURN, rule.action));
    code
}

/// The kernel compares 32 bits at once: the high half decides unless it is equal.
fn condition_steps(arch: Arch, condition: &Condition) -> Vec<Step> {
    use Target::{Fails, Holds, Next};
    let offset = OFFSET_ARGS + 8 * condition.index;
    let half = |value: u64, shift: u32| (value >> shift) as u32;
    let load = |steps: &mut Vec<Step>, offset: u32, mask: u32| {
        steps.push(Step::Plain(LOAD, offset));
        if mask != u32::MAX {
            steps.push(Step::Plain(AND, mask));
        }
    };
    let mut steps = Vec::new();
    if arch.is_64_bit() {
        let high = half(condition.value, 32);
        load(&mut steps, offset + 4, half(condition.mask, 32));
        match condition.operator {
            Operator::Eq => steps.push(Step::If(IF_EQ, high, Next, Fails)),
            Operator::Ne => steps.push(Step::If(IF_EQ, high, Next, Holds)),
            Operator::Gt | Operator::Ge => {
                steps.push(Step::If(IF_GT, high, Holds, Next));
                steps.push(Step::If(IF_EQ, high, Next, Fails));
            }
            Operator::Lt | Operator::Le => {
                steps.push(Step::If(IF_GT, high, Fails, Next));
                steps.push(Step::If(IF_EQ, high, Next, Holds));
            }
        }
    }
    let low = half(condition.value, 0);
    load(&mut steps, offset, half(condition.mask, 0));
    steps.push(match condition.operator {
        Operator::Eq => Step::If(IF_EQ, low, Next, Fails),
        Operator::Ne => Step::If(IF_EQ, low, Fails, Next),
        Operator::Gt => Step::If(IF_GT, low, Next, Fails),
        Operator::Ge => Step::If(IF_GE, low, Next, Fails),
        Operator::Lt => Step::If(IF_GE, low, Fails, Next),
        Operator::Le => Step::If(IF_GT, low, Fails, Next),
    });
    steps
}

fn instruction(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

fn branch(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}
