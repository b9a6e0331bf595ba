//! Whether permissions together cover a range of keys.

use proto::etcd::auth::Permission;
use proto::etcd::auth::permission::Type;

/// What is to be done with keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

fn grants(permission: &Permission, access: Access) -> bool {
    match permission.perm_type() {
        Type::Readwrite => true,
        Type::Read => access == Access::Read,
        Type::Write => access == Access::Write,
    }
}

/// The first key after a range that ends at `end` in the API's form; none: it has no end.
fn after(key: &[u8], end: &[u8]) -> Option<Vec<u8>> {
    match end {
        [] => {
            let mut next = key.to_vec();
            next.push(0);
            Some(next)
        }
        [0] => None,
        end => Some(end.to_vec()),
    }
}

/// Whether `permissions` allow `access` to every key of `key..end` (both in the API's form): several that touch
/// each other count as one.
pub(super) fn cover<'p>(
    permissions: impl Iterator<Item = &'p Permission>,
    key: &[u8],
    end: &[u8],
    access: Access,
) -> bool {
    let mut granted: Vec<(&[u8], Option<Vec<u8>>)> = permissions
        .filter(|permission| grants(permission, access))
        .map(|permission| (&permission.key[..], after(&permission.key, &permission.range_end)))
        .collect();
    granted.sort_unstable();
    let wanted_end = after(key, end);
    let mut reached = key.to_vec();
    for (from, to) in granted {
        if *from > *reached {
            break;
        }
        match to {
            None => return true,
            Some(to) if to > reached => reached = to,
            Some(_) => {}
        }
    }
    wanted_end.is_some_and(|wanted| reached >= wanted)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn neighbours_count_as_one() {
        let permission = |kind: Type, key: &'static str, end: &'static str| Permission {
            perm_type: kind.into(),
            key: Bytes::from_static(key.as_bytes()),
            range_end: Bytes::from_static(end.as_bytes()),
        };
        let granted = [
            permission(Type::Read, "m", "p"),
            permission(Type::Readwrite, "a", "m"),
            permission(Type::Read, "x", "\0"),
            permission(Type::Write, "q", ""),
        ];
        let may =
            |key: &str, end: &str, access| cover(granted.iter(), key.as_bytes(), end.as_bytes(), access);
        assert!(may("b", "", Access::Read) && may("b", "", Access::Write));
        assert!(may("a", "p", Access::Read) && !may("a", "p", Access::Write));
        assert!(!may("a", "pp", Access::Read) && !may("a", "\0", Access::Read));
        assert!(may("y", "\0", Access::Read) && may("x", "", Access::Read));
        assert!(may("q", "", Access::Write) && !may("q", "r", Access::Write) && !may("q", "", Access::Read));
    }
}
