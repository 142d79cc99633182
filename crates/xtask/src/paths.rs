//! Where things are: the repository, its build output, and the cache for tools outside the clone.

use std::path::{Path, PathBuf};

use crate::process;

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    // Asked at run time first, because a built xtask may be run from another clone.
    let manifest = std::env::var("CARGO_MANIFEST_DIR")
        .unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    Path::new(&manifest).ancestors().nth(2).map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// The folder of installed tool `name` in version `version`: `${XDG_CACHE_HOME:-~/.cache}/roomcast/<name>-<version>`.
///
/// Errors: neither variable is set.
pub(crate) fn tool(name: &str, version: &str) -> Result<PathBuf, String> {
    let cache = match std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => std::env::var_os("HOME")
            .map(|home| Path::new(&home).join(".cache"))
            .ok_or("neither XDG_CACHE_HOME nor HOME is set: set one, tools are kept there")?,
    };
    Ok(cache.join("roomcast").join(format!("{name}-{version}")))
}

/// Builds the binary `roomcast` and tells where it is.
///
/// Errors: it does not compile.
pub(crate) fn roomcast() -> Result<PathBuf, String> {
    built("dev", "debug")
}

/// Like [`roomcast`], optimised, for measuring.
///
/// Errors: it does not compile.
pub(crate) fn roomcast_release() -> Result<PathBuf, String> {
    built("release", "release")
}

fn built(profile: &str, folder: &str) -> Result<PathBuf, String> {
    let root = root();
    let args = ["build", "--quiet", "--package", "roomcast", "--profile", profile];
    process::run(&mut process::command("cargo", &args, &root), crate::test::BUILD_LIMIT)?;
    let args = ["metadata", "--no-deps", "--format-version", "1"];
    let metadata = process::output(&mut process::command("cargo", &args, &root))?;
    let metadata: serde_json::Value =
        serde_json::from_str(&metadata).map_err(|cause| format!("cargo metadata: {cause}"))?;
    let target = metadata.get("target_directory").and_then(serde_json::Value::as_str);
    let target = target.ok_or("cargo metadata names no target_directory")?;
    Ok(Path::new(target).join(folder).join("roomcast"))
}

/// Builds an example program and tells where it is.
///
/// Errors: it does not compile.
pub(crate) fn example(package: &str, name: &str) -> Result<PathBuf, String> {
    let args = ["build", "--quiet", "--package", package, "--example", name];
    let args = [&args[..], &["--message-format", "json-render-diagnostics"]].concat();
    let messages = process::output(&mut process::command("cargo", &args, &root()))?;
    let found = messages.lines().rev().find_map(|message| executable(name, message));
    found.ok_or_else(|| format!("cargo built no example `{name}`"))
}

fn executable(name: &str, message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let is_it = message.pointer("/target/name")? == name;
    message.get("executable")?.as_str().filter(|_| is_it).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_is_found_in_what_cargo_says() {
        let message =
            r#"{"reason":"compiler-artifact","target":{"name":"echo"},"executable":"/x/echo"}"#;
        assert_eq!(executable("echo", message), Some(PathBuf::from("/x/echo")));
        assert_eq!(executable("other", message), None);
        let library =
            r#"{"reason":"compiler-artifact","target":{"name":"echo"},"executable":null}"#;
        assert_eq!(executable("echo", library), None);
        assert_eq!(executable("echo", r#"{"reason":"build-finished","success":true}"#), None);
    }
}
