//! The type checker (`checker/checker.go`): gives every node a type and every call its overloads.

use smol_str::SmolStr;

use crate::Type;
use crate::ast::{Call, Expr, Fold, Id, Kind, Literal, Select, op};
use crate::decls::{Declared, function, type_named};
use crate::env::Env;
use crate::parser::Parsed;
use crate::source::Issue;
use crate::unify::{Mapping, most_general};

/// What a call resolved to.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub function: &'static Declared,
    pub overloads: Vec<&'static str>,
    /// The target is not a value but the beginning of the function's name.
    pub qualified: bool,
}

/// Types and references by node.
#[derive(Debug, Clone)]
pub(crate) struct Checked {
    pub types: Vec<Type>,
    pub calls: Vec<Option<Resolved>>,
    /// Nodes that are the name of a type.
    pub type_names: Vec<Option<Type>>,
    /// Selections that are a variable with dots in its name.
    pub variables: Vec<Option<SmolStr>>,
}

/// Checks a tree; the issues are in no order.
pub(crate) fn check(env: &Env, parsed: &Parsed) -> Result<Checked, Vec<Issue>> {
    let count = parsed.offsets.len();
    let mut checker = Checker {
        env,
        offsets: &parsed.offsets,
        mapping: Mapping::default(),
        scopes: Vec::new(),
        out: Checked {
            types: vec![Type::Dyn; count],
            calls: vec![None; count],
            type_names: vec![None; count],
            variables: vec![None; count],
        },
        issues: Vec::new(),
    };
    checker.check(&parsed.root);
    if checker.issues.is_empty() {
        checker.literals(&parsed.root);
    }
    if !checker.issues.is_empty() {
        return Err(checker.issues);
    }
    let Checker { mapping, mut out, .. } = checker;
    for of in &mut out.types {
        *of = mapping.substitute(of, true);
    }
    Ok(out)
}

struct Checker<'a> {
    env: &'a Env,
    offsets: &'a [usize],
    mapping: Mapping,
    scopes: Vec<(SmolStr, Type)>,
    out: Checked,
    issues: Vec<Issue>,
}

impl Checker<'_> {
    fn report(&mut self, id: Id, message: String) {
        self.issues.push(Issue { offset: self.offsets.get(id as usize).copied(), message });
    }

    fn shown(&self, of: &Type) -> String {
        self.mapping.substitute(of, false).to_string()
    }

    fn set(&mut self, id: Id, of: Type) -> Type {
        self.out.types[id as usize] = of.clone();
        of
    }

    fn check(&mut self, e: &Expr) -> Type {
        let of = match &e.kind {
            Kind::Literal(literal) => literal_type(literal),
            Kind::Ident(name) => self.ident(e.id, name),
            Kind::Select(select) => self.select(e, select),
            Kind::Call(call) => self.call(e.id, call),
            Kind::List(items) => {
                let mut joined = None;
                for item in items {
                    let of = self.check(&item.value);
                    let of = if item.optional { self.unwrapped(&item.value, of) } else { of };
                    joined = Some(self.join(item.value.id, joined, of));
                }
                Type::list(joined.unwrap_or_else(|| self.mapping.fresh()))
            }
            Kind::Map(entries) => {
                let (mut keys, mut values) = (None, None);
                for entry in entries {
                    let key = self.check(&entry.key);
                    keys = Some(self.join(entry.key.id, keys, key));
                    let of = self.check(&entry.value);
                    let of = if entry.optional { self.unwrapped(&entry.value, of) } else { of };
                    values = Some(self.join(entry.value.id, values, of));
                }
                let mut or_fresh = |of: Option<Type>| of.unwrap_or_else(|| self.mapping.fresh());
                let keys = or_fresh(keys);
                Type::map(keys, or_fresh(values))
            }
            Kind::Struct(name, fields) => self.construct(e.id, name, fields),
            Kind::Fold(fold) => self.fold(fold),
        };
        self.set(e.id, of)
    }

    /// What an optional element or field holds.
    fn unwrapped(&mut self, value: &Expr, of: Type) -> Type {
        match self.mapping.substitute(&of, false) {
            Type::Optional(inner) => (*inner).clone(),
            Type::Dyn | Type::Error => Type::Dyn,
            other => {
                let message = format!("expected type 'optional_type({other})' but found '{other}'");
                self.report(value.id, message);
                other
            }
        }
    }

    fn join(&mut self, id: Id, previous: Option<Type>, current: Type) -> Type {
        let Some(previous) = previous else { return current };
        if self.mapping.assignable(&previous, &current) {
            return most_general(&previous, &current);
        }
        let message =
            format!("expected type '{}' but found '{}'", self.shown(&previous), self.shown(&current));
        self.report(id, message);
        previous
    }

    fn variable(&self, name: &str) -> Option<&Type> {
        let local = self.scopes.iter().rev().find(|(n, _)| n == name).map(|(_, of)| of);
        local.or_else(|| self.env.variable_type(name))
    }

    fn ident(&mut self, id: Id, name: &SmolStr) -> Type {
        if let Some(of) = self.variable(name) {
            return of.clone();
        }
        if let Some(named) = type_named(name) {
            self.out.type_names[id as usize] = Some(named.clone());
            return Type::Type(named.into());
        }
        self.undeclared(id, name);
        Type::Error
    }

    fn undeclared(&mut self, id: Id, name: &str) {
        self.report(id, format!("undeclared reference to '{name}' (in container '')"));
    }

    fn select(&mut self, e: &Expr, select: &Select) -> Type {
        let dotted = e.qualified_name().filter(|name| !self.is_local(name));
        if let Some((name, of)) =
            dotted.and_then(|name| Some((name.clone(), self.env.variable_type(&name)?.clone())))
        {
            self.out.variables[e.id as usize] = Some(name.into());
            return of;
        }
        let named = e.qualified_name().filter(|name| self.is_free(name));
        if let Some(named) = named.and_then(|name| type_named(&name)) {
            self.out.type_names[e.id as usize] = Some(named.clone());
            return Type::Type(named.into());
        }
        let operand = self.check(&select.operand);
        let of = self.field(e.id, &operand, &select.field);
        if select.test { Type::Bool } else { of }
    }

    /// Whether a dotted name begins with a variable of a macro.
    fn is_local(&self, dotted: &str) -> bool {
        let first = dotted.split('.').next().unwrap_or_default();
        self.scopes.iter().any(|(name, _)| name == first)
    }

    /// Whether a dotted name does not begin with a variable.
    fn is_free(&self, dotted: &str) -> bool {
        self.variable(dotted.split('.').next().unwrap_or_default()).is_none()
    }

    /// The type of a field; of an optional operand's field, optional.
    fn field(&mut self, id: Id, operand: &Type, field: &str) -> Type {
        match self.mapping.substitute(operand, false) {
            Type::Dyn | Type::Error => Type::Dyn,
            Type::Param(_) => {
                self.mapping.assignable(&Type::Dyn, operand);
                Type::Dyn
            }
            Type::Map(_, values) => (*values).clone(),
            Type::Object(object) => match object.fields.get(field) {
                Some(of) => of.clone(),
                None if object.open => Type::Dyn,
                None => {
                    self.report(id, format!("undefined field '{field}'"));
                    Type::Error
                }
            },
            Type::Optional(inner) => match self.field(id, &inner, field) {
                already @ Type::Optional(_) => already,
                of => Type::optional(of),
            },
            other => {
                self.report(id, format!("type '{other}' does not support field selection"));
                Type::Error
            }
        }
    }

    fn call(&mut self, id: Id, call: &Call) -> Type {
        if call.function == op::OPT_SELECT {
            return self.optional_select(id, call);
        }
        let mut args: Vec<Type> = call.args.iter().map(|arg| self.check(arg)).collect();
        let Some(target) = &call.target else {
            return match function(&call.function) {
                Some(declared) => self.resolve(id, declared, false, false, &args),
                None => {
                    self.undeclared(id, &call.function);
                    Type::Error
                }
            };
        };
        if let Some(prefix) = target.qualified_name().filter(|name| self.is_free(name))
            && let Some(declared) = function(&format!("{prefix}.{}", call.function))
        {
            return self.resolve(id, declared, false, true, &args);
        }
        args.insert(0, self.check(target));
        match function(&call.function) {
            Some(declared) => self.resolve(id, declared, true, false, &args),
            None => {
                self.undeclared(id, &call.function);
                Type::Error
            }
        }
    }

    fn optional_select(&mut self, id: Id, call: &Call) -> Type {
        let [operand, field] = call.args.as_slice() else { return Type::Error };
        let target = self.check(operand);
        self.check(field);
        let Kind::Literal(Literal::String(name)) = &field.kind else { return Type::Error };
        self.out.calls[id as usize] = function(op::OPT_INDEX).map(|function| Resolved {
            function,
            overloads: vec!["select_optional_field"],
            qualified: false,
        });
        match self.field(id, &target, name) {
            already @ Type::Optional(_) => already,
            of => Type::optional(of),
        }
    }

    fn resolve(
        &mut self,
        id: Id,
        declared: &'static Declared,
        member: bool,
        qualified: bool,
        args: &[Type],
    ) -> Type {
        let mut result: Option<Type> = None;
        let mut overloads = Vec::new();
        for overload in declared.overloads.iter().filter(|o| o.member == member) {
            let fresh: Vec<Type> = (0..overload.params).map(|_| self.mapping.fresh()).collect();
            let wanted: Vec<Type> = overload.args.iter().map(|a| instantiate(a, &fresh)).collect();
            if !self.mapping.assignable_all(args, &wanted) {
                continue;
            }
            overloads.push(overload.id);
            let of = self.mapping.substitute(&instantiate(&overload.result, &fresh), false);
            result = Some(match result {
                None => of,
                Some(before) if before == of => before,
                Some(_) => Type::Dyn,
            });
        }
        let Some(result) = result else {
            let mut shown: Vec<String> = args.iter().map(|a| self.shown(a)).collect();
            let target = if member { format!("{}.", shown.remove(0)) } else { String::new() };
            let message = format!(
                "found no matching overload for '{}' applied to '{target}({})'",
                declared.name,
                shown.join(", ")
            );
            self.report(id, message);
            return Type::Error;
        };
        self.out.calls[id as usize] = Some(Resolved { function: declared, overloads, qualified });
        result
    }

    fn construct(&mut self, id: Id, name: &SmolStr, fields: &[crate::ast::FieldInit]) -> Type {
        let of = self.env.object_type(name);
        if of.is_none() {
            self.undeclared(id, name);
        }
        for field in fields {
            let given = self.check(&field.value);
            let given = if field.optional { self.unwrapped(&field.value, given) } else { given };
            let Some(Type::Object(object)) = &of else { continue };
            let wanted = match object.fields.get(&field.name) {
                Some(wanted) => wanted.clone(),
                None if object.open => Type::Dyn,
                None => {
                    self.report(field.id, format!("undefined field '{}'", field.name));
                    continue;
                }
            };
            if !self.mapping.assignable(&wanted, &given) {
                let message = format!(
                    "expected type of field '{}' is '{}' but provided type is '{}'",
                    field.name,
                    self.shown(&wanted),
                    self.shown(&given)
                );
                self.report(field.id, message);
            }
        }
        of.unwrap_or(Type::Error)
    }

    fn fold(&mut self, fold: &Fold) -> Type {
        let range = self.check(&fold.range);
        let accu = self.check(&fold.init);
        let (first, second) = match self.mapping.substitute(&range, false) {
            Type::List(items) if fold.second_var.is_some() => (Type::Int, (*items).clone()),
            Type::List(items) => ((*items).clone(), Type::Dyn),
            Type::Map(keys, values) => ((*keys).clone(), (*values).clone()),
            Type::Dyn | Type::Error | Type::Param(_) => {
                self.mapping.assignable(&Type::Dyn, &range);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                let message = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.report(fold.range.id, message);
                (Type::Error, Type::Error)
            }
        };
        self.scopes.push((fold.accu.clone(), accu.clone()));
        let outer = self.scopes.len();
        self.scopes.push((fold.var.clone(), first));
        if let Some(name) = &fold.second_var {
            self.scopes.push((name.clone(), second));
        }
        let condition = self.check(&fold.condition);
        self.expect(fold.condition.id, &Type::Bool, &condition);
        let step = self.check(&fold.step);
        self.expect(fold.step.id, &accu, &step);
        self.scopes.truncate(outer);
        let result = self.check(&fold.result);
        self.scopes.truncate(outer - 1);
        self.mapping.substitute(&result, false)
    }

    fn expect(&mut self, id: Id, wanted: &Type, found: &Type) {
        if !self.mapping.assignable(wanted, found) {
            let message = format!("expected type '{}' but found '{}'", self.shown(wanted), self.shown(found));
            self.report(id, message);
        }
    }

    /// Literals that functions could never take (`cel.ASTValidators`).
    fn literals(&mut self, root: &Expr) {
        let mut wrong = Vec::new();
        root.walk(&mut |e| {
            let Kind::Call(call) = &e.kind else { return };
            let arg = match (call.function.as_str(), &call.target, call.args.as_slice()) {
                ("duration" | "timestamp", None, [arg]) | ("matches", Some(_), [arg]) => arg,
                ("matches", None, [_, arg]) => arg,
                _ => return,
            };
            let Kind::Literal(Literal::String(text)) = &arg.kind else { return };
            let fine = match call.function.as_str() {
                "duration" => crate::time::parse_duration(text).is_some(),
                "timestamp" => crate::time::parse_timestamp(text).is_some(),
                _ => crate::functions::regex(text).is_ok(),
            };
            if !fine {
                wrong.push((arg.id, format!("invalid {} argument", call.function)));
            }
        });
        for (id, message) in wrong {
            self.report(id, message);
        }
    }
}

fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}

/// An overload's type with its parameters replaced.
fn instantiate(of: &Type, fresh: &[Type]) -> Type {
    match of {
        Type::Param(n) => fresh.get(*n as usize).cloned().unwrap_or(Type::Dyn),
        Type::List(t) => Type::list(instantiate(t, fresh)),
        Type::Optional(t) => Type::optional(instantiate(t, fresh)),
        Type::Type(t) => Type::Type(instantiate(t, fresh).into()),
        Type::Map(k, v) => Type::map(instantiate(k, fresh), instantiate(v, fresh)),
        other => other.clone(),
    }
}
