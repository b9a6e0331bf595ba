//! The syntax tree, after macros are expanded.

use std::sync::Arc;

use smol_str::SmolStr;

/// Names a node: index into positions, types and references.
pub(crate) type Id = u32;

/// The variable that folds of macros collect their result in.
pub(crate) const ACCUMULATOR: &str = "@result";

/// A literal.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(SmolStr),
    Bytes(Arc<[u8]>),
}

/// A node with its name and how deep it reaches.
#[derive(Debug, Clone)]
pub(crate) struct Expr {
    pub id: Id,
    pub depth: u16,
    pub kind: Kind,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Literal(Literal),
    Ident(SmolStr),
    Select(Box<Select>),
    Call(Box<Call>),
    List(Vec<Item>),
    Map(Vec<Entry>),
    Struct(SmolStr, Vec<FieldInit>),
    Fold(Box<Fold>),
}

/// `operand.field`, or `has(operand.field)`.
#[derive(Debug, Clone)]
pub(crate) struct Select {
    pub operand: Expr,
    pub field: SmolStr,
    pub test: bool,
}

/// A function or operator, in the style of a function or of a method.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub function: SmolStr,
    pub target: Option<Expr>,
    pub args: Vec<Expr>,
}

/// An element of a list; an optional one is left out when it has no value.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub value: Expr,
    pub optional: bool,
}

/// An entry of a map.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub key: Expr,
    pub value: Expr,
    pub optional: bool,
}

/// A field of an object under construction.
#[derive(Debug, Clone)]
pub(crate) struct FieldInit {
    pub id: Id,
    pub name: SmolStr,
    pub value: Expr,
    pub optional: bool,
}

/// What macros become: a loop over a range that carries one value.
#[derive(Debug, Clone)]
pub(crate) struct Fold {
    pub range: Expr,
    pub var: SmolStr,
    pub second_var: Option<SmolStr>,
    pub accu: SmolStr,
    pub init: Expr,
    pub condition: Expr,
    pub step: Expr,
    pub result: Expr,
}

impl Fold {
    /// `cel.bind` and its kin: nothing is looped over.
    pub fn is_bind(&self) -> bool {
        matches!(&self.range.kind, Kind::List(items) if items.is_empty())
            && matches!(self.condition.kind, Kind::Literal(Literal::Bool(false)))
            && self.accu != ACCUMULATOR
    }
}

impl Expr {
    /// `a.b.c` as a dotted name.
    pub fn qualified_name(&self) -> Option<String> {
        match &self.kind {
            Kind::Ident(name) => Some(name.to_string()),
            Kind::Select(select) if !select.test => {
                Some(format!("{}.{}", select.operand.qualified_name()?, select.field))
            }
            _ => None,
        }
    }

    /// Visits every node.
    pub fn walk(&self, visit: &mut dyn FnMut(&Expr)) {
        visit(self);
        match &self.kind {
            Kind::Literal(_) | Kind::Ident(_) => {}
            Kind::Select(select) => select.operand.walk(visit),
            Kind::Call(call) => call.target.iter().chain(&call.args).for_each(|e| e.walk(visit)),
            Kind::List(items) => items.iter().for_each(|i| i.value.walk(visit)),
            Kind::Map(entries) => entries.iter().for_each(|e| {
                e.key.walk(visit);
                e.value.walk(visit);
            }),
            Kind::Struct(_, fields) => fields.iter().for_each(|f| f.value.walk(visit)),
            Kind::Fold(fold) => {
                for part in [&fold.range, &fold.init, &fold.condition, &fold.step, &fold.result] {
                    part.walk(visit);
                }
            }
        }
    }
}

/// Names of operators as functions.
pub(crate) mod op {
    pub const CONDITIONAL: &str = "_?_:_";
    pub const AND: &str = "_&&_";
    pub const OR: &str = "_||_";
    pub const NOT: &str = "!_";
    pub const NEGATE: &str = "-_";
    pub const EQUALS: &str = "_==_";
    pub const NOT_EQUALS: &str = "_!=_";
    pub const LESS: &str = "_<_";
    pub const LESS_EQUALS: &str = "_<=_";
    pub const GREATER: &str = "_>_";
    pub const GREATER_EQUALS: &str = "_>=_";
    pub const IN: &str = "@in";
    pub const ADD: &str = "_+_";
    pub const SUBTRACT: &str = "_-_";
    pub const MULTIPLY: &str = "_*_";
    pub const DIVIDE: &str = "_/_";
    pub const MODULO: &str = "_%_";
    pub const INDEX: &str = "_[_]";
    pub const OPT_INDEX: &str = "_[?_]";
    pub const OPT_SELECT: &str = "_?._";
    pub const NOT_STRICTLY_FALSE: &str = "@not_strictly_false";
}
