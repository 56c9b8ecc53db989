//! What building and applying take of the memory is what they may take.

use super::Place;
use crate::unpack::noise;
use std::fs;
use std::process::Stdio;
use std::time::Duration;

/// The largest resident set of a run in bytes, as the kernel counts it; seen every few milliseconds, so that what is taken
/// just before the end may be missed.
fn peak(place: &Place, arguments: &[&str]) -> u64 {
    let mut child = place.command(arguments).stdout(Stdio::null()).spawn().unwrap();
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0");
        most = most.max(line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10);
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(child.wait().unwrap().success(), "{arguments:?}");
    assert!(most > 1 << 20, "{most}");
    most
}

/// A table of samples once took 200 MiB of a build that was to take 64, whatever else it gave up.
#[test]
fn a_build_keeps_to_its_cap_and_applying_to_32_mib() {
    let place = Place::new();
    let old = noise(5, 32 << 20);
    let mut new = [noise(6, 5000), old.clone()].concat();
    new.iter_mut().step_by(4096).for_each(|byte| *byte ^= 1);
    for (path, content) in [("a/file", old), ("b/file", new)] {
        place.write(path, "");
        fs::write(place.path(path), content).unwrap();
    }
    let build = ["-q", "build", "--no-prove", "--owner", "no", "--from", "1.0.0", "--to", "2.0.0"];
    for (level, cap) in [("default", "64"), ("fast", "64"), ("best", "96")] {
        let rest = ["--level", level, "--max-memory", cap, "-o", "large.sf", "a", "b"];
        let taken = peak(&place, &[&build[..], &rest].concat());
        let bytes = fs::metadata(place.path("large.sf")).unwrap().len();
        println!("{level}: {} KiB of {cap} MiB, package of {bytes} bytes", taken >> 10);
        assert!(taken <= cap.parse::<u64>().unwrap() << 20, "{level}: {taken}");
        assert!(bytes < 1 << 20, "{level}: {bytes}");

        place.copy("a", level);
        place.good(&["--root", level, "init", "--version", "1.0.0", "--owner", "no"]);
        let taken = peak(&place, &["-q", "--root", level, "apply", "--allow-unsigned", "large.sf"]);
        println!("{level}: {} KiB to apply it", taken >> 10);
        assert!(taken <= if level == "best" { 64 << 20 } else { 32 << 20 }, "{level}: {taken}");
    }
}
