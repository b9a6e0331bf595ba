//! Whole-cluster stories: real processes, real containers, network namespaces of their own.
