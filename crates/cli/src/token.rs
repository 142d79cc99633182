//! `roomcast token`: tokens for development and tests, and why a token is no good. The checks are the node's own.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand, ValueEnum};
use roomcast_gateway::config::{Config, DEV_ISSUER, DEV_SECRET, Issuer, LoadOptions};
use roomcast_gateway::tokens::{self, MintError, MintOptions, Outcome, TokenReport};
use roomcast_protocol::guard::Kind;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::failure::Failure;
use crate::output;
use crate::units;

/// `token mint` and `token verify`.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Write a signed token to stdout
    #[command(after_help = "Examples:
  roomcast token mint --dev --sub alice --permissions view_agents,view_system
  roomcast token mint --secret \"$SECRET\" --sub web-1 --kind backend --ttl 10m
  roomcast token mint --config roomcast.toml --sub 7 --agent-id 7")]
    Mint(Mint),
    /// Say whom a token is for, or which of the node's checks failed
    #[command(after_help = "Examples:
  roomcast token verify --dev \"$TOKEN\"
  echo \"$TOKEN\" | roomcast token verify --config roomcast.toml -")]
    Verify(Verify),
}

/// Where the signing secret comes from.
#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
struct SecretArgs {
    /// Use the well-known secret of `roomcast serve --dev`, whatever else is set
    #[arg(long)]
    dev: bool,
    /// The HS256 secret, at least 32 bytes
    #[arg(long, env = SECRET_ENV, hide_env_values = true)]
    secret: Option<String>,
    /// The node's configuration instead of a secret; minting takes its first issuer's first key
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Where a secret may be instead of on the command line.
const SECRET_ENV: &str = "ROOMCAST_TOKEN_SECRET";

/// What kind of party the token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum KindArg {
    /// Somebody with rights of their own
    User,
    /// An application's server
    Backend,
}

/// `token mint`.
#[derive(Args, Debug)]
pub(crate) struct Mint {
    #[command(flatten)]
    secret: SecretArgs,
    /// Whom the token is for
    #[arg(long, default_value = "dev")]
    sub: String,
    /// Permissions, separated by commas
    #[arg(long, value_delimiter = ',')]
    permissions: Vec<String>,
    /// Roles, separated by commas; each is a room `role-{name}`
    #[arg(long, value_delimiter = ',')]
    roles: Vec<String>,
    /// Teams, separated by commas; each is a room `team-{id}`
    #[arg(long, value_delimiter = ',')]
    teams: Vec<String>,
    /// The agent that the holder is
    #[arg(long)]
    agent_id: Option<String>,
    /// What kind of party the holder is
    #[arg(long, value_enum, default_value = "user")]
    kind: KindArg,
    /// How long it is good
    #[arg(long, default_value = "1h", value_parser = units::duration)]
    ttl: Duration,
    /// Its issuer; with --config the configured one
    #[arg(long, default_value = DEV_ISSUER)]
    issuer: String,
    /// Its audience; with --config the configured one
    #[arg(long, default_value = DEV_ISSUER)]
    audience: String,
}

/// `token verify`.
#[derive(Args, Debug)]
pub(crate) struct Verify {
    #[command(flatten)]
    secret: SecretArgs,
    /// The token, or `-` to read it from stdin
    token: String,
    /// The issuer it must have, with --secret
    #[arg(long, default_value = DEV_ISSUER)]
    issuer: String,
    /// The audience it must have, with --secret
    #[arg(long, default_value = DEV_ISSUER)]
    audience: String,
}

/// Who the commands are, where they mint their own token.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The claim `sub`.
    pub(crate) subject: String,
    /// The claim `kind`.
    pub(crate) kind: Kind,
    /// The claim `permissions`.
    pub(crate) permissions: Vec<String>,
    /// The claim `agent_id`.
    pub(crate) agent_id: Option<String>,
}

impl Identity {
    /// Whoever only listens: every right to view that the built-in rooms know.
    pub(crate) fn viewer(subject: impl Into<String>) -> Self {
        let permissions =
            ["view_system", "view_agents", "view_tasks", "view_groups"].map(String::from).to_vec();
        Self { subject: subject.into(), kind: Kind::User, permissions, agent_id: None }
    }

    /// Whoever may publish everywhere, and listen.
    pub(crate) fn backend(subject: impl Into<String>) -> Self {
        Self { kind: Kind::Backend, ..Self::viewer(subject) }
    }

    /// An agent: it may publish into its own rooms.
    pub(crate) fn agent(subject: impl Into<String>, agent_id: u64) -> Self {
        Self {
            permissions: Vec::new(),
            agent_id: Some(agent_id.to_string()),
            ..Self::viewer(subject)
        }
    }

    /// A token of the development issuer.
    pub(crate) fn token(&self, secret: &str, ttl: Duration) -> Result<String, Failure> {
        mint(&MintOptions {
            secret: secret.as_bytes(),
            kid: None,
            issuer: DEV_ISSUER,
            audience: DEV_ISSUER,
            subject: &self.subject,
            kind: self.kind,
            permissions: &self.permissions,
            roles: &[],
            teams: &[],
            agent_id: self.agent_id.as_deref(),
            now_unix_ms: unix_ms(),
            ttl_ms: millis(ttl),
        })
    }
}

fn mint(options: &MintOptions<'_>) -> Result<String, Failure> {
    tokens::mint(options).map_err(|cause| match cause {
        MintError::ShortSecret(_) => Failure::Usage(cause.to_string()),
        MintError::Sign(_) => Failure::failed("the token cannot be made", &cause),
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}

/// `roomcast token`.
pub(crate) fn run(command: &TokenCommand, json: bool) -> Result<(), Failure> {
    match command {
        TokenCommand::Mint(mint) => run_mint(mint, json),
        TokenCommand::Verify(verify) => run_verify(verify, json),
    }
}

fn run_mint(args: &Mint, json: bool) -> Result<(), Failure> {
    let config = args.secret.config.as_deref().filter(|_| !args.secret.dev);
    let config = config.map(load).transpose()?;
    let issuer = match &config {
        Some(config) => Some(config.auth.issuers.first().ok_or_else(no_issuer)?),
        None => None,
    };
    let key = issuer.and_then(|issuer| issuer.keys.first());
    let given = args.secret.secret.as_deref().filter(|_| !args.secret.dev);
    let token = mint(&MintOptions {
        secret: key.map_or(given.unwrap_or(DEV_SECRET).as_bytes(), |key| key.secret.expose()),
        kid: key.and_then(|key| key.kid.as_deref()),
        issuer: issuer.map_or(&args.issuer, |issuer| &issuer.issuer),
        audience: issuer.map_or(&args.audience, |issuer| &issuer.audience),
        subject: &args.sub,
        kind: match args.kind {
            KindArg::User => Kind::User,
            KindArg::Backend => Kind::Backend,
        },
        permissions: &args.permissions,
        roles: &args.roles,
        teams: &args.teams,
        agent_id: args.agent_id.as_deref(),
        now_unix_ms: unix_ms(),
        ttl_ms: millis(args.ttl),
    })?;
    if json {
        output::json_line(&json!({ "token": token }))?;
    } else {
        output::line(&token)?;
    }
    Ok(())
}

fn no_issuer() -> Failure {
    Failure::Failed("the configuration has no issuer (auth.issuers), so no key to sign with".into())
}

fn load(file: &Path) -> Result<Config, Failure> {
    let env = std::env::vars().collect();
    read(&LoadOptions { file: Some(file.to_owned()), env, ..LoadOptions::default() })
}

fn read(options: &LoadOptions) -> Result<Config, Failure> {
    Config::load(options).map_err(|errors| Failure::Failed(errors.to_string()))
}

impl Verify {
    /// What the node would check against.
    fn config(&self) -> Result<Config, Failure> {
        if let Some(file) = self.secret.config.as_ref().filter(|_| !self.secret.dev) {
            return load(file);
        }
        let dev = LoadOptions { dev: true, ..LoadOptions::default() };
        let Some(secret) = self.secret.secret.as_ref().filter(|_| !self.secret.dev) else {
            return read(&dev);
        };
        // The configuration takes issuers from files alone; the secret itself is not in it.
        let file =
            std::env::temp_dir().join(format!("roomcast-verify-{}.toml", Uuid::new_v4().simple()));
        let text = |text: &str| Value::from(text).to_string();
        let (issuer, audience) = (text(&self.issuer), text(&self.audience));
        std::fs::write(
            &file,
            format!(
                "[[auth.issuers]]\nissuer = {issuer}\naudience = {audience}\nallow_backend = true\n\
                 [[auth.issuers.keys]]\nsecret_env = \"{SECRET_ENV}\"\n"
            ),
        )?;
        let env = vec![(SECRET_ENV.to_owned(), secret.clone())];
        let config = read(&LoadOptions { file: Some(file.clone()), env, ..LoadOptions::default() });
        std::fs::remove_file(&file)?;
        config
    }
}

fn run_verify(args: &Verify, json: bool) -> Result<(), Failure> {
    let token = if args.token == "-" {
        std::io::read_to_string(std::io::stdin())?.trim().to_owned()
    } else {
        args.token.clone()
    };
    let config = args.config()?;
    let now = unix_ms();
    let report = tokens::explain(&token, &config, now);
    let lines = if json { vec![as_json(&report)] } else { as_text(&report, now) };
    for line in lines {
        output::line(&line)?;
    }
    match report.first_failure() {
        None if report.principal.is_some() => Ok(()),
        None => Err(Failure::Refused("the token is no good".into())),
        Some((check, why)) => {
            let issuers: Vec<&str> =
                config.auth.issuers.iter().map(|Issuer { issuer, .. }| &**issuer).collect();
            let known = if check == "iss" {
                format!(" (known issuers: {})", issuers.join(", "))
            } else {
                String::new()
            };
            Err(Failure::Refused(format!("the token is no good: {check}: {why}{known}")))
        }
    }
}

fn as_text(report: &TokenReport, now: u64) -> Vec<String> {
    let mut lines: Vec<String> = report
        .checks
        .iter()
        .map(|(check, outcome)| match outcome {
            Outcome::Passed => format!("{check:<10} ok"),
            Outcome::Failed(why) => format!("{check:<10} FAILED: {why}"),
            Outcome::NotReached => format!("{check:<10} not reached"),
        })
        .collect();
    if let Some(who) = &report.principal {
        lines.push(format!(
            "good for {} s more, for {} {:?}, permissions [{}]",
            who.expires_unix_ms.saturating_sub(now) / 1_000,
            who.kind.name(),
            who.user_key(),
            who.permissions.iter().collect::<Vec<_>>().join(", ")
        ));
    }
    lines
}

fn as_json(report: &TokenReport) -> String {
    let checks: serde_json::Map<String, Value> = report
        .checks
        .iter()
        .map(|(check, outcome)| {
            let outcome = match outcome {
                Outcome::Passed => json!("ok"),
                Outcome::Failed(why) => json!({ "failed": why }),
                Outcome::NotReached => Value::Null,
            };
            ((*check).to_owned(), outcome)
        })
        .collect();
    let claims: Option<Value> =
        report.principal.as_ref().and_then(|who| serde_json::from_str(&who.claims).ok());
    json!({ "valid": report.principal.is_some(), "checks": checks, "claims": claims }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    #[track_caller]
    fn claims_of(identity: &Identity) -> Value {
        let config = read(&LoadOptions { dev: true, ..LoadOptions::default() }).unwrap();
        let token = identity.token(DEV_SECRET, TTL).unwrap();
        let report = tokens::explain(&token, &config, unix_ms());
        assert_eq!(report.first_failure(), None, "{identity:?}");
        serde_json::from_str(&report.principal.unwrap().claims).unwrap()
    }

    #[test]
    fn a_node_in_development_takes_every_identity() {
        assert_eq!(claims_of(&Identity::viewer("a"))["permissions"][0], "view_system");
        assert_eq!(claims_of(&Identity::backend("b"))["kind"], "backend");
        let agent = claims_of(&Identity::agent("c", 7));
        assert_eq!((&agent["agent_id"], &agent["sub"]), (&json!(7), &json!("c")));
    }

    #[test]
    fn a_report_names_every_check_in_text_and_in_json() {
        let config = read(&LoadOptions { dev: true, ..LoadOptions::default() }).unwrap();
        let token = Identity::viewer("a").token(DEV_SECRET, TTL).unwrap();
        for (token, valid) in [(token.as_str(), true), ("x.y.z", false)] {
            let report = tokens::explain(token, &config, unix_ms());
            let text = as_text(&report, unix_ms()).join("\n");
            assert_eq!(text.contains("FAILED"), !valid, "{text}");
            let parsed: Value = serde_json::from_str(&as_json(&report)).unwrap();
            assert_eq!(parsed["valid"], valid, "{parsed}");
            assert_eq!(parsed["checks"].as_object().unwrap().len(), report.checks.len());
        }
    }
}
