//! The rules of all services together, and what of them the kernel does not have yet.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use netlink::nft::{BaseChain, Batch, Element, Family, Rule, SetSpec};

/// A chain with its rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// For chains that the kernel enters itself.
    pub base: Option<BaseChain>,
    /// In order.
    pub rules: Vec<Rule>,
}

/// Chains, sets and elements that belong to one owner: a service, or the table itself. Chains and sets are the owner's
/// alone, by names that are unlike each other's, and a set of another make has another name; the same element may be
/// several owners'.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fragment {
    /// By name.
    pub chains: BTreeMap<String, Chain>,
    /// By name.
    pub sets: BTreeMap<String, SetSpec>,
    /// By set and key.
    pub elements: BTreeMap<(String, Vec<u8>), Element>,
}

impl Fragment {
    /// Adds an element to a set, which may be another owner's.
    pub fn add_element(&mut self, set: &str, element: Element) {
        self.elements.insert((set.to_owned(), element.key.clone()), element);
    }
}

/// A table: the fragments of all owners, and what changed since the kernel was told.
#[derive(Debug)]
pub struct Ruleset {
    family: Family,
    table: String,
    fragments: BTreeMap<String, Fragment>,
    /// Whose a chain or set is, by name.
    owner_of: HashMap<String, String>,
    /// Who wants which element; the first owner's is the one.
    elements: BTreeMap<(String, Vec<u8>), BTreeMap<String, Element>>,
    changed: Changed,
}

/// What was there when something changed first.
#[derive(Debug, Default)]
struct Changed {
    chains: BTreeMap<String, Option<Chain>>,
    sets: BTreeMap<String, Option<SetSpec>>,
    elements: BTreeMap<(String, Vec<u8>), Option<Element>>,
}

impl Ruleset {
    /// An empty table.
    pub fn new(family: Family, table: impl Into<String>) -> Self {
        let (fragments, owner_of, elements) = Default::default();
        Self { family, table: table.into(), fragments, owner_of, elements, changed: Changed::default() }
    }

    /// The family of the table.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Those who own something.
    pub fn owners(&self) -> impl Iterator<Item = &str> {
        self.fragments.keys().map(String::as_str)
    }

    /// Sets what an owner has.
    pub fn set(&mut self, owner: &str, new: Fragment) {
        let empty = new == Fragment::default();
        let old = self.fragments.remove(owner).unwrap_or_default();
        for (name, chain) in &old.chains {
            if new.chains.get(name) != Some(chain) {
                self.changed.chains.entry(name.clone()).or_insert_with(|| Some(chain.clone()));
            }
        }
        for name in new.chains.keys().filter(|name| !old.chains.contains_key(*name)) {
            self.changed.chains.entry(name.clone()).or_insert(None);
        }
        for (name, set) in &old.sets {
            if new.sets.get(name) != Some(set) {
                self.changed.sets.entry(name.clone()).or_insert_with(|| Some(set.clone()));
            }
        }
        for name in new.sets.keys().filter(|name| !old.sets.contains_key(*name)) {
            self.changed.sets.entry(name.clone()).or_insert(None);
        }
        old.chains.keys().chain(old.sets.keys()).for_each(|name| _ = self.owner_of.remove(name));
        for name in new.chains.keys().chain(new.sets.keys()) {
            self.owner_of.insert(name.clone(), owner.to_owned());
        }
        let at: BTreeSet<_> = old.elements.keys().chain(new.elements.keys()).cloned().collect();
        for at in at.into_iter().filter(|at| old.elements.get(at) != new.elements.get(at)) {
            let before = self.effective(&at).cloned();
            let wanted = self.elements.entry(at.clone()).or_default();
            match new.elements.get(&at) {
                Some(element) => _ = wanted.insert(owner.to_owned(), element.clone()),
                None => _ = wanted.remove(owner),
            }
            if wanted.is_empty() {
                self.elements.remove(&at);
            }
            self.changed.elements.entry(at).or_insert(before);
        }
        if !empty {
            self.fragments.insert(owner.to_owned(), new);
        }
    }

    fn effective(&self, at: &(String, Vec<u8>)) -> Option<&Element> {
        self.elements.get(at)?.values().next()
    }

    fn chain(&self, name: &str) -> Option<&Chain> {
        self.fragments.get(self.owner_of.get(name)?)?.chains.get(name)
    }

    fn set_spec(&self, name: &str) -> Option<&SetSpec> {
        self.fragments.get(self.owner_of.get(name)?)?.sets.get(name)
    }

    /// Everything, in place of whatever the table holds now: one change, between which and the old rules no packet
    /// falls. The table counts as told after it.
    pub fn take_all(&mut self) -> Batch {
        self.changed = Changed::default();
        let mut batch = Batch::new();
        batch.reset_table(self.family, &self.table);
        let sets = self.fragments.values().flat_map(|fragment| &fragment.sets);
        sets.for_each(|(_, spec)| batch.add_set(self.family, &self.table, spec));
        let chains = || self.fragments.values().flat_map(|fragment| &fragment.chains);
        // Chains first: rules and elements name them. Base chains last: until then no packet sees the rest.
        chains()
            .filter(|(_, chain)| chain.base.is_none())
            .chain(chains().filter(|(_, chain)| chain.base.is_some()))
            .for_each(|(name, chain)| batch.add_chain(self.family, &self.table, name, chain.base));
        for (name, chain) in chains() {
            chain.rules.iter().for_each(|rule| batch.add_rule(self.family, &self.table, name, rule));
        }
        let elements = self.elements.iter().filter_map(|(at, wanted)| Some((at, wanted.values().next()?)));
        for (set, elements) in by_set(elements.map(|(at, element)| (at.0.as_str(), element))) {
            batch.add_elements(self.family, &self.table, set, &elements);
        }
        batch
    }

    /// What changed since the last batch. The table counts as told after it; if the kernel refuses it, only
    /// [`Ruleset::take_all`] helps.
    pub fn take_changes(&mut self) -> Batch {
        let changed = std::mem::take(&mut self.changed);
        let (family, table) = (self.family, self.table.as_str());
        let mut batch = Batch::new();
        let mut old_chains = Vec::new();
        let mut new_chains = Vec::new();
        for (name, before) in &changed.chains {
            let after = self.chain(name);
            if after == before.as_ref() {
                continue;
            }
            match after {
                Some(chain) => new_chains.push((name, chain, before.is_some())),
                None => old_chains.push(name),
            }
        }
        let sets = |present: bool| changed.sets.iter().filter(move |(_, before)| before.is_some() == present);
        for spec in sets(false).filter_map(|(name, _)| self.set_spec(name)) {
            batch.add_set(family, table, spec);
        }
        for (name, chain, _) in new_chains.iter().filter(|(_, _, existed)| !existed) {
            batch.add_chain(family, table, name, chain.base);
        }
        for (name, chain, existed) in &new_chains {
            if *existed {
                batch.flush_chain(family, table, name);
            }
            chain.rules.iter().for_each(|rule| batch.add_rule(family, table, name, rule));
        }
        old_chains.iter().for_each(|name| batch.flush_chain(family, table, name));
        self.take_elements(&mut batch, &changed);
        old_chains.iter().for_each(|name| batch.delete_chain(family, table, name));
        for (name, _) in sets(true).filter(|(name, _)| self.set_spec(name).is_none()) {
            batch.delete_set(family, table, name);
        }
        batch
    }

    fn take_elements(&self, batch: &mut Batch, changed: &Changed) {
        let (mut old, mut new) = (Vec::new(), Vec::new());
        for (at, before) in &changed.elements {
            let after = self.effective(at);
            if before.as_ref() != after {
                old.extend(before.as_ref().map(|element| (at.0.as_str(), element)));
                new.extend(after.map(|element| (at.0.as_str(), element)));
            }
        }
        for (set, elements) in by_set(old) {
            batch.delete_elements(self.family, &self.table, set, &elements);
        }
        for (set, elements) in by_set(new) {
            batch.add_elements(self.family, &self.table, set, &elements);
        }
    }
}

fn by_set<'a>(elements: impl IntoIterator<Item = (&'a str, &'a Element)>) -> BTreeMap<&'a str, Vec<Element>> {
    let mut sets: BTreeMap<&str, Vec<Element>> = BTreeMap::new();
    for (set, element) in elements {
        sets.entry(set).or_default().push(element.clone());
    }
    sets
}
