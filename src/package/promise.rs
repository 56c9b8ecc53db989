//! `Promise`: the manifest of a package, checked.

use super::PackageError;
use crate::codec::{self, v1};
use crate::limits;
use crate::model::{Digest, Entry, Kind, Manifest, Node, Policy, TreePath};

/// What a package is, besides its changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// What it starts from.
    pub start: Start,
    /// The version that it makes, as text.
    pub to: String,
    /// Digest of the tree that it makes.
    pub target: Digest,
    /// The architecture that it is for; nothing for every one.
    pub architecture: Option<String>,
    /// What counts as identity in the tree.
    pub policy: Policy,
    /// Words for people.
    pub notes: String,
}

/// What a package starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// Any tree: a full package.
    Anything,
    /// One tree: a patch.
    Base {
        /// Its version, as text.
        version: String,
        /// Its digest.
        digest: Digest,
    },
}

/// What one path becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub path: TreePath,
    /// Fingerprint of the digest of the node that the base holds there; nothing if it holds nothing, and in a full
    /// package. Only to say which path differs.
    pub before: Option<u8>,
    /// What it becomes, and where its content comes from; nothing if it is removed. In a patch the digest of a file is
    /// [`Digest::UNSAID`].
    pub after: Option<(Node, Source)>,
}

impl Change {
    /// What it becomes; nothing if it is removed.
    pub fn node(&self) -> Option<&Node> {
        self.after.as_ref().map(|(node, _)| node)
    }

    /// Where its content comes from; nothing if it is removed.
    pub fn source(&self) -> Option<&Source> {
        self.after.as_ref().map(|(_, source)| source)
    }
}

/// Where the content of a node comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// It has none (a directory, a symbolic link), or it is another name of its hard-link leader.
    None,
    /// The payload makes it; in a full package it is the next content there.
    Payload,
    /// The base holds it at this path.
    Base(TreePath),
    /// The change of this index, an earlier one with its own content, has the same.
    Change(usize),
}

/// One independent piece of the payload. In a full package the contents stand one after the other, and segments cut that
/// anywhere; in a patch each segment says itself of which contents it makes what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// How it is coded.
    pub codec: Codec,
    /// Bytes in the container.
    pub packed: u64,
    /// Digest of these.
    pub digest: Digest,
    /// Bytes when decoded; of the views, when unpacked.
    pub unpacked: u64,
}

/// How a segment is coded: the first two in full packages, the others in patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// As it is.
    Stored,
    /// One zstd frame.
    Zstd,
    /// The views of a patch: how old files are read by the segments that follow. The first segment, if there are any.
    Views,
    /// A segment of a delta whose streams are packed with zstd or not at all.
    Delta,
    /// A segment of a delta that uses LZMA.
    DeltaLzma,
}

impl Codec {
    const ALL: [Self; 5] = [Self::Stored, Self::Zstd, Self::Views, Self::Delta, Self::DeltaLzma];

    fn number(self) -> u16 {
        Self::ALL.iter().position(|codec| *codec == self).unwrap_or_default() as u16
    }
}

/// One content of the payload: whose it is, and what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Index of the change that it belongs to.
    pub change: usize,
    /// Its length in bytes.
    pub size: u64,
    /// Its digest.
    pub digest: Digest,
}

/// Everything that a package promises.
///
/// A value of this type is consistent: paths sorted and unique, every content with exactly one source, and the contents
/// of the payload are as long as the segments. That of a full package is a whole tree with the promised digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    head: Head,
    memory: u64,
    changes: Vec<Change>,
    segments: Vec<Segment>,
}

impl Promise {
    /// What it is.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// What changes, sorted by path; of a full package, every entry.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The payload, in the order of the container.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Most memory that decoding takes, in bytes.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// The contents of the payload, in their order.
    pub fn contents(&self) -> impl Iterator<Item = Expected> {
        expected(&self.changes)
    }

    /// Bytes of all contents of the payload.
    pub fn payload_bytes(&self) -> u64 {
        self.contents().map(|content| content.size).sum()
    }

    /// Bytes of the payload in the container.
    pub fn packed_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.packed).sum()
    }

    /// Where the segments are in the container, each by its first byte and the one after its last, behind a front of so
    /// many bytes.
    pub fn segment_ranges(&self, front: u64) -> impl Iterator<Item = (u64, u64)> {
        self.segments.iter().scan(front, |at, segment| {
            let start = *at;
            *at = at.saturating_add(segment.packed);
            Some((start, *at))
        })
    }

    /// Which segments of a full package hold something of the contents that are wanted, which are asked for by the index
    /// of their change.
    pub fn segments_holding(&self, wanted: &dyn Fn(usize) -> bool) -> Vec<bool> {
        let mut holding = vec![false; self.segments.len()];
        let mut contents = self.contents().map(|content| (content.size, wanted(content.change))).peekable();
        // How much of the content at hand the segments before have.
        let mut used = 0_u64;
        for (holds, segment) in holding.iter_mut().zip(&self.segments) {
            let mut room = segment.unpacked;
            while let Some((size, wanted)) = contents.peek().copied().filter(|_| room > 0) {
                let now = (size - used).min(room);
                *holds |= wanted && now > 0;
                (used, room) = (used + now, room - now);
                if used == size {
                    (used, _) = (0, contents.next());
                }
            }
        }
        holding
    }

    /// The whole tree, if it is a full package.
    pub fn manifest(&self) -> Option<Manifest> {
        full_manifest(&self.head, &self.changes).ok()
    }

    /// Checks what is to be promised. Decoding takes at least `memory`.
    pub(super) fn new(
        head: Head,
        changes: Vec<Change>,
        segments: Vec<Segment>,
        memory: u64,
    ) -> Result<Self, PackageError> {
        let memory = segments.iter().map(Segment::memory).fold(memory, u64::max);
        Self { head, memory, changes, segments }.checked()
    }

    fn checked(self) -> Result<Self, PackageError> {
        check_head(&self.head)?;
        check_changes(&self.head, &self.changes)?;
        check_segments(&self.head, &self.changes, &self.segments)?;
        let most = limits::PACKAGE_MEMORY;
        if self.memory > most {
            return Err(PackageError::Limit { what: "a need of memory", most });
        }
        if self.segments.iter().any(|segment| segment.memory() > self.memory) {
            return Err(PackageError::malformed("a segment that needs more memory than promised"));
        }
        Ok(self)
    }

    /// Reads the bytes of a manifest.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, PackageError> {
        let wire: v1::PackageManifest = codec::decode_compact(bytes)?;
        let head = Head {
            start: match wire.kind {
                v1::PackageKind::Full => Start::Anything,
                v1::PackageKind::Patch { from, base } => Start::Base { version: from, digest: Digest(base) },
            },
            to: wire.to,
            target: Digest(wire.target),
            architecture: wire.architecture,
            policy: Policy::from_bits(wire.policy).ok_or_else(|| PackageError::malformed("unknown policy"))?,
            notes: wire.notes,
        };
        let changes = wire.changes.into_iter().map(Change::try_from).collect::<Result<_, _>>()?;
        let segments = wire.segments.into_iter().map(Segment::try_from).collect::<Result<_, _>>()?;
        Self { head, memory: wire.memory, changes, segments }.checked()
    }

    /// The bytes of the manifest.
    pub(super) fn encode(&self) -> Vec<u8> {
        let head = &self.head;
        codec::encode_compact(&v1::PackageManifest {
            kind: match &head.start {
                Start::Anything => v1::PackageKind::Full,
                Start::Base { version, digest } => v1::PackageKind::Patch { from: version.clone(), base: digest.0 },
            },
            to: head.to.clone(),
            target: head.target.0,
            architecture: head.architecture.clone(),
            policy: head.policy.bits(),
            notes: head.notes.clone(),
            memory: self.memory,
            changes: self.changes.iter().map(v1::Change::from).collect(),
            segments: self.segments.iter().map(v1::Segment::from).collect(),
        })
    }
}

pub(super) fn check_head(head: &Head) -> Result<(), PackageError> {
    let short = |what: &str, text: &str| {
        let good =
            !text.is_empty() && text.len() <= limits::VERSION_BYTES && text.bytes().all(|b| b.is_ascii_graphic());
        if good { Ok(()) } else { Err(PackageError::malformed(format!("{what} is empty, too long or not printable"))) }
    };
    short("the version", &head.to)?;
    if let Start::Base { version, .. } = &head.start {
        short("the version of the base", version)?;
    }
    if let Some(architecture) = &head.architecture {
        short("the architecture", architecture)?;
    }
    if head.notes.len() > limits::NOTES_BYTES {
        return Err(PackageError::Limit { what: "notes", most: limits::NOTES_BYTES as u64 });
    }
    Ok(())
}

pub(super) fn check_changes(head: &Head, changes: &[Change]) -> Result<(), PackageError> {
    if changes.len() > limits::PACKAGE_CHANGES {
        return Err(PackageError::Limit { what: "changes", most: limits::PACKAGE_CHANGES as u64 });
    }
    if let Some(pair) = changes.windows(2).find(|pair| pair[0].path >= pair[1].path) {
        return Err(PackageError::malformed(format!("{} is out of order or given twice", pair[1].path)));
    }
    let sizes = changes.iter().filter_map(Change::node).map(|node| node.kind.size());
    let total = sizes.fold(0_u64, u64::saturating_add);
    if total > limits::CONTENT_BYTES {
        return Err(PackageError::Limit { what: "contents", most: limits::CONTENT_BYTES });
    }
    for (index, change) in changes.iter().enumerate() {
        check_change(head, &changes[..index], change)
            .map_err(|why| PackageError::malformed(format!("{}: {why}", change.path)))?;
    }
    if head.start == Start::Anything {
        let manifest = full_manifest(head, changes)?;
        if v1::tree_digest(&manifest) != head.target {
            return Err(PackageError::Digest("the tree of the full package".into()));
        }
    }
    Ok(())
}

fn check_change(head: &Head, earlier: &[Change], change: &Change) -> Result<(), &'static str> {
    let patch = head.start != Start::Anything;
    if !patch && change.before.is_some() {
        return Err("a full package does not know what was there");
    }
    let Some((node, source)) = &change.after else {
        return match (patch, change.before, change.path.is_root()) {
            (true, Some(_), false) => Ok(()),
            _ => Err("removed, but not from a base"),
        };
    };
    if change.path.is_root() && !node.is_directory() {
        return Err("the root is not a directory");
    }
    let found = |path: &TreePath| earlier.binary_search_by(|other| other.path.cmp(path)).ok().map(|at| &earlier[at]);
    if let Some(leader) = &node.leader {
        let known = found(leader);
        let alike = match known.map(|leader| &leader.after) {
            Some(Some((first, _))) => first.leader.is_none() && first.matches(node, head.policy),
            Some(None) => false,
            None => patch,
        };
        if *leader >= change.path || !alike {
            return Err("a hard link to something that is not the same file");
        }
    }
    let Kind::File { size, digest } = &node.kind else {
        return if *source == Source::None { Ok(()) } else { Err("no file, but with content") };
    };
    if patch && *digest != Digest::UNSAID {
        return Err("a patch says no digests of files");
    }
    if !patch && *size == 0 && *digest != Digest::of(b"") {
        return Err("an empty file with a digest of something else");
    }
    match source {
        Source::None if node.leader.is_some() => Ok(()),
        Source::None => Err("a file without content"),
        _ if node.leader.is_some() => Err("a hard link with content of its own"),
        Source::Payload => Ok(()),
        Source::Base(_) if patch => Ok(()),
        Source::Base(_) => Err("a full package has no base"),
        Source::Change(index) => match earlier.get(*index).and_then(|other| other.after.as_ref()) {
            Some((other, Source::Payload | Source::Base(_))) if other.kind == node.kind => Ok(()),
            _ => Err("the change that should have the same content has not"),
        },
    }
}

fn full_manifest(head: &Head, changes: &[Change]) -> Result<Manifest, PackageError> {
    let entry = |change: &Change| {
        let (node, _) = change.after.as_ref()?;
        Some(Entry { path: change.path.clone(), node: node.clone() })
    };
    let entries = match head.start {
        Start::Anything => changes.iter().filter_map(entry).collect(),
        Start::Base { .. } => Vec::new(),
    };
    Manifest::new(head.policy, entries).map_err(PackageError::malformed)
}

fn check_segments(head: &Head, changes: &[Change], segments: &[Segment]) -> Result<(), PackageError> {
    if segments.len() > limits::SEGMENTS {
        return Err(PackageError::Limit { what: "segments", most: limits::SEGMENTS as u64 });
    }
    let patch = head.start != Start::Anything;
    let (mut packed, mut unpacked) = (0_u64, 0_u64);
    for (index, segment) in segments.iter().enumerate() {
        let bad = |why| PackageError::malformed(format!("segment {index}: {why}"));
        if segment.unpacked == 0 {
            return Err(bad("it is empty"));
        }
        let of_patch = !matches!(segment.codec, Codec::Stored | Codec::Zstd);
        if of_patch != patch || segment.codec == Codec::Views && index > 0 {
            return Err(bad("a code that has no place here"));
        }
        let (most_packed, most_unpacked) = segment.bounds();
        if segment.packed > most_packed
            || segment.unpacked > most_unpacked
            || segment.codec == Codec::Stored && segment.packed != segment.unpacked
        {
            return Err(bad("not the size of its code"));
        }
        packed = packed.checked_add(segment.packed).ok_or_else(|| bad("too large"))?;
        if segment.codec != Codec::Views {
            unpacked = unpacked.checked_add(segment.unpacked).ok_or_else(|| bad("too large"))?;
        }
    }
    let size = expected(changes).try_fold(0_u64, |sum, content| sum.checked_add(content.size));
    if size != Some(unpacked) {
        return Err(PackageError::malformed("the segments are not as large as the contents"));
    }
    Ok(())
}

/// The contents that some changes take from the payload.
pub(super) fn expected(changes: &[Change]) -> impl Iterator<Item = Expected> {
    changes.iter().enumerate().filter_map(|(change, one)| match &one.after {
        Some((Node { kind: Kind::File { size, digest }, .. }, Source::Payload)) => {
            Some(Expected { change, size: *size, digest: *digest })
        }
        _ => None,
    })
}

impl Segment {
    /// Memory that decoding it takes, in bytes, as far as it follows from its code and its size: all of it for a segment
    /// of a full package.
    pub fn memory(&self) -> u64 {
        match self.codec {
            Codec::Stored => limits::DECODER_BYTES,
            Codec::Zstd => limits::DECODER_BYTES + self.unpacked.min(1 << limits::ZSTD_WINDOW_LOG),
            Codec::Views => self.packed + self.unpacked + (1 << limits::PATCH_WINDOW_LOG),
            Codec::Delta | Codec::DeltaLzma => self.packed,
        }
    }

    /// Most bytes that it may have in the container, and decoded.
    fn bounds(&self) -> (u64, u64) {
        match self.codec {
            Codec::Stored => (self.unpacked, u64::MAX),
            // No frame of zstd is larger than this; a segment that claims to be would only waste a transfer.
            Codec::Zstd => (self.unpacked.saturating_add(self.unpacked >> 7).saturating_add(1024), u64::MAX),
            Codec::Views => (self.unpacked.saturating_add(1024), limits::PATCH_VIEW_BYTES),
            Codec::Delta | Codec::DeltaLzma => (limits::PATCH_HEADER as u64 + limits::PATCH_BODY, limits::PATCH_OUTPUT),
        }
    }
}

impl TryFrom<v1::Change> for Change {
    type Error = PackageError;

    fn try_from(wire: v1::Change) -> Result<Self, PackageError> {
        let after = match wire.after {
            None => None,
            Some((node, source)) => {
                let source = match source {
                    v1::Source::None => Source::None,
                    v1::Source::Payload => Source::Payload,
                    v1::Source::Base(path) => Source::Base(v1::tree_path(&path)?),
                    v1::Source::Change(index) => Source::Change(usize::try_from(index).unwrap_or(usize::MAX)),
                };
                Some((Node::try_from(node)?, source))
            }
        };
        Ok(Self { path: v1::tree_path(&wire.path)?, before: wire.before, after })
    }
}

impl From<&Change> for v1::Change {
    fn from(change: &Change) -> Self {
        let source = |source: &Source| match source {
            Source::None => v1::Source::None,
            Source::Payload => v1::Source::Payload,
            Source::Base(path) => v1::Source::Base(path.as_bytes().into()),
            // Fewer than `limits::PACKAGE_CHANGES`.
            Source::Change(index) => v1::Source::Change(u32::try_from(*index).unwrap_or(u32::MAX)),
        };
        Self {
            path: change.path.as_bytes().into(),
            before: change.before,
            after: change.after.as_ref().map(|(node, from)| (v1::Node::from(node), source(from))),
        }
    }
}

impl TryFrom<v1::Segment> for Segment {
    type Error = PackageError;

    fn try_from(wire: v1::Segment) -> Result<Self, PackageError> {
        let unknown = || PackageError::Unsupported { part: "codec", number: wire.codec.into() };
        let codec = *Codec::ALL.get(usize::from(wire.codec)).ok_or_else(unknown)?;
        Ok(Self { codec, packed: wire.packed, digest: Digest(wire.digest), unpacked: wire.unpacked })
    }
}

impl From<&Segment> for v1::Segment {
    fn from(segment: &Segment) -> Self {
        Self {
            codec: segment.codec.number(),
            packed: segment.packed,
            digest: segment.digest.0,
            unpacked: segment.unpacked,
        }
    }
}
