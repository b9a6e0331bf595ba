//! What a pod asks for and may use at most, as LimitRanger and ResourceQuota count it (KEP-753, KEP-2837).

use std::collections::BTreeMap;

use base::Quantity;
use schema::Value;

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

/// Reads a resource list; what is no quantity counts for nothing.
pub fn read(list: Option<&Value>) -> Amounts {
    let entries = list.map(Value::entries).unwrap_or_default();
    entries.iter().filter_map(|(name, value)| Some((name.to_string(), quantity(value)?))).collect()
}

fn quantity(value: &Value) -> Option<Quantity> {
    match value.as_str() {
        Some(text) => Quantity::parse(text).ok(),
        None => Some(Quantity::from_units(value.as_int()?, base::quantity::Format::DecimalSi)),
    }
}

/// Adds an amount.
pub fn add(to: &mut Amounts, name: &str, amount: Quantity) {
    match to.get_mut(name) {
        Some(present) => *present = *present + amount,
        None => {
            to.insert(name.to_owned(), amount);
        }
    }
}

fn add_all(to: &mut Amounts, more: &Amounts) {
    more.iter().for_each(|(name, amount)| add(to, name, *amount));
}

fn raise(to: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        match to.get_mut(name) {
            Some(present) if *present >= *amount => {}
            Some(present) => *present = *amount,
            None => {
                to.insert(name.clone(), *amount);
            }
        }
    }
}

/// What a pod needs at once of `field` (`requests` or `limits`): all containers together, or one init container with
/// the sidecars before it, whichever is more; amounts of the pod as a whole take their place; overhead comes on top.
pub fn of_pod(pod: &Value, field: &str) -> Amounts {
    let spec = &pod["spec"];
    let of = |container: &Value| read(container.at("resources").and_then(|r| r.get(field)));
    let mut running = Amounts::new();
    for container in spec.items_at("containers") {
        add_all(&mut running, &of(container));
    }
    let (mut sidecars, mut starting) = (Amounts::new(), Amounts::new());
    for container in spec.items_at("initContainers") {
        let own = of(container);
        if container.str_at("restartPolicy") == Some("Always") {
            add_all(&mut running, &own);
            add_all(&mut sidecars, &own);
            raise(&mut starting, &sidecars);
        } else {
            let mut with = sidecars.clone();
            add_all(&mut with, &own);
            raise(&mut starting, &with);
        }
    }
    raise(&mut running, &starting);
    running.extend(read(spec.at("resources").and_then(|r| r.get(field))));
    for (name, amount) in read(spec.get("overhead")) {
        if field == "requests" || running.contains_key(&name) {
            add(&mut running, &name, amount);
        }
    }
    running
}
