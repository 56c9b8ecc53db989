//! A server on the loopback that does exactly what a test wants, right or wrong.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// One request, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) number: usize,
    pub(crate) path: String,
    fields: BTreeMap<String, String>,
}

impl Asked {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// The first byte of the range, and the last if it is named.
    pub(crate) fn range(&self) -> Option<(usize, Option<usize>)> {
        let (first, last) = self.field("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().unwrap(), last.parse().ok()))
    }
}

/// It serves until the test ends.
pub(crate) struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Answers each request, on a connection of its own, with whatever `answer` writes.
    pub(crate) fn start(answer: impl Fn(&Asked, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (list, answer) = (asked.clone(), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let (list, answer) = (list.clone(), answer.clone());
                thread::spawn(move || {
                    let Some(mut request) = read(&stream) else { return };
                    {
                        let mut list = list.lock().unwrap();
                        request.number = list.len();
                        list.push(request.clone());
                    }
                    answer(&request, &mut stream);
                });
            }
        });
        Self { port, asked }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The ranges of all requests so far, as they were written.
    pub(crate) fn ranges(&self) -> Vec<Option<String>> {
        self.asked().iter().map(|asked| asked.field("range").map(Into::into)).collect()
    }
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let mut fields = BTreeMap::new();
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(':') else { break };
        fields.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    Some(Asked { number: 0, path: first.split(' ').nth(1)?.to_owned(), fields })
}

/// Writes a head with these lines, and some body; the connection ends with it.
pub(crate) fn send(stream: &mut TcpStream, status: &str, lines: &[&str], body: &[u8]) {
    let mut text = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    lines.iter().for_each(|line| text += &format!("{line}\r\n"));
    let _ = stream.write_all(format!("{text}\r\n").as_bytes());
    let _ = stream.write_all(body);
}

/// Answers as a good server does, but with only so much of the body.
pub(crate) fn serve_up_to(asked: &Asked, stream: &mut TcpStream, content: &[u8], tag: &str, most: usize) {
    let tag_line = format!("ETag: {tag}");
    let same = asked.field("if-range").is_none_or(|wanted| wanted == tag);
    match asked.range().filter(|_| same) {
        Some((first, last)) if first < content.len() => {
            let end = last.map_or(content.len(), |last| (last + 1).min(content.len()));
            let length = format!("Content-Length: {}", end - first);
            let range = format!("Content-Range: bytes {first}-{}/{}", end - 1, content.len());
            let body = &content[first..end];
            send(stream, "206 Partial Content", &[&tag_line, &length, &range], &body[..body.len().min(most)]);
        }
        Some(_) => {
            let range = format!("Content-Range: bytes */{}", content.len());
            send(stream, "416 Range Not Satisfiable", &[&range, "Content-Length: 0"], b"");
        }
        None => {
            let length = format!("Content-Length: {}", content.len());
            send(stream, "200 OK", &[&tag_line, &length], &content[..content.len().min(most)]);
        }
    }
}

/// Answers as a good server does.
pub(crate) fn serve(asked: &Asked, stream: &mut TcpStream, content: &[u8], tag: &str) {
    serve_up_to(asked, stream, content, tag, usize::MAX);
}
