//! Which type may stand for which: assignability with type parameters (`checker/types.go`).

use std::sync::Arc;

use crate::Type;

/// What is known of type parameters, by number.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mapping(Vec<Option<Type>>);

impl Mapping {
    /// A parameter that stands for nothing yet.
    pub fn fresh(&mut self) -> Type {
        self.0.push(None);
        Type::Param((self.0.len() - 1) as u32)
    }

    fn find(&self, number: u32) -> Option<&Type> {
        self.0.get(number as usize)?.as_ref()
    }

    fn bind(&mut self, number: u32, of: Type) {
        if let Some(place) = self.0.get_mut(number as usize) {
            *place = Some(of);
        }
    }

    /// The type with what is known put in; what is not known becomes dyn if `to_dyn`.
    pub fn substitute(&self, of: &Type, to_dyn: bool) -> Type {
        let inner = |t: &Arc<Type>| Arc::new(self.substitute(t, to_dyn));
        match of {
            Type::Param(number) => match self.find(*number) {
                Some(known) => self.substitute(known, to_dyn),
                None if to_dyn => Type::Dyn,
                None => of.clone(),
            },
            Type::List(items) => Type::List(inner(items)),
            Type::Map(keys, values) => Type::Map(inner(keys), inner(values)),
            Type::Optional(value) => Type::Optional(inner(value)),
            Type::Type(value) => Type::Type(inner(value)),
            other => other.clone(),
        }
    }

    /// Whether each of `given` may stand for its like of `wanted`; what is learnt is kept only if so.
    pub fn assignable_all(&mut self, given: &[Type], wanted: &[Type]) -> bool {
        if given.len() != wanted.len() {
            return false;
        }
        let before = self.clone();
        let all = given.iter().zip(wanted).all(|(given, wanted)| self.internal(given, wanted));
        if !all {
            *self = before;
        }
        all
    }

    /// Whether the two types agree; what is learnt is kept only if so.
    pub fn assignable(&mut self, a: &Type, b: &Type) -> bool {
        self.assignable_all(std::slice::from_ref(a), std::slice::from_ref(b))
    }

    fn internal(&mut self, a: &Type, b: &Type) -> bool {
        if let Type::Param(number) = b {
            let (valid, known) = self.substitution(a, *number);
            if valid || known {
                return valid;
            }
        }
        if let Type::Param(number) = a {
            return self.substitution(b, *number).0;
        }
        if a.is_dyn() || b.is_dyn() {
            return true;
        }
        match (a, b) {
            (Type::Null, other) | (other, Type::Null) => nullable(other),
            (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => self.internal(a, b),
            (Type::Map(ak, av), Type::Map(bk, bv)) => self.internal(ak, bk) && self.internal(av, bv),
            (Type::Type(_), Type::Type(_)) => true,
            (Type::Object(a), Type::Object(b)) => Arc::ptr_eq(a, b) || a.name == b.name,
            _ => a == b,
        }
    }

    /// Whether `of` may be what the parameter stands for, and whether it stood for something already.
    fn substitution(&mut self, of: &Type, number: u32) -> (bool, bool) {
        if matches!(of, Type::Param(n) if *n == number) {
            return (true, true);
        }
        if let Some(known) = self.find(number).cloned() {
            if known == *of {
                return (true, true);
            }
            if self.internal(of, &known) {
                let general = most_general(of, &known);
                if !self.occurs(number, &general) {
                    self.bind(number, general);
                }
                return (true, true);
            }
            return (false, true);
        }
        if self.occurs(number, of) {
            return (false, false);
        }
        self.bind(number, of.clone());
        (true, false)
    }

    fn occurs(&self, number: u32, within: &Type) -> bool {
        match within {
            Type::Param(n) => *n == number || self.find(*n).is_some_and(|known| self.occurs(number, known)),
            Type::List(t) | Type::Optional(t) | Type::Type(t) => self.occurs(number, t),
            Type::Map(k, v) => self.occurs(number, k) || self.occurs(number, v),
            _ => false,
        }
    }
}

fn nullable(of: &Type) -> bool {
    matches!(
        of,
        Type::Null | Type::Object(_) | Type::Opaque(_) | Type::Optional(_) | Type::Duration | Type::Timestamp
    )
}

/// Of two types that agree the one that says less.
pub(crate) fn most_general(a: &Type, b: &Type) -> Type {
    if less_specific(a, b) { a.clone() } else { b.clone() }
}

fn less_specific(a: &Type, b: &Type) -> bool {
    if a.is_dyn() || matches!(a, Type::Param(_)) {
        return true;
    }
    if b.is_dyn() || matches!(b, Type::Param(_)) {
        return false;
    }
    match (a, b) {
        (Type::Null, other) => matches!(other, Type::Null),
        (_, Type::Null) => true,
        (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => less_specific(a, b),
        (Type::Map(ak, av), Type::Map(bk, bv)) => less_specific(ak, bk) && less_specific(av, bv),
        (Type::Type(_), Type::Type(_)) => true,
        _ => a == b,
    }
}
