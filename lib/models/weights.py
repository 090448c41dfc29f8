"""Weight files: reading them, fitting them to a network, and telling what fitted.

Pretrained networks come with names of their own: inside `state_dict` or `model_ema`, prefixed with
`module.` or `model.backbone.`, with a classifier that we do not have. `read_weights` takes the
tensors out of whatever holds them and never executes a pickle; `load_weights` finds the prefix
under which most names fit, loads what fits and returns a `WeightReport`. It refuses a file of which
less than half fits, because training would then silently start from random weights."""

import argparse
import collections
import contextlib
import datetime
import pathlib
import re
import types
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import nn

# Modules whose names changed since a file was written: NumPy 2 and Python 3.13 moved them.
CORES, PATH_MODULES = ("core", "_core"), ("pathlib", "pathlib._local")
# What torch.compile, FSDP and activation checkpoints put between the names of parts.
WRAPPED = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
AVERAGED = re.compile(r"(^|[._])(ema|swa|averaged?|teacher)([._]|$)")
# What files are that end in .pth or .safetensors by mistake, by how they begin.
_KINDS = {
    b"version https://git-lfs": "a Git LFS pointer; fetch the file itself with git lfs pull",
    b"<": "a web page; download the file itself",
    b"{": "JSON; give the weight file that belongs to it",
    b"[": "JSON; give the weight file that belongs to it",
    b"\x1f\x8b": "a compressed archive; unpack it",
    b"bzh": "a compressed archive; unpack it",
    b"\xfd7zxz": "a compressed archive; unpack it",
    b"7z\xbc\xaf": "a compressed archive; unpack it",
    b"rar!": "a compressed archive; unpack it",
    b"\x28\xb5\x2f\xfd": "a compressed archive; unpack it",
    b"\x89hdf": "an HDF5 file; convert it to .safetensors",
    b"\x93numpy": "a NumPy array; convert it to .safetensors",
}


@dataclass(frozen=True)
class WeightReport:
    """Which weights of a file reached the network, by the network's names (else the file's).

    Attributes:
        matched: loaded.
        missing: wanted by the network, absent from the file: still at their initial values.
        unexpected: in the file, unknown to the network: ignored.
        wrong_shape: known to both with different shapes: still at their initial values.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    wrong_shape: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Whether every weight of the network came from the file."""
        return not self.missing and not self.wrong_shape

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

    Raises:
        ValueError: no such file, another kind of file, no tensors in it, or a pickle that needs
            more than tensors and plain values.
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
    """What a safetensors or torch file holds, and the notes of a safetensors file.

    The contents decide which of the two it is, not the name. Nothing in a pickle is executed.

    Raises:
        ValueError: as `read_weights`.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"expected a weight file at {path}, found none; check `weights`")
    with path.open("rb") as file:
        head = file.read(512)
    # A safetensors file begins with eight bytes, of which some are zero, and a brace.
    is_safetensors = head[8:9] == b"{" and b"\0" in head[:8]
    if not is_safetensors and not head.startswith((b"PK\x03\x04", b"\x80")):
        raise _refused(path, _kind(head))
    try:
        return _read_safetensors(path) if is_safetensors else (_read_torch(path), {})
    except Exception as error:  # torch and safetensors raise nearly anything on a damaged file
        raise _refused(path, _why(path, error)) from None


def _refused(path: Path, found: str) -> ValueError:
    return ValueError(f"expected .safetensors or torch weights in {path}, found {found}")


def _kind(head: bytes) -> str:
    """What a file is that is no weight file."""
    if not head:
        return "an empty file; fetch it again"
    if head[257:262] == b"ustar":
        return "a tar archive; unpack it"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    known = next((what for magic, what in _KINDS.items() if start.startswith(magic)), None)
    return known or f"a file that begins {head[:24]!r}; convert the file, or fetch it again"


def _why(path: Path, error: Exception) -> str:
    """Why torch or safetensors could not read a file."""
    # Their messages advise to execute the pickle, which nobody should do for a file from elsewhere.
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


def _read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def _read_torch(path: Path) -> Any:
    # An open file, because torch goes by the end of a name.
    with torch.serialization.safe_globals(_plain_values()), path.open("rb") as file:
        return torch.load(file, map_location="cpu", weights_only=True)


def _plain_values() -> list[Any]:
    """Classes without effects that training scripts leave beside the weights, with old names."""
    arrays = (np._core.multiarray.scalar, np._core.multiarray._reconstruct)
    paths = ((pathlib.PurePosixPath, "PosixPath"), (pathlib.PureWindowsPath, "WindowsPath"))
    return [
        *(argparse.Namespace, types.SimpleNamespace, frozenset),
        (_new_dict, "collections.defaultdict"),
        *(datetime.datetime, datetime.date, datetime.timedelta, torch.torch_version.TorchVersion),
        *(np.ndarray, np.dtype, *(getattr(np.dtypes, name) for name in np.dtypes.__all__)),
        *(bool, int, float, str, bytes, list, dict, tuple, slice, range),
        *((made, f"numpy.{core}.multiarray.{made.__name__}") for made in arrays for core in CORES),
        *((kind, f"{module}.{name}") for kind, name in paths for module in PATH_MODULES),
        *((kind, f"{module}.{kind.__name__}") for kind, _ in paths for module in PATH_MODULES),
    ]


def _new_dict(*_: Any) -> dict[Any, Any]:
    """What a defaultdict is read as: torch fills no other kind of dictionary."""
    return {}


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
    """Copy into `module` every tensor that fits by name (under the best prefix) and shape.

    Batch counters (`num_batches_tracked`) are copied but never reported: old files lack them and
    nothing depends on them.

    Args:
        module: receives the weights.
        weights: from `read_weights`.
        origin: what messages call them.

    Raises:
        ValueError: less than half of the network's weights fit, more than a tenth are of another
            shape, or a tensor is NaN or quantised.
    """
    wanted = module.state_dict()
    prefix = _best_prefix(wanted, weights)
    found = {name: weights[prefix + name] for name in wanted if prefix + name in weights}
    fitting = {name: value for name, value in found.items() if value.shape == wanted[name].shape}
    used = {prefix + name for name in found}
    report = WeightReport(
        matched=_reported(fitting),
        missing=_reported(wanted.keys() - found.keys()),
        unexpected=_reported(weights.keys() - used),
        wrong_shape=_reported(found.keys() - fitting.keys()),
    )
    count = len(_reported(wanted))
    if 2 * len(report.matched) < max(count, 1):
        raise ValueError(
            f"expected the {count} weights of the network in {origin}, such as {_some(wanted)}, "
            f"found {len(report.matched)} that fit among {_some(weights)}; choose the backbone "
            "that the file belongs to"
        )
    if 10 * len(report.wrong_shape) > max(count, 10):  # a patch or position embedding may differ
        first = report.wrong_shape[0]
        raise ValueError(
            f"expected the {count} weights of the network in {origin}, found "
            f"{len(report.wrong_shape)} of another shape, such as {first} {_shape(found[first])} "
            f"instead of {_shape(wanted[first])}; choose the backbone that the file belongs to"
        )
    check_weights({n: v for n, v in fitting.items() if wanted[n].is_floating_point()}, origin)
    module.load_state_dict(fitting, strict=False)
    return report


def check_weights(weights: Mapping[str, torch.Tensor], origin: str) -> None:
    """Refuse tensors that are no plain, finite floating-point numbers; batch counters pass.

    Raises:
        ValueError: naming the first.
    """
    for name, value in weights.items():
        if name.endswith("num_batches_tracked"):
            continue
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


def _reported(names: object) -> tuple[str, ...]:
    return tuple(sorted(n for n in names if not n.endswith("num_batches_tracked")))


def _some(weights: Mapping[str, torch.Tensor]) -> str:
    examples = [f"{name} {_shape(weights[name])}" for name in _reported(weights)[:2]]
    return ", ".join(examples) or "no tensors"


def _shape(value: torch.Tensor) -> tuple[int, ...]:
    return tuple(value.shape)
