//! Where RPC is listened for: TCP ports and unix sockets. Owns a socket's file: nobody but this user may open it, one
//! that a killed node left is taken over, and it goes with its listener.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::RpcPlace;

/// Callers that may wait to be accepted.
const BACKLOG: i32 = 1_024;

/// A place that is listened at.
#[derive(Debug)]
pub(crate) enum Listener {
    /// A port.
    Tcp(std::net::TcpListener),
    /// A socket with its file.
    Unix(UnixListener, SocketFile),
}

/// The file of a socket; it goes with this, unless another one has taken its place.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// Listens there.
///
/// # Errors
/// The system's, or that somebody listens there already.
pub(crate) fn listen(place: &RpcPlace) -> Result<Listener, Error> {
    match place {
        RpcPlace::Tcp(address) => tcp(*address).map(Listener::Tcp),
        RpcPlace::Unix(path) => unix(path).map(|(listener, file)| Listener::Unix(listener, file)),
    }
}

impl Listener {
    /// Where it listens, with the port that the system chose where none was named.
    pub(crate) fn place(&self) -> Option<RpcPlace> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok().map(RpcPlace::Tcp),
            Self::Unix(_, file) => Some(RpcPlace::Unix(file.path.clone())),
        }
    }
}

fn tcp(address: SocketAddr) -> Result<std::net::TcpListener, Error> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn unix(path: &Path) -> Result<(UnixListener, SocketFile), Error> {
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let metadata = std::fs::symlink_metadata(path)?;
    let file = SocketFile { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino() };
    // Before it listens: until then nobody can connect, whatever the file's mode was made as.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok((UnixListener::from(OwnedFd::from(socket)), file))
}

/// Removes the file of a socket that nobody listens at, and nothing else.
fn remove_stale(path: &Path) -> Result<(), Error> {
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !metadata.file_type().is_socket() {
        let text = "there is a file of that name which is no socket: remove it yourself";
        return Err(Error::new(ErrorKind::AlreadyExists, text));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(Error::new(ErrorKind::AddrInUse, "another program listens there")),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(error) => Err(error),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_own = std::fs::symlink_metadata(&self.path)
            .is_ok_and(|it| (it.dev(), it.ino()) == (self.device, self.inode));
        if is_own && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "a socket's file is left behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path in a folder of its own, which goes with the test.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let folder = format!("roomcast-rpc-{name}-{}", std::process::id());
            let folder = std::env::temp_dir().join(folder);
            std::fs::create_dir_all(&folder).unwrap();
            Self(folder.join("rpc.sock"))
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            std::fs::remove_dir_all(self.0.parent().unwrap()).unwrap();
        }
    }

    #[test]
    fn a_socket_is_this_users_alone_and_its_file_goes_with_it() {
        let place = Place::new("mode");
        let listener = unix(&place.0).unwrap();
        let mode = std::fs::metadata(&place.0).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        UnixStream::connect(&place.0).unwrap();
        drop(listener);
        assert!(!place.0.exists());
    }

    #[test]
    fn a_socket_that_a_killed_node_left_is_taken_over_and_one_that_lives_is_not() {
        let place = Place::new("stale");
        let (listener, file) = unix(&place.0).unwrap();
        std::mem::forget(file);
        assert_eq!(unix(&place.0).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(listener);
        assert!(place.0.exists());
        let (_listener, _file) = unix(&place.0).unwrap();
        UnixStream::connect(&place.0).unwrap();
    }

    #[test]
    fn a_file_that_is_no_socket_stays() {
        let place = Place::new("file");
        std::fs::write(&place.0, "precious").unwrap();
        let error = unix(&place.0).unwrap_err();
        assert!(error.to_string().contains("remove it yourself"), "{error}");
        assert_eq!(std::fs::read_to_string(&place.0).unwrap(), "precious");
    }

    #[test]
    fn the_file_of_another_socket_stays() {
        let place = Place::new("other");
        let (first, file) = unix(&place.0).unwrap();
        std::fs::remove_file(&place.0).unwrap();
        // Held, so that the system does not give its number again.
        let (_second, _file) = unix(&place.0).unwrap();
        drop((file, first));
        assert!(place.0.exists());
    }
}
