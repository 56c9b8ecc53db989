"""Makes a pair of trees in which every way that a patch has is worth its while: trees.py OLD NEW [NAME...]."""

import os
import random
import struct
import subprocess
import sys
import zipfile
import zlib


def noise(seed, length):
    return random.Random(seed).randbytes(length)


def prose(seed, lines):
    r = random.Random(seed)
    words = [noise(n, 3).hex() for n in range(500)]
    return b"".join(" ".join(r.choices(words, k=9)).encode() + b"\n" for _ in range(lines))


def records(seed, count):
    """What gzip and zip cut into other blocks than zlib does."""
    r = random.Random(seed)
    return b"".join(r.randbytes(3) + b"a record that is long and the same" * 3 for _ in range(count))


def changed(text, seed):
    """The same words, of which every fifth is another one."""
    r = random.Random(seed)
    words = text.split(b" ")
    return b" ".join(r.choice(words) if r.random() < 0.2 else word for word in words)


def png(seed, rows):
    r = random.Random(seed)
    lines = (bytes(x * y + r.getrandbits(2) & 255 for x in range(64)) for y in range(rows))
    data = zlib.compress(b"".join(b"\0" + line for line in lines))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 64, rows, 8, 0, 0, 0, 0))]
    chunks += [(b"IDAT", data[at : at + 1000]) for at in range(0, len(data), 1000)] + [(b"IEND", b"")]
    packed = [struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def archive(members):
    path = sys.argv[1] + ".zip"
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            info = zipfile.ZipInfo(name, (2020, 1, 1, 1, 1, 2))
            info.external_attr = 0o644 << 16
            file.writestr(info, content, zipfile.ZIP_DEFLATED, 6)
    content = open(path, "rb").read()
    os.remove(path)
    return content


def program(*arguments, content=b""):
    """What gzip or zip makes of a content, which stands in a file `a`."""
    folder = sys.argv[1] + ".tmp"
    os.mkdir(folder)
    open(f"{folder}/a", "wb").write(content)
    os.utime(f"{folder}/a", (10**9, 10**9))
    made = subprocess.run(arguments, cwd=folder, check=True, capture_output=True).stdout
    os.remove(f"{folder}/a")
    os.rmdir(folder)
    return made


def executable(machine, extra):
    """An ELF file of functions that name each other and some data, and of tables of them; `extra` functions are new."""
    r = random.Random(machine)
    code, data = 0x40_1000, 0x80_0000 + 16 * extra
    functions = [(number, r.getrandbits(32)) for number in range(150)]
    for number in range(extra):
        functions.insert(20 + 7 * number, (1000 + number, number))
    size = 320
    starts = {number: code + size * place for place, (number, _) in enumerate(functions)}
    text = b""
    for number, seed in functions:
        r = random.Random(seed)
        body = b""
        while len(body) < size - 40:
            here = code + len(text) + len(body)
            body += (arm if machine == 183 else x86)(r, here, starts, data)
        text += body.ljust(size, b"\x1f")
    places = [starts[number] for number in range(150)]
    frames, array, mixed, table = data + 0x4000, data + 0x8000, data + 0xA000, data + 0xC000
    sections = [
        (1, 6, code, text),
        (1, 2, data, noise(machine, 0x4000)),
        (0x7000_0001, 2, frames, b"".join(struct.pack("<ii", p - frames - 8 * n, 9) for n, p in enumerate(places * 2))),
        (14, 3, array, struct.pack("<150Q", *places)),
        (1, 3, mixed, b"".join(struct.pack("<QiI", p, p - mixed - 16 * n - 8, n * n) for n, p in enumerate(places))),
    ]
    entries = b"".join(struct.pack("<ii", place - table, frames - table) for place in places)
    sections.append((1, 2, table, struct.pack("<III", 0x3B031B01, 7, len(places)) + entries))
    offset = lambda address: address - code + 4096 if address < data else address - 0x80_0000 + 0x20000
    loads = [(1, 5, code, len(text)), (1, 6, data, 0xE000), (0x6474_E550, 4, table, 12 + len(entries))]
    headers = b"".join(struct.pack("<IIQQQQQQ", k, f, offset(a), a, a, n, n, 8) for k, f, a, n in loads)
    file = bytearray(0x20000 + 16 * extra + 0xE000)
    for _, _, address, content in sections:
        file[offset(address) : offset(address) + len(content)] = content
    begin = b"\x7fELF\2\1\1".ljust(16, b"\0")
    start = struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, len(file), 0, 64, 56, len(loads), 64, len(sections), 0)
    file[: 64 + len(headers)] = begin + start + headers
    tail = b"".join(struct.pack("<IIQQQQIIQQ", 0, k, f, a, offset(a), len(c), 0, 0, 8, 0) for k, f, a, c in sections)
    return bytes(file) + tail


def x86(r, here, starts, data):
    target = starts[r.randrange(150) if r.random() < 0.3 else r.randrange(4)]
    kind = r.randrange(4)
    opcode = (b"\xe8", b"\x0f\x84", b"\x48\x8d\x05", b"\x0f\x10\x05")[kind]
    target = target if kind < 2 else data + 8 * r.randrange(9)
    return opcode + struct.pack("<i", target - here - len(opcode) - 4) + r.randbytes(3)


def arm(r, here, starts, data):
    kind = r.randrange(4)
    if kind == 0:
        return struct.pack("<II", 0x94000000 | (starts[r.randrange(150)] - here >> 2) & 0x3FFFFFF, r.getrandbits(24))
    target, register = (starts[r.randrange(150)] if kind == 1 else data + 16 * r.randrange(900)), r.randrange(28)
    pages = (target >> 12) - (here >> 12)
    first = 0x90000000 | (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5 | register
    opcode, scale = ((0x91000000, 0), (0xF9400000, 3), (0x3DC00000, 4))[kind - 1]
    return struct.pack("<III", first, 0xD503201F, opcode | (target & 4095) >> scale << 10 | register << 5)


def module(number, new):
    """A kernel module with type information (BTF); the new kernel has more types and more names."""
    r = random.Random(number)
    kernel = lambda n: n + 40 * (new and n > 700)
    name = lambda: r.randrange(1, 5000) + 9 * new
    types = b""
    for _ in range(60):
        kind = r.choice([1, 2, 3, 4, 6, 8, 12, 13, 14, 15, 17, 19])
        some = kernel(r.randrange(1, 2000))
        of_type = kind in (2, 8, 12, 13, 14, 17)
        types += struct.pack("<III", name(), kind << 24 | 3, some if of_type else r.randrange(99))
        for _ in range(1 if kind in (1, 3, 14, 17) else 0 if kind in (2, 8, 12) else 3):
            other = kernel(r.randrange(1, 2000))
            types += {
                3: lambda: struct.pack("<III", other, kernel(5), 9),
                4: lambda: struct.pack("<III", name(), other, 32),
                6: lambda: struct.pack("<II", name(), 2),
                13: lambda: struct.pack("<II", name(), other),
                15: lambda: struct.pack("<III", other, 1, 4),
                19: lambda: struct.pack("<III", name(), 2, 3),
            }.get(kind, lambda: struct.pack("<I", 7))()
    section = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), 0) + types
    file = bytearray(b"\x7fELF\2\1".ljust(64, b"\0") + section + noise(number, 2000))
    struct.pack_into("<HH", file, 16, 1, 62)
    struct.pack_into("<Q", file, 40, len(file))
    struct.pack_into("<HH", file, 58, 64, 1)
    return bytes(file) + struct.pack("<IIQQQQIIQQ", 0, 1, 0, 0, 64, len(section), 0, 0, 4, 0)


def tree(root, new):
    text = prose(1, 3000)
    here = changed(text, 2) if new else text
    files = {
        "app/run": (b"#!/bin/sh\nexec app %d\n" % new, 0o755),
        "app/empty": (b"", 0o600),
        "app/noise": (noise(new, 70_000), 0o444),
        "app/data": (noise(5, 30_000 + new) + noise(6, 30_000), 0o640),
        "text": (here, 0o644),
        "old name" if not new else "new name": (prose(8, 300), 0o644),
        "page.jar": (archive({f"c{n}": prose(n, 90 + n) + b"new" * (new and n % 5 == 2) for n in range(20)}), 0o644),
        "lib.jar": (archive({"lib.so": executable(62, 30 * new), "x": noise(9, 3000)}), 0o644),
        "log.gz": (program("gzip", "-nc9", "a", content=records(11, 2000) + b"end" * new), 0o644),
        "info.zip": (program("zip", "-qX9", "-", "a", content=records(12, 2000) + b"end" * new), 0o644),
        "picture.png": (png(13, 200 + new), 0o644),
        "app/x86": (executable(62, 3 * new), 0o755),
        "app/arm": (executable(183, 3 * new), 0o755),
    }
    files |= {f"modules/{n}.ko": (module(n, new), 0o644) for n in range(30)}
    if new:
        files |= {"copy": (files["app/run"][0], 0o700), "code": (executable(62, 60)[4096:40_000], 0o755)}
    wanted = sys.argv[3:] or [""]
    files = {name: file for name, file in files.items() if any(part in name for part in wanted)}
    for folder in ("", "/app", "/modules"):
        os.mkdir(root + folder)
    for name, (content, mode) in files.items():
        open(f"{root}/{name}", "wb").write(content)
        os.chmod(f"{root}/{name}", mode)
    os.chmod(f"{root}/app", 0o750 if new else 0o755)
    os.link(f"{root}/{min(files)}", f"{root}/zz second name")
    os.symlink("app/run" if new else "text", f"{root}/link")


tree(sys.argv[1], False)
tree(sys.argv[2], True)
