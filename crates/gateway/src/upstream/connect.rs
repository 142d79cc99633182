//! Connections to back-ends: the name is resolved, its addresses are looked at, and the one that was looked at is
//! connected to, so that nothing lies between the look and the connection.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::address::is_permitted;
use super::client::Failure;
use crate::config::TargetConfig;

/// How long one of several addresses may take; the last has what the call has left.
const ATTEMPT: Duration = Duration::from_millis(500);

/// Addresses of one name that are tried.
const ATTEMPTS_MAX: usize = 4;

/// Who knows the addresses of names.
#[derive(Clone)]
pub(super) enum Resolver {
    /// The system.
    System,
    /// A test: the answers, one after the other; the last one again and again.
    #[cfg(test)]
    Fixed(Arc<std::sync::Mutex<Vec<Vec<SocketAddr>>>>),
}

impl Resolver {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::System => Ok(tokio::net::lookup_host((host, port)).await?.collect()),
            #[cfg(test)]
            Self::Fixed(answers) => {
                let mut answers = answers.lock().unwrap();
                let one = answers.first().cloned().unwrap_or_default();
                if answers.len() > 1 {
                    answers.remove(0);
                }
                Ok(one)
            }
        }
    }
}

/// A connection to a back-end.
pub(super) enum Stream {
    Plain(TcpStream),
    Encrypted(Box<TlsStream<TcpStream>>),
}

/// What encrypts connections to a target.
///
/// # Errors
/// Its certificates, or the system's, cannot be used.
pub(super) fn connector(target: &TargetConfig) -> Result<Option<TlsConnector>, Failure> {
    if !target.https {
        return Ok(None);
    }
    let mut roots = RootCertStore::empty();
    match &target.ca_pem {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|it| Failure::Trust(it.to_string()))?;
                roots.add(certificate).map_err(|it| Failure::Trust(it.to_string()))?;
            }
        }
        None => {
            // Those that cannot be read are missing, and a back-end that needs one is refused.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(Failure::Trust("no certificate is there to trust".to_owned()));
    }
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(Arc::new(config).into()))
}

/// Opens a connection to a target.
pub(super) async fn connect(
    target: &TargetConfig,
    connector: Option<&TlsConnector>,
    resolver: &Resolver,
) -> Result<Stream, Failure> {
    let found = resolver.resolve(&target.host, target.port).await;
    let found = found.map_err(|error| Failure::Resolve(error.to_string()))?;
    let is_fine = |it: &SocketAddr| is_permitted(it.ip(), &target.allow_private);
    let addresses: Vec<SocketAddr> = found.iter().copied().filter(is_fine).collect();
    let Some((last, others)) =
        addresses.get(..addresses.len().min(ATTEMPTS_MAX)).and_then(|it| it.split_last())
    else {
        return Err(match found.first() {
            Some(address) => Failure::Address(address.ip()),
            None => Failure::Resolve("the name has no address".to_owned()),
        });
    };
    let mut stream = None;
    for address in others {
        if let Ok(Ok(connected)) = tokio::time::timeout(ATTEMPT, TcpStream::connect(address)).await
        {
            stream = Some(connected);
            break;
        }
    }
    let stream = match stream {
        Some(stream) => stream,
        None => TcpStream::connect(last).await.map_err(|it| Failure::Connect(it.to_string()))?,
    };
    // A request is one write; without this its end may wait for an ack.
    stream.set_nodelay(true).map_err(|it| Failure::Connect(it.to_string()))?;
    let Some(connector) = connector else { return Ok(Stream::Plain(stream)) };
    let name = ServerName::try_from(target.host.clone());
    let name = name.map_err(|error| Failure::Tls(error.to_string()))?;
    let stream = connector.connect(name, stream).await;
    Ok(Stream::Encrypted(Box::new(stream.map_err(|error| Failure::Tls(error.to_string()))?)))
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, into),
            Self::Encrypted(stream) => Pin::new(&mut **stream).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Encrypted(stream) => Pin::new(&mut **stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Encrypted(stream) => Pin::new(&mut **stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Encrypted(stream) => Pin::new(&mut **stream).poll_shutdown(context),
        }
    }
}
