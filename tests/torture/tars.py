"""Hostile archives: whatever is in one, its sound images and those of the others are found.

A sound image that is not found, and any damage, must be told in a warning that names the archive.
"""

import io
import os
import tarfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lib.data.tar_images import ImageStore
from tests.torture.harness import Outcome, each_apart

BLOCK = 512
END = bytes(2 * BLOCK)
SIZE = slice(124, 136)


@dataclass
class Archive:
    """A hostile archive and what may be expected of it."""

    data: bytes = b""
    wanted: dict[str, bytes] = field(default_factory=dict)  # must be found
    sound: dict[str, bytes] = field(default_factory=dict)  # whole, but behind damage
    odd: set[str] = field(default_factory=set)  # may be found, with whatever content
    is_damaged: bool = False


class Maker:
    """Makes members of random images with names of their own."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator, self.count = generator, 0

    def images(self, number: int) -> dict[str, bytes]:
        """Id to content of new images."""
        found = {}
        for _ in range(number):
            self.count += 1
            length = int(self.generator.integers(1, 3000))
            found[f"{self.count:03x}{self.count:013x}"] = self.generator.bytes(length)
        return found


def member(
    name: str | bytes,
    data: bytes = b"",
    *,
    kind: bytes = tarfile.REGTYPE,
    size: bytes = b"",
    link: str = "",
    checksum: bytes = b"",
) -> bytes:
    """A header and its padded data, with any field wrong."""
    info = tarfile.TarInfo("x")
    info.size, info.type, info.linkname = len(data), kind, link
    header = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    text = name if isinstance(name, bytes) else name.encode()
    header[:100] = text[:100].ljust(100, b"\0")
    if size:
        header[SIZE] = size
    header[148:156] = b" " * 8
    header[148:156] = checksum or b"%06o\0 " % sum(header)
    return bytes(header) + data + bytes(-len(data) % BLOCK)


def members(images: dict[str, bytes]) -> bytes:
    """Sound members, named as GLDv2's."""
    return b"".join(
        member(f"{name[0]}/{name[1]}/{name[2]}/{name}.jpg", data) for name, data in images.items()
    )


def number(value: int) -> bytes:
    """A size in base 256, the only form for what is negative or large."""
    return (value % 2**96 | 1 << 95 if value >= 0 else value % 2**96).to_bytes(12, "big")


def pax(records: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    """An extended header with the given content."""
    return member("pax", records, kind=kind)


def record(text: bytes) -> bytes:
    """One record of an extended header, its own length first."""
    length = len(text) + 3
    while len(b"%d %s\n" % (length, text)) != length:
        length += 1
    return b"%d %s\n" % (length, text)


def hostile(generator: np.random.Generator) -> dict[str, Archive | str]:
    """The archives by name; a text is what lies there instead of an archive."""
    make = Maker(generator)
    cases: dict[str, Archive | str] = {}

    def between(
        name: str, part: bytes, *, costs_all: bool = False, odd: set = frozenset(), **facts
    ):
        """Put `part` between sound members; those behind must be found, unless it costs them."""
        before, after = make.images(3), make.images(3)
        wanted, sound = (before, after) if costs_all else (before | after, {})
        data = members(before) + part + members(after) + END
        cases[name] = Archive(data, wanted, sound, set(odd), **facts)

    between("sound", b"")
    filler = generator.bytes(700)
    for name, size in {"-512": -512, "-1": -1, "-2**70": -(2**70)}.items():
        between(f"size {name}", member("bad.jpg", size=number(size)), is_damaged=True)
    wrong = {"costs_all": True, "is_damaged": True}
    between("size -512 and data", member("bad.jpg", filler, size=number(-512)), **wrong)
    between("size 2**80", member("bad.jpg", size=number(2**80)), **wrong)
    between("size beyond the end", member("bad.jpg", size=b"00077777777\0"), **wrong)
    between("size is text", member("bad.jpg", size=b"hello world\0"), **wrong)
    between("wrong checksum", member("bad.jpg", filler, checksum=b"000001\0 "), **wrong)
    between("garbage block", generator.bytes(BLOCK), **wrong)
    between("garbage out of step", generator.bytes(777), **wrong)
    between("end in the middle", END, costs_all=True)
    for name, records in {
        "size -5": record(b"size=-5"),
        "size is text": record(b"size=x"),
        "length lies": b"99999999 path=a.jpg\n",
    }.items():
        between(f"pax {name}", pax(records) + member("bad.jpg", b"x"), odd={"bad"}, costs_all=True)
    between("pax name no UTF-8", pax(record(b"path=\xff\xfe.jpg")) + member("bad.jpg", b"x"))
    between("name no UTF-8", member(b"0/\xff\xfe\x80.jpg", filler))
    links = (tarfile.SYMTYPE, tarfile.LNKTYPE)
    between("links", b"".join(member("lnk.jpg", kind=kind, link="/etc/passwd") for kind in links))
    devices = (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, b"Z")
    between("devices", b"".join(member("dev.jpg", kind=kind) for kind in devices), odd={"dev"})
    outside = ("../../../../tmp/outside.jpg", "/etc/absolute.jpg")
    odd = {"outside", "absolute"}
    between("names outside", b"".join(member(name, filler) for name in outside), odd=odd)
    names = ("ab.jpg", "a b c.jpg", ".jpg", "日本語.jpg", "a,b.jpg", "a\nb.jpg", "x/", "a.txt")
    between("names that are no ids", b"".join(member(name, filler) for name in names))
    sparse = member("spa.jpg", filler, kind=tarfile.GNUTYPE_SPARSE)
    between("sparse", sparse, odd={"spa"})
    chain = pax(record(b"comment=x")) * 3000
    between("3,000 extended headers", chain + member("bad.jpg", b"x"), odd={"bad"}, costs_all=True)
    between("empty member", member("nil.jpg"), odd={"nil"})

    twice = make.images(2)
    copies = members({name: b"another" for name in twice})
    cases["duplicates"] = Archive(members(twice) + copies + END, twice)
    for name, form in {"GNU": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}.items():
        cases[f"long names, {name}"] = _long_names(make.images(3), form)
    for name, place in {"a header": 200, "data": BLOCK + 90}.items():
        before = make.images(3)
        last = member("cut.jpg", generator.bytes(900))
        cases[f"cut in {name}"] = Archive(members(before) + last[:place], before, is_damaged=True)
    before = make.images(3)
    cases["cut between members"] = Archive(members(before), before, is_damaged=True)
    nothing = {
        "empty": b"",
        "a page": b"<!DOCTYPE html><p>Not found",
        "noise": make.generator.bytes(9999),
    }
    cases |= {name: Archive(data, is_damaged=True) for name, data in nothing.items()}
    cases["no members"] = Archive(END)
    return cases | {"a FIFO": "fifo", "a folder": "folder", "a dangling link": "link"}


def _long_names(images: dict[str, bytes], form: int) -> Archive:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for name, data in images.items():
            info = tarfile.TarInfo(f"{'long/' * 60}{name}.jpg")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return Archive(file.getvalue(), images)


def read_fault(root: Path, archive: Archive, neighbour: dict[str, bytes]) -> str:
    """What is wrong with how `root`, which has the archive and a sound one, is read."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ids = set(ImageStore(root).ids("train"))
    is_told = any("images_000.tar" in str(warning.message) for warning in caught)
    store = ImageStore(root)  # as the next process does
    wanted, known = archive.wanted | neighbour, archive.wanted | archive.sound | neighbour
    if lost := wanted.keys() - ids:
        return f"{len(lost)} of {len(wanted)} sound images are not found"
    if more := ids - known.keys() - archive.odd:
        return f"found images that are none: {sorted(more)[:3]}"
    if set(store.ids("train")) != ids:
        return "other ids when read again"
    path = "train/{0[0]}/{0[1]}/{0[2]}/{0}.jpg"
    if wrong := [i for i in ids & known.keys() if store.read(path.format(i)) != known[i]]:
        return f"{len(wrong)} images have other bytes"
    is_lossy = archive.is_damaged or not archive.sound.keys() <= ids
    return "nothing is said of the damage" if is_lossy and not is_told else ""


def run(generator: np.random.Generator, folder: Path, share: float) -> Iterator[Outcome]:
    """Every archive beside a sound one."""
    cases = list(hostile(generator).items())
    cases = cases[: max(3, round(share * len(cases)))]
    neighbour = Maker(generator)
    neighbour.count = 0xF00
    beside = neighbour.images(4)
    roots = []
    for place, (_, archive) in enumerate(cases):
        split = folder / f"{place}" / "train"
        split.mkdir(parents=True)
        roots.append(split.parent)
        (split / "images_001.tar").write_bytes(members(beside) + END)
        hard = split / "images_000.tar"
        if isinstance(archive, Archive):
            hard.write_bytes(archive.data)
        else:
            makers = {"fifo": os.mkfifo, "folder": os.mkdir, "link": lambda p: p.symlink_to("no")}
            makers[archive](hard)

    def fault(place: int) -> str:
        archive = cases[place][1]
        archive = archive if isinstance(archive, Archive) else Archive(is_damaged=True)
        return read_fault(roots[place], archive, beside)

    for (name, _), text in zip(
        cases, each_apart(fault, range(len(cases)), seconds=15), strict=True
    ):
        yield Outcome(name, text)
