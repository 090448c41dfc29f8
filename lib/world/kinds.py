"""The kinds of landmark by name, and `build`, which composes one."""

from collections.abc import Callable

import numpy as np

from lib.world import civic, modern, nature, sacred
from lib.world.building import Site
from lib.world.looks import Look
from lib.world.solids import Model
from lib.world.styles import Style

KINDS: dict[str, Callable[[Site], None]] = {
    make.__name__: make
    for make in (
        *(sacred.church, sacred.mosque, sacred.temple, sacred.pagoda, sacred.stupa),
        *(sacred.gopuram, sacred.pyramid),
        *(civic.palace, civic.castle, civic.tower, civic.gate, civic.bridge, civic.arena),
        *(civic.beacon, modern.highrise, modern.statue, modern.lattice, modern.museum),
        *(modern.wheel, modern.station, modern.obelisk),
        *(nature.mountain, nature.mesa),
    )
}


def build(kind: str, look: Look, style: Style, rng: np.random.Generator) -> Model:
    """Compose the landmark of a kind; the same arguments always give the same model."""
    site = Site(look, style, rng)
    KINDS[kind](site)
    return site.model
