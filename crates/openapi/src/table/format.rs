//! Texts that many cells share: ages, selectors, counts.

use schema::time::{self, Layout};
use schema::{Map, Value};

use super::Seconds;

/// The time since creation.
pub(super) fn age(object: &Value, now: Seconds) -> Value {
    since_at(object, "metadata.creationTimestamp", now)
}

/// The time since the time at dotted field names; `<unknown>` when there is none.
pub(super) fn since_at(object: &Value, dotted: &str, now: Seconds) -> Value {
    since(object.str_at(dotted).unwrap_or_default(), now)
}

/// The time since a time text.
pub(super) fn since(text: &str, now: Seconds) -> Value {
    match seconds(text) {
        Some(then) => Value::from(human_duration(now - then)),
        None => Value::str("<unknown>"),
    }
}

/// Seconds since 1970 of a time in either layout.
pub(super) fn seconds(text: &str) -> Option<Seconds> {
    time::parse(text, Layout::Seconds).ok().map(|(seconds, _)| seconds)
}

/// A duration as `kubectl get` shows ages (`duration.HumanDuration`): two units at most, coarser with time.
pub fn human_duration(seconds: Seconds) -> String {
    let two = |big: i64, unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{big}{unit}"),
        _ => format!("{big}{unit}{small}{small_unit}"),
    };
    let (minutes, hours) = (seconds / 60, seconds / 3_600);
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(hours / 24, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{}d", hours / 24),
        63_072_000..252_288_000 => two(hours / 24 / 365, "y", hours / 24 % 365, "d"),
        _ => format!("{}y", hours / 24 / 365),
    }
}

/// The text at dotted field names, or `otherwise` when absent or empty.
pub(super) fn text(object: &Value, dotted: &str, otherwise: &str) -> Value {
    let text = object.str_at(dotted).filter(|t| !t.is_empty());
    Value::str(text.unwrap_or(otherwise))
}

/// The number at dotted field names, 0 when absent.
pub(super) fn int(object: &Value, dotted: &str) -> i64 {
    object.int_at(dotted).unwrap_or(0)
}

/// A number or string as text (`IntOrString`).
pub(super) fn int_or_string(value: &Value) -> String {
    match value {
        Value::Int(i) => i.to_string(),
        other => other.as_str().unwrap_or_default().to_owned(),
    }
}

/// `a=b,c=d`, or `<none>`.
pub(super) fn labels(map: Option<&Map>) -> Value {
    let pairs: Vec<String> = map
        .into_iter()
        .flat_map(Map::iter)
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
        .collect();
    Value::from(if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(",") })
}

/// A label selector in the form that clients type (`metav1.FormatLabelSelector`).
pub(super) fn selector(selector: Option<&Value>) -> Value {
    let Some(selector) = selector else { return Value::str("<none>") };
    let equal = selector.get("matchLabels").map(Value::entries).unwrap_or_default();
    let mut parts: Vec<(&str, String)> =
        equal.iter().map(|(k, v)| (k.as_str(), format!("{k}={}", v.as_str().unwrap_or_default()))).collect();
    for expression in selector.items_at("matchExpressions") {
        let key = expression.str_at("key").unwrap_or_default();
        let mut values: Vec<&str> = expression.items_at("values").iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let part = match expression.str_at("operator") {
            Some("In") => format!("{key} in ({values})"),
            Some("NotIn") => format!("{key} notin ({values})"),
            Some("Exists") => key.to_owned(),
            Some("DoesNotExist") => format!("!{key}"),
            _ => return Value::str("<error>"),
        };
        parts.push((key, part));
    }
    parts.sort_by(|a, b| a.0.cmp(b.0));
    let parts: Vec<String> = parts.into_iter().map(|(_, part)| part).collect();
    Value::from(if parts.is_empty() { "<none>".to_owned() } else { parts.join(",") })
}

/// Names and images of a pod template's containers.
pub(super) fn containers(spec: Option<&Value>) -> [Value; 2] {
    let all = spec.map(|s| s.items_at("containers")).unwrap_or_default();
    let join = |field: &str| {
        let texts: Vec<&str> = all.iter().filter_map(|c| c.str_at(field)).collect();
        Value::from(texts.join(","))
    };
    [join("name"), join("image")]
}

/// The condition of that type.
pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object.items_at("status.conditions").iter().find(|c| c.str_at("type") == Some(kind))
}

/// True when the condition of that type is `True`.
pub(super) fn holds(object: &Value, kind: &str) -> bool {
    condition(object, kind).and_then(|c| c.str_at("status")) == Some("True")
}

/// The first `max` texts, and how many more there are.
pub(super) fn list_with_more(list: &[String], max: usize, separator: &str, none: &str) -> Value {
    if list.is_empty() {
        return Value::str(none);
    }
    let shown = list[..list.len().min(max)].join(separator);
    Value::from(match list.len().checked_sub(max).filter(|more| *more > 0) {
        Some(more) => format!("{shown} + {more} more..."),
        None => shown,
    })
}

/// `a,b`, or `none` for none.
pub(super) fn joined(items: &[Value], none: &str) -> Value {
    let texts: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
    Value::from(if texts.is_empty() { none.to_owned() } else { texts.join(",") })
}

/// True when the object is being deleted.
pub(super) fn deleting(object: &Value) -> bool {
    object.at("metadata.deletionTimestamp").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    #[test]
    fn ages_get_coarser() {
        for (seconds, text) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (11_100, "3h5m"),
            (28_800, "8h"),
            (172_800, "2d"),
            (176_400, "2d1h"),
            (691_200, "8d"),
            (63_072_000, "2y"),
            (63_158_400, "2y1d"),
            (252_288_000, "8y"),
        ] {
            assert_eq!(human_duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn selectors_as_typed() {
        let full = value!({"matchLabels": {"b": "1"}, "matchExpressions": [
            {"key": "a", "operator": "In", "values": ["y", "x"]}, {"key": "c", "operator": "DoesNotExist"}]});
        assert_eq!(selector(Some(&full)), Value::str("a in (x,y),b=1,!c"));
        assert_eq!(selector(Some(&Value::map())), Value::str("<none>"));
    }
}
