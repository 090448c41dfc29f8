"""Losses, samplers, augmentation, schedules, by name, and the training stage."""

from importlib import import_module
from typing import Any

_NAMES = {
    "augmentation": ("AUGMENTATIONS", "Augment", "augmentation_examples", "corner_cutmix"),
    "losses": ("LOSSES",),
    "samplers": ("SAMPLERS",),
    "schedules": ("SCHEDULES",),
    "stage": ("CHECKPOINT", "check_stage", "stage_key", "train"),
}


def __getattr__(name: str) -> Any:
    """Import the module of a name, and with it torch, when it is first needed."""
    for module, names in _NAMES.items():
        if name in names:
            return getattr(import_module(f"lib.training.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
