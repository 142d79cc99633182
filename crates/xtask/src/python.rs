//! Python programs from PyPI, each with its packages in an environment of its own outside of the clone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::paths;
use crate::process::{self, say};

const INSTALL_LIMIT: Duration = Duration::from_secs(300);

/// The file that tells that everything was installed.
const DONE: &str = "roomcast-installed";

/// The environment `name` in `version` with `packages`, made if it is not there or was left half made.
///
/// Errors: no Python, or nothing to install from.
pub(crate) fn environment(name: &str, version: &str, packages: &[&str]) -> Result<PathBuf, String> {
    let folder = paths::tool(name, version)?;
    let done = folder.join(DONE);
    if done.is_file() {
        say(&format!("{name}: its packages are there ({})", folder.display()));
        return Ok(folder);
    }
    say(&format!("{name}: installing {} into {}", packages.join(", "), folder.display()));
    let root = Path::new("/");
    let place = folder.to_string_lossy();
    let venv = ["-m", "venv", "--clear", &place];
    process::run(&mut process::command("python3", &venv, root), INSTALL_LIMIT).map_err(
        |cause| format!("{cause}; install Python 3.10 or later with venv (Debian: python3-venv)"),
    )?;
    let pip = folder.join("bin/pip").to_string_lossy().into_owned();
    let mut install = vec!["install", "--quiet", "--disable-pip-version-check"];
    install.extend(packages);
    process::run(&mut process::command(&pip, &install, root), INSTALL_LIMIT)?;
    std::fs::write(&done, "").map_err(|cause| format!("{}: {cause}", done.display()))?;
    Ok(folder)
}
