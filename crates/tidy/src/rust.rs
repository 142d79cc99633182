//! Rust source by its syntax: long functions and files, test code, and the paths a module uses. Macros' insides stay
//! unseen; clippy sees those.

use std::collections::BTreeSet;

use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};
use syn::{Attribute, File as Syntax, ImplItemFn, ItemFn, ItemMod, ItemUse, TraitItemFn, UseTree};

use crate::repo::File;

/// The longest function. Units: lines, from its signature to its closing brace.
pub const FUNCTION_MAX: usize = 70;
/// The longest file without its test modules. Units: lines.
pub const FILE_MAX: usize = 600;

/// What a source file holds outside of its tests.
#[derive(Debug, Default)]
struct Outline {
    /// Name, first line and length of each function. Units: lines.
    functions: Vec<(String, usize, usize)>,
    /// First and last line of each test module or test function.
    tests: Vec<(usize, usize)>,
    /// Every path that code outside of tests names.
    paths: BTreeSet<(String, usize)>,
}

/// Functions and files that are too long, tests excepted.
#[must_use]
pub fn too_long(file: &File) -> Vec<String> {
    if file.is_test() {
        return Vec::new();
    }
    let outline = match outline(file) {
        Ok(outline) => outline,
        Err(cause) => return vec![cause],
    };
    let mut found = Vec::new();
    let tests: usize = outline.tests.iter().map(|(first, last)| last - first + 1).sum();
    let lines = file.text.lines().count().saturating_sub(tests);
    if lines > FILE_MAX {
        found.push(format!("{}: {lines} lines, at most {FILE_MAX}", file.path));
    }
    for (name, line, length) in outline.functions {
        if length > FUNCTION_MAX {
            found.push(format!(
                "{}:{line}: `{name}` has {length} lines, at most {FUNCTION_MAX}",
                file.path
            ));
        }
    }
    found
}

/// Paths that begin with one of `banned` (whole segments) and with none of `allowed`, outside of tests.
#[must_use]
pub fn uses_banned(file: &File, banned: &[&str], allowed: &[&str]) -> Vec<String> {
    if file.is_test() {
        return Vec::new();
    }
    let outline = match outline(file) {
        Ok(outline) => outline,
        Err(cause) => return vec![cause],
    };
    let begins = |path: &str, list: &[&str]| {
        list.iter().any(|start| path == *start || path.starts_with(&format!("{start}::")))
    };
    let named = outline.paths.into_iter();
    named
        .filter(|(path, _)| begins(path, banned) && !begins(path, allowed))
        .map(|(path, line)| format!("{}:{line}: a pure crate uses `{path}`", file.path))
        .collect()
}

/// The text of a file's tests: all of a test file, the test modules of another.
#[must_use]
pub fn test_text(file: &File) -> String {
    if file.is_test() || !file.is_rust() {
        return if file.is_test() { file.text.clone() } else { String::new() };
    }
    let Ok(outline) = outline(file) else { return String::new() };
    let in_tests =
        |line: usize| outline.tests.iter().any(|(first, last)| (*first..=*last).contains(&line));
    let lines = file.text.lines().enumerate().filter(|(index, _)| in_tests(index + 1));
    lines.map(|(_, line)| line).collect::<Vec<_>>().join("\n")
}

fn outline(file: &File) -> Result<Outline, String> {
    let syntax: Syntax =
        syn::parse_file(&file.text).map_err(|cause| format!("{}: {cause}", file.path))?;
    let mut outline = Outline::default();
    outline.visit_file(&syntax);
    Ok(outline)
}

impl Outline {
    fn function(&mut self, name: &syn::Ident, from: proc_macro2::Span, to: proc_macro2::Span) {
        let (first, last) = (from.start().line, to.end().line);
        self.functions.push((name.to_string(), first, last - first + 1));
    }

    fn skip_test(&mut self, attributes: &[Attribute], whole: proc_macro2::Span) -> bool {
        let is_test = attributes.iter().any(is_for_tests);
        if is_test {
            self.tests.push((whole.start().line, whole.end().line));
        }
        is_test
    }

    fn tree(&mut self, before: &str, tree: &UseTree) {
        let join = |name: &syn::Ident| match before {
            "" => name.to_string(),
            before => format!("{before}::{name}"),
        };
        match tree {
            UseTree::Path(path) => self.tree(&join(&path.ident), &path.tree),
            UseTree::Name(name) if name.ident == "self" => self.path(before, name.span()),
            UseTree::Name(name) => self.path(&join(&name.ident), name.span()),
            UseTree::Rename(rename) => self.path(&join(&rename.ident), rename.span()),
            UseTree::Glob(glob) => self.path(before, glob.span()),
            UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(before, item)),
        }
    }

    fn path(&mut self, path: &str, span: proc_macro2::Span) {
        self.paths.insert((path.to_owned(), span.start().line));
    }
}

impl<'ast> Visit<'ast> for Outline {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !self.skip_test(&item.attrs, item.span()) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        if !self.skip_test(&item.attrs, item.span()) {
            self.function(&item.sig.ident, item.sig.span(), item.block.span());
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        if !self.skip_test(&item.attrs, item.span()) {
            self.function(&item.sig.ident, item.sig.span(), item.block.span());
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_trait_item_fn(&mut self, item: &'ast TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig.ident, item.sig.span(), block.span());
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !self.skip_test(&item.attrs, item.span()) {
            self.tree("", &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> = path.segments.iter().map(|it| it.ident.to_string()).collect();
        self.path(&segments.join("::"), path.span());
        visit::visit_path(self, path);
    }
}

/// `#[test]` and `#[cfg(test)]`, also with conditions beside it.
fn is_for_tests(attribute: &Attribute) -> bool {
    if attribute.path().is_ident("test") {
        return true;
    }
    let syn::Meta::List(list) = &attribute.meta else { return false };
    if !attribute.path().is_ident("cfg") {
        return false;
    }
    let condition = list.tokens.to_string();
    condition == "test" || condition.starts_with("all (test") || condition.starts_with("all(test")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BANNED: [&str; 3] = ["tokio", "std::time::Instant", "std::net"];

    fn rust(text: &str) -> File {
        File::of("crates/x/src/lib.rs", text)
    }

    fn lines(count: usize) -> String {
        "    step();\n".repeat(count)
    }

    #[test]
    fn a_function_of_71_lines_is_found_and_one_of_70_is_not() {
        let of = |count: usize| rust(&format!("fn long() {{\n{}}}\n", lines(count - 2)));
        assert!(too_long(&of(FUNCTION_MAX)).is_empty());
        let found = too_long(&of(FUNCTION_MAX + 1));
        assert_eq!(found, ["crates/x/src/lib.rs:1: `long` has 71 lines, at most 70"]);
        let method = format!("struct A;\nimpl A {{\nfn long() {{\n{}}}\n}}\n", lines(70));
        assert_eq!(too_long(&rust(&method)).len(), 1);
        let default = format!("trait A {{\nfn long() {{\n{}}}\n}}\n", lines(70));
        assert_eq!(too_long(&rust(&default)).len(), 1);
    }

    #[test]
    fn a_file_of_601_lines_is_found_and_its_tests_do_not_count() {
        let tests = format!("#[cfg(test)]\nmod tests {{\nfn long() {{\n{}}}\n}}\n", lines(300));
        let of = |count: usize| rust(&format!("{}{tests}", "// why\n".repeat(count)));
        assert!(too_long(&of(FILE_MAX)).is_empty());
        assert_eq!(too_long(&of(FILE_MAX + 1)).len(), 1);
        let test_file = File::of("crates/x/tests/a.rs", &of(FILE_MAX + 1).text);
        assert!(too_long(&test_file).is_empty());
    }

    #[test]
    fn what_does_not_parse_is_found_too() {
        assert_eq!(too_long(&rust("fn {")).len(), 1);
        assert_eq!(uses_banned(&rust("fn {"), &BANNED, &[]).len(), 1);
    }

    #[test]
    fn banned_paths_are_found_in_uses_types_and_calls() {
        for text in [
            "use std::time::Instant;",
            "use std::{fmt, time::{Duration, Instant as Now}};",
            "use std::net::*;",
            "use std::net::{self, IpAddr};",
            "fn a(at: std::time::Instant) {}",
            "fn a() { let x = tokio::spawn(b()); }",
        ] {
            assert!(!uses_banned(&rust(text), &BANNED, &["std::net::IpAddr"]).is_empty(), "{text}");
        }
    }

    #[test]
    fn what_only_looks_alike_is_allowed() {
        for text in [
            "use std::time::Duration;",
            "use std::net::IpAddr;",
            "use tokio_like::spawn;",
            "// tokio::spawn\nfn a() {}",
            "#[cfg(test)]\nmod tests { use std::time::Instant; }",
            "#[cfg(test)]\nuse std::time::Instant;",
        ] {
            let found = uses_banned(&rust(text), &BANNED, &["std::net::IpAddr"]);
            assert!(found.is_empty(), "{text}: {found:?}");
        }
    }

    #[test]
    fn only_tests_are_in_the_text_of_tests() {
        let file =
            rust("fn a() { one() }\n#[cfg(test)]\nmod tests {\n#[test]\nfn b() { two() }\n}\n");
        assert!(test_text(&file).contains("two()"));
        assert!(!test_text(&file).contains("one()"));
        assert!(test_text(&File::of("crates/x/e2e/a.mjs", "two()")).contains("two()"));
        assert!(test_text(&File::of("docs/a.md", "two()")).is_empty());
    }
}
