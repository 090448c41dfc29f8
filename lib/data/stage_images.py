"""The images that a stage reads: that they are there, readable, and those of its last run.

A training or an embedding is finished for the images that lay there when it began. It is done again
when they changed, or when one that counted as grey can be read by now; it is refused when more than
a few per cent are missing or unreadable, because days would be spent on grey squares."""

import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from lib.artifacts import MANIFEST, fingerprint, mark_complete, read_manifest
from lib.data.images import SMALLEST, decode
from lib.data.tar_images import ImageStore, evenly_spread

SHARE, FEWEST = 0.05, 10  # unreadable images that are put up with: this share, and so many anyhow
SAMPLE = 2000  # images looked for before work starts
KEPT = 1000  # names of unreadable images that a manifest holds


def images_key(settings: str, store: ImageStore, paths: Sequence[str]) -> str:
    """The fingerprint of a stage's settings together with the images that it reads."""
    return fingerprint(settings, store.state(paths))


def work_left(
    what: str, folder: str | Path, settings: str, store: ImageStore, paths: Sequence[str]
) -> str:
    """The key (`images_key`) to finish `folder` with; "" if that is done already.

    Says so when nothing but the images changed since.

    Args:
        what: the stage's name, for messages.
        folder: of its result.
        settings: fingerprint of all that decides the result but the images.
        store: where the images are.
        paths: of all that it reads.

    Raises:
        ValueError: if too many of them are missing.
    """
    key, manifest = images_key(settings, store, paths), read_manifest(folder) or {}
    unreadable = manifest.get("unreadable_images", [])
    is_same = manifest.get("key") == _signature(key, unreadable)
    if is_same and not any(_is_readable(store, path) for path in unreadable):
        return ""
    if manifest.get("settings") == settings:
        signed = time.localtime((Path(folder) / MANIFEST).stat().st_mtime)
        then = time.strftime("%Y-%m-%d %H:%M", signed)
        print(f"{what}: images changed since {then}, so it is done again", flush=True)
    check_there(what, store, paths)
    return key


def check_there(what: str, store: ImageStore, paths: Sequence[str]) -> None:
    """Look for an evenly spread sample of images, and say how many are missing.

    Raises:
        ValueError: if none is there, or more than a few per cent are missing.
    """
    chosen = [paths[i] for i in evenly_spread(len(paths), SAMPLE)]
    missing = store.missing(chosen)
    if not missing:
        return
    if len(missing) == len(chosen) or len(missing) > _allowed(len(chosen)):
        raise ValueError(
            f"expected the images of {what} in {store.root}, found {len(missing):,} of "
            f"{len(chosen):,} looked for missing, the first {missing[0]}; check the data folder, "
            "and where its images were unpacked (data/README.md)"
        )
    share = len(missing) / len(chosen)
    print(
        f"{what}: {len(missing):,} of {len(chosen):,} images looked for are missing and count as "
        f"grey ({share:.1%}), first {missing[0]}",
        flush=True,
    )


def check_readable(what: str, root: str | Path, unreadable: Collection[str], count: int) -> None:
    """Refuse to go on when more than a few per cent of `count` images turned out unreadable.

    Raises:
        ValueError: naming the first of them.
    """
    if unreadable and (len(unreadable) == count or len(unreadable) > _allowed(count)):
        raise ValueError(
            f"expected the {count:,} images of {what} in {root} to be readable, found at least "
            f"{len(unreadable):,} that are not, the first {next(iter(unreadable))}; download them "
            "again"
        )


def sign(
    folder: str | Path,
    key: str,
    settings: str,
    unreadable: Collection[str],
    *,
    files: Sequence[str],
    **facts: Any,
) -> None:
    """`mark_complete` with what `work_left` compares: settings and images, grey ones by name."""
    names = sorted(unreadable)[:KEPT]
    facts |= {"settings": settings, "unreadable": len(unreadable)}
    facts |= {"unreadable_images": names} if names else {}
    mark_complete(folder, _signature(key, names), files=files, **facts)


def _signature(key: str, unreadable: Sequence[str]) -> str:
    """Another key where images were grey, so that what follows is done again once they are not."""
    return fingerprint(key, list(unreadable)) if unreadable else key


def _allowed(count: int) -> int:
    return max(FEWEST, int(SHARE * count))


def _is_readable(store: ImageStore, path: str) -> bool:
    try:
        decode(store.read(path), SMALLEST)
    except Exception:  # decoders raise OSError, SyntaxError, struct.error, ...
        return False
    return True
