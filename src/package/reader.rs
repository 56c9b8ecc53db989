//! Reading a package, as a stream.

use super::layout::{self, MANIFEST, Member, SIGNATURES};
use super::promise::{Codec, Expected, Promise, Segment};
use super::{PackageError, sign};
use crate::codec::v1::PACKAGE_DOMAIN;
use crate::limits;
use crate::model::{Digest, Hasher};
use crate::trust::{Keyring, Signature};
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
    signatures: Vec<(Digest, Signature)>,
}

/// Its manifest is signed by a trusted key, or was accepted without.
pub struct Verified {
    promise: Promise,
    id: Digest,
    signer: Option<Digest>,
}

impl<R: Read> Package<R, Unverified> {
    /// Reads manifest and signatures.
    pub fn open(read: R) -> Result<Self, PackageError> {
        Self::open_with_limit(read, limits::PACKAGE_MANIFEST)
    }

    /// Reads manifest and signatures; a manifest of more than `most` bytes, unpacked, is refused. It is held in memory
    /// before anybody has vouched for it.
    pub fn open_with_limit(read: R, most: u64) -> Result<Self, PackageError> {
        let (manifest, signatures, read) = read_front(read, most.min(limits::PACKAGE_MANIFEST), None)?;
        Ok(Self { state: Unverified { manifest, signatures }, read })
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
        let manifest = self.state.manifest;
        let promise = Promise::decode(&manifest)?;
        let state = Verified { promise, id: Digest::of(&manifest), signer };
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

    /// Goes on to the payload.
    pub fn into_payload(self) -> (Promise, Payload<R>) {
        let promise = self.state.promise;
        let payload = Payload {
            contents: promise.contents().collect(),
            segments: promise.segments().to_vec(),
            next: 0,
            segment_end: promise.segments().first().map_or(0, |segment| segment.contents),
            segment: 0,
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

/// Manifest, signatures, and what follows them.
type Front<R> = (Vec<u8>, Vec<(Digest, Signature)>, R);

/// Reads up to the payload; `packed` is given the manifest as it is in the container.
pub(super) fn read_front<R: Read>(
    mut read: R,
    most: u64,
    packed: Option<&mut Vec<u8>>,
) -> Result<Front<R>, PackageError> {
    let size = layout::read_header(&mut read, MANIFEST, most)?;
    let mut member = Member::new(read, size);
    let manifest = match packed {
        None => unpack_manifest(&mut member, most)?,
        Some(packed) => {
            layout::copy(&mut member, |bytes| {
                packed.extend_from_slice(bytes);
                Ok(())
            })?;
            unpack_manifest(&mut packed.as_slice(), most)?
        }
    };
    let (_, mut read) = member.finish()?;
    let size = layout::read_header(&mut read, SIGNATURES, sign::MOST_BYTES)?;
    let mut member = Member::new(read, size);
    let mut bytes = Vec::new();
    member.read_to_end(&mut bytes)?;
    let (_, read) = member.finish()?;
    Ok((manifest, sign::decode(&bytes)?, read))
}

fn unpack_manifest(packed: &mut dyn Read, most: u64) -> Result<Vec<u8>, PackageError> {
    let mut decoder = decoder(BufReader::with_capacity(limits::COPY_BUFFER, packed))?;
    let mut manifest = Vec::new();
    (&mut decoder).take(most + 1).read_to_end(&mut manifest)?;
    if manifest.len() as u64 > most {
        return Err(PackageError::Limit { what: "a manifest of a size", most });
    }
    end_of_frame(decoder)?;
    Ok(manifest)
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
/// When [`Payload::next_content`] has returned nothing, everything has been checked to the end of the container. After
/// an error it is of no more use.
pub struct Payload<R> {
    contents: Vec<Expected>,
    segments: Vec<Segment>,
    /// How many contents have been begun or skipped.
    next: usize,
    /// Where the contents of the segment at hand end.
    segment_end: usize,
    /// Index of the segment at hand.
    segment: usize,
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
    /// A header comes next.
    Between(R),
    /// Inside a segment.
    Within(Coder<R>),
    /// The end of the container has been checked.
    End,
    /// An error has been returned.
    Failed,
}

enum Coder<R> {
    Stored(Member<R>),
    Zstd(Box<Decoder<Member<R>>>),
}

impl<R: Read> Payload<R> {
    /// All contents, in their order.
    pub fn contents(&self) -> &[Expected] {
        &self.contents
    }

    /// How many contents have been begun or skipped.
    pub fn position(&self) -> usize {
        self.next
    }

    /// Where the contents of the segment end that the next content is in.
    pub fn segment_end(&self) -> usize {
        self.segment_end
    }

    /// Goes to the next content; what is left of the one before is read and checked. Nothing at the end.
    pub fn next_content(&mut self) -> Result<Option<Content<'_, R>>, PackageError> {
        self.end_content()?;
        if self.next == self.segment_end {
            self.end_segment()?;
        }
        let Some(expected) = self.contents.get(self.next).copied() else {
            self.finish()?;
            return Ok(None);
        };
        if let Position::Between(_) = self.position {
            self.begin_segment()?;
        }
        self.next += 1;
        self.current = Some(Current { left: expected.size, hasher: Hasher::new(), expected });
        Ok(Some(Content { payload: self, expected }))
    }

    /// Passes over the rest of the segment that the next content is in, without decoding it; false if there is none.
    pub fn skip_segment(&mut self) -> Result<bool, PackageError> {
        self.end_content()?;
        if self.next == self.segment_end {
            self.end_segment()?;
        }
        if self.next == self.contents.len() {
            self.finish()?;
            return Ok(false);
        }
        if let Position::Between(_) = self.position {
            self.begin_segment()?;
        }
        let mut member = match mem::replace(&mut self.position, Position::Failed) {
            Position::Within(Coder::Stored(member)) => member,
            Position::Within(Coder::Zstd(decoder)) => decoder.finish().into_inner(),
            _ => return Err(spent()),
        };
        member.drain()?;
        self.end_member(member)?;
        self.next = self.segment_end;
        self.advance();
        Ok(true)
    }

    fn begin_segment(&mut self) -> Result<(), PackageError> {
        let Position::Between(mut read) = mem::replace(&mut self.position, Position::Failed) else {
            return Err(spent());
        };
        let segment = self.segments.get(self.segment).ok_or_else(spent)?;
        layout::expect_header(&mut read, &layout::segment_name(self.segment), segment.packed)?;
        let member = Member::new(read, segment.packed);
        self.position = Position::Within(match segment.codec {
            Codec::Stored => Coder::Stored(member),
            Codec::Zstd => {
                let buffer = BufReader::with_capacity(limits::COPY_BUFFER, member);
                Coder::Zstd(Box::new(decoder(buffer).map_err(|error| in_segment(self.segment, error))?))
            }
        });
        Ok(())
    }

    /// Ends the segment at hand, if one is, all of whose contents have been read.
    fn end_segment(&mut self) -> Result<(), PackageError> {
        let member = match mem::replace(&mut self.position, Position::Failed) {
            Position::Within(Coder::Stored(member)) => member,
            Position::Within(Coder::Zstd(decoder)) => {
                end_of_frame(*decoder).map_err(|error| in_segment(self.segment, error))?
            }
            Position::Failed => return Err(spent()),
            other => {
                self.position = other;
                return Ok(());
            }
        };
        self.end_member(member)?;
        self.advance();
        Ok(())
    }

    fn end_member(&mut self, member: Member<R>) -> Result<(), PackageError> {
        let (digest, read) = member.finish().map_err(|error| in_segment(self.segment, error))?;
        if self.segments.get(self.segment).is_none_or(|segment| segment.digest != digest) {
            return Err(PackageError::Digest(format!("segment {}", self.segment)));
        }
        self.position = Position::Between(read);
        Ok(())
    }

    fn advance(&mut self) {
        self.segment += 1;
        self.segment_end += self.segments.get(self.segment).map_or(0, |segment| segment.contents);
    }

    fn end_content(&mut self) -> Result<(), PackageError> {
        if self.current.is_some() {
            layout::copy(&mut Rest(self), |_| Ok(()))?;
            self.current = None;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), PackageError> {
        match mem::replace(&mut self.position, Position::Failed) {
            Position::Between(mut read) => layout::expect_end(&mut read)?,
            Position::End => {}
            _ => return Err(spent()),
        }
        self.position = Position::End;
        Ok(())
    }

    /// Reads of the content at hand; at its end it has been checked.
    fn read_current(&mut self, buffer: &mut [u8]) -> Result<usize, PackageError> {
        let (Some(current), Position::Within(coder)) = (&mut self.current, &mut self.position) else {
            return Err(spent());
        };
        let most = usize::try_from(current.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let result = match coder {
            Coder::Stored(member) => member.read(&mut buffer[..most]),
            Coder::Zstd(decoder) => decoder.read(&mut buffer[..most]),
        };
        let result = match result {
            Ok(0) => Err(PackageError::malformed("less than was promised")),
            Ok(length) => {
                current.left -= length as u64;
                current.hasher.update(&buffer[..length]);
                if current.left == 0 && mem::take(&mut current.hasher).finish() != current.expected.digest {
                    Err(PackageError::Digest(format!("the content of change {}", current.expected.change)))
                } else {
                    Ok(length)
                }
            }
            Err(error) => Err(error.into()),
        };
        result.map_err(|error| {
            self.position = Position::Failed;
            in_segment(self.segment, error)
        })
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

fn in_segment(segment: usize, error: PackageError) -> PackageError {
    match error {
        PackageError::Malformed(why) => PackageError::Malformed(format!("segment {segment}: {why}")),
        other => other,
    }
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
