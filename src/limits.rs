//! Every bound of surefoot, in one place, each with its reason.
//!
//! A length that comes from a file or from the network is compared with one of these before it is believed.

/// Longest path of an entry, in bytes. Linux refuses longer ones in one call (`PATH_MAX` is 4096 with the NUL).
pub const PATH_BYTES: usize = 4095;
/// Longest name of one component, in bytes (`NAME_MAX` of every Linux file system surefoot supports).
pub const NAME_BYTES: usize = 255;
/// Deepest nesting of a path. Keeps every walk over a tree bounded.
pub const PATH_DEPTH: usize = 256;
/// Longest target of a symbolic link, in bytes (`PATH_MAX` without the NUL).
pub const LINK_TARGET_BYTES: usize = 4095;
/// Most extended attributes on one entry.
pub const XATTRS: usize = 256;
/// Longest name of an extended attribute (`XATTR_NAME_MAX`).
pub const XATTR_NAME_BYTES: usize = 255;
/// Longest value of an extended attribute (`XATTR_SIZE_MAX`).
pub const XATTR_VALUE_BYTES: usize = 65_536;
/// Most entries of one tree.
pub const ENTRIES: usize = 8_000_000;
/// Most roots that one transaction may span.
pub const ROOTS: u16 = 16;

/// Size of one journal block, in bytes. A frame never shares a block, so that a torn write of one frame cannot
/// hurt another; 4096 covers the sector sizes in use.
pub const JOURNAL_BLOCK: usize = 4096;
/// Blocks of the journal file: two header slots and two halves of 31 frames.
pub const JOURNAL_BLOCKS: usize = 64;
/// Frames of one half of the journal: the records of one transaction.
pub const JOURNAL_FRAMES: usize = (JOURNAL_BLOCKS - 2) / 2;
/// Bytes of a frame before its payload.
pub const FRAME_HEADER: usize = 28;
/// Longest payload of one frame, in bytes.
pub const FRAME_PAYLOAD: usize = JOURNAL_BLOCK - FRAME_HEADER;
/// Most attempts (boots) of a trial: each takes one frame of the journal.
pub const TRIAL_ATTEMPTS: u32 = 16;
/// Longest text that a journal record carries (title, cause), in bytes; longer ones are cut.
pub const RECORD_TEXT: usize = 1024;

/// Most generations whose undo data is kept.
pub const KEEP: u32 = 64;
/// Updates that change nothing of the tree which are kept beside those that count. Each costs a folder and some small
/// reads at every sweep; more than this in a row is no history that somebody goes back through.
pub const EMPTY_UPDATES: u32 = 64;
/// Longest chain of manifest deltas before a full manifest is written again.
pub const MANIFEST_DELTAS: usize = 32;
/// Largest plan, state or manifest file that is read back, in bytes.
pub const STATE_FILE: u64 = 4 << 30;
/// Largest configuration, key, signature or JSON entry file, in bytes.
pub const SMALL_FILE: u64 = 16 << 20;
/// A history longer than this is put away as `history.old` and begun anew, in bytes.
pub const HISTORY_FILE: u64 = 1 << 20;
/// Largest index (stat cache) that is read back, in bytes.
pub const INDEX_FILE: u64 = 2 << 30;

/// Most public keys that one tree trusts. A signature without the name of its key is tried with each.
pub const TRUSTED_KEYS: usize = 64;
/// Largest manifest of a package, unpacked, in bytes: about 1.5 million entries. It is unpacked before it is trusted.
pub const PACKAGE_MANIFEST: u64 = 256 << 20;
/// Most changes of one package, and so most entries of a full one. In memory each takes at least 176 bytes.
pub const PACKAGE_CHANGES: usize = 2_000_000;
/// Most bytes of all files of a package together: room for what is added to that.
pub const CONTENT_BYTES: u64 = 1 << 62;
/// Most signatures of one package.
pub const SIGNATURES: usize = 64;
/// Memory that building a patch takes if nothing else is said, in bytes.
pub const BUILD_MEMORY: u64 = 4 << 30;
/// Bytes of that which the program and what its allocator keeps take.
pub const BUILD_OVERHEAD: u64 = 40 << 20;
/// Bytes of that which an entry of the old tree or of the new one takes: in manifests, changes, and tables of names.
/// 200,000 files, of which few changed, took 975 each.
pub const BUILD_ENTRY: u64 = 1 << 10;
/// Memory that content gets however little is left.
pub const BUILD_LEAST: u64 = 16 << 20;
/// Most segments of one package.
pub const SEGMENTS: usize = 1 << 20;
/// Contents are gathered into segments of about this many unpacked bytes; a larger file is a segment of its own.
pub const SEGMENT_BYTES: u64 = 4 << 20;
/// Largest window of a zstd payload, as a power of two. Bounds the memory of the decoder to about 8 MiB.
pub const ZSTD_WINDOW_LOG: u32 = 23;
/// Most memory that a package may ask for to decode one of its segments, in bytes.
pub const PACKAGE_MEMORY: u64 = 64 << 20;
/// Segments of a patch are unpacked at the same time as long as together they take at most this many bytes; one that takes
/// more is unpacked alone.
pub const UNPACK_MEMORY: u64 = 12 << 20;
/// Most memory that decoding a segment may take besides the window and what the caller keeps, in bytes.
pub const DECODER_BYTES: u64 = 1 << 20;
/// Longest version or architecture, in bytes.
pub const VERSION_BYTES: usize = 64;
/// Longest notes of a package, in bytes.
pub const NOTES_BYTES: usize = 64 << 10;
/// Most members of a tar.gz package, directories that it only implies included.
pub const LEGACY_MEMBERS: usize = 2_000_000;
/// Bytes of all paths of a tar.gz package: they are kept in memory to find what comes twice or is missing.
pub const LEGACY_PATHS_BYTES: usize = 256 << 20;
/// Largest extended header of a member of a tar.gz package, in bytes. Attributes may be in it; names are a few KiB.
pub const LEGACY_HEADER_BYTES: u64 = 1 << 20;
/// Longest text of a version, in bytes: four numbers of ten digits, with room for zeros.
pub const VERSION_TEXT: usize = 64;
/// Most paths that the operations of a service manifest list.
pub const OPERATIONS: usize = 1_000_000;

/// Largest root metadata of a repository, in bytes: some hundred keys. It is read before it is trusted.
pub const ROOT_BYTES: u64 = 512 << 10;
/// Largest timestamp metadata, in bytes. It is read before it is trusted, at every look for an update.
pub const TIMESTAMP_BYTES: u64 = 16 << 10;
/// Largest snapshot metadata, in bytes, where the timestamp does not say less.
pub const SNAPSHOT_BYTES: u64 = 2 << 20;
/// Largest targets metadata, in bytes, where the snapshot does not say less: about 20,000 packages, or 1,300 of 256 MiB
/// and more, with the digests of their blocks.
pub const TARGETS_BYTES: u64 = 16 << 20;
/// Most bytes of targets metadata, that of every role together, that one look for an update loads: all of it is held in
/// memory, and the largest of as many roles as are visited would be half a gigabyte before anything is made of it.
pub const ALL_TARGETS_BYTES: u64 = 64 << 20;
/// Most JSON values in one metadata file: memory for one is taken before the file is trusted.
pub const METADATA_VALUES: usize = 1 << 20;
/// Most keys, and most signatures, of one metadata file: each signature may have to be verified.
pub const METADATA_KEYS: usize = 256;
/// Most root metadata files that one look for an update follows, one after the other.
pub const ROOT_ROTATIONS: u32 = 1024;
/// Most delegated roles that one look for an update visits.
pub const DELEGATIONS: usize = 32;
/// Longest name of a delegated role, in bytes: escaped threefold, with version and extension, it is a file name.
pub const ROLE_BYTES: usize = 64;
/// Longest path of a target, in bytes.
pub const TARGET_PATH_BYTES: usize = 1024;
/// Most days that an offline policy tolerates expired metadata for: ten years.
pub const GRACE_DAYS: u32 = 3650;
/// Days by which the clocks of two publishers may differ: more than any wrong time zone.
pub const CLOCK_SKEW_DAYS: u32 = 1;
/// The first second of 2025: a clock that shows an earlier time than this program is old was never set.
pub const CLOCK_SECONDS: i64 = 1_735_689_600;
/// Most channels of one package, and most versions that it may replace although they are newer.
pub const RELEASE_NAMES: usize = 64;
/// What a download remembers in one: lost with the process are at most so many bytes of those that arrived.
pub const DOWNLOAD_PIECE: u64 = 64 << 10;
/// Bytes at the start of the file that remembers a download; the pieces follow.
pub const DOWNLOAD_HEADER: usize = 4096;
/// Largest download, in bytes: 2^24 pieces, which take 16 MiB of memory.
pub const DOWNLOAD_BYTES: u64 = 1 << 40;
/// Largest piece of JSON or signed metadata that is fetched, in bytes; whoever asks may say less.
pub const METADATA_BYTES: u64 = 16 << 20;
/// Longest time that fetching metadata may take, in seconds: a server that trickles is no better than none.
pub const METADATA_SECONDS: u64 = 600;
/// Longest entity tag that is remembered; servers send some dozens of bytes.
pub const ENTITY_TAG_BYTES: usize = 1024;
/// Longest address, in bytes; servers refuse longer ones.
pub const ADDRESS_BYTES: usize = 8192;
/// Most addresses of one content.
pub const MIRRORS: usize = 64;
/// Most redirections of one request, as browsers and curl do about.
pub const REDIRECTIONS: usize = 10;
/// Longest time that a server may ask to be left alone, in seconds; whoever asks for more is left for another day.
pub const RETRY_AFTER_SECONDS: u64 = 3600;
/// Bad blocks from one address before nothing more is taken from it.
pub const BAD_BLOCKS: u32 = 3;
/// Times that a content may be another one on the server before it is given up.
pub const RESTARTS: u32 = 4;
/// A package of a service that publishes no digest of it, and of which nobody who is trusted has signed what came, is
/// fetched again after so many seconds: it may have been spoiled on its way, and a device without the right key would
/// fetch it each time.
pub const REFUSED_SECONDS: i64 = 24 * 3600;
/// Such a package is fetched again after so many refusals at the latest: a clock that begins anew at every start may never
/// get further than some minutes.
pub const REFUSALS: i64 = 24;
/// Smallest block of a published block map, in bytes: a multiple of the piece.
pub const BLOCK_BYTES_MIN: u64 = DOWNLOAD_PIECE;
/// Smallest block that is published of a package, in bytes, and the largest package without blocks: a corrupted megabyte
/// costs a megabyte.
pub const PUBLISHED_BLOCK_BYTES: u64 = 1 << 20;
/// Most blocks that are published of a package, unless they are as large as blocks may be: every device reads their
/// digests, 11 KiB of these, whether it fetches the package or not.
pub const PUBLISHED_BLOCKS: u64 = 256;
/// Most files of a bundle: every package of the largest targets metadata, and as many of metadata.
pub const BUNDLE_FILES: usize = 1 << 16;
/// Largest block of a published block map, in bytes: what one corrupted byte costs.
pub const BLOCK_BYTES_MAX: u64 = 64 << 20;

/// Most versions of one catalogue.
pub const CATALOGUE_VERSIONS: usize = 100_000;
/// Edges of the graph of packages that are looked at for a way that takes less space, in one search for each amount of
/// it: a second or two. With 8,192 edges that is every amount there can be.
pub const SEARCHED_EDGES: usize = 1 << 26;
/// Most edges of that graph, of 80 bytes each: a full package of a version that not every other one can become has one
/// from each that can.
pub const CATALOGUE_EDGES: usize = 2_000_000;
/// Most packages of one catalogue.
pub const CATALOGUE_PACKAGES: usize = 1_000_000;
/// Bytes that applying a package stages in a millisecond, as a guess for comparing ways by time: a slow disk.
pub const APPLY_BYTES_PER_MS: u64 = 20_000;
/// A full package may cost less than it weighs if the way that is known takes at least so many bytes: what of it is
/// missing here is found out by fetching its first piece, at least, and whole pieces are fetched.
pub const BLOCKS_WORTH: u64 = 4 * DOWNLOAD_PIECE;
/// The front of a full package is fetched to find that out if it is at most this part of the way that is known.
pub const FRONT_SHARE: u64 = 16;
/// Most bytes of a manifest that is fetched to find that out, unpacked, for each packed one: it is unpacked before
/// anybody knows whether it is the right one. Digests, most of it, do not get smaller at all.
pub const FRONT_RATIO: u64 = 64;
/// Times that a version is tried before it is left alone.
pub const UPDATE_ATTEMPTS: u32 = 3;

/// Most bytes of old and new content that a crash test takes into memory: every run holds both.
pub const CRASHTEST_BYTES: u64 = 1 << 30;

/// Most bytes of old and new content that the crash lab puts on its disks: each worker holds one in memory, and the
/// images that it is cut back to.
pub const CRASHTEST_REAL_BYTES: u64 = 256 << 20;

/// Most members of one archive that are looked at, and most chunks of one image. A zip without its 64-bit extension has
/// 65,535 at most.
pub const ARCHIVE_MEMBERS: usize = 1 << 20;
/// Largest directory of a zip archive, in bytes: as many members with names of a hundred bytes.
pub const ARCHIVE_DIRECTORY_BYTES: u64 = 256 << 20;
/// Largest member of an archive that is inflated, in bytes inflated. It is streamed; this bounds time.
pub const ARCHIVE_INFLATED_BYTES: u64 = 4 << 30;
/// Most bytes that one file, or one view of old files, inflates to. Bounds time again.
pub const ARCHIVE_TOTAL_BYTES: u64 = 64 << 30;
/// Most bytes that a byte of a member inflates to. Deflate reaches 1,032; what shrinks that much is small as it is.
pub const ARCHIVE_RATIO: u64 = 256;
/// Most ranges and members that a view of old files is made of.
pub const ARCHIVE_PARTS: usize = 2 * ARCHIVE_MEMBERS + 1;
/// Buffer of everything that inflates or deflates, in bytes.
pub const ARCHIVE_CHUNK_BYTES: usize = 64 << 10;

/// Largest header of one segment of a patch, in bytes: the files of a whole tree, named once.
pub const PATCH_HEADER: usize = 16 << 20;
/// Most outputs, and most sources, of one segment of a patch.
pub const PATCH_EXTENTS: usize = 1 << 18;
/// Most packed bytes of one segment of a patch: they are in memory while it is decoded.
pub const PATCH_BODY: u64 = 8 << 20;
/// Most bytes that one segment of a patch makes: what is lost when it has to be decoded again.
pub const PATCH_OUTPUT: u64 = 64 << 20;
/// Most old bytes that one segment of a patch addresses, in bytes: positions are added up without overflow.
pub const PATCH_SOURCE: u64 = 1 << 48;
/// Most bytes of streams that share one pack: they are unpacked into memory.
pub const PATCH_JOINED: u64 = 256 << 10;
/// Largest dictionary or window of a stream, and most history of one, as a power of two.
pub const PATCH_WINDOW_LOG: u8 = 23;
/// Largest views of a patch, unpacked, in bytes: they are in memory while it is applied.
pub const PATCH_VIEW_BYTES: u64 = 8 << 20;
/// Most views of one patch.
pub const PATCH_VIEWS: usize = 1 << 16;
/// Most loaded parts and regions of all views of one patch: they are in memory while it is applied, 32 bytes each.
pub const PATCH_PARTS: usize = 256 << 10;
/// Most loaded parts of one view, and most regions.
pub const PATCH_REGIONS: usize = 4096;
/// Largest section of type information that a view rewrites, in bytes: it is in memory while it is read.
pub const PATCH_TYPES: u64 = 2 << 20;
/// Most entries of all address maps of one patch: they are in memory while it is applied, 16 bytes each.
pub const PATCH_MAP: usize = 256 << 10;
/// Most pieces of all views of one patch: they are in memory while it is applied, 48 bytes each.
pub const PATCH_PIECES: usize = 64 << 10;
/// Most bytes that the streams of one segment make before its members are deflated: bounds time.
pub const PATCH_CONTENT: u64 = 2 * PATCH_OUTPUT;
/// Most bytes that say how a segment assembles what it makes: at most 16 bytes of memory for each of them.
pub const PATCH_RECIPE: u64 = 256 << 10;
/// Most bytes that are inflated for the sources of one segment, counting again what is inflated again: bounds time.
pub const PATCH_INFLATED: u64 = 4 << 30;

/// Threads that read small files at once while recovery looks at every step: they wait for the disk, not for a core.
pub const READERS: usize = 16;
/// Threads that write small contents at once while they are staged. All names go into one directory, which more of them
/// would wait for.
pub const WRITERS: usize = 4;
/// Most contents that one of them is given at a time.
pub const BATCH_CONTENTS: usize = 32;
/// Buffer of every streaming copy, in bytes.
pub const COPY_BUFFER: usize = 128 << 10;
/// Most problems that one report lists; the rest is counted.
pub const LISTED: usize = 20;

const _: () = assert!(RECORD_TEXT * 2 + 512 < FRAME_PAYLOAD, "two texts and the fixed fields fit a frame");
const _: () = assert!(TRIAL_ATTEMPTS as usize + 10 < JOURNAL_FRAMES, "a trial and every other record fit one half");
const _: () = assert!(BLOCK_BYTES_MAX.is_multiple_of(DOWNLOAD_PIECE) && DOWNLOAD_BYTES / DOWNLOAD_PIECE <= 1 << 24);
const _: () = assert!(ENTITY_TAG_BYTES + 2 * 1024 < DOWNLOAD_HEADER, "a header with tag and label fits its block");
const _: () = assert!(SEGMENT_BYTES < PACKAGE_MANIFEST);
const _: () = assert!(3 * ROLE_BYTES + 32 < NAME_BYTES, "the escaped name of a role is the name of a file");
const _: () = assert!(TARGETS_BYTES <= SMALL_FILE && SNAPSHOT_BYTES <= SMALL_FILE, "a device reads back what it keeps");
const _: () = assert!(1 << ZSTD_WINDOW_LOG <= 8 << 20);
