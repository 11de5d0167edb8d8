//! Prometheus metrics: who counts, and the one table that prints.

pub(crate) mod grpc;
