"""What the tests of pictures share: is it a picture, what does it draw, and in which colours."""

import io

import matplotlib.colors
import matplotlib.pyplot
import numpy as np
import pytest
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

# What spoils a picture is a warning in matplotlib and numpy: all are errors in tests of pictures,
# but for those of sockets and files that an earlier test left to the garbage collector.
STRICT = [
    pytest.mark.filterwarnings("error"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def check_picture(figure):
    """A figure of its own that can be saved and that no pyplot window holds."""
    assert isinstance(figure, Figure)
    assert min(png_size(figure)) > 20
    assert matplotlib.pyplot.get_fignums() == []


def png_size(figure):
    """Width and height of the figure saved as PNG."""
    stream = io.BytesIO()
    figure.savefig(stream, dpi=40)
    assert stream.getvalue().startswith(b"\x89PNG")
    return matplotlib.pyplot.imread(io.BytesIO(stream.getvalue())).shape[1::-1]


def square(value, side=8):
    return np.full((side, side, 3), value, dtype=np.uint8)


def bars(axis):
    """(n, 4): left, centre, width and height of the bars of an axis."""
    found = [
        (bar.get_x(), bar.get_y() + bar.get_height() / 2, bar.get_width(), bar.get_height())
        for container in axis.containers
        if isinstance(container, BarContainer)
        for bar in container
    ]
    return np.array(found)


def colours(artists):
    return [matplotlib.colors.to_hex(artist.get_facecolor()) for artist in artists]


def legend_of(axis):
    return [text.get_text() for text in axis.get_legend().get_texts()]
