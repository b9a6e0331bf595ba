//! Macros: calls that are rewritten while parsing.

use smol_str::SmolStr;

use crate::ast::{ACCUMULATOR, Call, Entry, Expr, Fold, Item, Kind, Literal, Select, op};
use crate::parser::{Parser, Stop};

type Parse<T> = Result<T, Stop>;

/// A call in the style of a function: `has(a.b)`, or any function.
pub(crate) fn global(p: &mut Parser<'_>, at: usize, name: SmolStr, mut args: Vec<Expr>) -> Parse<Expr> {
    if name == "has" && args.len() == 1 {
        let Some(Expr { kind: Kind::Select(select), id, depth }) = args.pop() else {
            p.report(at, "invalid argument to has() macro");
            return p.node(at, Kind::Literal(Literal::Null));
        };
        let kind = Kind::Select(Box::new(Select { test: true, ..*select }));
        let _ = id;
        let id = p.id(at);
        return Ok(Expr { id, depth, kind });
    }
    p.call(at, &name, args)
}

/// A call in the style of a method: a macro, or any method.
pub(crate) fn member(
    p: &mut Parser<'_>,
    at: usize,
    name: SmolStr,
    target: Expr,
    args: Vec<Expr>,
) -> Parse<Expr> {
    match (name.as_str(), args.len()) {
        ("all" | "exists" | "exists_one" | "existsOne" | "filter" | "map", 2) => {
            one_var(p, at, &name, target, args)
        }
        ("map", 3) => one_var(p, at, &name, target, args),
        ("all" | "exists" | "exists_one" | "existsOne", 3) => two_vars(p, at, &name, target, args),
        ("transformList" | "transformMap" | "transformMapEntry", 3 | 4) => {
            two_vars(p, at, &name, target, args)
        }
        ("bind", 3) if matches!(&target.kind, Kind::Ident(n) if n == "cel") => bind(p, at, args),
        ("optMap" | "optFlatMap", 2) => optional(p, at, &name, target, args),
        _ => {
            let call = Call { function: name, target: Some(target), args };
            p.node(at, Kind::Call(Box::new(call)))
        }
    }
}

struct Builder<'p, 's> {
    p: &'p mut Parser<'s>,
    at: usize,
}

impl Builder<'_, '_> {
    fn accu(&mut self) -> Parse<Expr> {
        self.p.node(self.at, Kind::Ident(ACCUMULATOR.into()))
    }

    fn literal(&mut self, literal: Literal) -> Parse<Expr> {
        self.p.node(self.at, Kind::Literal(literal))
    }

    fn call(&mut self, function: &str, args: Vec<Expr>) -> Parse<Expr> {
        self.p.call(self.at, function, args)
    }

    fn list(&mut self, items: Vec<Expr>) -> Parse<Expr> {
        let items = items.into_iter().map(|value| Item { value, optional: false }).collect();
        self.p.node(self.at, Kind::List(items))
    }

    /// The loop's parts of a quantifier.
    fn quantifier(&mut self, name: &str, predicate: Expr) -> Parse<[Expr; 4]> {
        Ok(match name {
            "all" => {
                let accu = self.accu()?;
                let condition = self.call(op::NOT_STRICTLY_FALSE, vec![accu])?;
                let accu = self.accu()?;
                let step = self.call(op::AND, vec![accu, predicate])?;
                [self.literal(Literal::Bool(true))?, condition, step, self.accu()?]
            }
            "exists" => {
                let accu = self.accu()?;
                let not = self.call(op::NOT, vec![accu])?;
                let condition = self.call(op::NOT_STRICTLY_FALSE, vec![not])?;
                let accu = self.accu()?;
                let step = self.call(op::OR, vec![accu, predicate])?;
                [self.literal(Literal::Bool(false))?, condition, step, self.accu()?]
            }
            _ => {
                let (accu, one) = (self.accu()?, self.literal(Literal::Int(1))?);
                let sum = self.call(op::ADD, vec![accu, one])?;
                let accu = self.accu()?;
                let step = self.call(op::CONDITIONAL, vec![predicate, sum, accu])?;
                let (accu, one) = (self.accu()?, self.literal(Literal::Int(1))?);
                let result = self.call(op::EQUALS, vec![accu, one])?;
                [self.literal(Literal::Int(0))?, self.literal(Literal::Bool(true))?, step, result]
            }
        })
    }

    /// The loop's parts that collect items in a list, those that pass the filter.
    fn collect(&mut self, filter: Option<Expr>, item: Expr) -> Parse<[Expr; 4]> {
        let (accu, item) = (self.accu()?, self.list(vec![item])?);
        let mut step = self.call(op::ADD, vec![accu, item])?;
        if let Some(filter) = filter {
            let accu = self.accu()?;
            step = self.call(op::CONDITIONAL, vec![filter, step, accu])?;
        }
        Ok([self.list(Vec::new())?, self.literal(Literal::Bool(true))?, step, self.accu()?])
    }

    /// The loop's parts that collect entries in a map.
    fn insert(&mut self, filter: Option<Expr>, entry: Vec<Expr>) -> Parse<[Expr; 4]> {
        let mut args = vec![self.accu()?];
        args.extend(entry);
        let mut step = self.call("cel.@mapInsert", args)?;
        if let Some(filter) = filter {
            let accu = self.accu()?;
            step = self.call(op::CONDITIONAL, vec![filter, step, accu])?;
        }
        let init = self.p.node(self.at, Kind::Map(Vec::<Entry>::new()))?;
        Ok([init, self.literal(Literal::Bool(true))?, step, self.accu()?])
    }

    fn fold(&mut self, range: Expr, vars: (SmolStr, Option<SmolStr>), parts: [Expr; 4]) -> Parse<Expr> {
        let [init, condition, step, result] = parts;
        let fold = Fold {
            range,
            var: vars.0,
            second_var: vars.1,
            accu: ACCUMULATOR.into(),
            init,
            condition,
            step,
            result,
        };
        self.p.node(self.at, Kind::Fold(Box::new(fold)))
    }

    /// The name that an argument declares.
    fn name(&mut self, arg: &Expr, words: &str) -> Parse<SmolStr> {
        match &arg.kind {
            Kind::Ident(name) if name != ACCUMULATOR && name != "__result__" => Ok(name.clone()),
            Kind::Ident(name) => {
                let words = format!("iteration variable overwrites accumulator variable: {name}");
                self.p.report(self.p.offset_of(arg.id), words);
                Err(Stop)
            }
            _ => {
                self.p.report(self.p.offset_of(arg.id), words);
                Err(Stop)
            }
        }
    }
}

fn one_var(p: &mut Parser<'_>, at: usize, name: &str, target: Expr, args: Vec<Expr>) -> Parse<Expr> {
    let mut b = Builder { p, at };
    let words = match name {
        "all" | "exists" | "exists_one" | "existsOne" => "argument must be a simple name",
        _ => "argument is not an identifier",
    };
    let mut args = args.into_iter();
    let (Some(first), Some(second), third) = (args.next(), args.next(), args.next()) else {
        return Err(Stop);
    };
    let var = b.name(&first, words)?;
    let parts = match (name, third) {
        ("filter", _) => b.collect(Some(second), first)?,
        ("map", Some(third)) => b.collect(Some(second), third)?,
        ("map", None) => b.collect(None, second)?,
        _ => b.quantifier(name, second)?,
    };
    b.fold(target, (var, None), parts)
}

fn two_vars(p: &mut Parser<'_>, at: usize, name: &str, target: Expr, args: Vec<Expr>) -> Parse<Expr> {
    const WORDS: &str = "argument must be a simple name";
    let mut b = Builder { p, at };
    let mut args = args.into_iter();
    let (Some(first), Some(second), Some(third), fourth) =
        (args.next(), args.next(), args.next(), args.next())
    else {
        return Err(Stop);
    };
    let vars = (b.name(&first, WORDS)?, b.name(&second, WORDS)?);
    if vars.0 == vars.1 {
        b.p.report(at, format!("duplicate variable name: {}", vars.0));
        return Err(Stop);
    }
    let (filter, value) = match fourth {
        Some(fourth) => (Some(third), fourth),
        None => (None, third),
    };
    let parts = match name {
        "transformList" => b.collect(filter, value)?,
        "transformMap" => b.insert(filter, vec![first, value])?,
        "transformMapEntry" => b.insert(filter, vec![value])?,
        _ => b.quantifier(name, value)?,
    };
    b.fold(target, (vars.0, Some(vars.1)), parts)
}

fn let_in(b: &mut Builder<'_, '_>, var: SmolStr, init: Expr, result: Expr) -> Parse<Expr> {
    let fold = Fold {
        range: b.list(Vec::new())?,
        var: "#unused".into(),
        second_var: None,
        step: b.p.node(b.at, Kind::Ident(var.clone()))?,
        accu: var,
        init,
        condition: b.literal(Literal::Bool(false))?,
        result,
    };
    b.p.node(b.at, Kind::Fold(Box::new(fold)))
}

fn bind(p: &mut Parser<'_>, at: usize, args: Vec<Expr>) -> Parse<Expr> {
    let mut b = Builder { p, at };
    let mut args = args.into_iter();
    let (Some(name), Some(init), Some(result)) = (args.next(), args.next(), args.next()) else {
        return Err(Stop);
    };
    let var = b.name(&name, "cel.bind() variable names must be simple identifiers")?;
    let_in(&mut b, var, init, result)
}

/// `x.optMap(v, e)` is `x.hasValue() ? optional.of(bind(v, x.value(), e)) : optional.none()`.
fn optional(p: &mut Parser<'_>, at: usize, name: &str, target: Expr, args: Vec<Expr>) -> Parse<Expr> {
    const TARGET: &str = "@target";
    let mut b = Builder { p, at };
    let mut args = args.into_iter();
    let (Some(first), Some(body)) = (args.next(), args.next()) else { return Err(Stop) };
    let var = b.name(&first, &format!("{name}() variable name must be a simple identifier"))?;
    let method = |b: &mut Builder<'_, '_>, function: &str| {
        let target = b.p.node(at, Kind::Ident(TARGET.into()))?;
        let call = Call { function: function.into(), target: Some(target), args: Vec::new() };
        b.p.node(at, Kind::Call(Box::new(call)))
    };
    let has = method(&mut b, "hasValue")?;
    let value = method(&mut b, "value")?;
    let mut then = let_in(&mut b, var, value, body)?;
    if name == "optMap" {
        then = b.call("optional.of", vec![then])?;
    }
    let none = b.call("optional.none", Vec::new())?;
    let chosen = b.call(op::CONDITIONAL, vec![has, then, none])?;
    let_in(&mut b, TARGET.into(), target, chosen)
}
