//! Values and their types as Go prints them, for error messages.

use std::fmt;

use schema::Value;

/// Prints `map[a:1 b:[x y]]`.
pub struct GoText<'a>(pub &'a Value);

impl fmt::Display for GoText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Null => f.write_str("<nil>"),
            Value::Bool(b) => write!(f, "{b}"),
            Value::Int(i) => write!(f, "{i}"),
            Value::Float(x) => write!(f, "{x}"),
            Value::Str(s) => f.write_str(s),
            Value::List(list) => {
                f.write_str("[")?;
                for (i, item) in list.iter().enumerate() {
                    write!(f, "{}{}", if i > 0 { " " } else { "" }, GoText(item))?;
                }
                f.write_str("]")
            }
            Value::Map(map) => {
                f.write_str("map[")?;
                for (i, (key, value)) in map.iter().enumerate() {
                    write!(f, "{}{key}:{}", if i > 0 { " " } else { "" }, GoText(value))?;
                }
                f.write_str("]")
            }
        }
    }
}

/// The Go type that a JSON value is decoded to, as `%T` prints it.
pub fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int64",
        Value::Float(_) => "float64",
        Value::Str(_) => "string",
        Value::List(_) => "[]interface {}",
        Value::Map(_) => "map[string]interface {}",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    #[test]
    fn maps_and_lists() {
        let value = value!({"spec": {"replicas": "three", "x": [1, null]}});
        assert_eq!(GoText(&value).to_string(), "map[spec:map[replicas:three x:[1 <nil>]]]");
    }
}
