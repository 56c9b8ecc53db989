//! `HttpCarrier`: bytes over HTTP and HTTPS. The only file of the library that names `reqwest` and `tokio`.
//!
//! It decides nothing about content: it connects, follows the redirections that are safe, and hands over heads and
//! bodies as they come. Bodies are never decoded, since ranges and digests count the bytes as they are.

use super::{Body, Carrier, Failure, FetchError, Head, Request, Response};
use crate::limits;
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderName, IF_RANGE, RANGE};
use reqwest::{Certificate, Client, NoProxy, Proxy, header, redirect};
use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// How the web is reached. Nothing of it is read from the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpOptions {
    /// Longest time for a connection to be made.
    pub connect_timeout: Duration,
    /// Longest time without any byte. There is no limit on the whole.
    pub stall_timeout: Duration,
    /// Certificates of authorities that are trusted besides those of the system: PEM, any number of them.
    pub authorities: Vec<u8>,
    /// What stands between.
    pub proxies: Proxies,
    /// Named to servers.
    pub user_agent: String,
}

/// Proxies by the scheme of the address that is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For http addresses.
    pub http: Option<String>,
    /// For https addresses.
    pub https: Option<String>,
    /// For both, where there is none of the former.
    pub all: Option<String>,
    /// Hosts that are asked directly: names, domains, addresses, networks, separated by commas; `*` for all.
    pub none_for: Option<String>,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(30),
            authorities: Vec::new(),
            proxies: Proxies::default(),
            user_agent: concat!("surefoot/", env!("CARGO_PKG_VERSION")).into(),
        }
    }
}

/// Brings bytes over HTTP and HTTPS.
///
/// Its calls wait, so they are not for the threads of an async runtime: see [`on_a_thread`]. The first one made sets
/// the process's cryptography provider of `rustls` to `ring`, unless there is one already.
#[derive(Debug)]
pub struct HttpCarrier {
    client: Client,
    runtime: Arc<Background>,
    stall: Duration,
}

impl HttpCarrier {
    /// One that reaches the web as the options say.
    pub fn new(options: &HttpOptions) -> Result<Self, FetchError> {
        // Where there is one already, that one is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let odd = |what: &str, error: &dyn std::fmt::Display| FetchError::Address(format!("{what}: {error}"));
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, header::HeaderValue::from_static("identity"));
        let mut client = Client::builder()
            .user_agent(&options.user_agent)
            .default_headers(headers)
            .connect_timeout(options.connect_timeout)
            .read_timeout(options.stall_timeout)
            .redirect(redirect::Policy::custom(follow))
            .referer(false)
            .retry(reqwest::retry::never())
            .http1_only()
            .no_proxy();
        if !options.authorities.is_empty() {
            let all = Certificate::from_pem_bundle(&options.authorities)
                .map_err(|error| odd("the certificates of authorities cannot be read", &cause(&error)))?;
            client = client.tls_certs_merge(all);
        }
        for proxy in proxies(&options.proxies).map_err(|error| odd("a proxy cannot be used", &cause(&error)))? {
            client = client.proxy(proxy);
        }
        let client = client.build().map_err(|error| odd("the web cannot be reached", &cause(&error)))?;
        let runtime = Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(|error| odd("the web cannot be reached", &error))?;
        Ok(Self { client, runtime: Arc::new(Background(Some(runtime))), stall: options.stall_timeout })
    }
}

impl Carrier for HttpCarrier {
    fn get(&self, request: &Request) -> Result<Response, Failure> {
        let mut asked = self.client.get(&request.address);
        if let Some((start, end)) = request.range {
            let end = end.map_or(String::new(), |end| (end - 1).to_string());
            asked = asked.header(RANGE, format!("bytes={start}-{end}"));
        }
        if let Some(tag) = &request.if_range {
            asked = asked.header(IF_RANGE, tag);
        }
        let response =
            self.runtime.wait(async move { asked.send().await })?.map_err(|error| failure(&error, self.stall))?;
        let fields = response.headers();
        let field = |name: HeaderName| fields.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let length = field(header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
        let head = Head {
            status: response.status().as_u16(),
            content_length: length,
            content_range: field(header::CONTENT_RANGE),
            content_encoding: field(header::CONTENT_ENCODING),
            etag: field(header::ETAG),
            retry_after: field(header::RETRY_AFTER),
            date: field(header::DATE),
        };
        let body = HttpBody { response, runtime: self.runtime.clone(), held: Box::new([]), stall: self.stall };
        Ok(Response { head, body: Box::new(body) })
    }
}

/// Redirections that are followed: few, in no circle, never from https to http or to another kind of address.
fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let secure = attempt.previous().iter().any(|url| url.scheme() == "https");
    if attempt.previous().len() > limits::REDIRECTIONS {
        attempt.error("redirected too often")
    } else if attempt.previous().contains(attempt.url()) {
        attempt.error("redirected in a circle")
    } else if secure && attempt.url().scheme() != "https" {
        attempt.error("redirected from https to an address that is not safe")
    } else if !matches!(attempt.url().scheme(), "http" | "https") {
        attempt.error("redirected to an address that is not of the web")
    } else {
        attempt.follow()
    }
}

fn proxies(given: &Proxies) -> reqwest::Result<Vec<Proxy>> {
    let none_for = given.none_for.as_deref().and_then(NoProxy::from_string);
    let one = |address: &Option<String>, make: fn(&str) -> reqwest::Result<Proxy>| {
        let address = address.as_deref().filter(|address| !address.is_empty());
        address.map(make).transpose().map(|proxy| proxy.map(|proxy| proxy.no_proxy(none_for.clone())))
    };
    let all = [
        one(&given.http, |address| Proxy::http(address))?,
        one(&given.https, |address| Proxy::https(address))?,
        one(&given.all, |address| Proxy::all(address))?,
    ];
    Ok(all.into_iter().flatten().collect())
}

/// What went wrong, for the state of the download to decide about.
fn failure(error: &reqwest::Error, stall: Duration) -> Failure {
    if error.is_redirect() || error.is_builder() {
        Failure::Refused(cause(error))
    } else if error.is_timeout() && !error.is_connect() {
        Failure::Stalled(stall)
    } else {
        Failure::Connection(cause(error))
    }
}

/// The innermost causes: the outer ones repeat the address, secrets and all.
fn cause(error: &reqwest::Error) -> String {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(source) = next {
        causes.push(source.to_string());
        next = source.source();
    }
    causes.dedup();
    let from = causes.len().saturating_sub(2);
    if causes.is_empty() { "no further cause is known".into() } else { causes[from..].join(": ") }
}

struct HttpBody {
    response: reqwest::Response,
    runtime: Arc<Background>,
    /// A chunk, until the next one is asked for.
    held: Box<dyn AsRef<[u8]> + Send>,
    stall: Duration,
}

impl Body for HttpBody {
    fn chunk(&mut self) -> Result<Option<&[u8]>, Failure> {
        let chunk = self.runtime.wait(self.response.chunk())?;
        match chunk.map_err(|error| failure(&error, self.stall))? {
            None => Ok(None),
            Some(bytes) => {
                self.held = Box::new(bytes);
                Ok(Some((*self.held).as_ref()))
            }
        }
    }
}

/// A runtime that may be dropped anywhere, also on the thread of another one.
#[derive(Debug)]
struct Background(Option<Runtime>);

impl Background {
    fn wait<T>(&self, future: impl Future<Output = T>) -> Result<T, Failure> {
        match &self.0 {
            Some(runtime) => Ok(runtime.block_on(future)),
            None => Err(Failure::Unasked),
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Does work that waits, without making a runtime wait: on a thread of its own.
///
/// The work is given a flag that says that nobody waits for it any more: the future was dropped. It should stop then;
/// a download loses nothing by it.
pub async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce(Arc<AtomicBool>) -> T + Send + 'static,
) -> Result<T, FetchError> {
    struct Leaving(Arc<AtomicBool>);
    impl Drop for Leaving {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let left = Leaving(Arc::default());
    let flag = left.0.clone();
    let (send, receive) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name("surefoot".into());
    let started = thread.spawn(move || drop(send.send(work(flag))));
    started.map_err(|error| FetchError::Address(format!("no thread can be started: {error}")))?;
    receive.await.map_err(|_| FetchError::Cancelled)
}
