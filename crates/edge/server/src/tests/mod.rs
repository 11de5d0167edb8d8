//! The whole server over a member made of a few maps.

mod client;
mod fake;
mod framing;
mod http;
mod metrics;
mod net;
mod real;
mod services;
mod tls;
