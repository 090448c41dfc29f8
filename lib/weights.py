"""Weight files: reading them, fitting them to a network, and telling what fitted.

Pretrained networks come with names of their own: wrapped in `state_dict`, prefixed with `module.`
or `backbone.`, with a classifier that we do not have. `load_weights` finds the prefix under which
most names fit, loads what fits and returns a `WeightReport`; it refuses a file of which nothing
fits, because training would then silently start from random weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

# Wrappers seen in published files: DataParallel, timm and detection code, and our own checkpoints.
PREFIXES = ("", "module.", "model.", "trunk.", "backbone.", "base.", "encoder.", "model.trunk.")
WRAPPERS = ("state_dict", "model_state_dict", "model", "state_dict_ema")


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
    """Read the tensors of a .safetensors, .pth, .pt or .bin file onto the CPU, without wrappers.

    Raises:
        ValueError: no such file, another kind of file, or no tensors in it.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"expected a weight file at {path}, found none; check `weights`")
    if path.suffix == ".safetensors":
        return load_file(path)
    if path.suffix not in {".pth", ".pt", ".bin"}:
        raise ValueError(
            f"expected .safetensors, .pth, .pt or .bin weights, found {path.name}; convert the file"
        )
    content = torch.load(path, map_location="cpu", weights_only=True)
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        raise ValueError(
            f"expected named tensors in {path.name}, found {type(content).__name__}; "
            "save the network's state_dict() instead"
        )
    return {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}


def load_weights(module: nn.Module, weights: Mapping[str, torch.Tensor]) -> WeightReport:
    """Copy into `module` every tensor that fits by name (under the best prefix) and shape.

    Batch counters (`num_batches_tracked`) are copied but never reported: old files lack them and
    nothing depends on them.

    Raises:
        ValueError: not one tensor fits.
    """
    wanted = module.state_dict()
    prefix = max(PREFIXES, key=lambda p: sum(p + name in weights for name in wanted))
    found = {name: weights[prefix + name] for name in wanted if prefix + name in weights}
    fitting = {name: value for name, value in found.items() if value.shape == wanted[name].shape}
    used = {prefix + name for name in found}
    report = WeightReport(
        matched=_reported(fitting),
        missing=_reported(wanted.keys() - found.keys()),
        unexpected=_reported(weights.keys() - used),
        wrong_shape=_reported(found.keys() - fitting.keys()),
    )
    if not report.matched:
        raise ValueError(
            f"expected weights named and shaped like {_some(wanted)}, found {_some(weights)} and "
            "none that fits; choose the trunk that the file belongs to"
        )
    module.load_state_dict(fitting, strict=False)
    return report


def _reported(names: object) -> tuple[str, ...]:
    return tuple(sorted(n for n in names if not n.endswith("num_batches_tracked")))


def _some(weights: Mapping[str, torch.Tensor]) -> str:
    examples = [f"{name} {tuple(weights[name].shape)}" for name in _reported(weights)[:2]]
    return ", ".join(examples) or "an empty file"
