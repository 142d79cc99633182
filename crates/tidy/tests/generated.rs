//! Documents made from the product's own tables are current. `make docs` writes them anew through this same test; a
//! new one is a row in [`DOCUMENTS`].
#![allow(clippy::unwrap_used, reason = "a helper that fails shall fail its test")]

use roomcast_gateway::config;
use roomcast_protocol::codes::{Close, Refusal};
use tidy::codes::{Code, untested};
use tidy::generated::{WRITE, current, table};
use tidy::{repo, rust};

/// A generated document's path and what makes it.
type Document = (&'static str, fn() -> String);

const DOCUMENTS: [Document; 2] =
    [("docs/CODES.md", codes), ("docs/CONFIGURATION.md", configuration)];

#[test]
fn generated_documents_are_current() {
    let write = std::env::var_os(WRITE).is_some();
    for (path, make) in DOCUMENTS {
        current(&repo::root(), path, &make(), write).unwrap();
    }
}

#[test]
fn every_refusal_and_close_code_occurs_in_a_test() {
    let files = repo::files(&repo::root()).unwrap();
    // Not this crate's own samples, which name codes to talk about naming codes.
    let files = files.iter().filter(|file| !file.path.starts_with("crates/tidy/"));
    let tests: Vec<_> = files.map(rust::test_text).filter(|text| !text.is_empty()).collect();
    assert!(tests.len() > 10, "the tests were not found");
    let refusals =
        Refusal::ALL.map(|it| (format!("Refusal::{it:?}"), it.row().code, it.row().name));
    let closes = Close::ALL.map(|it| (format!("Close::{it:?}"), it.row().code, it.row().name));
    let all = refusals.iter().chain(&closes);
    let codes: Vec<_> =
        all.map(|(variant, number, name)| Code { variant, number: *number, name }).collect();
    let missing = untested(&codes, &tests);
    assert!(missing.is_empty(), "\n{}\n", missing.join("\n"));
}

fn codes() -> String {
    let refusals: Vec<_> = Refusal::ALL
        .into_iter()
        .map(|refusal| {
            let row = refusal.row();
            let retry = if row.retry { "yes" } else { "no" };
            vec![row.code.to_string(), code(row.name), row.text.to_owned(), retry.to_owned()]
        })
        .collect();
    let closes: Vec<_> = Close::ALL
        .into_iter()
        .map(|close| {
            let row = close.row();
            vec![row.code.to_string(), code(row.name), row.reason.to_owned(), row.advice.to_owned()]
        })
        .collect();
    format!(
        "# Codes\n\nMade from `crates/protocol/src/codes.rs` by `make docs`; not to be edited.\n\n\
         ## Refusals\nThe command is declined, the connection lives. `retry`: the same command may succeed later.\n\n\
         {}\n## Closes\nThe connection ends. 4000 to 4099: not without a new token. 4100 to 4199: do not reconnect. \
         4200 to 4299: reconnect.\n\n{}",
        table(&["code", "name", "text", "retry"], &refusals),
        table(&["code", "name", "reason", "what the client should do"], &closes),
    )
}

fn configuration() -> String {
    format!(
        "# Configuration\n\nMade from `crates/gateway/src/config` by `make docs`; not to be edited.\n\n\
         Later ones win: defaults, the file (`--config`), the environment (`ROOMCAST__SECTION__KEY`), `--set KEY=VALUE`. \
         `roomcast config example` prints a commented file, `roomcast check-config` says what is wrong with one, \
         `roomcast config print` shows the values in force with their sources.\n\n{}\n",
        config::reference_table().trim()
    )
}

fn code(name: &str) -> String {
    format!("`{name}`")
}
