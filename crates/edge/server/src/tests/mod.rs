//! The whole server over a member made of a few maps.

mod auth;
mod client;
mod cluster;
mod fake;
mod fake_cluster;
mod framing;
mod gateway;
mod hostile;
mod http;
mod lock;
mod metrics;
mod net;
mod network;
mod peer;
mod real;
mod real_metrics;
mod services;
mod tls;
mod websocket;
