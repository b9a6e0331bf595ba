//! The authorizer library.

use super::{Eval, Function, host, library_type, text};
use crate::host::{AuthorizerValue, Decision, Level};
use crate::{AuthorizerQuery, EvalError, Value};

library_type!(Decision, "kubernetes.authorization.Decision");

pub(super) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "path" => |a| {
            let path = text(a, 1)?.into();
            narrow(a, Level::Any, Level::Path, |q| q.path = Some(path))
        },
        "group" => |a| {
            let group = text(a, 1)?.into();
            narrow(a, Level::Any, Level::Group, |q| q.group = group)
        },
        "serviceAccount" => |a| {
            let account = (text(a, 1)?.into(), text(a, 2)?.into());
            narrow(a, Level::Any, Level::Any, |q| q.service_account = Some(account))
        },
        "resource" => |a| {
            let resource = text(a, 1)?.into();
            narrow(a, Level::Group, Level::Resource, |q| q.resource = resource)
        },
        "subresource" => |a| of_resource(a, |q, text| q.subresource = text),
        "namespace" => |a| of_resource(a, |q, text| q.namespace = text),
        "name" => |a| of_resource(a, |q, text| q.name = text),
        "fieldSelector" => |a| of_resource(a, |q, text| q.field_selector = Some(text)),
        "labelSelector" => |a| of_resource(a, |q, text| q.label_selector = Some(text)),
        "check" => |a| {
            let value = host::<AuthorizerValue>(a, 0)?;
            let query = AuthorizerQuery { verb: text(a, 1)?.into(), ..value.query.clone() };
            Ok(value.authorizer.authorize(&query).into())
        },
        "allowed" => |a| Ok(Value::Bool(host::<Decision>(a, 0)?.allowed)),
        "reason" => |a| Ok(Value::str(host::<Decision>(a, 0)?.reason.as_str())),
        "errored" => |a| Ok(Value::Bool(host::<Decision>(a, 0)?.error.is_some())),
        "error" => |a| Ok(Value::str(host::<Decision>(a, 0)?.error.as_deref().unwrap_or(""))),
        _ => return None,
    })
}

fn narrow(args: &[Value], from: Level, to: Level, change: impl FnOnce(&mut AuthorizerQuery)) -> Eval {
    let mut value = host::<AuthorizerValue>(args, 0)?.clone();
    if value.level != from {
        return Err(EvalError::no_such_overload());
    }
    value.level = to;
    change(&mut value.query);
    Ok(Value::Host(std::sync::Arc::new(value)))
}

fn of_resource(args: &[Value], change: fn(&mut AuthorizerQuery, smol_str::SmolStr)) -> Eval {
    let word = text(args, 1)?.into();
    narrow(args, Level::Resource, Level::Resource, |query| change(query, word))
}
