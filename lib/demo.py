"""`./run_all.sh demo [--run outputs/mini]`: a web page of this computer to try a finished run.

A photograph is ranked by plain search and by the landmark-country reranking of GLR21 = 2nd place,
Google Landmark Retrieval 2021 (Zhang et al.), whose weights are sliders. gradio is imported when
the page is made; all below `Demo` works without it.
"""

import argparse
import base64
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
import pandas as pd
from PIL import Image

from lib import artifacts, data, plots, reranking
from lib.artifacts import VOTING, caller_path, run_folder
from lib.data import OTHER, ImageSource, country_name
from lib.reranking import NO_COUNTRY, RetrievalData, query_votes
from lib.retrieval import Gallery, index_if_large, load_run

if TYPE_CHECKING:
    import gradio

SHOWN = 8  # results
SIDE = 200  # pixels of the longer side of a picture
UNKNOWN = "unknown landmark"
REFERENCES = "references"  # folder of the embeddings of those that vote
# `colours` are those of the parts of a score, `found` is an `Answer`, `picture` gives an image's.
RESULTS = jinja2.Environment(autoescape=True).from_string("""<style>
.strip { display: grid; grid-template-columns: repeat(auto-fill, minmax(94px, 1fr)); gap: 6px; }
.strip { margin-bottom: 10px; font-size: 11px; line-height: 1.3; }
.strip figure { margin: 0; }
.strip img { width: 100%; aspect-ratio: 1; object-fit: contain; background: #8882; }
.votes { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 6px; }
</style>
{% macro part(name, text) %}<b style="color: {{ colours[name] }}">{{ text }}</b>{% endmacro %}
{% macro strip(images, table) %}<div class="strip">{% for row in table.itertuples() %}
<figure><img src="{{ picture(images, row.position) }}"><figcaption>{{ caller(row) }}</figcaption>
</figure>{% endfor %}</div>{% endmacro %}
<h4>Plain search, by similarity</h4>{% call(row) strip(images, found.before) %}
{{ row.Index }}. {{ row.name }}<br>{{ "%.2f" % row.score }}{% endcall %}
<h4>Reranked, by {{ part("raw", "similarity") }} + {{ part("landmark", "α · landmark") }}
+ {{ part("country", "β · country") }}</h4>{% call(row) strip(images, found.after) %}
{{ row.Index }}. {{ row.name }}<br>{{ part("raw", "%.2f" % row.raw) }}
+ {{ part("landmark", "%.2f" % row.landmark) }} + {{ part("country", "%.2f" % row.country) }}
= {{ "%.2f" % row.final }}<br>{{ row.moved }}{% endcall %}
<div class="votes"><div><h4>Who voted</h4>{% call(row) strip(references, found.voters) %}
{{ row.landmark }}<br>{{ row.country }}<br>{{ "%.2f" % row.similarity }}{% endcall %}</div>
<div><h4>What the votes add</h4><ul>{% for row in found.votes.itertuples() %}
<li>{{ "%.2f" % row.adds }} for the {{ row.kind }} {{ row.name }}
({{ "%.2f" % row.share }} of the votes)</li>{% endfor %}</ul></div></div>""")


@dataclass(frozen=True, eq=False)
class Answer:
    """What the page tells of one photograph at one α and β."""

    before: pd.DataFrame  # by rank: position, score, name of the landmark
    after: pd.DataFrame  # by rank: position, parts of the score (`lib.reranking.explain`), name
    voters: pd.DataFrame  # nearest first: position, similarity, landmark and country by name
    votes: pd.DataFrame  # kind (landmark or country), name, share, adds (share times weight)


class Demo:
    """A finished run and the labelled images that vote, to be asked with photographs."""

    def __init__(self, run: str | Path) -> None:
        self.model = load_run(run)
        folder = self.model.checkpoint.parent
        voters = folder / "embeddings" / REFERENCES
        chosen = artifacts.read_json_or_none(folder.parent / VOTING)
        if chosen is None or artifacts.read_fingerprint(voters) is None:
            raise ValueError(
                f"expected embedded {REFERENCES}, which vote, in {voters} and {VOTING} in "
                f"{folder.parent}, found one missing; run notebook 06 first: ./run_all.sh PROFILE "
                "--only 06"
            )
        references, gallery = Gallery([voters]), self.model.gallery
        self.references = references.at(np.arange(len(references)))
        self.images = gallery.at(np.arange(len(gallery)))
        labels = self.references["landmark_id"]
        known = data.read(references.parts[0].root).landmarks.set_index("landmark_id")
        names = known["category"].str.replace("_", " ").items()
        self.names = {landmark: name or f"landmark {landmark}" for landmark, name in names}
        self.alpha, self.beta = float(chosen.pop("alpha")), float(chosen.pop("beta"))
        self.voting = chosen
        rows, parts = references.parts[0].rows, [part.rows for part in gallery.parts]
        self.data = RetrievalData(
            rows[:0],
            parts[0] if len(parts) == 1 else np.concatenate(parts),
            rows,
            labels.to_numpy(),
            known["country"].reindex(labels).fillna(OTHER).to_numpy(dtype=object),
            index=index_if_large(rows, folder / "index"),
        )
        reranking.tag_gallery(self.data)  # once, for all photographs

    def ask(self, photo: Any) -> RetrievalData:
        """Embed one photograph, as `Retriever.query` takes it, to be ranked by `answer`."""
        return self.data.with_queries(self.model.embed([photo]))

    def answer(self, asked: RetrievalData, alpha: float, beta: float) -> Answer:
        """Rank the gallery for the photograph of `ask` by plain search and with votes."""
        names = self.images["landmark"].replace("", UNKNOWN).to_numpy()
        before = asked.plain.of(0).head(SHOWN)
        before["name"] = names[before["position"]]
        after = reranking.explain(asked, 0, alpha=alpha, beta=beta, **self.voting).head(SHOWN)
        after["name"] = names[after["position"]]
        votes = query_votes(asked, **self.voting)
        voters = votes.of(0)
        voters["landmark"] = voters["landmark"].map(self.names)
        voters["country"] = [_country(code) for code in voters["country"]]
        parts = (
            ("landmark", votes.landmarks[0], votes.landmark_scores[0], alpha, self.names.get),
            ("country", votes.countries[0], votes.country_scores[0], beta, _country),
        )
        sums = [
            (what, name(tag), score, weight * score)
            for what, tags, scores, weight, name in parts
            for tag, score in zip(tags.tolist(), scores, strict=True)
            if score > 0
        ]
        columns = ["kind", "name", "share", "adds"]
        return Answer(before, after, voters, pd.DataFrame(sums, columns=columns))

    def show(self, asked: RetrievalData | None, alpha: float, beta: float) -> str:
        """The results as HTML: ranking before and after reranking, voters and votes."""
        if asked is None:
            return ""
        return RESULTS.render(
            found=self.answer(asked, alpha, beta),
            images=self.images,
            references=self.references,
            colours=plots.reranking.PARTS,
            picture=lambda images, at: _picture(*images.loc[at, ["root", "path"]]),
        )


def _country(code: str) -> str:
    return "country unknown" if code in (NO_COUNTRY, OTHER) else country_name(code)


@lru_cache(512)
def _picture(root: str, path: str) -> str:
    """A small copy of an image as a data URI."""
    image = Image.fromarray(ImageSource(root).read(path))
    image.thumbnail((SIDE, SIDE))
    stream = io.BytesIO()
    image.save(stream, format="JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def build_page(demo: Demo) -> "gradio.Blocks":
    """The page; ValueError where gradio is not installed."""
    try:
        import gradio
    except ImportError:
        raise ValueError(
            "expected gradio, which makes the page, found none; install it: "
            f"{sys.executable} -m pip install 'gradio>=5'"
        ) from None

    def ask(photo: str | None) -> RetrievalData | None:
        try:
            return demo.ask(photo) if photo else None
        except ValueError as error:
            raise gradio.Error(str(error)) from None

    checkpoint, count = demo.model.checkpoint, len(demo.images)
    name = f"{checkpoint.parent.parent.name}, {checkpoint.parent.name}"
    with gradio.Blocks(title=f"Landmark retrieval: {name}") as page:
        gradio.Markdown(f"## {name}: {count:,} gallery images, {len(demo.references):,} voters")
        asked = gradio.State()
        with gradio.Row():
            with gradio.Column(scale=1, min_width=260):
                options = {"type": "filepath", "image_mode": None, "sources": ["upload"]}
                photo = gradio.Image(label="photograph", height=260, **options)
                sliders = [
                    gradio.Slider(0, max(most, value), value, step=0.05, label=label)
                    for most, value, label in (
                        (2, demo.alpha, "α, landmark votes"),
                        (1, demo.beta, "β, country votes"),
                    )
                ]
            with gradio.Column(scale=3, min_width=600):
                results = gradio.HTML()
        values = [asked, *sliders]
        photo.change(ask, photo, asked).then(demo.show, values, results)
        for slider in sliders:
            options = {"trigger_mode": "always_last", "show_progress": "hidden"}
            slider.change(demo.show, values, results, **options)
    return page


def main(arguments: Sequence[str]) -> int:
    """Serve the page until it is interrupted, and return the exit code."""
    parser = argparse.ArgumentParser(prog="./run_all.sh demo", description=__doc__.splitlines()[0])
    parser.add_argument("--run", default="", help="a run folder (default: outputs/mini)")
    parser.add_argument("--port", type=int, default=None, help="default: the first free from 7860")
    chosen = parser.parse_args(arguments)
    try:
        demo = Demo(caller_path(chosen.run) if chosen.run else run_folder("mini"))
        page = build_page(demo)
        demo.model.network.eval()  # loaded now, not with the first photograph
    except (ValueError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    page.launch(server_name="127.0.0.1", server_port=chosen.port, inbrowser=sys.stdout.isatty())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
