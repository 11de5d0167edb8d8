//! `grpc.health.v1`: serving, from the first connection on.

use std::collections::BTreeMap;
use std::future::pending;

use bytes::{Bytes, BytesMut};
use mainstay_proto::Message as _;
use mainstay_proto::health::health_check_response::ServingStatus;
use mainstay_proto::health::{HealthCheckRequest, HealthCheckResponse, HealthListResponse};

use super::{decode, encode};
use crate::status::{Code, Status};
use crate::stream::{RequestMessages, ResponseSink};

/// The one service with a status: all of them.
const ALL: &str = "";

fn status_of(service: &str) -> Option<ServingStatus> {
    (service == ALL).then_some(ServingStatus::Serving)
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

pub(super) fn check(request: Bytes, out: &mut BytesMut) -> Result<(), Status> {
    let request: HealthCheckRequest = decode(request)?;
    let status = status_of(&request.service)
        .ok_or_else(|| Status::new(Code::NotFound, "unknown service"))?;
    encode(out, &response(status))
}

pub(super) fn list(out: &mut BytesMut) -> Result<(), Status> {
    let statuses = BTreeMap::from([(ALL.to_owned(), response(ServingStatus::Serving))]);
    encode(out, &HealthListResponse { statuses })
}

/// Tells the status now; it does not change while the server serves.
pub(super) async fn watch(
    mut requests: impl RequestMessages,
    mut responses: impl ResponseSink,
) -> Result<(), Status> {
    let Some(request) = requests.next().await else { return Ok(()) };
    let request: HealthCheckRequest = decode(request?)?;
    let status = status_of(&request.service).unwrap_or(ServingStatus::ServiceUnknown);
    responses.send(Bytes::from(response(status).encode_to_vec())).await;
    pending().await
}
