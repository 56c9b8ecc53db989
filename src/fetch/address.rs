//! Addresses: what they name on this machine, how a relative one is completed, how one is shown. Pure.

use crate::limits;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

/// The path of an address on this machine; nothing if it is on another one.
pub fn local_path(address: &str) -> Result<Option<PathBuf>, String> {
    match scheme(address).as_deref() {
        Some("http" | "https") => Ok(None),
        Some("file") => {
            let rest = &address["file:".len()..];
            let path = match rest.strip_prefix("//") {
                Some(rest) => match rest.strip_prefix("localhost").unwrap_or(rest) {
                    path if path.starts_with('/') => path,
                    _ => return Err("a file on another machine".into()),
                },
                None => rest,
            };
            let path = percent_decoded(path.as_bytes()).ok_or("a '%' without two hexadecimal digits")?;
            Ok(Some(PathBuf::from(OsString::from_vec(path))))
        }
        _ if address.contains("://") => Err("an address that is neither a path nor a file: or http(s): URL".into()),
        _ => Ok(Some(PathBuf::from(address))),
    }
}

/// Completes an address that stands in a document at `base`.
pub fn resolve(base: &str, address: &str) -> Result<String, String> {
    let full = if scheme(address).is_some_and(|scheme| matches!(scheme.as_str(), "http" | "https" | "file"))
        || address.contains("://")
    {
        address.to_owned()
    } else if let Some((origin, path)) = origin(base) {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let folder = path.rfind('/').map_or("/", |at| &path[..=at]);
        if let Some(rest) = address.strip_prefix("//") {
            format!("{}//{rest}", &origin[..=origin.find(':').unwrap_or(0)])
        } else if address.starts_with('/') {
            format!("{origin}{address}")
        } else {
            format!("{origin}{folder}{address}")
        }
    } else if address.starts_with('/') {
        address.to_owned()
    } else {
        let folder = base.rfind('/').map_or("", |at| &base[..=at]);
        format!("{folder}{address}")
    };
    let remote = |text: &str| matches!(scheme(text).as_deref(), Some("http" | "https"));
    if full.len() > limits::ADDRESS_BYTES {
        return Err("an address that is too long".into());
    }
    // A document from elsewhere has no say over the files of this machine.
    if remote(base) && !remote(&full) {
        return Err(format!("{} is named by a document from another machine", shown(&full)));
    }
    Ok(full)
}

/// The address of something in the folder at `base`, by its path there.
pub fn below(base: &str, path: &str) -> String {
    if is_url(base) { below_quoted(base, &percent_encoded(path)) } else { below_quoted(base, path) }
}

/// The address of something in the folder at `base`, by a path that is escaped already where it has to be.
pub fn below_quoted(base: &str, path: &str) -> String {
    if is_url(base) {
        // What follows the path of a folder, a token for example, is asked of what is in it, too.
        let (folder, tail) = base.split_at(base.find(['?', '#']).unwrap_or(base.len()));
        format!("{}/{path}{tail}", folder.trim_end_matches('/'))
    } else if base.is_empty() || base.ends_with('/') {
        format!("{base}{path}")
    } else {
        format!("{base}/{path}")
    }
}

fn is_url(address: &str) -> bool {
    matches!(scheme(address).as_deref(), Some("http" | "https" | "file"))
}

/// An address for people and logs: without user, password, query and fragment.
pub fn shown(address: &str) -> String {
    let plain = address.split(['?', '#']).next().unwrap_or_default();
    match origin(plain) {
        Some((origin, path)) => match origin.rsplit_once('@') {
            Some((before, host)) => format!("{}{host}{path}", &before[..before.find("//").map_or(0, |at| at + 2)]),
            None => plain.to_owned(),
        },
        None => plain.to_owned(),
    }
}

/// `https://host` and the rest of an http address.
fn origin(address: &str) -> Option<(&str, &str)> {
    if !matches!(scheme(address)?.as_str(), "http" | "https") {
        return None;
    }
    let host = address.find("://")? + 3;
    let path = address[host..].find(['/', '?', '#']).map_or(address.len(), |at| host + at);
    Some((&address[..path], &address[path..]))
}

fn scheme(address: &str) -> Option<String> {
    let (scheme, _) = address.split_once(':')?;
    Some(scheme.to_ascii_lowercase())
}

/// A path as a URL has it.
fn percent_encoded(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'/' | b'_' | b'-' | b'.' | b'~' => out.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            out.push(*first);
            continue;
        }
        let (pair, after) = rest.split_at_checked(2)?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        out.push(u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?);
        rest = after;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_path_or_a_url() {
        for (url, path) in [
            ("a/p.tar.gz", "a/p.tar.gz"),
            ("/a b%20", "/a b%20"),
            ("file:///a/b%20c", "/a/b c"),
            ("FILE://localhost/a", "/a"),
            ("file:/a", "/a"),
            ("a:b", "a:b"),
        ] {
            assert_eq!(local_path(url), Ok(Some(PathBuf::from(path))), "{url}");
        }
        for url in ["https://example.com/p.tar.gz", "HTTP:x"] {
            assert_eq!(local_path(url), Ok(None), "{url}");
        }
        for (url, word) in [
            ("ftp://x/y", "neither"),
            ("file://other/x", "another machine"),
            ("file://localhostile/x", "another machine"),
            ("file:///a%2", "hexadecimal"),
        ] {
            let error = local_path(url).unwrap_err();
            assert!(error.contains(word), "{url}: {error}");
        }
    }

    #[test]
    fn a_relative_address_is_completed_by_where_it_stands() {
        for (base, address, full) in [
            ("https://h/a/m.json?x=/y", "p.tar.gz", "https://h/a/p.tar.gz"),
            ("https://h/a/m.json", "/p", "https://h/p"),
            ("https://h/a/m.json", "//other/p", "https://other/p"),
            ("https://h", "p", "https://h/p"),
            ("https://h/a/m.json", "http://g/p", "http://g/p"),
            ("/srv/m.json", "p", "/srv/p"),
            ("m.json", "p", "p"),
            ("m.json", "https://h/p", "https://h/p"),
            ("file:///srv/m.json", "sub/p", "file:///srv/sub/p"),
        ] {
            assert_eq!(resolve(base, address).as_deref(), Ok(full), "{base} {address}");
        }
        assert!(resolve("https://h/m", "file:///etc/passwd").unwrap_err().contains("another machine"));
        assert!(resolve("https://h/m", &"x".repeat(10_000)).unwrap_err().contains("too long"));
    }

    #[test]
    fn what_is_in_a_folder_has_its_name_escaped_where_addresses_need_that() {
        for (base, path, full) in [
            ("https://h/repo", "t/a%2Fb", "https://h/repo/t/a%252Fb"),
            ("https://h/repo/?token=1", "targets/a b", "https://h/repo/targets/a%20b?token=1"),
            ("file:///srv/repo/", "t/a#b", "file:///srv/repo/t/a%23b"),
            ("/srv/repo", "t/a b%20", "/srv/repo/t/a b%20"),
            ("/", "t", "/t"),
            ("repo", "t", "repo/t"),
            ("", "t/x", "t/x"),
        ] {
            assert_eq!(below(base, path), full, "{base} {path}");
        }
        assert_eq!(below_quoted("https://h/r", "1.a%2Fb.json"), "https://h/r/1.a%2Fb.json");
        let there = local_path(&below("file:///srv", "a?b%#\u{e9}")).unwrap();
        assert_eq!(there, Some(PathBuf::from("/srv/a?b%#\u{e9}")));
    }

    #[test]
    fn an_address_is_shown_without_secrets() {
        assert_eq!(shown("https://user:secret@h:1/a?token=x#y"), "https://h:1/a");
        assert_eq!(shown("https://h/a"), "https://h/a");
        assert_eq!(shown("/srv/a"), "/srv/a");
    }
}
