//! The laws of the architecture, enforced on the text of `src/`: tiers, purity, who may name what, sizes.
//!
//! Every rule is a function over the path of a file (from `src/` on) and its text that returns what is wrong, and has a
//! test of its own that shows it a violation. Code under `#[cfg(test)]`, and files named `tests.rs`, are exempt from
//! all but size and alphabet.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

/// The tiers, from the bottom up. A module names modules of lower tiers only.
const TIERS: &[&[&str]] = &[
    &["model", "limits"],
    &["codec", "delta", "trust", "vfs"],
    &["tree", "package", "repository", "journal", "transaction"],
    &["fetch", "strategy"],
    &["error"],
    &["device", "publish"],
    &["crashtest"],
    &["cli"],
];

/// The modules without files, network, clock, environment and randomness.
const PURE: &[&str] = &["model", "codec", "delta", "trust", "repository", "transaction", "strategy"];

/// Files of other modules that are pure, too.
const PURE_FILES: &[&str] =
    &["fetch/address.rs", "fetch/failure.rs", "fetch/head.rs", "fetch/resume.rs", "fetch/wanted.rs"];

/// What they do not name.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "std::time::SystemTime",
    "std::time::Instant",
    "tokio",
    "rand",
    "getrandom",
    "rustix",
    "fs2",
    "tempfile",
    "crate::vfs",
];

/// Names that only some files may use: the beginnings of their paths.
const RESERVED: &[(&str, &[&str])] = &[
    ("std::fs", &["vfs/os", "cli"]),
    ("bincode", &["codec/"]),
    ("tokio", &["fetch/http.rs"]),
    ("reqwest", &["fetch/http.rs"]),
    ("rustls", &["fetch/http.rs"]),
];

const LINES: usize = 800;
const LINES_WARNED: usize = 500;

/// What stands beside `src/`.
const TOP_LEVEL: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "src",
    "tests",
    "fuzz",
    "docs",
    "benches",
    "examples",
    "packaging",
    "README.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "rustfmt.toml",
    "clippy.toml",
    "deny.toml",
    ".ci",
    ".git",
    ".gitignore",
    "target",
];

type Rule = fn(&str, &str) -> Vec<String>;

const RULES: &[Rule] =
    &[tiers, purity, reserved_names, no_printing, tests_are_only_tests, line_count, ascii, known_module];

#[test]
fn the_source_obeys_every_rule() {
    let files = source_files();
    assert!(files.iter().any(|(path, _)| path == "lib.rs"), "the source is found");
    let mut violations = Vec::new();
    for (path, text) in &files {
        let lines = text.lines().count();
        if lines > LINES_WARNED {
            println!("src/{path}: {lines} lines are a smell");
        }
        for rule in RULES {
            violations.extend(rule(path, text).into_iter().map(|what| format!("src/{path}: {what}")));
        }
    }
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn nothing_unknown_stands_beside_the_source() {
    let entries = fs::read_dir(env!("CARGO_MANIFEST_DIR")).unwrap();
    let names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    assert_eq!(unknown_top_level(&names), [""; 0]);
    assert_eq!(unknown_top_level(&["src", "scripts"]), ["scripts"]);
}

fn unknown_top_level<'a>(names: &[&'a str]) -> Vec<&'a str> {
    names.iter().filter(|name| !TOP_LEVEL.contains(name)).copied().collect()
}

/// A module imports lower tiers only, and names of other modules by their module.
fn tiers(path: &str, text: &str) -> Vec<String> {
    let module = module(path);
    let Some(own) = tier(module) else { return Vec::new() };
    let depth = depth(path);
    let mut out = Vec::new();
    for Named { line, path: named } in production_paths(path, text) {
        let supers = named.iter().take_while(|name| *name == "super").count();
        let at = match named[0].as_str() {
            "crate" => 1,
            "super" if supers >= depth => supers,
            _ => continue,
        };
        let Some(other) = named.get(at).filter(|other| *other != module) else { continue };
        match tier(other) {
            // The bounds are constants, below even the model.
            Some(other_tier) if other_tier < own || other == "limits" => {}
            Some(_) => out.push(format!("line {line}: {module} (tier {own}) may not name {other}")),
            None => out.push(format!("line {line}: crate::{other} is not a module of the table: name its module")),
        }
    }
    out.dedup();
    out
}

/// A pure module names nothing that reaches outside.
fn purity(path: &str, text: &str) -> Vec<String> {
    if !PURE.contains(&module(path)) && !PURE_FILES.contains(&path) {
        return Vec::new();
    }
    let mut out = Vec::new();
    for named in production_paths(path, text) {
        for impure in IMPURE.iter().filter(|impure| named.reaches(impure)) {
            out.push(format!("line {}: {} is pure and may not name {impure}", named.line, module(path)));
        }
    }
    out
}

/// Some names belong to one place.
fn reserved_names(path: &str, text: &str) -> Vec<String> {
    let mut out = Vec::new();
    for named in production_paths(path, text) {
        for (name, places) in RESERVED {
            if named.reaches(name) && !places.iter().any(|place| path.starts_with(place)) {
                out.push(format!("line {}: only {} may name {name}", named.line, places.join(" and ")));
            }
        }
    }
    out
}

/// The library never prints.
fn no_printing(path: &str, text: &str) -> Vec<String> {
    if module(path) == "cli" {
        return Vec::new();
    }
    let tokens = production_tokens(path, text);
    let prints = ["print", "println", "eprint", "eprintln", "dbg"];
    let pairs = tokens.windows(2).filter(|pair| prints.contains(&pair[0].text.as_str()) && pair[1].text == "!");
    pairs.map(|pair| format!("line {}: {}! in the library", pair[0].line, pair[0].text)).collect()
}

/// A file of tests, which is exempt from most rules, is compiled for tests only.
fn tests_are_only_tests(path: &str, text: &str) -> Vec<String> {
    let tokens = production_tokens(path, text);
    let pairs = tokens.windows(2).filter(|pair| pair[0].text == "mod" && pair[1].text == "tests");
    pairs.map(|pair| format!("line {}: mod tests without #[cfg(test)]", pair[0].line)).collect()
}

/// Every file can be read in one sitting.
fn line_count(_: &str, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    if lines > LINES { vec![format!("{lines} lines are more than {LINES}: split it")] } else { Vec::new() }
}

/// ASCII only.
fn ascii(_: &str, text: &str) -> Vec<String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_ascii());
    lines.map(|(at, _)| format!("line {}: not ASCII", at + 1)).collect()
}

/// Every module has its place in the table.
fn known_module(path: &str, _: &str) -> Vec<String> {
    let module = module(path);
    let known = matches!(path, "lib.rs" | "main.rs") || tier(module).is_some();
    if known { Vec::new() } else { vec![format!("module {module} is not in the table of tiers")] }
}

/// Every file of the source: its path from `src/` on, and its text.
fn source_files() -> Vec<(String, String)> {
    fn collect(directory: &Path, prefix: &str, out: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{prefix}{}", entry.file_name().into_string().unwrap());
            if entry.file_type().unwrap().is_dir() {
                collect(&entry.path(), &format!("{path}/"), out);
            } else {
                assert!(path.ends_with(".rs"), "src/{path} is no source");
                out.push((path, fs::read_to_string(entry.path()).unwrap()));
            }
        }
    }
    let mut out = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut out);
    out.sort();
    out
}

fn tier(module: &str) -> Option<usize> {
    TIERS.iter().position(|modules| modules.contains(&module))
}

/// The top-level module that a file belongs to.
fn module(path: &str) -> &str {
    let first = path.split('/').next().unwrap();
    first.strip_suffix(".rs").unwrap_or(first)
}

/// How many `super` lead from a file to the root of the crate.
fn depth(path: &str) -> usize {
    path.split('/').count() - usize::from(path.ends_with("/mod.rs"))
}

#[derive(Clone, Debug)]
struct Token {
    line: usize,
    text: String,
}

/// A path that the code names, `use` groups resolved.
#[derive(Debug)]
struct Named {
    line: usize,
    path: Vec<String>,
}

impl Named {
    /// Is it `name`, something in it, or a module that brings it along?
    fn reaches(&self, name: &str) -> bool {
        let own = self.path.iter().map(String::as_str).filter(|part| !matches!(*part, "self" | "*"));
        let own: Vec<_> = own.collect();
        let name: Vec<_> = name.split("::").collect();
        let common = own.len().min(name.len());
        self.path.len() > 1 && common >= name.len().min(2) && own[..common] == name[..common]
    }
}

fn production_paths(path: &str, text: &str) -> Vec<Named> {
    let tokens = production_tokens(path, text);
    let mut out = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if is_name(&tokens[at].text) {
            at = read_path(&tokens, at, &[], &mut out);
        } else {
            at += 1;
        }
    }
    out
}

/// Reads the path at `at`, below `prefix`; gives the place after it.
fn read_path(tokens: &[Token], mut at: usize, prefix: &[String], out: &mut Vec<Named>) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let line = tokens[at].line;
    let mut path = prefix.to_vec();
    loop {
        path.push(text(at).to_owned());
        at += 1;
        if text(at) != "::" {
            break;
        }
        if text(at + 1) == "{" {
            at += 2;
            while at < tokens.len() && text(at) != "}" {
                at = match text(at) {
                    "as" => at + 2,
                    name if is_name(name) => read_path(tokens, at, &path, out),
                    _ => at + 1,
                };
            }
            return at + 1;
        }
        if !is_name(text(at + 1)) {
            break;
        }
        at += 1;
    }
    out.push(Named { line, path });
    at
}

fn is_name(text: &str) -> bool {
    text == "*" || text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// The tokens of a file without those under `#[cfg(test)]`.
fn production_tokens(path: &str, text: &str) -> Vec<Token> {
    if path.ends_with("tests.rs") {
        return Vec::new();
    }
    let tokens = tokens(text);
    let starts = |at: usize, words: &[&str]| {
        tokens.len() >= at + words.len() && tokens[at..].iter().zip(words).all(|(token, word)| token.text == *word)
    };
    let mut out = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if starts(at, &["#", "[", "cfg", "(", "test", ")", "]"])
            || starts(at, &["#", "[", "cfg", "(", "all", "(", "test"])
        {
            at = after_item(&tokens, at);
        } else {
            out.push(tokens[at].clone());
            at += 1;
        }
    }
    out
}

/// The place after an item and its attributes: after a semicolon, or after the braces of its body.
fn after_item(tokens: &[Token], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            "{" | "(" | "[" => depth += 1,
            // A field or an arm, the last of its block.
            "}" | ")" | "]" if depth == 0 => return at,
            close @ ("}" | ")" | "]") => {
                depth -= 1;
                if depth == 0 && close == "}" {
                    return at + 1;
                }
            }
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
        at += 1;
    }
    at
}

/// Names, `::` and single signs; no comments, and no content of strings.
fn tokens(text: &str) -> Vec<Token> {
    let bytes = text.as_bytes();
    let peek = |at: usize| bytes.get(at).copied().unwrap_or(0);
    let find = |from: usize, what: &str| text[from..].find(what).map_or(bytes.len(), |at| from + at + what.len());
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut out = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < bytes.len() {
        let start = at;
        let mut token = None;
        match bytes[at] {
            b'/' if peek(at + 1) == b'/' => at = find(at, "\n") - usize::from(text[at..].contains('\n')),
            b'/' if peek(at + 1) == b'*' => at = find(at, "*/"),
            b'"' => at = after_string(bytes, at + 1, b'"'),
            b'\'' if peek(at + 1) == b'\\' || (peek(at + 2) == b'\'') => at = after_string(bytes, at + 1, b'\''),
            byte if is_word(byte) => {
                while is_word(peek(at)) {
                    at += 1;
                }
                let word = &text[start..at];
                let hashes = bytes[at..].iter().take_while(|byte| **byte == b'#').count();
                let string = peek(at + hashes) == b'"';
                if matches!(word, "r" | "br" | "cr") && string {
                    at = find(at + hashes + 1, &format!("\"{}", "#".repeat(hashes)));
                } else {
                    token = Some(word);
                }
            }
            b':' if peek(at + 1) == b':' => {
                at += 2;
                token = Some("::");
            }
            byte => {
                at += 1;
                while !text.is_char_boundary(at) {
                    at += 1;
                }
                token = (!byte.is_ascii_whitespace()).then(|| &text[start..at]);
            }
        }
        out.extend(token.map(|text| Token { line, text: text.to_owned() }));
        line += bytes[start..at].iter().filter(|byte| **byte == b'\n').count();
    }
    out
}

fn after_string(bytes: &[u8], mut at: usize, quote: u8) -> usize {
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

mod rules {
    use super::*;

    #[track_caller]
    fn caught(rule: Rule, path: &str, text: &str) {
        assert_eq!(rule(path, text).len(), 1, "{text:?} in {path}: {:?}", rule(path, text));
    }

    #[track_caller]
    fn fine(rule: Rule, path: &str, text: &str) {
        assert_eq!(rule(path, text), [""; 0], "{text:?} in {path}");
    }

    #[test]
    fn a_higher_or_equal_tier_is_caught() {
        for bad in [
            "use crate::device::Store;",
            "use crate::error::{Code, Error};",
            "use crate::{\n    model::{Digest, TreePath},\n    journal,\n};",
            "use crate::{limits, package::legacy::{self, Member}};",
            "fn f() -> crate::strategy::Plan { todo!() }",
            "use crate::{vfs::{OsVfs}, error as e};",
            "pub(in crate::cli) fn f() {}",
            "use super::super::journal::Journal;",
            "use crate::Error;",
            "#[cfg(test)]\nuse crate::cli;\nuse crate::publish::build;",
            "#[cfg(test)]\nmod tests { use crate::cli::run; }\nuse crate::publish::build;",
            "#[cfg(not(test))]\nuse crate::publish::build;",
            "const A: char = '\"'; use crate::cli::run; const B: char = '\"';",
            "fn f<'a>(x: &'a str) { crate::cli::run() }",
            "/// Not \"closed\nuse crate::cli::run;",
            "const A: &str = \"\\\\\"; const B: u32 = crate::cli::X;",
        ] {
            caught(tiers, "tree/scan.rs", bad);
        }
        caught(tiers, "tree/mod.rs", "use super::package::layout;");
        caught(tiers, "limits.rs", "use crate::model::Digest;");
        assert!(tiers("tree/scan.rs", "\n\nuse crate::cli::run;")[0].starts_with("line 3: "));
    }

    #[test]
    fn lower_tiers_the_own_module_and_tests_are_fine() {
        for good in [
            "use crate::{model::{Digest, TreePath}, limits, vfs::Vfs};",
            "use crate::tree::check::Check;",
            "use super::package::Thing;",
            "// use crate::cli::run;",
            "/* use crate::cli::run; */ const A: &str = \"crate::cli::run\"; const B: &str = r#\" \"crate::cli::run\"#;",
            "#[cfg(test)]\nmod tests {\n    use crate::cli::run;\n    fn f() { if true { run() } }\n}",
            "#[cfg(all(test, feature = \"sim\"))]\nmod tests { use crate::cli::run; }",
            "#[cfg(test)]\nfn f(x: [u8; 3]) { crate::cli::run() }",
        ] {
            fine(tiers, "tree/scan.rs", good);
        }
        fine(tiers, "tree/tests.rs", "use crate::cli::run;");
        fine(tiers, "lib.rs", "pub use crate::cli::run;");
        fine(tiers, "cli/mod.rs", "use crate::error::Error; use crate::device::Store;");
    }

    #[test]
    fn impurity_is_caught() {
        for bad in [
            "use std::fs;",
            "use std::{fmt, fs::File};",
            "use std::{io, net::{self}};",
            "let now = std::time::SystemTime::now();",
            "use std::time::{Duration, Instant};",
            "use std::time::*;",
            "use std::env::var;",
            "std::thread::spawn(f);",
            "use tokio::runtime::Runtime;",
            "getrandom::fill(&mut bytes)",
            "use crate::vfs::Vfs;",
            "use crate::{limits, vfs};",
        ] {
            let found = purity("transaction/step.rs", bad);
            assert!(!found.is_empty(), "{bad}");
        }
        for good in ["use std::time::Duration;", "use std::fmt; use std::io::{self, Read};", "let rand = 1;"] {
            fine(purity, "transaction/step.rs", good);
        }
        caught(purity, "fetch/resume.rs", "use std::time::Instant;");
        fine(purity, "fetch/pace.rs", "use std::time::Instant;");
        fine(purity, "tree/scan.rs", "use crate::vfs::Vfs; use std::thread;");
    }

    #[test]
    fn names_out_of_place_are_caught() {
        caught(reserved_names, "device/store.rs", "use std::{fs, io};");
        caught(reserved_names, "vfs/mod.rs", "std::fs::read(path)");
        caught(reserved_names, "package/layout.rs", "bincode::serde::decode(x)");
        caught(reserved_names, "journal/mod.rs", "use bincode::config;");
        caught(reserved_names, "fetch/resume.rs", "tokio::spawn(x)");
        caught(reserved_names, "strategy/mod.rs", "use reqwest::Client;");
        caught(reserved_names, "cli/web.rs", "use tokio::runtime::Runtime;");
        fine(reserved_names, "vfs/os.rs", "use std::fs;");
        fine(reserved_names, "cli/keys.rs", "use std::fs;");
        fine(reserved_names, "codec/mod.rs", "bincode::serde::decode(x)");
        fine(reserved_names, "fetch/http.rs", "use reqwest::Client;");
        fine(reserved_names, "device/store.rs", "#[cfg(test)]\nmod tests { use std::fs; }");
    }

    #[test]
    fn printing_is_caught() {
        for bad in ["fn f() { println!(\"x\") }", "eprintln ! (\"x\");", "dbg!(x);", "std::print!(\"x\")"] {
            caught(no_printing, "device/mod.rs", bad);
        }
        fine(no_printing, "cli/output.rs", "println!(\"x\")");
        fine(no_printing, "device/mod.rs", "// println!\n#[cfg(test)]\nmod tests { fn f() { println!(\"x\") } }");
    }

    #[test]
    fn hidden_tests_long_files_odd_letters_and_new_modules_are_caught() {
        caught(tests_are_only_tests, "tree/mod.rs", "mod tests;");
        fine(tests_are_only_tests, "tree/mod.rs", "#[cfg(test)]\nmod tests;");
        caught(line_count, "tree/mod.rs", &"\n".repeat(LINES + 1));
        fine(line_count, "tree/mod.rs", &"\n".repeat(LINES));
        caught(ascii, "tree/mod.rs", "fine\n// na\u{ef}ve\nfine");
        fine(ascii, "tree/mod.rs", "fine");
        caught(known_module, "utils.rs", "");
        caught(known_module, "helpers/mod.rs", "");
        fine(known_module, "main.rs", "");
        fine(known_module, "tree/scan.rs", "");
    }

    #[test]
    fn the_table_names_every_module_once() {
        let all = TIERS.concat();
        assert!(all.iter().all(|module| all.iter().filter(|other| *other == module).count() == 1));
        assert!(PURE.iter().all(|module| all.contains(module)));
    }
}
