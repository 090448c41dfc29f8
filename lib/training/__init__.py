"""Losses, samplers, augmentation, schedules, by name, and the training stage."""

from lib.training.augmentation import AUGMENTATIONS, Augment, augmentation_examples, corner_cutmix
from lib.training.losses import LOSSES
from lib.training.samplers import SAMPLERS
from lib.training.schedules import SCHEDULES
from lib.training.stage import CHECKPOINT, check_stage, stage_key, train
