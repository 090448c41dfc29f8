"""Weight files: reading them, fitting them to a network, and reporting what fitted.

No pickle is executed. A file that hardly fits is refused: training would silently start from random
weights.
"""

import argparse
import collections
import contextlib
import datetime
import pathlib
import re
import sys
import types
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import nn

# What torch.compile, FSDP and activation checkpoints put between the names of parts.
WRAPPED = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
AVERAGED = re.compile(r"(^|[._])(ema|swa|averaged?|teacher)([._]|$)")
# How files begin, in lower case, that end in .pth or .safetensors by mistake.
_OTHER_FILES = {
    b"version https://git-lfs": "a Git LFS pointer; fetch the file itself with git lfs pull",
    b"<": "a web page; download the file itself",
    b"{": "JSON; give the weight file that belongs to it",
    b"\x1f\x8b": "a compressed archive; unpack it",
    b"\x89hdf": "an HDF5 file; convert it to .safetensors",
    b"\x93numpy": "a NumPy array; convert it to .safetensors",
}


@dataclass(frozen=True)
class WeightReport:
    """Which weights of a file reached the network, by the network's names (else the file's)."""

    matched: tuple[str, ...]
    missing: tuple[str, ...]  # from the file
    unexpected: tuple[str, ...]  # in the file
    wrong_shape: tuple[str, ...]

    def __str__(self) -> str:
        """One line for a log: counts, and the first names of what did not fit."""
        parts = [f"{len(self.matched)} matched"]
        for what in ("missing", "unexpected", "wrong_shape"):
            names = getattr(self, what)
            examples = f" ({', '.join(names[:3])}{', …' * (len(names) > 3)})" if names else ""
            parts.append(f"{len(names)} {what.replace('_', ' ')}{examples}")
        return ", ".join(parts)


def read_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a weight file onto the CPU, without what they are wrapped in.

    Of several networks in one file the largest is taken, and of two of one size the averaged one
    (`model_ema` before `model`), as timm does.
    """
    content, _ = read_file(path)
    found = _largest(content)
    if not found:
        raise ValueError(
            f"expected named tensors in {path}, found {type(content).__name__} without any; "
            "save the network's state_dict() instead"
        )
    return {WRAPPED.sub("", name): value for name, value in found.items()}


def read_file(path: str | Path) -> tuple[Any, dict[str, str]]:
    """The content of a safetensors or torch file, and the metadata of a safetensors file."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"expected a weight file at {path}, found none; check `weights`")
    with path.open("rb") as file:
        head = file.read(512)
    # A safetensors file begins with eight bytes, of which some are zero, and a brace.
    is_safetensors = head[8:9] == b"{" and b"\0" in head[:8]
    is_torch = head.startswith((b"PK\x03\x04", b"\x80"))
    try:
        if is_safetensors:
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                return tensors, file.metadata() or {}
        if is_torch:
            # An open file, because torch goes by the end of a name.
            with torch.serialization.safe_globals(_plain_values()), path.open("rb") as file:
                return torch.load(file, map_location="cpu", weights_only=True), {}
    except Exception as error:  # torch and safetensors raise nearly anything on a damaged file
        found = _why_unreadable(path, error)
    else:
        found = _kind_of_file(head)
    raise ValueError(f"expected .safetensors or torch weights in {path}, found {found}")


def _kind_of_file(head: bytes) -> str:
    if not head:
        return "an empty file; fetch it again"
    if head[257:262] == b"ustar":
        return "a tar archive; unpack it"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    known = (kind for start, kind in _OTHER_FILES.items() if text.startswith(start))
    return next(known, f"a file that begins {head[:24]!r}; convert the file, or fetch it again")


def _why_unreadable(path: Path, error: Exception) -> str:
    # Messages of torch advise to execute the pickle, which is unsafe for a downloaded file.
    name = re.search(r"GLOBAL ([\w.]+)|(?:got|function) <[\w ]*'?([\w.]+)", str(error))
    if name:
        return (
            f"a pickle that needs {name[1] or name[2]}, and pickles are not executed; "
            "save the network's state_dict() alone"
        )
    if "TorchScript" in str(error):
        return "a TorchScript archive; save the network's state_dict() instead"
    with contextlib.suppress(zipfile.BadZipFile, OSError, ValueError):
        names = zipfile.ZipFile(path).namelist()
        if not any(name.endswith("data.pkl") for name in names):
            return f"a zip archive of {', '.join(names[:2]) or 'nothing'}; unpack or convert it"
    return f"a cut or damaged file ({type(error).__name__}); fetch it again"


def _plain_values() -> list[Any]:
    """Harmless classes that training scripts save beside the weights, under old names too."""
    arrays = (np._core.multiarray.scalar, np._core.multiarray._reconstruct)
    paths = ((pathlib.PurePosixPath, "PosixPath"), (pathlib.PureWindowsPath, "WindowsPath"))
    cores, path_modules = ("core", "_core"), ("pathlib", "pathlib._local")
    return [
        *(argparse.Namespace, types.SimpleNamespace, frozenset),
        (lambda *_: {}, "collections.defaultdict"),  # torch does not fill a defaultdict
        *(datetime.datetime, datetime.date, datetime.timedelta, torch.torch_version.TorchVersion),
        *(np.ndarray, np.dtype, *(getattr(np.dtypes, name) for name in np.dtypes.__all__)),
        *(bool, int, float, str, bytes, list, dict, tuple, slice, range),
        *((made, f"numpy.{core}.multiarray.{made.__name__}") for made in arrays for core in cores),
        *((kind, f"{module}.{name}") for kind, name in paths for module in path_modules),
        *((kind, f"{module}.{kind.__name__}") for kind, _ in paths for module in path_modules),
    ]


def _largest(content: Any) -> dict[str, torch.Tensor]:
    """The tensors of the mapping that has most of them, at any depth; averaged ones first."""
    best, most = {}, (0, False)
    waiting, seen = [("", content)], set()
    while waiting:
        wrapper, mapping = waiting.pop()
        if not isinstance(mapping, Mapping) or id(mapping) in seen:
            continue
        seen.add(id(mapping))
        named = {name: value for name, value in mapping.items() if isinstance(name, str)}
        tensors = {n: value for n, value in named.items() if isinstance(value, torch.Tensor)}
        size = (len(tensors), bool(AVERAGED.search(wrapper)))
        if size > most:
            best, most = tensors, size
        waiting += reversed([(f"{wrapper}.{name}", value) for name, value in named.items()])
    return best


def load_weights(
    module: nn.Module, weights: Mapping[str, torch.Tensor], *, origin: str = "the weight file"
) -> WeightReport:
    """Copy into `module` every tensor that fits by shape and name, under the best prefix.

    Where more fits after timm's own translation of published files, that is taken: it knows other
    names of a network's parts, and resamples position embeddings to the module's image size.
    Batch counters (`num_batches_tracked`), which old files lack, are copied but not reported.

    Raises:
        ValueError: Less than half of the network's weights fit, more than a tenth are of another
            shape, or a tensor is NaN or quantised.
    """
    wanted = module.state_dict()
    weights = _translated(module, wanted, weights)
    found = {name: weights[name] for name in wanted if name in weights}
    fitting = _fitting(wanted, weights)
    report = WeightReport(
        matched=_reported(fitting),
        missing=_reported(wanted.keys() - found.keys()),
        unexpected=_reported(weights.keys() - found.keys()),
        wrong_shape=_reported(found.keys() - fitting.keys()),
    )
    count = len(_reported(wanted))
    expected = f"expected the {count} weights of the network in {origin}"
    advice = "choose the backbone that the file belongs to"
    if 2 * len(report.matched) < max(count, 1):
        raise ValueError(
            f"{expected}, such as {_examples(wanted)}, found {len(report.matched)} that fit among "
            f"{_examples(weights)}; {advice}"
        )
    if 10 * len(report.wrong_shape) > max(count, 10):  # a patch or position embedding may differ
        first = report.wrong_shape[0]
        raise ValueError(
            f"{expected}, found {len(report.wrong_shape)} of another shape, such as "
            f"{_examples({first: found[first]})} instead of {tuple(wanted[first].shape)}; {advice}"
        )
    check_weights({n: v for n, v in fitting.items() if wanted[n].is_floating_point()}, origin)
    module.load_state_dict(fitting, strict=False)
    return report


def _translated(
    module: nn.Module, wanted: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]
) -> Mapping[str, torch.Tensor]:
    """`weights` without the best prefix, or what timm's family of `module` makes of these."""
    prefix = _best_prefix(wanted, weights)
    own = {n.removeprefix(prefix): v for n, v in weights.items() if n.startswith(prefix)}
    plain = {n: v for n, v in weights.items() if not n.startswith(prefix)} | own
    if len(_fitting(wanted, plain)) == len(wanted):
        return plain
    try:
        translate = sys.modules[type(module).__module__].checkpoint_filter_fn
        return max(plain, translate(own, module), key=lambda found: len(_fitting(wanted, found)))
    except Exception:  # there is none, or it raises nearly anything for files of others
        return plain


def _fitting(
    wanted: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    same = wanted.keys() & weights.keys()
    return {name: weights[name] for name in same if weights[name].shape == wanted[name].shape}


def check_weights(weights: Mapping[str, torch.Tensor], origin: str) -> None:
    """Refuse (ValueError) tensors of other than plain, finite floats; batch counters pass."""
    for name in _reported(weights):
        value = weights[name]
        is_plain = value.layout == torch.strided and not value.is_meta
        if not (is_plain and value.is_floating_point() and value.element_size() > 1):
            found = str(value.dtype if is_plain else value.layout).removeprefix("torch.")
            raise ValueError(
                f"expected floating-point weights in {origin}, found {found} in {name}; give the "
                "file from before it was quantised or packed"
            )
        if not value.isfinite().all():
            raise ValueError(
                f"expected finite weights in {origin}, found NaN or infinity in {name}; take an "
                "earlier checkpoint"
            )


def _best_prefix(wanted: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]) -> str:
    """Under which most names and shapes fit; the averaged network's where two fit as well."""
    fits: collections.Counter[str] = collections.Counter()
    for name, value in weights.items():
        for start in (0, *(dot.end() for dot in re.finditer(r"\.", name))):
            target = wanted.get(name[start:])
            if target is not None and target.shape == value.shape:
                fits[name[:start]] += 1
    return max(fits, key=lambda prefix: (fits[prefix], bool(AVERAGED.search(prefix))), default="")


def _reported(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(n for n in names if not n.endswith("num_batches_tracked")))


def _examples(weights: Mapping[str, torch.Tensor]) -> str:
    names = _reported(weights)[:2]
    return ", ".join(f"{name} {tuple(weights[name].shape)}" for name in names) or "no tensors"
