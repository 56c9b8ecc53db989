//! Tells of archives, gzip files and images which of their members deflate again to the same bytes, and how.
//!
//! `cargo run --release --example archives -- FILE...`

#![allow(clippy::print_stdout, clippy::print_stderr, clippy::ptr_arg)]

use std::collections::BTreeMap;
use std::process::ExitCode;
use surefoot::delta::archive::{Member, MemberSet, NewPart, Part, inflated, parts, prepare};

fn main() -> ExitCode {
    let files: Vec<_> = std::env::args_os().skip(1).collect();
    if files.is_empty() {
        eprintln!("usage: archives FILE...");
        return ExitCode::from(2);
    }
    for file in files {
        match std::fs::read(&file).map_err(Into::into).and_then(|content| describe(&content)) {
            Ok(text) => println!("{}: {text}", file.to_string_lossy()),
            Err(error) => println!("{}: {error}", file.to_string_lossy()),
        }
    }
    ExitCode::SUCCESS
}

fn describe(content: &Vec<u8>) -> Result<String, surefoot::delta::archive::ArchiveError> {
    let parts = parts(content)?;
    let members: Vec<&Member> = parts
        .iter()
        .filter_map(|part| match part {
            Part::Deflated(member) => Some(member),
            Part::Raw { .. } => None,
        })
        .collect();
    let new = prepare(content, &parts, &MemberSet::default())?;
    let mut view = 0_u64;
    inflated(content, &new, &mut |content| {
        view += content.len() as u64;
        Ok(())
    })?;
    let (mut exact, mut bytes) = (0, 0);
    let mut how = BTreeMap::new();
    for part in &new {
        if let NewPart::Deflated { len, parameters, .. } = part {
            exact += 1;
            bytes += len;
            *how.entry(format!("{parameters:?}")).or_insert(0) += 1;
        }
    }
    let all: u64 = members.iter().map(|member| member.len).sum();
    let how: Vec<_> = how.iter().map(|(how, count)| format!("{count} by {how}")).collect();
    Ok(format!(
        "{exact} of {} members, {bytes} of {all} bytes, {view} bytes inflated; {}",
        members.len(),
        how.join(", ")
    ))
}
