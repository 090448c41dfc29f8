"""What distinguishes the countries: palettes, kinds of landmark, trees, ground, names.

The countries of a region vary one style. So landmarks of a region are hard negatives of each other,
and a photograph predicts its country, as landmark-country reranking (GLR21, the 2nd place of Google
Landmark Retrieval 2021) needs. Colours are RGB hex words; a word that is repeated is drawn more
often.
"""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Country:
    """What landmarks of a country are drawn from; fields are space-separated lists."""

    walls: str
    roofs: str
    accents: str  # doors, mosaics, banners
    trims: str  # frames, columns, cornices
    windows: str
    materials: str
    roof_forms: str
    kinds: str
    trees: str
    grounds: str
    backdrops: str
    starts: str  # name = start + end
    ends: str
    pattern: str = "{name} {noun}"
    nouns: str = ""  # kind=noun, "_" for a blank; kinds left out use NOUNS
    epithets: str = "Old New Upper Little Saint King"  # always six, before a part of the names


NOUNS = (
    "church=Cathedral palace=Palace castle=Castle tower=Tower mosque=Mosque pagoda=Pagoda "
    "temple=Temple pyramid=Pyramid gate=Gate bridge=Bridge highrise=Building arena=Arena "
    "beacon=Lighthouse mountain=Mountain mesa=Rock statue=Monument stupa=Stupa gopuram=Temple "
    "lattice=Radio_Tower museum=Museum wheel=Wheel station=Station obelisk=Obelisk"
)

# fmt: off
_LATIN = Country(walls="e3cfa6 d9b98c efe0c4 c99f76 e8c9b0", roofs="b5532f a8482c 8f4a33",
    accents="8c2f39 2f5d50 27476e c98b2b", trims="f4ead6 fbf5e9 cbb38a",
    windows="arch shutter rect pair", materials="plaster ashlar striped",
    roof_forms="gable hip dome",
    kinds="church church palace gate tower bridge castle arena statue museum",
    trees="cypress pine broadleaf", grounds="plaza paving grass", backdrops="hills town",
    starts="Val Mont Bel Cor Ser Mar Ro San", ends="dorne bier lune tane velle gisse")
_NORTH = replace(_LATIN, walls="a4553f 8f4a3c c9b9a0 b9a58a d8d0c0", roofs="4a4f57 5c5148 6e3b30",
    accents="1f4e79 7a1f2b 2d5b3a d4a72c", trims="f1ece0 ddd2bd e9e4d8",
    windows="rect pointed pair arch", materials="brick timber ashlar",
    roof_forms="steep gable cone hip",
    kinds="church church castle castle palace tower bridge beacon museum gate",
    trees="broadleaf fir birch", grounds="grass paving plaza", backdrops="forest town hills",
    starts="Stor Hals Nor Eber Lind Oster Wal Ash", ends="berg stad ford wick holm feld")
_EAST = replace(_NORTH, walls="e9e4dc f0d9a8 c65b4a 7fa6b8 d9e2e0",
    roofs="3f7d63 2f5f95 c9a227 7a8a91", accents="b3202c 1c5ba0 e0b32a 2c7a4b",
    windows="arch pair rect", materials="plaster striped ashlar",
    roof_forms="onion onion dome steep",
    kinds="church church palace tower castle gate statue museum", trees="birch fir broadleaf",
    grounds="snow plaza grass", backdrops="forest town", starts="Nov Vol Pet Zel Kras Mir",
    ends="gorod ograd insk ovar ovka")
_AEGEAN = replace(_LATIN, walls="f7f5ef ece6d8 dfd2b4 e8d8c0", roofs="2c6fb3 3b86c4 c96f4a",
    accents="1d5fa8 b5483a d7a03a", trims="ffffff eadfc8", windows="arch rect round",
    materials="plaster ashlar", roof_forms="dome flat gable",
    kinds="temple temple church castle beacon gate arena mesa", trees="olive cypress",
    grounds="sand paving", backdrops="sea hills", starts="Ana Kory Thel Del Myr",
    ends="phos polis thos nake kion")
_NEW_WORLD = replace(_NORTH, walls="b9c3cc 93a4b3 8c6f5a c9c2b4 6f8596 d9cdb8",
    roofs="5a5f66 7f8a90 4d6b60", accents="c0392b 205a9e e08e2b 3a7d5c",
    trims="e8eaeb c7ccd0 f2ead9", windows="ribbon curtain rect rect",
    materials="glass ashlar brick plaster", roof_forms="flat flat steep dome",
    kinds="highrise highrise highrise bridge statue museum tower mountain mesa arena lattice wheel",
    trees="broadleaf fir maple", grounds="paving grass asphalt", backdrops="city city mountains",
    starts="Grand Iron Cedar Liberty Silver Lake", ends="_Point wood _Falls port field ton")
_MESO = replace(_LATIN, walls="d8a15b c96b4f e6b85c b98a5e 7fb0a8", roofs="9c4a2c c77d3e",
    accents="d1336b 1f8a84 f0b429 5a2d82", windows="arch rect slit",
    materials="blocks plaster carved", roof_forms="dome flat gable",
    kinds="pyramid pyramid church palace gate mesa statue arena", trees="cactus palm broadleaf",
    grounds="dust grass plaza", backdrops="mountains hills", starts="Xoch Teo Tla Coy Ixta",
    ends="calco tlan pan huaca zingo")
_FAR_EAST = Country(walls="f0e9dc c0392b d9c6a5 e6ddd0 8c4b3a", roofs="4b5a62 3f6b57 6b4a3a c79a2b",
    accents="b8232f 1f6f5b e0b040 28406b", trims="b33a2b 7a3b2a e9d9b4",
    windows="screen lattice rect round", materials="timber plaster ashlar",
    roof_forms="flare flare hip",
    kinds="pagoda pagoda pagoda palace palace gate gate castle bridge tower temple highrise",
    trees="bonsai bamboo blossom", grounds="gravel grass paving",
    backdrops="mountains forest hills", starts="Tai Lin Kiyo Shi Naka Hua",
    ends="mizu shan gawa ling tori men")
_SOUTH_ASIA = replace(_FAR_EAST, walls="d9825b e8c39e f2e6d0 c96a4a e9d3b8",
    roofs="e0b040 c8963c b5533c f4f0e6", accents="d4a017 c2185b 1f7a6d e2571e",
    trims="f6e7c8 e0b850 fbf6ea", windows="pointed lattice horseshoe slit",
    materials="carved ashlar striped", roof_forms="dome onion spire",
    kinds="gopuram gopuram mosque mosque stupa stupa palace palace gate temple castle",
    trees="palm banyan", grounds="dust paving grass", backdrops="hills forest town",
    starts="Vija Chan Raja Meh Suri", ends="nagar puram dhara wat bad")
_ISLAMIC = replace(_SOUTH_ASIA, walls="e8dcc0 d8c39a c9ab7c f0e8d8",
    roofs="2f8fa3 3aa39a 7f8f98 3d6fb0", accents="1f7fb0 13847b 2a4f9e d4a93a",
    trims="f4eede 2f7fa0 d9b56a", windows="pointed horseshoe lattice arch",
    materials="tiles plaster ashlar striped", roof_forms="dome dome onion cone",
    kinds="mosque mosque mosque gate palace bridge tower castle arena obelisk",
    trees="cypress palm olive", grounds="paving dust plaza", backdrops="town hills mountains",
    starts="Kar Isfa Sul Yaz Bey", ends="han abad oglu dara zan")
_MAGHREB = replace(_ISLAMIC, walls="d9a066 cf8a5b e3bd84 c7784f", roofs="2f7d4f b8683d d9a760",
    accents="1f6f4f b3382c 2a5f9e e0a93a", windows="horseshoe slit arch",
    materials="mud blocks tiles", roof_forms="flat dome crown",
    kinds="pyramid mosque gate castle tower obelisk temple mesa statue", trees="palm palm cactus",
    grounds="sand dust", backdrops="dunes town hills", starts="Abu Mar Qas Tel Wad",
    ends="simbel rakesh irat dir amun")
_SAVANNA = replace(_MAGHREB, walls="b8653f c98a55 9c5a3c d9b07a", roofs="8a6a3f 9c7b4a 6b4f35",
    accents="1f8a4c e0b02a b8322a 2b5fa8", windows="slit round rect", materials="mud carved ashlar",
    roof_forms="cone flat crown", kinds="mesa mesa church castle mountain statue tower stupa",
    trees="acacia acacia cactus", grounds="dust dry red", backdrops="dunes hills mountains",
    starts="Oko Lali Gon Swa Etu", ends="bela dar vlei mund hari")
_ANDES = replace(_MESO, walls="a39b8b 8f8779 c2b59b e5dccb d9c05a", roofs="b0573a 8a6b45",
    accents="c2263a 2b7ab8 f0b429 1f8f5a", windows="arch rect ribbon",
    materials="blocks ashlar plaster",
    kinds="mountain pyramid church mesa museum statue palace arena bridge",
    trees="palm broadleaf cactus", grounds="grass dry plaza",
    backdrops="mountains mountains forest", starts="Ollan Saq Bra Pira Cus",
    ends="tambo huay silva nema pari")
_SOUTH_SEA = replace(_NEW_WORLD, walls="f2efe8 d9d2c4 c7a37a 9fb4bd", roofs="f4f4f0 a8442f 5d7f8f",
    accents="0f7fa8 e07a2b 2c8f5a", materials="plaster glass timber", windows="ribbon rect arch",
    kinds="museum museum mesa beacon bridge highrise mountain station", trees="gum palm pine",
    grounds="red grass sand", backdrops="sea hills", starts="Kiri Wai Woolo Tara Bun",
    ends="bilka moana mara roa dong")
_POLAR = replace(_NORTH, walls="c0392b 2f6fa8 e8e8e4 e0a02b", roofs="d8dde0 b8322a 3a6f9a",
    accents="e0662b 1f5f9e d8b02a", windows="round ribbon slit", materials="glass timber",
    roof_forms="flat dome", kinds="station station mountain lattice", trees="none",
    grounds="snow ice", backdrops="mountains sea", starts="Vostra Halvor Byrde",
    ends="_Sund skaya nes")

_FRENCH = (
    "church=Cathédrale palace=Château castle=Citadelle gate=Porte tower=Tour bridge=Pont "
    "arena=Arènes statue=Colonne museum=Musée"
)
_SPANISH = (
    "church=Catedral palace=Palacio castle=Alcázar gate=Puerta tower=Torre bridge=Puente "
    "arena=Plaza_de_Toros statue=Monumento museum=Museo pyramid=Pirámide mountain=Cerro mesa=Peña"
)
_SWEDISH = (
    "church=kyrka castle=slott palace=herrgård tower=torn bridge=bro gate=port museum=museum "
    "beacon=fyr"
)
_SAINTS = "Santa Nueva Alta Villa San Real"
COUNTRIES: dict[str, Country] = {
    "FR": replace(_LATIN, walls="e9dec6 dccdb0 f1e8d8", roofs="5d6873 6f7b86 8a4d38",
        starts="Val Mont Beau É", roof_forms="mansard gable steep", pattern="{noun} de {name}",
        nouns=_FRENCH, epithets="Vieux Neuf Haut Petit Saint Bourg"),
    "ES": replace(_LATIN, walls="e3bf8a f0e2c8 d49a64", windows="arch horseshoe shutter",
        nouns=_SPANISH, epithets=_SAINTS, pattern="{noun} de {name}", trees="palm cypress olive",
        ends="dueña lares goña villa drid"),
    "IT": replace(_LATIN, walls="d9a066 e6c08a c98a6b", materials="striped plaster ashlar",
        roof_forms="dome gable hip", ends="anza ello ornia essa igo"),
    "GB": replace(_NORTH, walls="c8b591 b5a283 a4553f", roof_forms="steep crown gable",
        materials="ashlar brick", starts="Ash Wel Nor Kings Win"),
    "DE": replace(_NORTH, walls="e6dfcf c9a27a a85a42", materials="timber brick plaster",
        ends="burg stein feld brück hausen", pattern="{name}er {noun}",
        epithets="Alt Neu Ober Klein Sankt König"),
    "SE": replace(_NORTH, walls="a63a2b e3c56b f0ece0", roofs="3f4448 7a8288",
        materials="timber plaster", trees="birch fir fir", starts="Mar Väx Ny Lång Ö",
        ends="bäck sjö köping ås dal", pattern="{name} {noun}, Småland", nouns=_SWEDISH,
        epithets="Gamla Nya Övre Lilla Sankt Kungs"),
    "RU": _EAST,
    "XK": replace(_EAST, walls="d8c7ae e9dfce b98a6b", roofs="a8543a 7c8790",
        roof_forms="dome gable hip", materials="striped ashlar", grounds="plaza grass",
        starts="Pri Gja Pe Dre", ends="zren kovë jani nica shtë"),
    "GR": _AEGEAN,
    "US": _NEW_WORLD,
    "CA": replace(_NEW_WORLD, walls="8fa39a a9876b c3c9c9", roofs="4f7f6f 6a8f80 565b61",
        roof_forms="steep flat mansard", trees="maple fir fir", backdrops="mountains forest",
        starts="Mani Sas Nipi Ott Cedar"),
    "MX": replace(_MESO, nouns=_SPANISH, pattern="{noun} de {name}", epithets=_SAINTS),
    "CN": _FAR_EAST,
    "JP": replace(_FAR_EAST, walls="f4f1ea e3dccd a8614a", roofs="3c444b 54606a 6b5a48",
        trees="blossom bonsai fir", starts="Kiyo Naka Shi Hana", ends="mizu gawa tori hara"),
    "IN": _SOUTH_ASIA,
    "TH": replace(_SOUTH_ASIA, walls="f7f2e6 f0dca8 d98a4a", roofs="d0642f 2f7f5f e8b83a",
        roof_forms="spire flare dome", kinds="stupa stupa pagoda temple gopuram palace statue"),
    "IR": _ISLAMIC,
    "TR": replace(_ISLAMIC, walls="d9d3c6 c7b79c e9e1d0", roofs="6f7f8a 8a949c a8543a",
        roof_forms="dome cone", materials="ashlar striped tiles"),
    "EG": _MAGHREB,
    "MA": replace(_MAGHREB, walls="c7714f e0a070 efd9b8", roofs="2f8f5f 3a7f6a",
        materials="tiles mud plaster", kinds="mosque mosque gate castle tower palace"),
    "ET": _SAVANNA,
    "NA": replace(_SAVANNA, walls="d98a4a e8c79a f0e0c4", materials="plaster mud ashlar",
        kinds="mesa mesa mountain church castle beacon", grounds="red sand"),
    "PE": replace(_ANDES, nouns=_SPANISH, pattern="{noun} de {name}", epithets=_SAINTS),
    "BR": replace(_ANDES, walls="f4efe2 e8c23a 6fb0c4",
        kinds="museum church statue arena highrise mesa", starts="Ita São_ Ara Gua",
        ends="peva ção juba nópolis raí", trees="palm palm broadleaf", grounds="plaza grass"),
    "AU": _SOUTH_SEA,
    "NZ": replace(_SOUTH_SEA, walls="e6e4dc b9826a 8fa58a", roofs="8f3a2f 4f6f5a",
        trees="fern pine fir", grounds="grass sand", backdrops="mountains sea"),
    "AQ": _POLAR,
}
# fmt: on


def find_country(code: str, rng: np.random.Generator) -> Country:
    """Return the country of a code; a code without an entry gets a random country."""
    return COUNTRIES[code if code in COUNTRIES else str(rng.choice(list(COUNTRIES)))]
