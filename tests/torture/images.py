"""Broken images: each is decoded or reported, and nothing hangs, crashes, starts or is raised.

Through the reader that training and embedding use, and through import.
"""

import io
import os
import random
import shutil
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, features

from lib.data.images import ImageSource
from lib.data.own_photos import import_photos
from tests.torture.harness import Outcome, Say, apart, each_apart

IMAGES = 600
SUFFIXES = (".jpg", ".png", ".tif", ".webp", ".gif", ".bmp")
FORMATS = {  # name to modes
    "JPEG": ("RGB", "L", "CMYK"),
    "PNG": ("RGB", "RGBA", "P", "L", "LA", "1", "I;16"),
    "TIFF": ("RGB", "L", "I;16", "I", "F", "CMYK", "LAB", "RGBA"),
    "GIF": ("P", "L"),
    "BMP": ("RGB", "L", "P"),
    "WEBP": ("RGB", "RGBA"),
    "MPO": ("RGB",),
    "PPM": ("RGB", "L"),
    "TGA": ("RGB",),
    "PCX": ("RGB", "P"),
    "ICO": ("RGBA",),
    "SGI": ("RGB",),
    "DDS": ("RGBA",),
    **({"JPEG2000": ("RGB",)} if features.check("jpg_2000") else {}),
    **({"AVIF": ("RGB",)} if features.check("avif") else {}),
}
COMMON = ("JPEG", "JPEG", "PNG", "TIFF", "GIF", "BMP", "WEBP")
NO_IMAGES = (
    b"", b"\xff", b"\xff\xd8", b"\xff\xd8\xff\xe0\0\x10JFIF", b"GIF89a", b"\x89PNG\r\n\x1a\n",
    b"<!DOCTYPE html><html><body>404</body></html>", b"II*\0\x08\0\0\0\xff\xff", b"BM" + bytes(60),
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n", b"{}", bytes(5000),
    b"PK\x03\x04" + bytes(40), b"\x1f\x8b\x08" + bytes(40), b"%PDF-1.4\n%%EOF", b"RIFF\0\0\0\0WEBP",
    b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>", b"P6 99999 99999 255\n",
)  # fmt: skip
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n%%EndComments\nshowpage\n%%EOF\n"
DOS_EPS = struct.pack("<IIIIIIIH", 0xC6D3D0C5, 32, len(EPS), 0, 0, 0, 0, 0xFFFF) + b"\0\0" + EPS
EPSES = (EPS, EPS.replace(b"99 99", b"99999 99999"), DOS_EPS, EPS.replace(b"\n", b"\r"))


def encode(dice: random.Random, kind: str = "", **options: object) -> bytes:
    """A sound image of random pixels, size, mode and format."""
    kind = kind or dice.choice(COMMON)
    mode = dice.choice(FORMATS[kind])
    shape = dice.randint(33, 90), dice.randint(33, 90)
    pixels = np.random.default_rng(dice.randrange(2**32)).random((*shape, 3)) * 255
    image = Image.fromarray(pixels.astype(np.uint8))
    if mode == "F":
        grey = pixels[..., 0].astype(np.float32)
        grey[: dice.randint(0, 3)] = dice.choice([np.nan, np.inf, -1e30, 1.0])
        image = Image.fromarray(grey)
    elif mode.startswith("I"):
        scale = dice.choice([1, 16, 257]) if mode == "I;16" else dice.choice([1, 2**22, -(2**22)])
        kind_of = np.uint16 if mode == "I;16" else np.int32
        image = Image.fromarray((pixels[..., 0].astype(np.int64) * scale).astype(kind_of))
    else:
        image = image.convert(mode) if mode != "LAB" else Image.merge("LAB", image.split())
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def truncated(dice: random.Random) -> bytes:
    """Cut anywhere."""
    data = encode(dice)
    return data[: dice.randrange(len(data))]


def flipped(dice: random.Random) -> bytes:
    """A few bits turned."""
    data = bytearray(encode(dice))
    for _ in range(dice.choice([1, 4, 40])):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    return bytes(data)


def overwritten(dice: random.Random) -> bytes:
    """A piece replaced by zeros, ones, noise, or a piece of another image."""
    data, length = encode(dice), dice.choice([4, 64, 700])
    at = dice.randrange(len(data))
    new = dice.choice([bytes(length), b"\xff" * length, dice.randbytes(length), encode(dice)])
    return data[:at] + new[:length] + data[at + length :]


def other_format(dice: random.Random) -> bytes:
    """A sound image of any format, under any suffix."""
    return encode(dice, dice.choice(list(FORMATS)))


def exif(dice: random.Random) -> bytes:
    """Wrong orientations, and EXIF data that are none."""
    wrong = Image.Exif()
    wrong[0x0112] = dice.choice([0, 9, 65535, "abc", 1.5, (3, 6)])
    blocks = [b"Exif\0\0" + dice.randbytes(60), b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(30)]
    try:
        blocks.append(wrong.tobytes())
    except Exception:  # Pillow itself refuses to write some
        blocks.append(b"")
    return encode(dice, dice.choice(["JPEG", "PNG", "WEBP"]), exif=dice.choice(blocks))


def deep(dice: random.Random) -> bytes:
    """16 and 32 bits, floats, inks and palettes."""
    return encode(dice, dice.choice(["TIFF", "TIFF", "PNG"]))


def huge_header(dice: random.Random) -> bytes:
    """A small file that says it is huge."""
    side = dice.choice([20_000, 65_535])
    kind = dice.choice(["PNG", "JPEG", "GIF", "BMP"])
    data = bytearray(encode(dice, kind))
    if kind == "PNG":
        data[16:24] = struct.pack(">II", side * 50, side * 50)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif kind == "JPEG":
        at = max(data.find(marker) for marker in (b"\xff\xc0", b"\xff\xc2"))
        data[at + 5 : at + 9] = struct.pack(">HH", side, side)
    elif kind == "GIF":
        data[6:10] = struct.pack("<HH", side, side)
    else:
        data[18:26] = struct.pack("<ii", side, dice.choice([side, -side, -(2**31)]))
    return bytes(data)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(dice: random.Random) -> bytes:
    """A small file that is huge: pixels, texts, colour profiles, frames, or a TIFF in a circle."""
    return dice.choice([_many_pixels, _long_text, _many_frames, _circle])(dice)


def _png(side: int, *chunks: bytes) -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + _chunk(b"IEND", b"")


def _many_pixels(dice: random.Random) -> bytes:
    side = dice.choice([9_000, 30_000])
    body = zlib.compressobj(9)
    rows = b"".join(body.compress(bytes(side + 1)) for _ in range(side)) + body.flush()
    return _png(side, _chunk(b"IDAT", rows))


def _long_text(dice: random.Random) -> bytes:
    kind, start = dice.choice([(b"zTXt", b"a\0\0"), (b"iCCP", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0")])
    text = _chunk(kind, start + zlib.compress(bytes(2**27), 9))
    return _png(40, text, _chunk(b"IDAT", zlib.compress(bytes(41 * 40))))


def _many_frames(dice: random.Random) -> bytes:
    frames = [Image.new("L", (64, 64), place % 250) for place in range(400)]
    file = io.BytesIO()
    frames[0].save(file, dice.choice(["GIF", "WEBP"]), save_all=True, append_images=frames[1:])
    return file.getvalue()


def _circle(_: random.Random) -> bytes:
    return b"II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 0x8769, 4, 1, 8, 8)


def put_node(dice: random.Random, path: Path) -> None:
    """Something else than a regular file of reasonable size and name."""
    makers: list[Callable[[Path], object]] = [
        os.mkfifo, os.mkdir, lambda p: p.symlink_to("nowhere"), lambda p: p.symlink_to(p.name),
        lambda p: p.symlink_to("/dev/zero"), lambda p: p.symlink_to("/dev/tty"), _socket,
        lambda p: os.truncate(os.open(p, os.O_CREAT | os.O_WRONLY), 2**36),
    ]  # fmt: skip
    dice.choice(makers)(path)


def _socket(path: Path) -> None:
    short = Path(f"/tmp/torture_socket_{os.getpid()}")  # a socket's own path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(short))
    short.rename(path)


MAKERS: dict[str, tuple[int, Callable[[random.Random], bytes] | None]] = {  # with their weights
    "truncated": (24, truncated),
    "flipped bits": (24, flipped),
    "overwritten": (18, overwritten),
    "another format": (10, other_format),
    "no image": (8, lambda dice: dice.choice(NO_IMAGES)),
    "EPS": (3, lambda dice: dice.choice(EPSES)),
    "wrong EXIF": (5, exif),
    "deep pixels": (6, deep),
    "huge header": (5, huge_header),
    "bomb": (2, bomb),
    "no regular file": (4, None),
    "odd name": (3, truncated),
}
ODD_NAMES = ("a\tb", "a\nb", "$x^2$", "caf\udce9", "<b>", "-rf", "a" * 180, "%s{0}")
IS_BAD = {"EPS", "no regular file"}  # never decoded


def write_image(case: str, dice: random.Random, folder: Path, number: int) -> Path:
    """One image of a case, by a number that parts the names."""
    odd = f"{dice.choice(ODD_NAMES)}_" if case == "odd name" else ""
    path = folder / case / f"{odd}{number}{dice.choice(SUFFIXES)}"
    path.parent.mkdir(parents=True, exist_ok=True)
    maker = MAKERS[case][1]
    if maker is None:
        put_node(dice, path)
    else:
        path.write_bytes(maker(dice))
    return path


def read_fault(source: ImageSource, path: str, case: str) -> str:
    """Why an image is neither decoded nor reported; "" if it is."""
    small, whole = source.read_resized(path, 32), source.read(path)
    if (
        small.shape != (32, 32, 3)
        or whole.ndim != 3
        or {small.dtype, whole.dtype} != {np.dtype("u1")}
    ):
        return f"other pixels than expected: {small.shape}, {whole.shape}, {whole.dtype}"
    is_reported = path in source.unreadable
    is_grey = whole.shape == (256, 256, 3) and (whole == 128).all()
    if is_grey != is_reported:
        return "grey, but not reported" if is_grey else "decoded, but reported"
    return "" if is_reported or case not in IS_BAD else "decoded, though it is none of our images"


def run(generator: np.random.Generator, folder: Path, share: float) -> Iterator[Outcome]:
    """Every image through the reader, one after the other, then all of them through import."""
    dice = random.Random(int(generator.integers(2**62)))
    total = max(len(MAKERS), round(share * IMAGES))
    weights = [weight for weight, _ in MAKERS.values()]
    cases = [*MAKERS, *dice.choices(list(MAKERS), weights, k=total - len(MAKERS))]
    root = folder / "photos"
    paths = [
        str(write_image(case, dice, root, number).relative_to(root))
        for number, case in enumerate(cases)
    ]
    shutil.copy(__file__, root / "EPS" / "note.txt")
    source = ImageSource(root)

    def fault(place: int) -> str:
        return read_fault(source, paths[place], cases[place])

    for case, text in zip(cases, each_apart(fault, range(total), seconds=20), strict=True):
        yield Outcome(case, text)

    def take(say: Say) -> None:
        table = import_photos(root, folder / "imported").set_index("path")
        for place, path in enumerate(paths):
            shown = os.fsencode(path).decode("utf-8", "backslashreplace")
            found = table.loc[[shown]] if shown in table.index else []
            if (root / path).is_dir():  # an empty folder need not be listed
                say("")
            elif len(found) != 1:
                say(f"{cases[place]}: neither taken nor listed")
            elif bool(found["id"].iloc[0]) == bool(found["problem"].iloc[0]):
                say(f"{cases[place]}: both or neither of id and problem")
            else:
                is_wrong = found["id"].iloc[0] and cases[place] in IS_BAD
                say(f"{cases[place]}: taken as an image" if is_wrong else "")

    for text in apart(take, seconds=120):
        yield Outcome("import", text)
