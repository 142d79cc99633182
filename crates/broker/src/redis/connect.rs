//! Connections to Redis: fred's client for commands, plain or encrypted streams for the feed's links.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use fred::clients::Client;
use fred::types::Builder;
use fred::types::config::{
    Config, ConnectionConfig, PerformanceConfig, ReconnectPolicy, Server, ServerConfig, TcpConfig,
    TlsConfig, TlsConnector, UnresponsiveConfig,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::options::{Address, RedisOptions, Servers, Tls};

/// How long the client for commands rests between two tries to connect. Units: milliseconds.
const RECONNECT_MS: u32 = 150;

/// How long an answer may be overdue until the connection for commands counts as dead. Units: milliseconds.
const UNRESPONSIVE_MS: u64 = 3_000;

/// Why there can be no connection at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The certificates of `redis.tls_ca_file` are none.
    #[error("the certificates to trust cannot be used: {0}")]
    Certificates(String),
    /// fred refuses the options.
    #[error("the client cannot be made: {0}")]
    Client(#[from] fred::error::Error),
}

/// What encrypts connections; `None`: nothing does.
pub(crate) fn connector(
    tls: Option<&Tls>,
) -> Result<Option<tokio_rustls::TlsConnector>, ConnectError> {
    let Some(tls) = tls else { return Ok(None) };
    let unusable = |cause: &dyn std::fmt::Display| ConnectError::Certificates(cause.to_string());
    let Some(pem) = &tls.ca_pem else {
        return match TlsConnector::default_rustls()? {
            TlsConnector::Rustls(connector) => Ok(Some(connector)),
        };
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|cause| unusable(&cause))?;
        roots.add(certificate).map_err(|cause| unusable(&cause))?;
    }
    if roots.is_empty() {
        return Err(unusable(&"there is no certificate among them"));
    }
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Ok(Some(Arc::new(config).into()))
}

/// A client for commands, not connected yet. Every command has a deadline, is written once at the most, and fails at
/// once where there is no connection. `waits_ms`: how long an answer may be due by itself.
pub(crate) fn client(
    options: &RedisOptions,
    connector: Option<&tokio_rustls::TlsConnector>,
    waits_ms: u64,
) -> Result<Client, ConnectError> {
    let connect = Duration::from_millis(options.connect_timeout_ms);
    let config = Config {
        fail_fast: false,
        username: options.credentials.username.clone(),
        password: options.credentials.password.clone(),
        server: servers(options),
        tls: connector.map(|connector| TlsConfig::from(TlsConnector::Rustls(connector.clone()))),
        ..Config::default()
    };
    let performance = PerformanceConfig {
        default_command_timeout: Duration::from_millis(options.command_timeout_ms),
        ..PerformanceConfig::default()
    };
    let connection = ConnectionConfig {
        connection_timeout: connect,
        internal_command_timeout: connect,
        max_command_attempts: 1,
        max_redirections: 0,
        reconnect_on_auth_error: true,
        unresponsive: UnresponsiveConfig {
            max_timeout: Some(Duration::from_millis(UNRESPONSIVE_MS + waits_ms)),
            interval: Duration::from_millis(UNRESPONSIVE_MS / 4),
        },
        tcp: TcpConfig { nodelay: Some(true), ..TcpConfig::default() },
        ..ConnectionConfig::default()
    };
    let mut builder = Builder::from_config(config);
    builder.set_performance_config(performance);
    builder.set_connection_config(connection);
    builder.set_policy(ReconnectPolicy::new_constant(0, RECONNECT_MS));
    Ok(builder.build()?)
}

fn servers(options: &RedisOptions) -> ServerConfig {
    let all = |addresses: &[Address]| addresses.iter().map(server).collect::<Vec<_>>();
    match &options.servers {
        Servers::Standalone(address) => ServerConfig::Centralized { server: server(address) },
        Servers::Sentinel { sentinels, service } => ServerConfig::Sentinel {
            hosts: all(sentinels),
            service_name: service.clone(),
            username: options.sentinel_credentials.username.clone(),
            password: options.sentinel_credentials.password.clone(),
        },
        Servers::Cluster(addresses) => {
            ServerConfig::Clustered { hosts: all(addresses), policy: Default::default() }
        }
    }
}

fn server((host, port): &Address) -> Server {
    Server::new(host.clone(), *port)
}

/// A connection of the feed.
pub(crate) enum Stream {
    Plain(TcpStream),
    Encrypted(Box<TlsStream<TcpStream>>),
}

/// Opens a connection of the feed.
pub(crate) async fn open(
    server: &Server,
    connector: Option<&tokio_rustls::TlsConnector>,
) -> io::Result<Stream> {
    let stream = TcpStream::connect((&*server.host, server.port)).await?;
    stream.set_nodelay(true)?;
    let Some(connector) = connector else { return Ok(Stream::Plain(stream)) };
    let name = server.tls_server_name.as_ref().unwrap_or(&server.host).to_string();
    let name = ServerName::try_from(name).map_err(io::Error::other)?;
    Ok(Stream::Encrypted(Box::new(connector.connect(name, stream).await?)))
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Encrypted(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Encrypted(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Encrypted(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Encrypted(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
