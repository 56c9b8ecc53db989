//! `LocalCarrier`: files of this machine, by path or `file:` URL.

use super::address::local_path;
use super::{Body, Carrier, Failure, Head, Request, Response};
use crate::limits;
use crate::vfs::OsFiles;
use std::io::{self, Read, Seek, SeekFrom};

/// Brings files of this machine. Like a server without entity tags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalCarrier;

impl Carrier for LocalCarrier {
    fn get(&self, request: &Request) -> Result<Response, Failure> {
        let path = local_path(&request.address).map_err(Failure::Refused)?;
        let path = path.ok_or_else(|| Failure::Refused("not a file of this machine".into()))?;
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => Failure::Status { status: 404, retry_after: None },
            io::ErrorKind::PermissionDenied => Failure::Refused(format!("{}: {error}", path.display())),
            _ => Failure::Connection(format!("{}: {error}", path.display())),
        };
        let mut file = OsFiles.open_file(&path).map_err(failed)?;
        let length = file.seek(SeekFrom::End(0)).map_err(failed)?;
        part_of(file, (0, length), request).map_err(failed)
    }
}

/// What is asked for of a content that is a part of a file: where it begins there, and its length.
pub(super) fn part_of(
    mut file: impl Read + Seek + Send + 'static,
    (begin, length): (u64, u64),
    request: &Request,
) -> io::Result<Response> {
    let (start, end) = request.range.map_or((0, length), |(start, end)| (start, end.unwrap_or(length).min(length)));
    let mut head = Head::default();
    if request.range.is_some() && start >= end {
        head.status = 416;
        head.content_range = Some(format!("bytes */{length}"));
        return Ok(Response { head, body: Box::new(FileBody { left: io::empty().take(0), buffer: Vec::new() }) });
    }
    file.seek(SeekFrom::Start(begin + start))?;
    head.content_length = Some(end - start);
    head.status = 200;
    if request.range.is_some() {
        head.status = 206;
        head.content_range = Some(format!("bytes {start}-{}/{length}", end - 1));
    }
    let body = FileBody { left: file.take(end - start), buffer: vec![0; limits::COPY_BUFFER] };
    Ok(Response { head, body: Box::new(body) })
}

struct FileBody<R> {
    left: io::Take<R>,
    buffer: Vec<u8>,
}

impl<R: Read + Send> Body for FileBody<R> {
    fn chunk(&mut self) -> Result<Option<&[u8]>, Failure> {
        match self.left.read(&mut self.buffer) {
            Ok(0) if self.left.limit() > 0 => Err(Failure::Truncated),
            Ok(0) => Ok(None),
            Ok(length) => Ok(Some(&self.buffer[..length])),
            Err(error) => Err(Failure::Connection(error.to_string())),
        }
    }
}
