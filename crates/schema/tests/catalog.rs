//! The embedded tables load, agree with the recorded discovery, and say what they should of well-known fields.

use schema::{Catalog, GroupVersionKind, GroupVersionResource, Kind, ListType, Member, Presence};

#[test]
fn well_known_fields() {
    let catalog = Catalog::builtin();
    let pod = catalog.kind(&GroupVersionKind::new("", "v1", "Pod")).unwrap().root();
    let spec = pod.field("spec").unwrap().node();
    assert_eq!(spec.type_name(), "io.k8s.api.core.v1.PodSpec");
    let containers = spec.field("containers").unwrap();
    assert!(containers.required());
    assert_eq!(containers.node().list_type(), ListType::Map);
    assert_eq!(containers.node().merge_key(), Some("name"));
    let container = containers.node().child().unwrap();
    assert_eq!(container.field("resources").unwrap().presence(), Presence::Always);
    let volume = spec.field("volumes").unwrap().node().child().unwrap();
    assert!(volume.field("emptyDir").unwrap().inlined());
    let members = volume.as_object().unwrap().member(2);
    assert!(matches!(members, Some(Member::Inline(inline)) if inline.object.field("emptyDir").is_some()));
    let limits = container.field("resources").unwrap().node().field("limits").unwrap().node();
    assert!(matches!(limits.child().map(|n| n.kind()), Some(Kind::Quantity)));
}

#[test]
fn every_kind_has_a_type() {
    let catalog = Catalog::builtin();
    assert!(catalog.kind(&GroupVersionKind::new("apps", "v1", "DeleteOptions")).is_some());
    assert!(catalog.kind(&GroupVersionKind::new("", "v1", "PodList")).is_some());
    assert!(catalog.kind(&GroupVersionKind::new("extensions", "v1beta1", "Ingress")).is_some());
    for resource in catalog.resources() {
        assert_eq!(catalog.resource(&resource.gvr()).map(|r| &r.kind), Some(&resource.kind));
        assert!(!resource.has_verb("list") || !resource.list_kind.is_empty(), "{}", resource.plural);
    }
    let pods = catalog.resource(&GroupVersionResource::new("", "v1", "pods")).unwrap();
    assert_eq!(pods.key("default", "nginx"), "/registry/pods/default/nginx");
    assert_eq!(pods.columns[5].priority, 1);
}

#[test]
fn discovery_is_as_recorded() {
    let Some(dir) = base::reference_dir() else {
        println!("skipped: no reference data");
        return;
    };
    let mut expected = Vec::new();
    for file in ["discovery_api.json", "discovery_apis.json"] {
        let text = std::fs::read_to_string(dir.join("server").join(file)).unwrap();
        let document: schema::Value = serde_json::from_str(&text).unwrap();
        for group in document.items_at("items") {
            for version in group.items_at("versions") {
                for resource in version.items_at("resources") {
                    let subs =
                        resource.items_at("subresources").iter().map(|s| s.str_at("subresource").unwrap());
                    let name = group.str_at("metadata.name").unwrap_or_default();
                    let version = version.str_at("version").unwrap();
                    expected.push(format!(
                        "{name}/{version}/{} {:?}",
                        resource.str_at("resource").unwrap(),
                        subs.collect::<Vec<_>>()
                    ));
                }
            }
        }
    }
    let served = Catalog::builtin().resources().iter().map(|r| {
        let subs: Vec<&str> = r.subresources.iter().map(|s| s.name.as_str()).collect();
        format!("{}/{}/{} {subs:?}", r.group, r.version, r.plural)
    });
    assert_eq!(served.collect::<Vec<_>>(), expected);
}
