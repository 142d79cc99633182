//! One real `redis-server`, which can be frozen, killed and started again.

use std::path::Path;
use std::time::Duration;

use super::certificates::Certificates;
use super::{Client, Folder, Reply, Server, free_port, until};

/// How long a server may take to answer after its start.
const START_LIMIT: Duration = Duration::from_secs(20);

/// How often another port is tried when one was taken between the look and the start.
const STARTS_MAX: usize = 5;

/// A `redis-server` on 127.0.0.1 that keeps nothing on disk.
#[derive(Debug)]
pub struct Redis {
    // Dropped in this order: the server ends before its folder goes.
    server: Server,
    folder: Folder,
    port: u16,
    args: Vec<String>,
    password: Option<String>,
    tls: Option<Tls>,
}

/// A second port, where it speaks TLS.
#[derive(Debug)]
struct Tls {
    port: u16,
    certificates: Certificates,
    // Dropped after the server that reads from it.
    _folder: Folder,
}

impl Redis {
    /// Starts one with more options, such as `&["--requirepass", "x"]`, and waits until it answers.
    ///
    /// # Errors
    /// No `redis-server` (Debian: redis-server), it refuses the options, or it does not answer in 20 s.
    pub fn start(extra_args: &[&str]) -> Result<Self, String> {
        let mut last = String::new();
        for _ in 0..STARTS_MAX {
            let port = free_port()?;
            match Self::start_at(port, extra_args) {
                Ok(redis) => return Ok(redis),
                Err(cause) if cause.contains("Address already in use") => last = cause,
                Err(cause) => return Err(cause),
            }
        }
        Err(last)
    }

    /// Like [`Redis::start`], with TLS at [`Redis::tls_port`] besides; its certificate is for 127.0.0.1 and localhost,
    /// given by the authority in [`Redis::tls_ca_file`].
    ///
    /// # Errors
    /// As of [`Redis::start`], or no `openssl`.
    pub fn start_tls(extra_args: &[&str]) -> Result<Self, String> {
        let folder = Folder::new("tls")?;
        let certificates = Certificates::make(folder.path())?;
        let port = free_port()?;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let Certificates { authority, certificate, key } = &certificates;
        let values = [port.to_string(), text(authority), text(certificate), text(key)];
        let names = ["--tls-port", "--tls-ca-cert-file", "--tls-cert-file", "--tls-key-file"];
        let mut args = vec!["--tls-auth-clients", "no"];
        args.extend(names.into_iter().zip(&values).flat_map(|(name, value)| [name, value]));
        args.extend(extra_args);
        let mut redis = Self::start(&args)?;
        redis.tls = Some(Tls { port, certificates, _folder: folder });
        Ok(redis)
    }

    fn start_at(port: u16, extra_args: &[&str]) -> Result<Self, String> {
        let folder = Folder::new("redis")?;
        let number = port.to_string();
        let dir = folder.path().to_string_lossy();
        let own = ["--port", &number, "--bind", "127.0.0.1", "--dir", &dir, "--save", ""];
        let own = own.iter().chain(&["--appendonly", "no", "--daemonize", "no"]);
        let args: Vec<String> = own.chain(extra_args).map(|arg| (*arg).to_owned()).collect();
        let mut options = extra_args.iter().skip_while(|arg| **arg != "--requirepass").skip(1);
        let password = options.next().map(|password| (*password).to_owned());
        let server = run(&args, &folder)?;
        let mut redis = Self { server, folder, port, args, password, tls: None };
        redis.wait()?;
        Ok(redis)
    }

    /// Until it answers: this very process, not another that has the port.
    fn wait(&mut self) -> Result<(), String> {
        until("redis-server answers", START_LIMIT, || {
            if let Err(ended) = self.server.lives() {
                return Ok(Err(ended));
            }
            let info = self.client()?.command(&["INFO", "server"])?.text();
            let mine = format!("process_id:{}\r\n", self.server.pid());
            if info.contains(&mine) { Ok(Ok(())) } else { Err("another has its port".to_owned()) }
        })?
    }

    /// Where it listens on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it speaks TLS on 127.0.0.1, if it was started so.
    #[must_use]
    pub fn tls_port(&self) -> Option<u16> {
        self.tls.as_ref().map(|tls| tls.port)
    }

    /// The certificate (PEM) of the authority to trust, if it was started with TLS.
    #[must_use]
    pub fn tls_ca_file(&self) -> Option<&Path> {
        self.tls.as_ref().map(|tls| tls.certificates.authority.as_path())
    }

    /// Its address as Roomcast takes it; with the password if it has one.
    #[must_use]
    pub fn url(&self) -> String {
        let password = self.password.as_ref().map(|it| format!(":{it}@")).unwrap_or_default();
        format!("redis://{password}127.0.0.1:{}", self.port)
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    pub(crate) fn server(&mut self) -> &mut Server {
        &mut self.server
    }

    /// A new connection to it, authenticated.
    ///
    /// # Errors
    /// It is down or frozen.
    pub fn client(&self) -> Result<Client, String> {
        let mut client = Client::connect(self.port)?;
        if let Some(password) = &self.password {
            client.command(&["AUTH", password])?;
        }
        Ok(client)
    }

    /// One command on a new connection.
    ///
    /// # Errors
    /// It is down or frozen, or refuses the command.
    pub fn command<T: AsRef<[u8]>>(&self, args: &[T]) -> Result<Reply, String> {
        self.client()?.command(args)
    }

    /// Stops its process in place: connections stay and can be made, nothing answers (SIGSTOP).
    ///
    /// # Errors
    /// It has ended.
    pub fn freeze(&mut self) -> Result<(), String> {
        self.server.signal("STOP")
    }

    /// Lets it go on after [`Redis::freeze`] (SIGCONT).
    ///
    /// # Errors
    /// It has ended.
    pub fn thaw(&mut self) -> Result<(), String> {
        self.server.signal("CONT")
    }

    /// Ends it by SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill(&mut self) -> Result<(), String> {
        self.server.kill()
    }

    /// Ends it if it lives and starts it again: the same port and options, empty.
    ///
    /// # Errors
    /// As of [`Redis::start`].
    pub fn restart(&mut self) -> Result<(), String> {
        self.server.kill()?;
        self.server = run(&self.args, &self.folder)?;
        self.wait()
    }
}

fn run(args: &[String], folder: &Folder) -> Result<Server, String> {
    Server::start("redis-server", args, folder.path())
        .map_err(|cause| format!("{cause}; `make setup` installs Debian's redis-server"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process;

    #[test]
    fn a_server_answers_keeps_nothing_over_a_restart_and_is_gone_when_dropped() {
        let mut redis = Redis::start(&[]).unwrap();
        let (port, pid) = (redis.port(), redis.pid());
        let mut client = redis.client().unwrap();
        client.command(&["SET", "a", "1"]).unwrap();
        assert_eq!(redis.command(&["GET", "a"]).unwrap().text(), "1");
        redis.kill().unwrap();
        assert!(redis.client().is_err());
        redis.restart().unwrap();
        assert_eq!(redis.port(), port);
        assert_ne!(redis.pid(), pid);
        assert_eq!(redis.command(&["GET", "a"]), Ok(Reply::Nil));
        assert!(client.command(&["PING"]).is_err(), "a connection outlived its server");
        let (folder, pid) = (redis.folder.path().to_owned(), redis.pid());
        drop(redis);
        assert!(!folder.exists());
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn a_frozen_server_takes_connections_and_answers_when_thawed() {
        let mut redis = Redis::start(&[]).unwrap();
        let mut client = redis.client().unwrap();
        redis.freeze().unwrap();
        let stat = format!("/proc/{}/stat", redis.pid());
        until("it is stopped", Duration::from_secs(5), || {
            let stat = std::fs::read_to_string(&stat).unwrap();
            if stat.contains(") T ") { Ok(()) } else { Err(stat) }
        })
        .unwrap();
        let waits = std::thread::spawn(move || client.command(&["PING"]));
        Client::connect(redis.port()).unwrap();
        assert!(!waits.is_finished());
        redis.thaw().unwrap();
        assert_eq!(waits.join().unwrap().unwrap().text(), "PONG");
    }

    #[test]
    fn a_password_is_asked_for_and_given() {
        let redis = Redis::start(&["--requirepass", "secret"]).unwrap();
        assert!(Client::connect(redis.port()).unwrap().command(&["PING"]).is_err());
        assert_eq!(redis.command(&["PING"]).unwrap().text(), "PONG");
        assert!(redis.url().starts_with("redis://:secret@127.0.0.1:"));
    }

    #[test]
    fn an_option_that_redis_does_not_know_is_told() {
        let told = Redis::start(&["--no-such-option", "1"]).unwrap_err();
        assert!(told.contains("no-such-option"), "{told}");
    }

    #[test]
    fn tls_is_spoken_with_whoever_trusts_its_authority() {
        let redis = Redis::start_tls(&["--requirepass", "secret"]).unwrap();
        let port = redis.tls_port().unwrap().to_string();
        let ping = |more: &[&str]| {
            let args =
                [&["-h", "127.0.0.1", "-p", &port, "-a", "secret", "--tls"], more, &["PING"]];
            process::output(&mut process::command("redis-cli", &args.concat(), Path::new("/")))
        };
        let ca = redis.tls_ca_file().unwrap().to_string_lossy().into_owned();
        assert_eq!(ping(&["--cacert", &ca]).unwrap(), "PONG");
        assert!(ping(&[]).is_err());
        let mut plain = Client::connect(port.parse().unwrap()).unwrap();
        assert!(plain.command(&["PING"]).is_err());
    }

    #[test]
    fn a_user_of_its_own_may_do_what_its_rules_say() {
        let user = ["--user", "node", "on", ">secret", "resetchannels", "&room:*", "-@all"];
        let redis = Redis::start(&[&user[..], &["+publish"]].concat()).unwrap();
        let mut client = redis.client().unwrap();
        client.command(&["AUTH", "node", "secret"]).unwrap();
        assert_eq!(client.command(&["PUBLISH", "room:a", "x"]), Ok(Reply::Integer(0)));
        for refused in [["PUBLISH", "other", "x"], ["SET", "a", "1"]] {
            assert!(client.command(&refused).unwrap_err().contains("NOPERM"), "{refused:?}");
        }
    }
}
