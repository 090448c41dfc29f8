"""`./run_all.sh demo [--run outputs/mini]`: a web page of this computer to try a finished run.

A photograph is ranked by plain search and by the landmark-country reranking of GLR21 = 2nd place,
Google Landmark Retrieval 2021 (Zhang et al.), whose weights are sliders. gradio is imported when
the page is made; all below `Demo` works without it.
"""

import argparse
import base64
import html
import io
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from lib import artifacts, data, plots, reranking
from lib.artifacts import VOTING, caller_path, run_folder
from lib.config import RerankConfig
from lib.data import OTHER, ImageSource, country_name
from lib.reranking import NO_COUNTRY, RetrievalData, query_votes
from lib.retrieval import Gallery, index_if_large, load_run

if TYPE_CHECKING:
    import gradio

SHOWN = 8  # results
SIDE = 200  # pixels of the longer side of a picture
UNKNOWN = "unknown landmark"
REFERENCES = "references"  # folder of the embeddings of those that vote
STYLE = """<style>
.strip { display: grid; grid-template-columns: repeat(auto-fill, minmax(94px, 1fr)); gap: 6px; }
.strip { margin-bottom: 10px; font-size: 11px; line-height: 1.3; }
.strip figure { margin: 0; }
.strip img { width: 100%; aspect-ratio: 1; object-fit: contain; background: #8882; }
.votes { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 6px; }
</style>"""


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
        if artifacts.read_fingerprint(voters) is None:
            raise ValueError(
                f"expected embedded {REFERENCES}, which vote, in {voters}, found none; run "
                "notebook 06 first: ./run_all.sh PROFILE --only 06"
            )
        references, gallery = Gallery([voters]), self.model.gallery
        self.references, self.images = (
            one.at(np.arange(len(one))) for one in (references, gallery)
        )
        labels = self.references["landmark_id"]
        known = data.read(references.parts[0].root).landmarks.set_index("landmark_id")
        names = known["category"].str.replace("_", " ").items()
        self.names = {landmark: name or f"landmark {landmark}" for landmark, name in names}
        usual = RerankConfig()
        settings = {"alpha": usual.alpha, "beta": usual.beta, "top": usual.votes}
        settings |= {"normalise": usual.normalise, "reciprocal": usual.reciprocal}
        settings |= artifacts.read_json_or_none(folder.parent / VOTING) or {}
        self.alpha, self.beta = float(settings.pop("alpha")), float(settings.pop("beta"))
        self.voting = settings
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
        found = self.answer(asked, alpha, beta)
        colours = plots.reranking.PARTS
        before = [
            (f"{r.Index}. {html.escape(r.name)}", f"{r.score:.2f}")
            for r in found.before.itertuples()
        ]
        after = []
        for row in found.after.itertuples():
            parts = (_coloured(f"{getattr(row, name):.2f}", name) for name in colours)
            terms = f"{' + '.join(parts)} = {row.final:.2f}"
            after.append((f"{row.Index}. {html.escape(row.name)}", terms, row.moved))
        voters = [
            (html.escape(r.landmark), r.country, f"{r.similarity:.2f}")
            for r in found.voters.itertuples()
        ]
        words = zip(("similarity", "α · landmark", "β · country"), colours, strict=True)
        legend = " + ".join(_coloured(*pair) for pair in words)
        sums = "".join(
            f"<li>{row.adds:.2f} for the {row.kind} {html.escape(row.name)} "
            f"({row.share:.2f} of the votes)</li>"
            for row in found.votes.itertuples()
        )
        return (
            f"{STYLE}<h4>Plain search, by similarity</h4>"
            f"{_strip(self.images, found.before, before)}"
            f"<h4>Reranked, by {legend}</h4>{_strip(self.images, found.after, after)}"
            f"<div class='votes'><div><h4>Who voted</h4>"
            f"{_strip(self.references, found.voters, voters)}</div>"
            f"<div><h4>What the votes add</h4><ul>{sums}</ul></div></div>"
        )


def _coloured(text: str, part: str) -> str:
    return f'<b style="color: {plots.reranking.PARTS[part]}">{text}</b>'


def _country(code: str) -> str:
    return "country unknown" if code in (NO_COUNTRY, OTHER) else country_name(code)


def _strip(images: pd.DataFrame, table: pd.DataFrame, captions: Iterable[Sequence[str]]) -> str:
    """The images at the positions of `table`, each over the lines of its caption in HTML."""
    places = images.iloc[table["position"]][["root", "path"]].itertuples(index=False)
    figures = (
        f'<figure><img src="{_picture(*place)}"><figcaption>{"<br>".join(lines)}</figcaption>'
        "</figure>"
        for place, lines in zip(places, captions, strict=True)
    )
    return f'<div class="strip">{"".join(figures)}</div>'


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
