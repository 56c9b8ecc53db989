//! Measures patches of real trees: `delta_lab OLD NEW [fast|default|best]`.
//!
//! Prints bytes by method, CPU time and memory of building and of decoding, and compares what is decoded with the new
//! tree. Unchanged files are left out first, as a publisher does.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::panic, clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;
use surefoot::codec::segment::{self, Lengths};
use surefoot::delta::build::{Level, Options, Tree, encode};
use surefoot::delta::{Contents, Sink, decode, memory};
use surefoot::model::{Method, Segment};

struct Files {
    opened: Vec<(fs::File, u64)>,
}

impl Files {
    fn open(root: &Path, paths: &[PathBuf]) -> Self {
        let open = |path: &PathBuf| {
            let file = fs::File::open(root.join(path)).unwrap();
            let length = file.metadata().unwrap().len();
            (file, length)
        };
        Self { opened: paths.iter().map(open).collect() }
    }
}

impl Contents for Files {
    fn length(&self, file: u32) -> Option<u64> {
        self.opened.get(file as usize).map(|(_, length)| *length)
    }

    fn read_at(&self, file: u32, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.opened[file as usize].0.read_exact_at(buffer, offset)
    }
}

struct Both<'a>(&'a Files, &'a Files);

impl Lengths for Both<'_> {
    fn old_length(&self, file: u32) -> Option<u64> {
        self.0.length(file)
    }

    fn new_length(&self, file: u32) -> Option<u64> {
        self.1.length(file)
    }
}

fn walk(root: &Path, at: &Path, out: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(root.join(at)).unwrap().map(|entry| entry.unwrap()).collect();
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let path = at.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            walk(root, &path, out);
        } else if kind.is_file() {
            out.push(path);
        }
    }
}

fn cpu() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

struct Compare<'a> {
    segment: &'a Segment,
    new: &'a Files,
    at: Vec<u64>,
}

impl Sink for Compare<'_> {
    fn write(&mut self, output: usize, bytes: &[u8]) -> io::Result<()> {
        let extent = self.segment.outputs[output];
        let mut expected = vec![0; bytes.len()];
        self.new.read_at(extent.file, extent.offset + self.at[output], &mut expected)?;
        assert!(expected == bytes, "wrong bytes");
        self.at[output] += bytes.len() as u64;
        Ok(())
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let (old_root, new_root) = (Path::new(&arguments[1]), Path::new(&arguments[2]));
    let level = match arguments.get(3).map_or("default", String::as_str) {
        "fast" => Level::Fast,
        "default" => Level::Default,
        "best" => Level::Best,
        other => panic!("no level {other}"),
    };
    let (mut old_paths, mut new_paths) = (Vec::new(), Vec::new());
    walk(old_root, Path::new(""), &mut old_paths);
    walk(new_root, Path::new(""), &mut new_paths);
    new_paths.retain(|path| {
        let (old, new) = (old_root.join(path), new_root.join(path));
        let same = fs::metadata(&old).is_ok_and(|old| old.len() == fs::metadata(&new).unwrap().len());
        !(same && fs::read(old).unwrap() == fs::read(new).unwrap())
    });
    let (old, new) = (Files::open(old_root, &old_paths), Files::open(new_root, &new_paths));
    let bytes = |paths: &[PathBuf]| -> Vec<Vec<u8>> {
        paths.iter().map(|path| path.as_os_str().as_encoded_bytes().to_vec()).collect()
    };
    let old_tree = Tree { contents: &old, paths: bytes(&old_paths) };
    let new_tree = Tree { contents: &new, paths: bytes(&new_paths) };
    let megabytes = std::env::var("MEMORY").map_or(8 << 10, |text| text.parse::<u64>().unwrap());
    let mut options = Options::new(level, megabytes << 20);
    if let Ok(megabytes) = std::env::var("SEGMENT") {
        options.segment = megabytes.parse::<usize>().unwrap() << 20;
    }
    let (start, begun) = (Instant::now(), cpu());
    let patch = encode(&old_tree, &new_tree, &options, &|_, _| true).unwrap();
    let (wall, used) = (start.elapsed().as_secs_f64(), cpu() - begun);
    let built = peak();

    let lengths = Both(&old, &new);
    let views = segment::encode_views(&patch.views);
    let views_packed = surefoot::delta::build::pack_views(&views, level);
    let decoded_views = segment::decode_views(&views, &lengths).unwrap();
    assert_eq!(decoded_views, patch.views);
    let mut streams = BTreeMap::<(String, usize), (u64, u64)>::new();
    let (mut headers, mut bodies, mut most) = (0, 0, 0);
    let (start, begun) = (Instant::now(), cpu());
    for (header, body) in &patch.segments {
        let wire = segment::encode(header, &lengths);
        let (read, length) = segment::decode(&wire, &lengths).unwrap();
        assert_eq!((&read, length), (header, wire.len()));
        headers += wire.len();
        bodies += body.len();
        most = most.max(memory(&read, &decoded_views));
        let mut sink = Compare { segment: header, new: &new, at: vec![0; header.outputs.len()] };
        decode(&read, body, &old, &decoded_views, 64 << 20, &mut sink).unwrap();
        let mut packs = header.packs.iter();
        for (number, length) in header.streams.iter().enumerate().filter(|(_, length)| **length > 0) {
            let name = match (header.method, header.joined) {
                (Method::History, _) => "history",
                (Method::Cover, true) => "joined",
                (Method::Cover, false) => "cover",
            };
            let entry = streams.entry((name.to_owned(), number)).or_default();
            entry.0 += length;
            entry.1 += packs.next().map_or(0, |pack| pack.length);
        }
    }
    let (decode_wall, decode_used) = (start.elapsed().as_secs_f64(), cpu() - begun);
    for ((name, number), (raw, packed)) in &streams {
        println!("  {name} {number}: {raw} -> {packed}");
    }
    println!("  views {}: {} -> {}", patch.views.len(), views.len(), views_packed.1.len());
    println!("  headers {headers} in {} segments", patch.segments.len());
    if std::env::var("FILES").is_ok() {
        let mut files = patch.files.clone();
        files.sort_by_key(|file| std::cmp::Reverse(file.packed));
        for file in files.iter().take(40) {
            println!(
                "    {:>9} of {:>10} {:?} {:?} differing {} literal {} {}",
                file.packed,
                new.length(file.file).unwrap(),
                file.way,
                file.inflation,
                file.differing,
                file.content - file.copied,
                new_paths[file.file as usize].display()
            );
        }
    }
    println!(
        "{} {level:?}: {} bytes; build {used:.1} s CPU {wall:.1} s {built} MiB; decode {decode_used:.2} s CPU \
         {decode_wall:.2} s, states {:.1} MiB",
        new_root.display(),
        bodies + headers + views_packed.1.len() + 4,
        most as f64 / 1048576.0
    );
}
