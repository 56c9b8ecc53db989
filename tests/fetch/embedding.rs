//! Programs that embed the library: packages by URL, and callers who must not wait.

use super::server::{Server, serve};
use super::update::Place;
use super::{options, web};
use std::fs;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};
use surefoot::device::{DownloadSource, PatchExecutor, PatchProcessor, Phase, Progress, pending_downloads};
use surefoot::fetch::{HttpOptions, Options};
use surefoot::model::PatchPackageInfo;
use surefoot::trust::Keyring;
use surefoot::vfs::OsVfs;

/// A device, and the description of a package that is on a server.
fn published() -> (Place, Server, PatchPackageInfo) {
    let place = Place::new();
    fs::write(place.path("new/big"), super::noise(500_000, 4)).unwrap();
    let manifest = place.manifest("1.0.0.1");
    let mut info: PatchPackageInfo = serde_json::from_value(manifest["patch"]["x86_64"].clone()).unwrap();
    let package = fs::read(place.path("up.tar.gz")).unwrap();
    let server = Server::start(move |asked, stream| serve(asked, stream, &package, "\"a\""));
    info.url = server.url("up.tar.gz");
    (place, server, info)
}

fn source(place: &Place, options: Options) -> DownloadSource {
    let (tree, state) = (place.path("dev"), place.path("dev/.surefoot"));
    DownloadSource::new(&tree, &state, Arc::new(web(HttpOptions::default())), options).unwrap()
}

#[test]
fn an_executor_fetches_by_url_and_tells_from_zero_to_one() {
    let (place, server, info) = published();
    let mut executor = PatchExecutor::new(place.path("dev")).unwrap();
    executor.set_source(source(&place, options()));
    let told = Mutex::new(Vec::new());
    executor.apply_patch(&info, &info.operations, |part| told.lock().unwrap().push(part)).unwrap();
    drop(executor);
    place.assert_same("dev", "new");
    let told = told.into_inner().unwrap();
    assert!(told[0] == 0.0 && told.last() == Some(&1.0) && told.windows(2).all(|pair| pair[0] < pair[1]), "{told:?}");
    assert_eq!(server.asked().len(), 1);
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let (mut future, waker) = (pin!(future), Waker::from(Arc::new(Unpark(thread::current()))));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn an_async_caller_need_not_wait_and_loses_nothing_by_leaving() {
    let (place, server, info) = published();
    let keyring = Keyring::from_pem(&fs::read_to_string(place.path("key.pub")).unwrap()).unwrap();
    let slow = Options { bytes_per_second: Some(200_000), ..options() };
    let processor = Arc::new(PatchProcessor::new(keyring.clone()).from_source(source(&place, slow)));
    let seen = Arc::new(AtomicU64::new(0));
    let count = seen.clone();
    let observer = Arc::new(move |progress: Progress| {
        assert_eq!(progress.phase, Phase::Download);
        count.store(progress.done, Ordering::Relaxed);
    });
    {
        let mut left = Box::pin(processor.download_patch_async(info.clone(), observer));
        assert!(left.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let start = Instant::now();
        while seen.load(Ordering::Relaxed) == 0 {
            assert!(start.elapsed() < Duration::from_secs(60));
            thread::sleep(Duration::from_millis(5));
        }
    }
    // Dropped: the thread stops, and what arrived stays.
    let fast = Arc::new(PatchProcessor::new(keyring).from_source(source(&place, options())));
    let start = Instant::now();
    let downloaded = loop {
        match block_on(fast.clone().download_patch_async(info.clone(), Arc::new(()))) {
            Ok(downloaded) => break downloaded,
            Err(error) if start.elapsed() < Duration::from_secs(60) => assert_eq!(error.code(), surefoot::Code::Locked),
            Err(error) => panic!("{error}"),
        }
    };
    assert!(downloaded.info().url.ends_with(".part"));
    assert!(server.ranges().iter().any(Option::is_some), "it went on: {:?}", server.ranges());
    drop(fast.verify_patch_integrity(downloaded, &()).unwrap());
    let vfs = OsVfs::open(&place.path("dev"), &place.path("dev/.surefoot")).unwrap();
    let pending = pending_downloads(&vfs).unwrap();
    assert_eq!(pending[0].done, pending[0].total.unwrap());
}
