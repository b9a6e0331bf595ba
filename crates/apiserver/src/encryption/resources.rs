//! Which resources a group of providers is for.

/// `secrets`, `deployments.apps`, `*.apps`, `*.` or `*.*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    group: String,
    resource: String,
}

/// Names that stood in etcd and are no resources.
const NOT_SERVED: [&str; 3] = ["apiserveripinfo", "serviceipallocations", "servicenodeportallocations"];

impl Selector {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (resource, group) = text.split_once('.').unwrap_or((text, ""));
        if text != text.to_lowercase() {
            return Err("resource name should not contain capital letters");
        }
        if text == "*" {
            return Err(
                "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources",
            );
        }
        if NOT_SERVED.contains(&text) {
            return Err("resources which do not have REST API/s cannot be encrypted");
        }
        match group {
            "events.k8s.io" => {
                return Err(
                    "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' \
                            instead in the config file",
                );
            }
            "extensions" => {
                return Err("'extensions' group has been removed and cannot be used for encryption");
            }
            "*" if resource != "*" => {
                return Err("encrypting the same resource across groups is not supported");
            }
            _ => {}
        }
        if resource.is_empty() || resource.contains(['/', ' ']) {
            return Err("no resource");
        }
        Ok(Self { group: group.to_owned(), resource: resource.to_owned() })
    }

    fn is_all(&self) -> bool {
        self.group == "*"
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.is_all()
            || other.is_all()
            || self.group == other.group && (self.resource == "*" || other.resource == "*")
    }

    /// Whether a resource is meant.
    pub fn selects(&self, group: &str, resource: &str) -> bool {
        (self.is_all() || self.group == group) && (self.resource == "*" || self.resource == resource)
    }

    /// As the file has it.
    fn shown(&self) -> String {
        match (self.group.as_str(), self.resource.as_str()) {
            ("", "*") => "*.".to_owned(),
            ("", resource) => resource.to_owned(),
            (group, resource) => format!("{resource}.{group}"),
        }
    }
}

/// The selectors of one list.
pub fn parse(texts: &[&str]) -> Result<Vec<Selector>, String> {
    let mut selectors: Vec<Selector> = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        let selector =
            Selector::parse(text).map_err(|e| format!("resources[{i}]: Invalid value: {text:?}: {e}"))?;
        if selectors.contains(&selector) {
            return Err(format!(
                "resources: Invalid value: {texts:?}: the same resource cannot be specified multiple times"
            ));
        }
        if selectors.iter().any(|other| other.overlaps(&selector)) {
            return Err(format!(
                "resources: Invalid value: {texts:?}: using overlapping resources such as 'secrets' and '*.' in the \
                 same resource list is not allowed as they will be masked"
            ));
        }
        selectors.push(selector);
    }
    Ok(selectors)
}

/// An error if a selector comes after one that takes all of its resources.
pub fn check_masked<'a>(lists: impl Iterator<Item = &'a [Selector]>) -> Result<(), String> {
    let mut wide: Vec<&Selector> = Vec::new();
    for list in lists {
        for selector in list {
            let masks = |other: &&&Selector| other.is_all() || other.group == selector.group;
            if let Some(earlier) = wide.iter().find(masks) {
                return Err(format!(
                    "resource {:?} is masked by earlier rule {:?}",
                    selector.shown(),
                    earlier.shown()
                ));
            }
        }
        wide.extend(list.iter().filter(|selector| selector.resource == "*"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_selected_and_what_is_refused() {
        let all = parse(&["secrets", "deployments.apps", "*.batch"]).unwrap();
        let selected = |group: &str, resource: &str| all.iter().any(|s| s.selects(group, resource));
        assert!(selected("", "secrets") && selected("apps", "deployments") && selected("batch", "jobs"));
        assert!(!selected("apps", "secrets") && !selected("", "pods"));
        for (texts, why) in [
            (&["*"][..], "*.* to encrypt all resources"),
            (&["Secrets"], "capital letters"),
            (&["secrets.*"], "across groups"),
            (&["events.events.k8s.io"], "Use 'events' instead"),
            (&["ingresses.extensions"], "has been removed"),
            (&["secrets", "secrets"], "multiple times"),
            (&["secrets", "*."], "overlapping"),
            (&["jobs.batch", "*.*"], "overlapping"),
        ] {
            let error = parse(texts).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let lists = [["*.apps"], ["deployments.apps"]].map(|list| parse(&list).unwrap());
        let masked = check_masked(lists.iter().map(Vec::as_slice)).unwrap_err();
        assert_eq!(masked, "resource \"deployments.apps\" is masked by earlier rule \"*.apps\"");
        assert_eq!(check_masked(lists.iter().rev().map(Vec::as_slice)), Ok(()));
    }
}
