//! Leases, as the leader answers other members about them: `/leases` renews one,
//! `/leases/internal` tells its times and keys.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use mainstay_proto::{Message, etcdserverpb as pb, leasepb};

use super::{BadBody, only_post};
use crate::cluster::Led;
use crate::gate::Permitted;
use crate::grpc::Body;
use crate::http::{Asked, Http, error, with_type};
use crate::member::Member;

/// How long this member may take to know everything that is committed (etcd,
/// `leasehttp.applyTimeout`).
const CATCH_UP: Duration = Duration::from_secs(1);

/// etcd's texts, which its members compare (`lease.ErrLeaseNotFound`,
/// `lease.ErrNotPrimary`).
const NOT_FOUND: &str = "lease not found";
const NOT_PRIMARY: &str = "not a primary lessor";

pub(super) async fn renew<M: Member>(http: &Http<M>, asked: Asked) -> Response<Body> {
    let request: pb::LeaseKeepAliveRequest = match question(http, asked).await {
        Ok(request) => request,
        Err(refusal) => return refusal,
    };
    let request = Permitted::of_a_member(request);
    match http.member.lease_renew(&request).await {
        Ok(Led::Here(Some(ttl))) => {
            http.member.stats().leases_renewed.inc();
            message(&pb::LeaseKeepAliveResponse { header: None, id: request.id, ttl })
        }
        Ok(Led::Here(None)) => error(StatusCode::NOT_FOUND, NOT_FOUND),
        Ok(Led::Elsewhere) => error(StatusCode::BAD_REQUEST, NOT_PRIMARY),
        Err(status) => error(StatusCode::BAD_REQUEST, &status.message),
    }
}

pub(super) async fn times<M: Member>(http: &Http<M>, asked: Asked) -> Response<Body> {
    let request: leasepb::LeaseInternalRequest = match question(http, asked).await {
        Ok(request) => request,
        Err(refusal) => return refusal,
    };
    let Some(request) = request.lease_time_to_live_request else {
        return error(StatusCode::BAD_REQUEST, "error unmarshalling request");
    };
    match http.member.lease_time_to_live(&Permitted::of_a_member(request)).await {
        // A lease that exists was granted with some time.
        Ok(Led::Here(times)) if times.granted_ttl == 0 => error(StatusCode::NOT_FOUND, NOT_FOUND),
        Ok(Led::Here(times)) => {
            let header = Some(pb::ResponseHeader::default());
            let times = pb::LeaseTimeToLiveResponse { header, ..times };
            message(&leasepb::LeaseInternalResponse { lease_time_to_live_response: Some(times) })
        }
        Ok(Led::Elsewhere) => error(StatusCode::INTERNAL_SERVER_ERROR, NOT_PRIMARY),
        Err(status) => error(StatusCode::INTERNAL_SERVER_ERROR, &status.message),
    }
}

/// The question in the body, once this member knows everything that is committed.
async fn question<M: Member, T: Message + Default>(
    http: &Http<M>,
    mut asked: Asked,
) -> Result<T, Response<Body>> {
    if let Some(refusal) = only_post(&asked) {
        return Err(refusal);
    }
    let body =
        asked.read(http.member.settings().request_timeout).await.map_err(|bad| match bad {
            BadBody::TooLarge => error(StatusCode::PAYLOAD_TOO_LARGE, "request body too large"),
            BadBody::Broken => error(StatusCode::BAD_REQUEST, "error reading body"),
        })?;
    let question = T::decode(body)
        .map_err(|_| error(StatusCode::BAD_REQUEST, "error unmarshalling request"))?;
    match tokio::time::timeout(CATCH_UP, http.member.linearizable()).await {
        Ok(Ok(())) => Ok(question),
        Ok(Err(_)) | Err(_) => {
            let text = "waiting for node to catch up its applied index has timed out";
            Err(error(StatusCode::REQUEST_TIMEOUT, text))
        }
    }
}

fn message(message: &impl Message) -> Response<Body> {
    with_type("application/protobuf", Bytes::from(message.encode_to_vec()))
}
