"""Country styles: every word in them can be drawn."""

from lib.miniworld.countries import COUNTRIES
from lib.miniworld.landmarks import KINDS
from lib.miniworld.surroundings import GROUNDS, TREES
from lib.miniworld.textures import hex_colour


def test_countries_name_only_what_can_be_drawn():
    for style in COUNTRIES.values():
        assert set(style.kinds.split()) <= set(KINDS)
        assert set(style.trees.split()) - {"none"} <= set(TREES)
        assert set(style.grounds.split()) <= set(GROUNDS)
        assert len(style.epithets.split()) == 6
        for words in (style.walls, style.roofs, style.accents, style.trims):
            assert all(hex_colour(word).shape == (3,) for word in words.split())
