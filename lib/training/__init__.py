"""Losses, samplers, augmentation, schedules, by name, and the training stage."""

from lib.environment import lazily

# With torch, which takes seconds to import.
__getattr__ = lazily(
    __name__,
    {
        "augmentation": ("AUGMENTATIONS", "Augment", "augmentation_examples", "corner_cutmix"),
        "losses": ("LOSSES",),
        "samplers": ("SAMPLERS", "images_per_epoch"),
        "schedules": ("SCHEDULES",),
        "stage": ("CHECKPOINT", "check_stage", "stage_key", "train"),
    },
)
