"""Every recipe and profile in full, one line a part, as `tests/golden_recipes.txt` keeps them.

`python -m tests.golden_recipes` writes the file anew: do so after changing a recipe on purpose, and
read the difference. A part shows what is not the default, and the defaults stand first; whoever
changes one of those raises VERSION in `lib.training.stage`, because fingerprints leave defaults
out."""

import dataclasses
import json
from pathlib import Path

from lib.config import Settings
from lib.recipes import PROFILES, RECIPES, profile, recipe

FILE = Path(__file__).with_suffix(".txt")


def as_text(value, *, is_whole=False):
    """A value as JSON: of settings all, or what is not the default."""

    def plain(one):
        fields = dataclasses.fields(one)
        found = {field.name: getattr(one, field.name) for field in fields}
        usual = {} if is_whole else {f.name: default_of(f) for f in fields}
        return {name: v for name, v in found.items() if v != usual.get(name, dataclasses.MISSING)}

    return json.dumps(value, default=plain)


def default_of(field):
    has_factory = field.default_factory is not dataclasses.MISSING
    return field.default_factory() if has_factory else field.default


def lines():
    for kind in Settings.__subclasses__():
        if kind.__module__ == "lib.config":
            usual = {field.name: default_of(field) for field in dataclasses.fields(kind)}
            told = {k: v for k, v in usual.items() if v is not dataclasses.MISSING}
            yield f"{kind.__name__} {as_text(told, is_whole=True)}"
    for name in (one for base in RECIPES for one in (base, f"{base}-mini")):
        found = recipe(name)
        yield f"{name} {as_text(found.source)}"
        yield f"{name} model {as_text(found.model)}"
        yield f"{name} inference {as_text(found.inference)}"
        yield from (f"{name} stage {as_text(stage)}" for stage in found.stages)
    for name in PROFILES:
        yield f"profile {as_text(profile(name))}"


def golden():
    return "".join(f"{line}\n" for line in lines())


if __name__ == "__main__":
    FILE.write_text(golden())
