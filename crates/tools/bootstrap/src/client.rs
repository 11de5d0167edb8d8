//! The client of a v3 discovery service: endpoints in turn, a token when there are users.

use std::path::PathBuf;
use std::time::Duration;

use mainstay_client::stubs::etcdserverpb::auth_client::AuthClient;
use mainstay_client::{Client, Options};
use mainstay_config::DiscoveryConfig;
use mainstay_proto::etcdserverpb as pb;
use mainstay_types::limits::BOOTSTRAP_ANSWER_BYTES_MAX;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::AsciiMetadataValue;
use tonic::{Request, Status, Streaming};

use crate::tls::system_bundle;

/// A connection to one of the endpoints; the next one after a failure.
pub(crate) struct Service<'a> {
    settings: &'a DiscoveryConfig,
    options: Options,
    /// Which endpoint is used.
    at: usize,
    open: Option<Open>,
}

struct Open {
    client: Client,
    token: Option<AsciiMetadataValue>,
}

/// A watch that stays open as long as this.
pub(crate) struct Watch {
    /// What the service sends.
    pub(crate) answers: Streaming<pb::WatchResponse>,
    _asks: mpsc::Sender<pb::WatchRequest>,
}

impl<'a> Service<'a> {
    /// Connects, and tells who we are when there is a user and a password.
    ///
    /// # Errors
    /// When the service does not take the user. A service that cannot be reached is no error yet,
    /// as in etcd: the first call will tell.
    pub(crate) async fn open(settings: &'a DiscoveryConfig) -> Result<Service<'a>, String> {
        if settings.cert.is_some() != settings.key.is_some() {
            let shown = |path: &Option<PathBuf>| {
                path.as_deref().unwrap_or("".as_ref()).display().to_string()
            };
            let (key, cert) = (shown(&settings.key), shown(&settings.cert));
            return Err(format!(
                "KeyFile and CertFile must both be present[key: {key}, cert: {cert}]"
            ));
        }
        let mut service = Service { settings, options: options(settings), at: 0, open: None };
        match service.connect().await {
            Ok(_) => Ok(service),
            Err(Trouble::Refused(status)) => Err(status.message().to_owned()),
            Err(Trouble::Away(_)) => Ok(service),
        }
    }

    /// A range of keys, linearizable.
    pub(crate) async fn range(
        &mut self,
        ask: pb::RangeRequest,
    ) -> Result<pb::RangeResponse, String> {
        let settings = self.settings;
        self.within(settings.request_timeout, async |open: &Open| {
            open.client.kv().range(open.signed(ask)).await.map(tonic::Response::into_inner)
        })
        .await
    }

    /// A put.
    pub(crate) async fn put(&mut self, ask: pb::PutRequest) -> Result<pb::PutResponse, String> {
        let settings = self.settings;
        self.within(settings.request_timeout, async |open: &Open| {
            open.client.kv().put(open.signed(ask)).await.map(tonic::Response::into_inner)
        })
        .await
    }

    /// A watch; its answers may take as long as they like, its opening may not.
    pub(crate) async fn watch(&mut self, ask: pb::WatchCreateRequest) -> Result<Watch, String> {
        let settings = self.settings;
        self.within(settings.request_timeout, async |open: &Open| {
            let (asks, stream) = mpsc::channel(1);
            let union = pb::watch_request::RequestUnion::CreateRequest(ask);
            let first = pb::WatchRequest { request_union: Some(union) };
            asks.try_send(first).expect("a new channel has room");
            let answers = open.client.watch().watch(open.signed(ReceiverStream::new(stream))).await;
            Ok(Watch { answers: answers?.into_inner(), _asks: asks })
        })
        .await
    }

    /// Another endpoint, on a new connection, for the next call.
    pub(crate) fn turn(&mut self) {
        self.open = None;
        self.at = (self.at + 1) % self.settings.endpoints.len().max(1);
    }

    async fn within<T>(
        &mut self,
        limit: Duration,
        call: impl AsyncFnOnce(&Open) -> Result<T, Status>,
    ) -> Result<T, String> {
        let outcome = timeout(limit, async {
            let open = self.connect().await.map_err(|trouble| trouble.to_string())?;
            call(open).await.map_err(|status| status.message().to_owned())
        })
        .await
        .unwrap_or_else(|_| Err("context deadline exceeded".to_owned()));
        if outcome.is_err() {
            self.turn();
        }
        outcome
    }

    async fn connect(&mut self) -> Result<&Open, Trouble> {
        if self.open.is_none() {
            let endpoint = &self.settings.endpoints[self.at];
            let connecting = Client::connect(endpoint.trim(), &self.options);
            let client = timeout(self.options.dial_timeout, connecting)
                .await
                .map_err(|_| Trouble::Away("context deadline exceeded".to_owned()))?
                .map_err(|e| Trouble::Away(e.to_string()))?;
            let token = self.token(&client).await?;
            self.open = Some(Open { client, token });
        }
        Ok(self.open.as_ref().expect("it was just filled"))
    }

    /// As Go's client: only with both a user and a password; a service without users does not mind.
    async fn token(&self, client: &Client) -> Result<Option<AsciiMetadataValue>, Trouble> {
        let (name, password) = (&self.settings.user, self.settings.password.text());
        if name.is_empty() || password.is_empty() {
            return Ok(None);
        }
        let ask = pb::AuthenticateRequest { name: name.clone(), password: password.to_owned() };
        let mut auth: AuthClient<_> = client.auth();
        match auth.authenticate(ask).await {
            Ok(answer) => {
                let token = AsciiMetadataValue::try_from(answer.into_inner().token);
                Ok(token.ok())
            }
            Err(status) if status.message() == "etcdserver: authentication is not enabled" => {
                Ok(None)
            }
            Err(status) if status.code() == tonic::Code::Unavailable => {
                Err(Trouble::Away(status.message().to_owned()))
            }
            Err(status) => Err(Trouble::Refused(Box::new(status))),
        }
    }
}

impl Open {
    fn signed<T>(&self, ask: T) -> Request<T> {
        let mut request = Request::new(ask);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{0}")]
    Away(String),
    #[error("{}", .0.message())]
    Refused(Box<Status>),
}

/// As Go's client reads the flags: files ask for TLS, and so does refusing to be without it; then
/// the machine's authorities count.
fn options(settings: &DiscoveryConfig) -> Options {
    let identity = settings.cert.clone().zip(settings.key.clone());
    let wants_tls = identity.is_some() || settings.ca.is_some() || !settings.insecure_transport;
    Options {
        dial_timeout: settings.dial_timeout,
        keepalive_time: settings.keepalive_time,
        keepalive_timeout: settings.keepalive_timeout,
        ca_file: settings.ca.clone().or_else(|| wants_tls.then(system_bundle).flatten()),
        identity,
        skip_verify: settings.insecure_skip_verify,
        receive_bytes_max: BOOTSTRAP_ANSWER_BYTES_MAX,
        ..Options::default()
    }
}
