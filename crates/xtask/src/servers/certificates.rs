//! An authority of a test's own and a certificate that it gave to `localhost` and 127.0.0.1, made by `openssl`.

use std::path::{Path, PathBuf};

use crate::process;

/// What `openssl req` is told: the authority may sign, the server may serve.
const CONFIGURATION: &str = "\
[req]
distinguished_name = name
prompt = no
[name]
CN = roomcast-test
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
[server]
basicConstraints = critical, CA:FALSE
subjectAltName = DNS:localhost, IP:127.0.0.1
extendedKeyUsage = serverAuth
";

/// Files in PEM.
#[derive(Debug)]
pub(crate) struct Certificates {
    pub(crate) authority: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Certificates {
    /// Makes them in `folder`; they are good for two days.
    ///
    /// Errors: no `openssl`.
    pub(crate) fn make(folder: &Path) -> Result<Self, String> {
        let file = folder.join("openssl.cnf");
        std::fs::write(&file, CONFIGURATION)
            .map_err(|cause| format!("{}: {cause}", file.display()))?;
        let curve = "ec_paramgen_curve:prime256v1";
        let new = ["req", "-x509", "-config", "openssl.cnf", "-days", "2", "-nodes"];
        let key = ["-newkey", "ec", "-pkeyopt", curve];
        let authority = ["-extensions", "authority", "-keyout", "ca.key", "-out", "ca.pem"];
        let server = ["-extensions", "server", "-keyout", "server.key", "-out", "server.pem"];
        let signed = ["-CA", "ca.pem", "-CAkey", "ca.key"];
        for args in
            [&[&new[..], &key, &authority].concat(), &[&new[..], &key, &server, &signed].concat()]
        {
            process::output(&mut process::command("openssl", args, folder))
                .map_err(|cause| format!("{cause}; `make setup` installs Debian's openssl"))?;
        }
        let path = |name| folder.join(name);
        Ok(Self {
            authority: path("ca.pem"),
            certificate: path("server.pem"),
            key: path("server.key"),
        })
    }
}
