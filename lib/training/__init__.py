"""Losses, samplers, augmentation, schedules, and the training stage that puts them together."""

from lib.training.augmentation import Augment, corner_cutmix
from lib.training.stage import CHECKPOINT, stage_key, train

__all__ = ["CHECKPOINT", "Augment", "corner_cutmix", "stage_key", "train"]
