//! The documents say what the code does: generated parts are up to date, test vectors are what the code reads and
//! writes, links lead somewhere.
//!
//! `SUREFOOT_BLESS=1` rewrites the generated parts and fills test vectors that are still empty. A vector that is there
//! is never rewritten: it is the format.

#![allow(clippy::unwrap_used, clippy::panic)]

mod delta;
mod vectors;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use surefoot::transaction::table;

/// Pages that the tests of what they describe write and check.
const ELSEWHERE: &[&str] = &["docs/cli.md", "docs/errors.md", "docs/testing.md"];
const WIDTH: usize = 120;

#[test]
fn the_state_table_and_diagram_are_those_of_the_code() {
    let diagram = format!("```mermaid\n{}```\n", table::diagram());
    check_generated("docs/crash-safety.md", &[("state table", table::markdown()), ("state diagram", diagram)]);
}

#[test]
fn the_bounds_are_those_of_the_code() {
    check_generated("docs/formats/README.md", &[("bounds", bounds(&read("src/limits.rs")))]);
}

#[test]
fn every_test_vector_is_what_the_code_reads_and_writes() {
    let mut expected = vectors::all();
    let mut problems = Vec::new();
    for path in pages().iter().filter(|path| path.starts_with("docs/formats/")) {
        let text = read(path);
        let mut out = String::new();
        for part in parts(&text) {
            let Part::Vector { name, body } = part else {
                out.push_str(part.text());
                continue;
            };
            let Some(vector) = expected.remove(name) else {
                problems.push(format!("{path}: no code knows the vector {name}, or it is there twice"));
                out.push_str(body);
                continue;
            };
            if body.is_empty() && bless() {
                out.push_str(&vector);
            } else {
                if body != vector {
                    problems.push(format!("{path}: {name} is\n{body}and the code makes\n{vector}"));
                }
                out.push_str(body);
            }
        }
        if bless() && out != text {
            fs::write(root().join(path), out).unwrap();
        }
    }
    problems.extend(expected.keys().map(|name| format!("the vector {name} is in no document")));
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn every_page_is_ascii_narrow_and_its_links_lead_somewhere() {
    let mut problems = Vec::new();
    for path in pages() {
        let text = read(&path);
        let mut fenced = false;
        for (number, line) in text.lines().enumerate() {
            let at = format!("{path}:{}", number + 1);
            fenced ^= line.starts_with("```");
            if !line.is_ascii() {
                problems.push(format!("{at}: not ASCII"));
            }
            if line.len() > WIDTH && !fenced && !line.starts_with('|') {
                problems.push(format!("{at}: {} characters", line.len()));
            }
            if !fenced {
                problems.extend(broken_links(&path, line).into_iter().map(|link| format!("{at}: {link} is not there")));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn every_shell_block_runs_as_it_is_printed() {
    let mut ran = 0;
    let program = Path::new(env!("CARGO_BIN_EXE_surefoot")).parent().unwrap();
    let search = format!("{}:{}", program.display(), search_path());
    for path in pages() {
        let text = read(&path);
        let blocks: Vec<&str> = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
        if blocks.is_empty() {
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        let mut shell = std::process::Command::new("sh");
        shell.args(["-eu", "-c", &blocks.concat()]).current_dir(&folder).env("PATH", &search);
        let output = shell.env_remove("SUREFOOT_ROOT").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{path}: {}: {said}", output.status);
        ran += blocks.len();
    }
    assert!(ran > 0, "no page has a shell block");
}

/// The program is built already, so the first two lines, which build it and put it on the path, are left out.
#[test]
fn the_readme_by_hand_runs_as_it_is_printed() {
    let text = read("README.md");
    let block = text.split("## By hand\n\n```sh\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let (install, rest) = block.split_once("\ncd ").unwrap();
    let known = ["cargo install --path . --root ~/.local --quiet", "export PATH=\"$HOME/.local/bin:$PATH\""];
    assert_eq!(install.lines().collect::<Vec<_>>(), known);
    assert!(rest.matches("surefoot ").count() > 8, "{rest}");
    let folder = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_surefoot")).parent().unwrap();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-eu", "-c", &format!("cd {rest}")]).current_dir(&folder).env("TMPDIR", folder.path());
    shell.env("PATH", format!("{}:{}", program.display(), search_path())).env_remove("SUREFOOT_ROOT");
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_readme_with_a_repository_runs_as_it_is_printed() {
    let text = read("README.md");
    let section = text.split("## With a repository\n").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let block = section.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert_eq!(block.matches("\nsurefoot ").count(), 10, "ten commands");
    let folder = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_surefoot")).parent().unwrap();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-eu", "-c", block]).current_dir(&folder).env_remove("SUREFOOT_ROOT");
    shell.env("PATH", format!("{}:{}", program.display(), search_path()));
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    let app = fs::read_to_string(folder.path().join("repository-demo/device/app")).unwrap();
    assert_eq!(app, "two\n", "the device has the newest version");
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    assert_eq!(broken_links("docs/ARCHITECTURE.md", "[a](crash-safety.md) [b](../src/lib.rs)"), [""; 0]);
    assert_eq!(
        broken_links("docs/formats/README.md", "see [a](../crash-safety.md#the-protocol), [w](https://example.org)"),
        [""; 0]
    );
    assert_eq!(broken_links("docs/ARCHITECTURE.md", "[a](nowhere.md)"), ["docs/nowhere.md"]);
    assert_eq!(broken_links("docs/ARCHITECTURE.md", "[a](crash-safety.md#no-such)"), ["docs/crash-safety.md#no-such"]);
}

/// A piece of a page.
enum Part<'a> {
    /// Text that is kept.
    Text(&'a str),
    /// What stands between the fences of a test vector.
    Vector { name: &'a str, body: &'a str },
}

impl<'a> Part<'a> {
    fn text(&self) -> &'a str {
        match self {
            Self::Text(text) => text,
            Self::Vector { body, .. } => body,
        }
    }
}

/// Cuts a page at its test vectors: blocks fenced as `hex NAME`, `text NAME` or `json NAME`.
fn parts(text: &str) -> Vec<Part<'_>> {
    let mut out = Vec::new();
    let mut rest = text;
    let mut from = 0;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        at += line.len();
        let tag = line.strip_prefix("```").and_then(|tag| tag.trim_end().split_once(' '));
        let Some((_, name)) = tag.filter(|(kind, _)| ["hex", "text", "json"].contains(kind)) else { continue };
        out.push(Part::Text(&text[from..at]));
        rest = &text[at..];
        let end = if rest.starts_with("```") { 0 } else { rest.find("\n```").map_or(rest.len(), |end| end + 1) };
        out.push(Part::Vector { name, body: &rest[..end] });
        from = at + end;
    }
    let _ = rest;
    out.push(Part::Text(&text[from..]));
    out
}

/// Compares what stands between `<!-- generated: NAME -->` and `<!-- end -->` with what should stand there.
fn check_generated(path: &str, wanted: &[(&str, String)]) {
    let mut text = read(path);
    for (name, content) in wanted {
        let begin = format!("<!-- generated: {name} -->\n");
        let start = text.find(&begin).unwrap_or_else(|| panic!("{path} has no marker {name}")) + begin.len();
        let end = start + text[start..].find("<!-- end -->").unwrap_or_else(|| panic!("{path}: {name} has no end"));
        let content = format!("\n{content}\n");
        if text[start..end] == content {
            continue;
        }
        assert!(bless(), "{path}: {name} is out of date; SUREFOOT_BLESS=1 rewrites it");
        text.replace_range(start..end, &content);
    }
    if bless() && text != read(path) {
        fs::write(root().join(path), text).unwrap();
    }
}

/// Every constant of `limits.rs`, its value as it is written there, and the first sentence about it.
fn bounds(source: &str) -> String {
    let mut out = String::from("| bound | value | what it bounds |\n|---|---|---|\n");
    let mut about = String::new();
    for line in source.lines() {
        if let Some(text) = line.strip_prefix("///") {
            let _ = write!(about, "{text}");
        } else if let Some(constant) = line.strip_prefix("pub const ") {
            let (name, rest) = constant.split_once(": ").unwrap();
            let value = rest.split_once(" = ").unwrap().1.trim_end_matches(';');
            let sentence = about.trim().split(". ").next().unwrap().trim_end_matches('.').to_string();
            let _ = writeln!(out, "| `{name}` | `{value}` | {sentence} |");
            about.clear();
        } else {
            about.clear();
        }
    }
    out
}

/// The links of a line that lead to a file or a heading that is not there.
fn broken_links(page: &str, line: &str) -> Vec<String> {
    let mut out = Vec::new();
    for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        if link.contains("://") {
            continue;
        }
        let (file, heading) = link.split_once('#').unwrap_or((link, ""));
        let target = if file.is_empty() { page.to_owned() } else { resolve(page, file) };
        if ELSEWHERE.contains(&target.as_str()) {
            continue;
        }
        let there = root().join(&target).exists();
        if !there || !heading.is_empty() && !headings(&read(&target)).contains(&heading.to_owned()) {
            out.push(if heading.is_empty() { target } else { format!("{target}#{heading}") });
        }
    }
    out
}

fn resolve(page: &str, link: &str) -> String {
    let mut names: Vec<&str> = page.split('/').collect();
    names.pop();
    for name in link.split('/') {
        match name {
            ".." => _ = names.pop(),
            "." | "" => {}
            name => names.push(name),
        }
    }
    names.join("/")
}

/// The anchors of the headings of a page.
fn headings(text: &str) -> Vec<String> {
    let anchor = |title: &str| {
        let kept = title.trim().to_lowercase();
        kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>().replace(' ', "-")
    };
    text.lines().filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#'))).collect()
}

/// Every page, by its path from the root of the repository.
fn pages() -> Vec<String> {
    fn collect(directory: &Path, out: &mut BTreeMap<String, ()>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, out);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                out.insert(path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned(), ());
            }
        }
    }
    let mut out = BTreeMap::new();
    collect(&root().join("docs"), &mut out);
    out.into_keys().collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[allow(clippy::disallowed_methods, reason = "a test has an environment")]
fn search_path() -> String {
    std::env::var("PATH").unwrap()
}

fn bless() -> bool {
    std::env::var_os("SUREFOOT_BLESS").is_some_and(|value| value == "1")
}
