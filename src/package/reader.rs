//! Reading a package, as a stream.

use super::PackageError;
use super::layout::{self, Piece, Signatures};
use super::promise::{Codec, Expected, Promise, Segment};
use super::segments::Segments;
use crate::codec::v1::PACKAGE_DOMAIN;
use crate::limits;
use crate::model::{Digest, Hasher};
use crate::trust::Keyring;
use std::fmt;
use std::io::{self, BufReader, Read};
use std::mem;

/// A package of which the manifest has been read and nothing more. `S` says whether it may be believed:
/// [`Unverified`] or [`Verified`]; only the latter gives out content.
pub struct Package<R, S> {
    state: S,
    read: R,
}

/// Nobody has looked at its signatures yet.
pub struct Unverified {
    manifest: Vec<u8>,
    signatures: Signatures,
    front_bytes: u64,
}

/// Its manifest is signed by a trusted key, or was accepted without.
pub struct Verified {
    promise: Promise,
    id: Digest,
    signer: Option<Digest>,
    front_bytes: u64,
}

impl<R: Read> Package<R, Unverified> {
    /// Reads manifest and signatures.
    pub fn open(read: R) -> Result<Self, PackageError> {
        Self::open_with_limit(read, limits::PACKAGE_MANIFEST)
    }

    /// Reads manifest and signatures; a manifest of more than `most` bytes, unpacked, is refused. It is held in memory
    /// before anybody has vouched for it.
    pub fn open_with_limit(read: R, most: u64) -> Result<Self, PackageError> {
        let front = read_front(read, most.min(limits::PACKAGE_MANIFEST))?;
        let front_bytes = layout::front_bytes(front.packed.len() as u64, front.signatures.len());
        let Front { manifest, signatures, rest, .. } = front;
        Ok(Self { state: Unverified { manifest, signatures, front_bytes }, read: rest })
    }

    /// The names of the keys that it says have signed it.
    pub fn claimed_signers(&self) -> impl Iterator<Item = Digest> {
        self.state.signatures.iter().map(|(key, _)| *key)
    }

    /// What it says about itself, to be shown and not to be acted on.
    pub fn inspect_untrusted(&self) -> Result<Promise, PackageError> {
        Promise::decode(&self.state.manifest)
    }

    /// Asks for one good signature by a trusted key.
    pub fn verify(self, keyring: &Keyring) -> Result<Package<R, Verified>, PackageError> {
        let signer = keyring.verify_any(PACKAGE_DOMAIN, &self.state.manifest, &self.state.signatures)?;
        self.believe(Some(signer))
    }

    /// Believes it whoever has made it: signatures are not looked at.
    pub fn accept_unsigned(self) -> Result<Package<R, Verified>, PackageError> {
        self.believe(None)
    }

    fn believe(self, signer: Option<Digest>) -> Result<Package<R, Verified>, PackageError> {
        let Unverified { manifest, front_bytes, .. } = self.state;
        let promise = Promise::decode(&manifest)?;
        let state = Verified { promise, id: Digest::of(&manifest), signer, front_bytes };
        Ok(Package { state, read: self.read })
    }
}

impl<R: Read> Package<R, Verified> {
    /// What it promises.
    pub fn promise(&self) -> &Promise {
        &self.state.promise
    }

    /// The name of the package: the digest of its manifest.
    pub fn id(&self) -> Digest {
        self.state.id
    }

    /// The key that has signed it; nothing if it was accepted without looking.
    pub fn signer(&self) -> Option<Digest> {
        self.state.signer
    }

    /// Bytes in the container before the segments.
    pub fn front_bytes(&self) -> u64 {
        self.state.front_bytes
    }

    /// Goes on to the payload of a patch.
    pub fn into_segments(self) -> (Promise, Segments<R>) {
        let segments = Segments::new(self.read, self.state.promise.segments().to_vec());
        (self.state.promise, segments)
    }

    /// Goes on to the payload of a full package; of a patch nothing can be read with it.
    pub fn into_payload(self) -> (Promise, Payload<R>) {
        let here = vec![true; self.state.promise.segments().len()];
        self.into_payload_of(here)
    }

    /// The same of a package of which only these segments are here. In the place of the others anything may stand, of
    /// their length: it is not looked at, and a content that needs one of them cannot be read.
    pub fn into_payload_of(self, here: Vec<bool>) -> (Promise, Payload<R>) {
        let promise = self.state.promise;
        let payload = Payload {
            here,
            contents: promise.contents().collect(),
            segments: promise.segments().to_vec(),
            next: 0,
            segment: 0,
            segment_left: 0,
            behind: 0,
            current: None,
            position: Position::Between(self.read),
        };
        (promise, payload)
    }
}

impl<R, S> fmt::Debug for Package<R, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Package")
    }
}

impl fmt::Debug for Unverified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unverified")
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verified")
    }
}

/// What comes before the payload.
pub(super) struct Front<R> {
    /// The manifest as it is in the container.
    pub(super) packed: Vec<u8>,
    /// The manifest.
    pub(super) manifest: Vec<u8>,
    pub(super) signatures: Signatures,
    /// What follows.
    pub(super) rest: R,
}

/// Reads up to the payload; the manifest has at most `most` bytes, packed and unpacked.
pub(super) fn read_front<R: Read>(mut read: R, most: u64) -> Result<Front<R>, PackageError> {
    let size = layout::read_head(&mut read, most)?;
    let mut piece = Piece::new(read, size);
    let mut packed = Vec::new();
    piece.read_to_end(&mut packed)?;
    let (_, mut rest) = piece.finish()?;
    let manifest = unpack_manifest(&packed, most)?;
    let signatures = layout::read_signatures(&mut rest)?;
    Ok(Front { packed, manifest, signatures, rest })
}

fn unpack_manifest(packed: &[u8], most: u64) -> Result<Vec<u8>, PackageError> {
    let mut decoder = decoder(BufReader::with_capacity(limits::COPY_BUFFER, packed))?;
    let mut manifest = Vec::new();
    (&mut decoder).take(most + 1).read_to_end(&mut manifest)?;
    if manifest.len() as u64 > most {
        return Err(PackageError::Limit { what: "a manifest of a size", most });
    }
    let rest = end_of_frame(decoder)?;
    if rest.is_empty() { Ok(manifest) } else { Err(PackageError::malformed("bytes behind the manifest")) }
}

type Decoder<R> = zstd::stream::read::Decoder<'static, BufReader<R>>;

fn decoder<R: Read>(read: BufReader<R>) -> Result<Decoder<R>, PackageError> {
    let mut decoder = Decoder::with_buffer(read)?.single_frame();
    decoder.window_log_max(limits::ZSTD_WINDOW_LOG)?;
    Ok(decoder)
}

/// Gives back what was decoded from, if nothing is left of the frame, before and behind the decoder.
fn end_of_frame<R: Read>(mut decoder: Decoder<R>) -> Result<R, PackageError> {
    if decoder.read(&mut [0])? != 0 {
        return Err(PackageError::malformed("a frame that holds more than was promised"));
    }
    let buffer = decoder.finish();
    if !buffer.buffer().is_empty() {
        return Err(PackageError::malformed("bytes behind a frame"));
    }
    Ok(buffer.into_inner())
}

/// The contents of a verified package, one after the other.
///
/// A content of which nothing is read is passed over, and segments that hold only such contents are not decoded; their
/// digest is checked all the same. When [`Payload::next_content`] has returned nothing, everything has been checked to
/// the end of the container. After an error it is of no more use.
pub struct Payload<R> {
    /// Which segments are here.
    here: Vec<bool>,
    contents: Vec<Expected>,
    segments: Vec<Segment>,
    /// How many contents have been begun.
    next: usize,
    /// How many segments have been begun.
    segment: usize,
    /// Bytes of the segment at hand that have not been decoded.
    segment_left: u64,
    /// Bytes of contents that have been passed over, but not of segments.
    behind: u64,
    current: Option<Current>,
    position: Position<R>,
}

/// The content that is being read.
struct Current {
    left: u64,
    hasher: Hasher,
    expected: Expected,
}

enum Position<R> {
    /// A segment comes next, or the end.
    Between(R),
    /// Inside a segment.
    Within(Coder<R>),
    /// The end of the container has been checked.
    End,
    /// An error has been returned.
    Failed,
}

enum Coder<R> {
    Stored(Piece<R>),
    Zstd(Box<Decoder<Piece<R>>>),
}

impl<R: Read> Payload<R> {
    /// All contents, in their order.
    pub fn contents(&self) -> &[Expected] {
        &self.contents
    }

    /// Goes to the next content; what is left of one that has been begun is read and checked. Nothing at the end.
    pub fn next_content(&mut self) -> Result<Option<Content<'_, R>>, PackageError> {
        self.end_content()?;
        let Some(expected) = self.contents.get(self.next).copied() else {
            self.finish()?;
            return Ok(None);
        };
        self.next += 1;
        self.current = Some(Current { left: expected.size, hasher: Hasher::new(), expected });
        Ok(Some(Content { payload: self, expected }))
    }

    /// Ends the content at hand.
    fn end_content(&mut self) -> Result<(), PackageError> {
        let Some(current) = &self.current else { return Ok(()) };
        if current.left == current.expected.size && current.left > 0 {
            self.behind = self.behind.checked_add(current.left).ok_or_else(spent)?;
        } else if current.left > 0 {
            layout::copy(&mut Rest(self), |_| Ok(()))?;
        }
        self.current = None;
        Ok(())
    }

    /// Passes over what nobody has read.
    fn catch_up(&mut self) -> Result<(), PackageError> {
        while self.behind > 0 {
            if self.segment_left == 0 {
                self.end_segment()?;
                let size = self.segments.get(self.segment).ok_or_else(spent)?.unpacked;
                if size <= self.behind {
                    self.behind -= size;
                    self.skip_segment()?;
                    continue;
                }
                self.begin_segment()?;
            }
            let mut buffer = [0; 4096];
            let most = usize::try_from(self.behind).unwrap_or(usize::MAX).min(buffer.len());
            self.behind -= self.decode(&mut buffer[..most])? as u64;
        }
        Ok(())
    }

    fn begin_segment(&mut self) -> Result<(), PackageError> {
        let Position::Between(read) = mem::replace(&mut self.position, Position::Failed) else {
            return Err(spent());
        };
        let segment = self.segments.get(self.segment).ok_or_else(spent)?;
        if !self.is_here(self.segment) {
            return Err(PackageError::Absent(self.segment));
        }
        let piece = Piece::new(read, segment.packed);
        self.segment_left = segment.unpacked;
        self.segment += 1;
        self.position = Position::Within(match segment.codec {
            Codec::Stored => Coder::Stored(piece),
            Codec::Zstd => {
                let buffer = BufReader::with_capacity(limits::COPY_BUFFER, piece);
                Coder::Zstd(Box::new(decoder(buffer).map_err(|error| self.in_segment(error))?))
            }
            _ => return Err(PackageError::malformed("the contents of a patch do not stand in it")),
        });
        Ok(())
    }

    /// Passes over a segment without decoding it.
    fn skip_segment(&mut self) -> Result<(), PackageError> {
        let Position::Between(mut read) = mem::replace(&mut self.position, Position::Failed) else {
            return Err(spent());
        };
        let segment = self.segments.get(self.segment).ok_or_else(spent)?;
        self.segment += 1;
        if !self.is_here(self.segment - 1) {
            layout::pass_over(&mut read, segment.packed)?;
            self.position = Position::Between(read);
            return Ok(());
        }
        let mut piece = Piece::new(read, segment.packed);
        piece.drain()?;
        self.end_piece(piece)
    }

    fn is_here(&self, segment: usize) -> bool {
        self.here.get(segment).copied().unwrap_or(false)
    }

    /// Ends the segment at hand, if one is, all of which has been decoded.
    fn end_segment(&mut self) -> Result<(), PackageError> {
        let piece = match mem::replace(&mut self.position, Position::Failed) {
            Position::Within(Coder::Stored(piece)) => piece,
            Position::Within(Coder::Zstd(decoder)) => end_of_frame(*decoder).map_err(|error| self.in_segment(error))?,
            Position::Failed => return Err(spent()),
            other => {
                self.position = other;
                return Ok(());
            }
        };
        self.end_piece(piece)
    }

    fn end_piece(&mut self, piece: Piece<R>) -> Result<(), PackageError> {
        let (digest, read) = piece.finish().map_err(|error| self.in_segment(error))?;
        let at = self.segment - 1;
        if self.segments[at].digest != digest {
            return Err(PackageError::Digest(format!("segment {at}")));
        }
        self.position = Position::Between(read);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), PackageError> {
        self.catch_up()?;
        self.end_segment()?;
        match mem::replace(&mut self.position, Position::Failed) {
            Position::Between(mut read) => layout::expect_end(&mut read)?,
            Position::End => {}
            _ => return Err(spent()),
        }
        self.position = Position::End;
        Ok(())
    }

    /// Decodes some bytes, at least one, of the segments.
    fn decode(&mut self, buffer: &mut [u8]) -> Result<usize, PackageError> {
        if self.segment_left == 0 {
            self.end_segment()?;
            self.begin_segment()?;
        }
        let most = usize::try_from(self.segment_left).unwrap_or(usize::MAX).min(buffer.len());
        let read = match &mut self.position {
            Position::Within(Coder::Stored(piece)) => piece.read(&mut buffer[..most]),
            Position::Within(Coder::Zstd(decoder)) => decoder.read(&mut buffer[..most]),
            _ => return Err(spent()),
        };
        match read {
            Ok(0) => Err(self.in_segment(PackageError::malformed("less than was promised"))),
            Ok(length) => {
                self.segment_left -= length as u64;
                Ok(length)
            }
            Err(error) => Err(self.in_segment(error.into())),
        }
    }

    /// Reads of the content at hand; at its end it has been checked.
    fn read_current(&mut self, buffer: &mut [u8]) -> Result<usize, PackageError> {
        if matches!(self.position, Position::Failed) {
            return Err(spent());
        }
        let Some(mut current) = self.current.take() else { return Err(spent()) };
        let most = usize::try_from(current.left).unwrap_or(usize::MAX).min(buffer.len());
        let result = if most == 0 { Ok(0) } else { self.catch_up().and_then(|()| self.decode(&mut buffer[..most])) };
        let result = result.and_then(|length| {
            current.left -= length as u64;
            current.hasher.update(&buffer[..length]);
            let ended = length > 0 && current.left == 0;
            if ended && mem::take(&mut current.hasher).finish() != current.expected.digest {
                return Err(PackageError::Digest(format!("the content of change {}", current.expected.change)));
            }
            Ok(length)
        });
        match result {
            Ok(_) => self.current = Some(current),
            Err(_) => self.position = Position::Failed,
        }
        result
    }

    fn in_segment(&self, error: PackageError) -> PackageError {
        match error {
            PackageError::Malformed(why) => {
                PackageError::Malformed(format!("segment {}: {why}", self.segment.saturating_sub(1)))
            }
            other => other,
        }
    }
}

impl<R> fmt::Debug for Payload<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload at content {} of {}", self.next, self.contents.len())
    }
}

fn spent() -> PackageError {
    PackageError::malformed("reading went on after an error")
}

/// One content of the payload. Reading it fails, at the latest with its last byte, if it is not what was promised.
pub struct Content<'a, R> {
    payload: &'a mut Payload<R>,
    expected: Expected,
}

impl<R> Content<'_, R> {
    /// Index of the change that it belongs to.
    pub fn change(&self) -> usize {
        self.expected.change
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.expected.size
    }

    /// Its digest.
    pub fn digest(&self) -> Digest {
        self.expected.digest
    }
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.payload.read_current(buffer)?)
    }
}

impl<R> fmt::Debug for Content<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.expected)
    }
}

/// What is left of the content at hand.
struct Rest<'a, R>(&'a mut Payload<R>);

impl<R: Read> Read for Rest<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.0.read_current(buffer)?)
    }
}
