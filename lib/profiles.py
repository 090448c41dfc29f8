"""The named experiments: what `./run_all.sh PROFILE` does, as plain data.

A profile takes a recipe (`lib.recipes`: what to train, on which lists) and says where it lives, how
to clean and how to rerank. `smoke` and `mini` live in the miniature world, where every recipe has a
miniature relative, `photos` in a few thousand photographs, `full` in GLDv2.
"""

import dataclasses
from typing import Any

from lib.config import CleanConfig, Profile, Recipe, RerankConfig, WorldConfig, override
from lib.recipes import recipe

# Suspects go first, so the second pass may be generous with what is left.
CLEAN = CleanConfig(suspects=True, faces=True, relaxation=2.0)
# [21] votes by k-reciprocal similarity, asking the full list and the labelled index images.
GLR21_RERANK = RerankConfig(reciprocal=True, references="full+index")


def _mini() -> Profile:
    return _following(
        "glr20-resnet152-mini",
        name="mini",
        rerank=RerankConfig(reciprocal=True),
        clean=CLEAN,
        world=WorldConfig(),
        quick=0.25,
    )


def _smoke() -> Profile:
    small = _shortened(dataclasses.replace(_mini(), name="smoke"), epochs=2, size=48)
    world = WorldConfig(landmarks=20, raw_images=300, gallery_images=120, queries=30, image_size=64)
    return dataclasses.replace(small, world=world)


def _photos() -> Profile:
    return _following(
        "photos",
        name="photos",
        # Few images and classes: a right one lost counts, and a class cut in two is two poor ones.
        clean=dataclasses.replace(CLEAN, odds=4.0, split=False),
        rerank=RerankConfig(reciprocal=True),
    )


def _full() -> Profile:
    return _following("glr20-resnet152", name="full")


def _rerank(profile: Profile, chosen: Recipe) -> RerankConfig:
    """The profile's reranking, or [21]'s with its networks.

    Not in the miniature world, where the labelled index is the gallery itself: there it would tell
    what the gallery's labels are worth.
    """
    is_glr21 = chosen.name.startswith("glr21-") and profile.world is None
    return GLR21_RERANK if is_glr21 else profile.rerank


def _following(recipe_name: str, **settings: Any) -> Profile:
    found = recipe(recipe_name)
    return Profile(
        recipe=found.name,
        model=found.model,
        stages=found.stages,
        inference=found.inference,
        **settings,
    )


def _shortened(profile: Profile, *, epochs: int, size: int) -> Profile:
    """Every stage for at most so many epochs, every image of at most this size."""
    stages = tuple(
        dataclasses.replace(stage, epochs=min(stage.epochs, epochs), size=min(stage.size, size))
        for stage in profile.stages
    )
    inference = dataclasses.replace(profile.inference, size=size)
    return dataclasses.replace(profile, stages=stages, inference=inference)


PROFILES = {make().name: make for make in (_smoke, _mini, _photos, _full)}


def profile(name: str, *, recipe_name: str = "", **changes: Any) -> Profile:
    """The profile called `name`, with dotted settings changed: `profile("mini", seed=1)`.

    Args:
        name: one of `PROFILES`.
        recipe_name: another recipe than the profile's; in the miniature world its relative.
        changes: settings by their dotted names, as `lib.config.override` takes them.

    Raises:
        ValueError: if there is no such profile or recipe, or `override` refuses a change.
    """
    if name not in PROFILES:
        raise ValueError(f"expected a profile among {', '.join(PROFILES)}, found {name!r}")
    found = PROFILES[name]()
    if recipe_name:
        found = _with_recipe(found, recipe_name)
    return override(found, changes)


def _with_recipe(profile: Profile, recipe_name: str) -> Profile:
    is_small = profile.world is not None
    chosen = recipe(f"{recipe_name.removesuffix('-mini')}-mini" if is_small else recipe_name)
    found = dataclasses.replace(
        profile,
        recipe=chosen.name,
        model=chosen.model,
        stages=chosen.stages,
        inference=chosen.inference,
        rerank=_rerank(profile, chosen),
    )
    if profile.name == "smoke":
        size = profile.inference.size
        found = _shortened(found, epochs=2, size=size)
    return found
