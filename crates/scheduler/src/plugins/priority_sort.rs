//! PrioritySort: pods of higher priority first, then who waits longest.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::framework::{Plugin, Points, QueueSort};
use crate::pod_info::PodInfo;

/// Orders the queue by `spec.priority`.
pub struct PrioritySort;

impl Plugin for PrioritySort {
    fn name(&self) -> &'static str {
        "PrioritySort"
    }

    fn points(self: Arc<Self>) -> Points {
        Points { queue_sort: Some(self), ..Points::default() }
    }
}

impl QueueSort for PrioritySort {
    fn compare(&self, a: &PodInfo, b: &PodInfo) -> Ordering {
        b.priority().cmp(&a.priority())
    }
}
