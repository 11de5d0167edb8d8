//! TLS with a peer that we dial.

use std::io;

use mainstay_server::{ClientTls, LetIn};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::client::TlsStream;

use crate::url::Origin;

/// Shakes hands with `origin`. Its certificate must be for the host of its URL,
/// unless the member was told another name. The connection is to be run by
/// [`mainstay_server::until_revoked`].
///
/// # Errors
/// The socket's, or one of the two does not trust the other.
pub(crate) async fn handshake<IO>(
    tls: &ClientTls,
    origin: &Origin,
    io: IO,
) -> io::Result<(TlsStream<IO>, Option<LetIn>)>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let name = tls.server_name(origin.name())?;
    let stream = tokio_rustls::TlsConnector::from(tls.current()).connect(name, io).await?;
    let let_in = tls.let_in(stream.get_ref().1.peer_certificates())?;
    Ok((stream, let_in))
}
