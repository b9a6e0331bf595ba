//! Changes of the cluster that may make pods schedulable.

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resource {
    /// A node.
    Node,
    /// A pod that has a node.
    AssignedPod,
    /// The waiting pod itself.
    UnscheduledPod,
    /// A volume claim.
    PersistentVolumeClaim,
    /// A volume.
    PersistentVolume,
    /// A storage class.
    StorageClass,
    /// A CSI node.
    CsiNode,
    /// Anything at all, also the passing of time.
    Any,
}

/// How it changed; a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Action(u16);

impl Action {
    /// It is new.
    pub const ADD: Self = Self(1);
    /// It is gone.
    pub const DELETE: Self = Self(2);
    /// A node has more or less to give.
    pub const UPDATE_ALLOCATABLE: Self = Self(4);
    /// Labels.
    pub const UPDATE_LABEL: Self = Self(8);
    /// A node's taints, or its unschedulable mark.
    pub const UPDATE_TAINT: Self = Self(16);
    /// A pod needs less.
    pub const SCALE_DOWN: Self = Self(32);
    /// A pod's scheduling gates.
    pub const UPDATE_GATES: Self = Self(64);
    /// A pod's tolerations.
    pub const UPDATE_TOLERATION: Self = Self(128);
    /// Something else.
    pub const UPDATE_OTHER: Self = Self(256);
    /// Any of these.
    pub const ALL: Self = Self(u16::MAX);

    /// Both sets together.
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// True if the sets share an action.
    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// True for no action.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// No action.
    pub const NONE: Self = Self(0);
}

/// Something that happened, or that a plugin waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClusterEvent {
    /// What changed.
    pub resource: Resource,
    /// How.
    pub action: Action,
}

impl ClusterEvent {
    /// An event or an interest.
    pub const fn new(resource: Resource, action: Action) -> Self {
        Self { resource, action }
    }

    /// True if `happened` is of interest to who waits for `self`.
    pub fn matches(self, happened: Self) -> bool {
        let any = self.resource == Resource::Any || happened.resource == Resource::Any;
        any || (self.resource == happened.resource && self.action.meets(happened.action))
    }
}
