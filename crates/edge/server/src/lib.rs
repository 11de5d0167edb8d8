//! gRPC, HTTP endpoints, metrics and TLS
