//! This repository against its own rules. A rule's name is the test's name; what breaks it is listed with its place.

#![allow(clippy::unwrap_used, reason = "a helper that fails shall fail its test")]

use tidy::crates::{self, IMPURE_PATHS, Manifest, PURE, PURE_DATA};
use tidy::repo::{self, File};
use tidy::{rust, text};
use toml::Table;

#[track_caller]
fn nothing(found: &[String]) {
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

fn files() -> Vec<File> {
    repo::files(&repo::root()).unwrap()
}

#[track_caller]
fn each_file(check: impl Fn(&File) -> Vec<String>) {
    let files = files();
    assert!(files.len() > 50, "the repository was not found");
    nothing(&files.iter().flat_map(check).collect::<Vec<_>>());
}

fn each_rust_file(check: impl Fn(&File) -> Vec<String>) {
    each_file(|file| if file.is_rust() { check(file) } else { Vec::new() });
}

fn manifests(files: &[File]) -> Vec<Manifest> {
    let paths = files.iter().filter(|file| {
        file.path.starts_with("crates/")
            && file.path.matches('/').count() == 2
            && file.ends_with("/Cargo.toml")
    });
    let manifests: Vec<_> = paths.map(|file| Manifest::read(file).unwrap()).collect();
    assert!(manifests.len() >= crates::ARROWS.len(), "manifests were not found");
    manifests
}

fn each_manifest(check: impl Fn(&Manifest) -> Vec<String>) {
    nothing(&manifests(&files()).iter().flat_map(check).collect::<Vec<_>>());
}

fn workspace() -> Table {
    std::fs::read_to_string(repo::root().join("Cargo.toml")).unwrap().parse().unwrap()
}

#[test]
fn crates_know_only_the_crates_they_may() {
    each_manifest(crates::wrong_arrows);
}

#[test]
fn the_code_map_draws_the_arrows_that_are_checked() {
    let page = std::fs::read_to_string(repo::root().join("docs/ARCHITECTURE.md")).unwrap();
    nothing(&crates::undrawn(&page));
}

#[test]
fn pure_crates_depend_on_nothing_that_does_io() {
    each_manifest(crates::impure_dependencies);
}

#[test]
fn pure_crates_name_no_clock_socket_file_or_environment() {
    each_rust_file(|file| {
        // An example drives a pure crate from outside.
        let drives = file.path.contains("/examples/");
        let is_pure = !drives && PURE.iter().any(|folder| file.path.starts_with(folder));
        if is_pure { rust::uses_banned(file, &IMPURE_PATHS, &PURE_DATA) } else { Vec::new() }
    });
}

#[test]
fn versions_stand_in_the_workspace_table_only() {
    each_manifest(crates::own_versions);
}

#[test]
fn every_dependency_is_used() {
    let files = files();
    let manifests = manifests(&files);
    let mut found = crates::not_taken(&workspace(), &manifests);
    found.extend(manifests.iter().flat_map(|manifest| crates::unused(manifest, &files)));
    nothing(&found);
}

#[test]
fn every_dependency_has_its_row_and_every_row_its_dependency() {
    let page = std::fs::read_to_string(repo::root().join("docs/DEPENDENCIES.md")).unwrap();
    nothing(&crates::undocumented(&workspace(), &page));
}

#[test]
fn files_and_functions_stay_short() {
    each_rust_file(rust::too_long);
}

#[test]
fn every_module_says_what_it_is_for() {
    each_rust_file(text::no_module_doc);
}

#[test]
fn nothing_is_left_unfinished_or_ignored() {
    each_file(text::unfinished);
}

#[test]
fn no_file_knows_this_machine_or_a_registry() {
    each_file(text::foreign);
}

#[test]
fn no_file_is_over_a_mebibyte() {
    each_file(text::too_big);
}
