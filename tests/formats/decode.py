"""Makes a new tree of an old one and a package, by what docs/formats says and by nothing else.

    decode.py PACKAGE PUBLIC_KEY NEW [OLD]

NEW is not there yet; OLD is the tree that a patch starts from. What was met on the way is printed, one name a line. It
is slow and holds few of the bounds: it shows what the bytes mean.
"""

import base64
import bisect
import hashlib
import io
import lzma
import os
import stat
import subprocess
import sys
import zipfile
import zlib
from struct import pack, pack_into, unpack_from

import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MET = set()


def check(good, what):
    if not good:
        sys.exit(f"refused: {what}")


def sha256(data):
    return hashlib.sha256(data).digest()


def wrapped(value, bits):
    """The signed integer of so many bits that differs by a multiple of what they can hold."""
    return (value + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)


class Reader:
    """Bytes from the front on: the compact encoding of README, and the integers of delta."""

    def __init__(self, data):
        self.data, self.at = bytes(data), 0

    def left(self):
        return len(self.data) - self.at

    def take(self, length):
        check(0 <= length <= self.left(), "an end in the middle")
        self.at += length
        return self.data[self.at - length : self.at]

    def end(self):
        check(not self.left(), "bytes left over")

    def byte(self):
        return self.take(1)[0]

    def fixed(self, length):
        return int.from_bytes(self.take(length), "little")

    def compact(self):
        first = self.byte()
        return first if first < 251 else self.fixed({251: 2, 252: 4, 253: 8}[first])

    def bytes(self):
        return self.take(self.compact())

    def list(self, item):
        return [item() for _ in range(self.compact())]

    def option(self, item):
        return item() if self.byte() else None

    def integer(self):
        value, shift, byte = 0, 0, 128
        while byte >= 128:
            byte = self.byte()
            value |= (byte & 127) << shift
            shift += 7
        return value

    def signed(self):
        return unzigzag(self.integer())


def unzigzag(value):
    return value >> 1 ^ -(value & 1)


# Trees (manifest.md). A node is (kind, mode, uid, gid, seconds, nanoseconds, attributes, leader); a kind is (0,), or
# (1, size, digest), or (2, target).

POSIX = (b"system.posix_acl_access", b"system.posix_acl_default", b"security.capability")


def encode_node(node, policy):
    counted = lambda data: pack("<Q", len(data)) + data
    kind, mode, uid, gid, seconds, nanoseconds, attributes, leader = node
    owner = (uid, gid) if policy & 1 else (0, 0)
    time = (seconds, nanoseconds) if policy & 2 else (0, 0)
    fields = {0: lambda: b"", 1: lambda: pack("<Q", kind[1]) + kind[2], 2: lambda: counted(kind[1])}[kind[0]]()
    out = pack("<I", kind[0]) + fields + pack("<IIIqIQ", mode, *owner, *time, len(attributes))
    out += b"".join(counted(name) + counted(value) for name, value in attributes)
    return out + (b"\0" if leader is None else b"\1" + counted(leader))


def order(path):
    return path.split(b"/") if path else []


def tree_digest(tree, policy):
    paths = sorted(tree, key=order)
    entries = [pack("<Q", len(path)) + path + b"\1" + encode_node(tree[path], policy) for path in paths]
    return sha256(b"surefoot tree v1\0" + bytes([policy]) + pack("<Q", len(tree)) + b"".join(entries))


def join(root, path):
    return os.path.join(root, path) if path else root


def content_of(root, path):
    with open(join(root, path), "rb") as file:
        return file.read()


def scan(root):
    paths, tree, leaders = [b""], {}, {}
    for folder, folders, files in os.walk(root):
        below = os.path.relpath(folder, root)
        folders[:] = [name for name in folders if (below, name) != (b".", b".surefoot")]
        paths += [os.path.normpath(os.path.join(below, name)) for name in folders + files]
    for path in sorted(paths, key=order):
        at = join(root, path)
        info = os.lstat(at)
        kind, leader, attributes = (0,), None, []
        if stat.S_ISLNK(info.st_mode):
            kind = (2, os.readlink(at))
        else:
            names = sorted(map(os.fsencode, os.listxattr(at)))
            attributes = [(n, os.getxattr(at, n)) for n in names if n.startswith(b"user.") or n in POSIX]
        if stat.S_ISREG(info.st_mode):
            kind = (1, info.st_size, sha256(content_of(root, path)))
            leader = leaders.setdefault(info.st_ino, path)
        time = divmod(info.st_mtime_ns, 10**9)
        mode = stat.S_IMODE(info.st_mode)
        tree[path] = (kind, mode, info.st_uid, info.st_gid, *time, attributes, None if leader == path else leader)
    return tree


def write(root, tree, contents, policy):
    for path in sorted(tree, key=order):
        kind, *_, leader = tree[path]
        at = join(root, path)
        if leader is not None:
            os.link(join(root, leader), at)
        elif kind[0] == 0:
            os.mkdir(at)
        elif kind[0] == 2:
            os.symlink(kind[1], at)
        else:
            with open(at, "wb") as file:
                file.write(contents[path])
    for path in sorted(tree, key=order, reverse=True):
        kind, mode, uid, gid, seconds, nanoseconds, attributes, _ = tree[path]
        at, time = join(root, path), seconds * 10**9 + nanoseconds
        if policy & 1:
            os.chown(at, uid, gid, follow_symlinks=False)
        if kind[0] != 2:
            os.chmod(at, mode)
            for name, value in attributes:
                os.setxattr(at, name, value)
        os.utime(at, ns=(time, time), follow_symlinks=False)


# Packages (package.md)


def read_node(r):
    kind = r.compact()
    kind = (kind,) + {0: lambda: (), 1: lambda: (r.compact(), r.take(32)), 2: lambda: (r.bytes(),)}[kind]()
    numbers = r.compact(), r.compact(), r.compact(), unzigzag(r.compact()), r.compact()
    return kind, *numbers, r.list(lambda: (r.bytes(), r.bytes())), r.option(r.bytes)


def read_after(r):
    node, source = read_node(r), r.compact()
    MET.add(f"source {source}")
    return node, source, {2: r.bytes, 3: r.compact}.get(source, lambda: None)()


def decode(package, key, old):
    payload = Reader(package)
    check(payload.take(8) == b"surefoot" and payload.fixed(2) == 1, "the format")
    manifest = unzstd(payload.take(payload.fixed(4)))
    signatures = {payload.take(32): payload.take(64) for _ in range(payload.byte())}
    signature = signatures[sha256(key)]
    Ed25519PublicKey.from_public_bytes(key[-32:]).verify(signature, b"surefoot package manifest v1\0" + manifest)
    r = Reader(manifest)
    base_digest = (r.bytes(), r.take(32))[1] if r.compact() else None
    _to, target, _architecture, policy, _notes, _memory = (
        r.bytes(), r.take(32), r.option(r.bytes), r.byte(), r.bytes(), r.compact()
    )
    changes = r.list(lambda: (r.bytes(), r.option(r.byte), r.option(lambda: read_after(r))))
    outlines = r.list(lambda: (r.compact(), r.compact(), r.take(32), r.compact()))
    r.end()
    segments = [(codec, payload.take(packed), digest, unpacked) for codec, packed, digest, unpacked in outlines]
    payload.end()
    check(all(sha256(packed) == digest for _, packed, digest, _ in segments), "the digest of a segment")
    MET.update(f"codec {codec}" for codec, *_ in segments)

    base = scan(old) if base_digest else {}
    check(not base_digest or tree_digest(base, policy) == base_digest, "the base")
    tree, contents = dict(base), {}
    for path, before, after in changes:
        there = base.get(path)
        digest = there and sha256(b"surefoot node v1\0" + encode_node(there, policy))[0]
        check(before == digest, f"what is at {path}")
        if after:
            tree[path] = after[0]
        else:
            MET.add("removed")
            del tree[path]
    made = [path for path, _, after in changes if after and after[1] == 1]
    sizes = [tree[path][0][1] for path in made]
    if base_digest:
        names = [path for path in sorted(base, key=order) if base[path][0][0] == 1 and base[path][-1] is None]
        outputs = patch_contents(segments, [content_of(old, name) for name in names], sizes)
    else:
        payload = Reader(b"".join(packed if codec == 0 else unzstd(packed) for codec, packed, *_ in segments))
        outputs = [payload.take(size) for size in sizes]
        payload.end()
    contents = dict(zip(made, outputs))
    for path, _, after in changes:
        if after and after[1] == 2:
            contents[path] = content_of(old, after[2])
        elif after and after[1] == 3:
            contents[path] = contents[changes[after[2]][0]]
    for path in sorted(tree, key=order):
        kind, *rest = tree[path]
        if kind[0] == 1 and rest[-1] is None:
            content = contents[path] if path in contents else contents.setdefault(path, content_of(old, path))
            check(len(content) == kind[1], f"the size of {path}")
            # In a patch it was zeros.
            tree[path] = ((1, kind[1], sha256(content)), *rest)
        elif kind[0] == 1:
            tree[path] = (tree[rest[-1]][0], *rest)
    check(tree_digest(tree, policy) == target, "the digest of the tree")
    return tree, contents, policy


def patch_contents(segments, old, sizes):
    outputs, views = [bytearray(size) for size in sizes], []
    for codec, packed, _, unpacked in segments:
        r = Reader(packed)
        if codec == 2:
            coder = read_coder(r)
            views = read_views(Reader(unpack(coder, r.take(r.left()), unpacked)), old)
        else:
            check(segment(r, old, sizes, views, outputs) == unpacked, "the length of a segment")
    return outputs


# Segments (delta.md)


def read_coder(r):
    kind = r.byte()
    MET.add(f"coder {kind}")
    return kind, r.take(kind)


def unzstd(data, prefix=b""):
    dictionary = zstandard.ZstdCompressionDict(prefix, dict_type=zstandard.DICT_TYPE_RAWCONTENT) if prefix else None
    frame = zstandard.ZstdDecompressor(dict_data=dictionary, max_window_size=1 << 27).decompressobj()
    out = frame.decompress(data)
    check(frame.eof and not frame.unused_data, "more or less than one frame of zstd")
    return out


def unlzma(parameters, kind, data, length):
    properties, dictionary = parameters
    lc, lp, pb = properties % 9, properties // 9 % 5, properties // 45
    filters = [{"id": kind, "lc": lc, "lp": lp, "pb": pb, "dict_size": 1 << dictionary}]
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters).decompress(data, length)


def unpack(coder, data, length, history=None):
    kind, parameters = coder
    if history is not None:
        MET.add(f"history {kind}")
    if kind == 0:
        out = data
    elif kind == 1:
        out = unzstd(data, history)
    elif history is None:
        out = unlzma(parameters, lzma.FILTER_LZMA1, data, length)
    else:
        pieces = [history[at : at + 65536] for at in range(0, len(history), 65536)]
        chunks = b"".join(pack(">BH", 2 if n else 1, len(piece) - 1) + piece for n, piece in enumerate(pieces))
        out = unlzma(parameters, lzma.FILTER_LZMA2, chunks + data, len(history) + length)[len(history) :]
    check(len(out) == length, "the length of a stream")
    return out


def read_groups(r, lengths, are_sources):
    extents, file = [], 0
    for _ in range(r.integer()):
        head = r.integer()
        file += unzigzag(head >> 1)
        if head & 1:
            group = [(file, r.integer(), r.integer())]
        else:
            group = [(number, 0, lengths[number]) for number in range(file, file + r.integer() + 1)]
        view = r.integer() - 1 if are_sources else None
        extents += [(*extent, view) for extent in group]
        file = group[-1][0] + 1
    return extents


def segment(r, old, sizes, views, outputs):
    shape = r.byte()
    MET.add(f"shape {shape}")
    history, joined, assembled, code = shape & 1, shape & 2, shape & 4, shape & 8
    makes, reads = read_groups(r, sizes, False), read_groups(r, [len(file) for file in old], True)
    own = [r.integer() for _ in range(1 if history else 5)]
    lengths = ([sum(own)] if joined else own) + ([r.integer()] if assembled else [])
    packs = [(read_coder(r), r.integer()) if length else None for length in lengths]
    source = b""
    for file, offset, length, view in reads:
        shown = old[file] if view < 0 else views[view].show()
        check(offset + length <= len(shown) and (view < 0 or views[view].file == file), "a source beyond its file")
        source += shown[offset : offset + length]
    streams = []
    for length, packed in zip(lengths, packs):
        prefix = source if history and not streams else None
        streams.append(unpack(packed[0], r.take(packed[1]), length, prefix) if packed else b"")
    r.end()
    if joined:
        shared = Reader(streams[0])
        streams[:1] = [shared.take(length) for length in own]
    total = made = sum(length for _, _, length, _ in makes)
    members = read_recipe(Reader(streams[-1])) if assembled else []
    total += sum(inflated - length for _, length, inflated, *_ in members)
    content = streams[0] if history else covers(streams[:5], source, total, code)
    check(len(content) == total, "the length of a content")
    out = Reader(assemble(Reader(content), members))
    for file, offset, length, _ in makes:
        outputs[file][offset : offset + length] = out.take(length)
    out.end()
    return made


def covers(streams, source, total, code):
    lengths, positions, runs, differences, literals = map(Reader, streams)
    out, end, same, other = bytearray(), 0, 0, 0
    while lengths.left():
        run, length = lengths.integer(), lengths.integer()
        literal(out, literals.take(run), code)
        begin = end + positions.signed()
        end = begin + length
        check(0 <= begin and end <= len(source), "a copy beyond the sources")
        for byte in source[begin:end]:
            while not same and not other and runs.left():
                same, other = runs.integer(), runs.integer()
            if not same and other:
                byte, other = byte + differences.byte() & 255, other - 1
            else:
                same = max(same - 1, 0)
            out.append(byte)
    literal(out, literals.take(total - len(out)), code)
    check(not same and not other, "the last pair")
    for stream in (positions, runs, differences, literals):
        stream.end()
    return bytes(out)


def literal(out, run, code):
    begin = len(out)
    out += run
    for at in range(max(begin - 3, 0), len(out)) if code else ():
        first, second, third = out[at], *(out[at + 1 : at + 3] + b"\0\0")[:2]
        if first in (0xE8, 0xE9):
            field = at + 1
        elif first in (0x39, 0x3B, 0x89, 0x8B, 0x8D) and second & 0xC7 == 5:
            field = at + 2
        elif first == 0x0F and second >> 4 != 8 and third & 0xC7 == 5:
            field = at + 3
        else:
            continue
        if begin <= field <= len(out) - 4 and out[field + 3] in (0, 255):
            MET.add("code")
            c, b, a, d = out[field : field + 4]
            place = int.from_bytes(bytes([a, b, c, d]), "little", signed=True)
            pack_into("<i", out, field, wrapped(place - (field + 4), 25))


# Archives (delta.md, Assembling)


def read_png(r):
    return r.take(2), r.integer()


def read_recipe(r):
    members, like = [], None
    while r.left():
        lengths, kind = [r.integer(), r.integer(), r.integer()], r.byte()
        if kind:
            like = kind, read_png(r) if kind == 3 else None, r.take(4)
        members.append((*lengths, *like))
    return members


def assemble(content, members):
    out = b""
    for raw, length, inflated, kind, png, deflater in members:
        MET.add(f"member {kind}")
        out += content.take(raw)
        data = content.take(inflated)
        made = deflate(data, *deflater)
        if kind == 2:
            made += pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)
        elif kind == 3:
            header, size = png[0], max(png[1], 1)
            made = header + made + pack(">I", zlib.adler32(data))
            chunks = [b"IDAT" + made[at : at + size] for at in range(0, len(made), size)]
            made = b"".join(pack(">I", len(c) - 4) + c + pack(">I", zlib.crc32(c)) for c in chunks)
        check(len(made) == length, "the length of a member")
        out += made
    return out + content.take(content.left())


def deflate(data, family, level, strategy, sizes):
    MET.add(f"deflater {family}")
    if family == 0:
        stream = zlib.compressobj(level, zlib.DEFLATED, -(sizes & 15), sizes >> 4, strategy)
        return stream.compress(data) + stream.flush()
    if family == 1:
        return subprocess.run(["gzip", f"-nc{level}"], input=data, capture_output=True, check=True).stdout[10:-8]
    archive = subprocess.run(["zip", f"-qX{level}", "-", "-"], input=data, capture_output=True, check=True).stdout
    with zipfile.ZipFile(io.BytesIO(archive)) as read:
        packed = read.infolist()[0].compress_size
    return archive[30 + sum(unpack_from("<HH", archive, 26)) :][:packed]


def inflate(data, length, kind, png):
    r, stream = Reader(data), b""
    while png and r.left():
        size = int.from_bytes(r.take(4), "big")
        stream += r.take(size + 8)[4:-4]
    out = zlib.decompressobj(-15).decompress(stream[2:] if png else data, length)
    check(len(out) == length, "a member of a view")
    return out


# Views (delta.md)

OPERANDS = bytes.fromhex(
    "00010203 08090A0B 101112 14 16 20212223 28292A2B 2E2F 30313233 38393A3B 51 54 575859 5C 5E 63 69 6B 6F 7F8081"
    "838485868788898A8B 8D C6C7 D6 D9 DB DD DF EF F6F7 FEFF"
)
# BTF: kinds that name a type; then, by kind, the words of an element, and whether there are as many as the record says.
TYPED = (2, 8, 9, 10, 11, 12, 13, 14, 17, 18)
ELEMENTS = {1: ("-", 0), 14: ("-", 0), 17: ("-", 0), 3: ("TT-", 0), 4: ("NT-", 1), 5: ("NT-", 1), 6: ("N-", 1)}
ELEMENTS |= {13: ("NT", 1), 15: ("T--", 1), 19: ("N--", 1)} | {kind: ("", 0) for kind in (2, *range(7, 13), 16, 18)}


def read_views(r, old):
    views, file, entries = [], 0, []
    for _ in range(r.integer()):
        view = View()
        file += r.signed()
        view.file, view.content, view.pieces, view.loads, view.regions = file, old[file], [], [], []
        end = 0
        for _ in range(r.integer()):
            head, begin = r.integer(), end + r.signed()
            end, member = begin + (head >> 1), None
            if head & 1:
                inflated, kind = r.integer(), r.byte()
                MET.add(f"piece {kind}")
                member = inflated, kind, read_png(r) if kind == 2 else None
            view.pieces.append((begin, end, member))
        end = 0
        for _ in range(r.integer()):
            begin, _offset, length, code = end + r.integer(), r.integer(), r.integer(), r.integer()
            end = begin + length
            view.loads.append((begin, end, code))
        end = 0
        for _ in range(r.integer()):
            begin, length, address, rule = end + r.integer(), r.integer(), r.integer(), r.byte()
            end = begin + length
            view.regions.append((begin, end, address, rule))
        count = r.integer() if view.regions else 0
        if count:
            addresses, distances = [r.integer() for _ in range(count)], [r.signed() for _ in range(count)]
            entries = [(sum(addresses[: n + 1]), sum(distances[: n + 1])) for n in range(count)]
        view.entries = entries
        views.append(view)
    r.end()
    return views


class View:
    shown = None

    def show(self):
        if self.shown is None:
            parts = [(self.content[begin:end], member) for begin, end, member in self.pieces]
            self.shown = bytearray().join(inflate(part, *member) if member else part for part, member in parts)
            if not self.pieces:
                self.shown[:] = self.content
            for begin, end, address, rule in self.regions:
                self.region(begin, end, address, rule)
        return bytes(self.shown)

    def region(self, begin, end, address, rule):
        MET.add(f"rule {rule}")
        names = ("x86_64", "words", "relative", "mixed", "frames", "aarch64", "types")
        step = 4096 if rule < 6 else end
        self.beginning = address
        for low in range(begin // step * step, end, step):
            low, high = max(low, begin), min(low + step, end)
            self.part, self.own = self.shown[low:high], address + low - begin
            getattr(self, names[rule])()
            self.shown[low:high] = self.part

    def d(self, address):
        index = bisect.bisect_right(self.entries, (address % 2**64, 2**63))
        return self.entries[index - 1][1] if index else 0

    def known(self, address):
        return any(begin <= address % 2**64 < end for begin, end, _ in self.loads)

    def code(self, address):
        return any(begin <= address % 2**64 < end and code for begin, end, code in self.loads)

    def read(self, form, at):
        return unpack_from(form, self.part, at)[0]

    def add(self, at, distance, form="<I"):
        """Changes the word there."""
        pack_into(form, self.part, at, (self.read(form, at) + distance) % (2**32 if form == "<I" else 2**64))

    def aligned(self, size):
        return range(-self.own % size, len(self.part) - size + 1, size)

    def x86_64(self):
        at = 0
        while at + 6 <= len(self.part):
            first, second, third = (self.part[at : at + 7] if at + 7 <= len(self.part) else self.part[at:] + b"\0")[:3]
            field, good = None, self.known
            if first in (0xE8, 0xE9):
                field, good = at + 1, self.code
            elif first == 0x0F and second >> 4 == 8:
                field, good = at + 2, self.code
            elif first == 0x0F and third & 0xC7 == 5 and at + 7 <= len(self.part):
                field = at + 3
            elif first in OPERANDS and second & 0xC7 == 5:
                field = at + 2
            at += 1
            if field:
                own = self.own + field
                target = own + 4 + self.read("<i", field)
                if good(target):
                    self.add(field, self.d(target) - self.d(own))
                    at = field + 4

    def word(self, at):
        good = at + 8 <= len(self.part) and self.read("<Q", at) >= 4096 and self.known(self.read("<Q", at))
        if good:
            self.add(at, self.d(self.read("<Q", at)), "<Q")
        return good

    def words(self):
        for at in self.aligned(8):
            self.word(at)

    def distance(self, at):
        word, own = self.read("<i", at), self.own + at
        if abs(word) > 256 and self.code(own + word):
            self.add(at, self.d(own + word) - self.d(own))

    def relative(self):
        for at in self.aligned(4):
            self.distance(at)

    def mixed(self):
        done = 0
        for at in self.aligned(4):
            if at >= done and (self.own + at) % 8 == 0 and self.word(at):
                done = at + 8
            elif at >= done:
                self.distance(at)

    def frames(self):
        for at in self.aligned(4):
            if self.own + at >= self.beginning + 12:
                self.add(at, self.d(self.beginning + self.read("<i", at)) - self.d(self.beginning))

    def aarch64(self):
        for at in self.aligned(4):
            word, own = self.read("<I", at), self.own + at
            if word & 0x7C000000 == 0x14000000:
                distance = wrapped(word, 26) * 4
                if self.code(own + distance):
                    distance += self.d(own + distance) - self.d(own)
                    pack_into("<I", self.part, at, word & 0xFC000000 | distance >> 2 & 0x3FFFFFF)
            elif word & 0x9F000000 == 0x90000000:
                self.page(at, own, word)

    def page(self, at, own, word):
        target = ((own >> 12) + wrapped((word >> 5 & 0x7FFFF) << 2 | word >> 29 & 3, 21)) << 12
        partner, scale = None, 0
        for other in range(at + 4, min(at + 20, len(self.part) - 3), 4):
            use = self.read("<I", other)
            is_add, is_load = use & 0xFFC00000 == 0x91000000, use & 0x3B000000 == 0x39000000
            if use >> 5 & 31 == word & 31 and (is_add or is_load):
                partner = other
                scale = 0 if is_add else 4 if use & 0x04800000 == 0x04800000 else use >> 30
                target += (use >> 10 & 0xFFF) << scale
                break
        if self.known(target):
            target = (target + self.d(target)) % 2**64
            number = (target >> 12) - ((own + self.d(own)) % 2**64 >> 12)
            pack_into("<I", self.part, at, word & 0x9F00001F | (number & 3) << 29 | (number >> 2 & 0x7FFFF) << 5)
            if partner:
                use = use & ~(0xFFF << 10) | (target & 0xFFF) >> scale << 10
                pack_into("<I", self.part, partner, use)

    def types(self):
        magic, header, begin, length = unpack_from("<IIII", self.part)
        at, end = header + begin, min(header + begin + length, len(self.part))

        def move(at, what):
            number = self.read("<I", at)
            if number and what != "-":
                self.add(at, self.d(number + (2**32 if what == "N" else 0)))

        while magic & 0xFFFFFF == 0x1EB9F and at + 12 <= end:
            kind, count = self.part[at + 7] & 31, self.read("<H", at + 4)
            move(at, "N")
            move(at + 8, "T" if kind in TYPED else "-")
            at += 12
            if kind not in ELEMENTS:
                return
            words, counted = ELEMENTS[kind]
            for _ in range(count if counted else len(words) > 0):
                if at + 4 * len(words) > end:
                    return
                for what in words:
                    move(at, what)
                    at += 4


def main(package, key, new, old=None):
    pem = content_of("", key).decode().split("\n")
    der = base64.b64decode("".join(line for line in pem if not line.startswith("-")))
    tree, contents, policy = decode(content_of("", package), der, old and os.fsencode(old))
    write(os.fsencode(new), tree, contents, policy)
    print("\n".join(sorted(MET)))


main(*sys.argv[1:])
