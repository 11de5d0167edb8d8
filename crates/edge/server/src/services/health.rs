//! `grpc.health.v1`: serving from the first connection on; with gate
//! `StopGRPCServiceOnDefrag` not while a client has the db defragmented.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use mainstay_proto::Message as _;
use mainstay_proto::health::health_check_response::ServingStatus;
use mainstay_proto::health::{HealthCheckRequest, HealthCheckResponse, HealthListResponse};
use tokio::sync::watch;

use super::{decode, encode};
use crate::status::{Code, Status};
use crate::stream::{RequestMessages, ResponseSink};

/// The one service with a status: all of them.
const ALL: &str = "";

/// What health checks are told; one for all shards.
#[derive(Debug)]
pub(crate) struct Health {
    /// Whether a defragmentation counts.
    stops_on_defrag: bool,
    /// Reasons not to serve.
    reasons: watch::Sender<usize>,
}

/// A reason not to serve, while it is held.
pub(crate) struct Stopped<'a>(Option<&'a Health>);

impl Health {
    /// Serving; `stops_on_defrag` is the gate `StopGRPCServiceOnDefrag`.
    pub(crate) fn new(stops_on_defrag: bool) -> Health {
        Health { stops_on_defrag, reasons: watch::Sender::new(0) }
    }

    /// A defragmentation begins; it ends with what is returned.
    pub(crate) fn defragmenting(&self) -> Stopped<'_> {
        if !self.stops_on_defrag {
            return Stopped(None);
        }
        self.reasons.send_modify(|reasons| *reasons += 1);
        tracing::warn!(
            service = ALL,
            status = "NOT_SERVING",
            reason = "defrag is active",
            "grpc service status changed"
        );
        Stopped(Some(self))
    }

    fn status(&self) -> ServingStatus {
        status(*self.reasons.borrow())
    }

    fn status_of(&self, service: &str) -> Option<ServingStatus> {
        (service == ALL).then(|| self.status())
    }
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        let Some(health) = self.0 else { return };
        health.reasons.send_modify(|reasons| *reasons -= 1);
        if health.status() == ServingStatus::Serving {
            tracing::info!(service = ALL, status = "SERVING", "grpc service status changed");
        }
    }
}

fn status(reasons: usize) -> ServingStatus {
    if reasons == 0 { ServingStatus::Serving } else { ServingStatus::NotServing }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

pub(super) fn check(health: &Health, request: Bytes, out: &mut BytesMut) -> Result<(), Status> {
    let request: HealthCheckRequest = decode(request)?;
    let status = health
        .status_of(&request.service)
        .ok_or_else(|| Status::new(Code::NotFound, "unknown service"))?;
    encode(out, &response(status))
}

pub(super) fn list(health: &Health, out: &mut BytesMut) -> Result<(), Status> {
    let statuses = BTreeMap::from([(ALL.to_owned(), response(health.status()))]);
    encode(out, &HealthListResponse { statuses })
}

/// Tells the status now, and again whenever it changes.
pub(super) async fn watch(
    health: &Health,
    mut requests: impl RequestMessages,
    mut responses: impl ResponseSink,
) -> Result<(), Status> {
    let Some(request) = requests.next().await else { return Ok(()) };
    let request: HealthCheckRequest = decode(request?)?;
    if request.service != ALL {
        let unknown = response(ServingStatus::ServiceUnknown);
        responses.send(Bytes::from(unknown.encode_to_vec())).await;
        return std::future::pending().await;
    }
    let mut reasons = health.reasons.subscribe();
    let mut told = None;
    loop {
        let now = status(*reasons.borrow_and_update());
        if told != Some(now) {
            responses.send(Bytes::from(response(now).encode_to_vec())).await;
            told = Some(now);
        }
        if reasons.changed().await.is_err() {
            // Its sender lives as long as the server.
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
