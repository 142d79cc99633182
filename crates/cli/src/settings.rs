//! The configuration from the command line: where it is read from, `check-config` and `config print|example`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use roomcast_gateway::config::{self, Config, LoadOptions};

use crate::failure::Failure;
use crate::output;

/// Where the configuration comes from; later ones win: defaults, file, environment, --set.
#[derive(Args, Clone, Debug)]
pub(crate) struct ConfigArgs {
    /// The configuration file (TOML)
    #[arg(long, env = "ROOMCAST_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Open for development: a well-known key, raised limits, the demo page
    #[arg(long)]
    pub(crate) dev: bool,
    /// Override one value, such as limits.connections_per_ip=100
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
}

/// `config`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the values in force with their sources, secrets masked
    #[command(after_help = "Example:
  roomcast config print --config roomcast.toml --set limits.frame_bytes=131072")]
    Print(ConfigArgs),
    /// Print a commented configuration file with all defaults
    #[command(after_help = "Example:
  roomcast config example > roomcast.toml")]
    Example,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) =
        text.split_once('=').ok_or("write KEY=VALUE, such as limits.connections_per_ip=100")?;
    if key.is_empty() { Err("the key is empty".into()) } else { Ok((key.into(), value.into())) }
}

impl ConfigArgs {
    /// Reads the configuration; `more` are overrides by flags of their own.
    pub(crate) fn load(&self, more: Vec<(String, String)>) -> Result<Config, Failure> {
        let mut overrides = self.set.clone();
        overrides.extend(more);
        let options = LoadOptions {
            file: self.config.clone(),
            overrides,
            dev: self.dev,
            env: std::env::vars().collect(),
        };
        Config::load(&options).map_err(|errors| Failure::Failed(errors.to_string()))
    }
}

/// `roomcast check-config`.
pub(crate) fn check(args: &ConfigArgs) -> Result<(), Failure> {
    args.load(Vec::new())?;
    output::line("the configuration is good")?;
    Ok(())
}

/// `roomcast config`.
pub(crate) fn run(command: &ConfigCommand) -> Result<(), Failure> {
    let text = match command {
        ConfigCommand::Print(args) => args.load(Vec::new())?.print(),
        ConfigCommand::Example => config::example().to_owned(),
    };
    output::line(text.trim_end())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_are_a_key_and_a_value() {
        assert_eq!(key_value("a.b=c=d"), Ok(("a.b".into(), "c=d".into())));
        assert!(key_value("a.b").is_err());
        assert!(key_value("=c").is_err());
    }
}
