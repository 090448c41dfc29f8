"""The state of a training: steps and losses, the file that a killed run goes on from, reports."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from lib.artifacts import atomic_path
from lib.config import StageConfig

SAVE_SECONDS = 600  # between two states within an epoch
KEPT = ("step", "rates", "losses", "scores", "best")  # attributes that are saved as they are


class TrainingState:
    """Steps, losses and rates of a stage, saved with network and optimizer."""

    def __init__(
        self, stage: StageConfig, steps: int, key: str, path: Path, *, precision: str = "no"
    ) -> None:
        """`steps` are those of an epoch; `key` tells the settings that a state belongs to."""
        self.stage, self.steps, self.key, self.path = stage, steps, key, path
        self.precision = precision
        self.step = 0
        self.unreadable: set[str] = set()  # images that counted as grey, before a restart too
        self.rates: list[float] = []
        self.losses: list[float] = []
        self.pending: list[Tensor] = []  # losses still on their device
        self.scores: list[float] = []  # of the images held out, before and after each epoch
        self.best: dict[str, Tensor] = {}  # weights of the largest score
        self.parts: dict[str, Any] = {}  # what has a state_dict: classifier, optimizer and others
        self.images_of: Callable[[int], list[str]] = lambda step: []  # paths of a step's images
        self.seen = 0  # images in this process's lifetime
        self.before = 0.0  # seconds spent before a restart
        self.started = self.saved = time.monotonic()

    def add_step(self, loss: Tensor, rate: float) -> None:
        """Count one step; the loss stays on its device, so that nothing waits for it."""
        self.pending.append(loss)
        self.rates.append(rate)
        self.step += 1
        self.seen += self.stage.batch_size

    def is_unscored(self) -> bool:
        """Whether the last whole epoch, 0 before the first, has no score yet."""
        return len(self.scores) <= self.step // self.steps

    def add_score(self, score: float, weights: Mapping[str, Tensor]) -> None:
        """Keep the score of the images held out, and copies of the `weights` if it is the best."""
        if score > max(self.scores, default=-1.0):
            self.best = {name: value.cpu().clone() for name, value in weights.items()}
        self.scores.append(score)

    def fetch(self, *, is_underway: bool = False) -> list[float]:
        """The loss of every step so far.

        A loss that is not finite raises ValueError; in float16 only the last one, and none while
        training `is_underway`, because steps that overflow there are left out.
        """
        if self.pending:
            losses, self.pending = torch.stack(self.pending).float().tolist(), []
            wrong = [n for n, loss in enumerate(losses) if not math.isfinite(loss)]
            is_last = wrong[-1:] == [len(losses) - 1] and not is_underway
            if wrong and (self.precision != "fp16" or is_last):
                step = len(self.losses) + wrong[0]
                self._stop(f"loss is {losses[wrong[0]]}", step, self.images_of(step))
            self.losses += losses
        return self.losses

    def check_weights(self, classifier: nn.Module) -> None:
        """Raise ValueError if a weight is not finite, naming the first."""
        for name, value in classifier.state_dict().items():
            if value.is_floating_point() and not torch.isfinite(value).all():
                self._stop(f"weight {name} is not finite", self.step - 1)

    def _stop(self, what: str, step: int, images: Sequence[str] = ()) -> None:
        where, rate = "before its first step", self.stage.learning_rate
        if self.step:
            epoch, rate = step // self.steps + 1, self.rates[step]
            where = f"at epoch {epoch} of {self.stage.epochs}, step {step + 1:,}"
        if images:
            print(f"images of step {step + 1:,}: {', '.join(images)}", flush=True)
            more = f" and {len(images) - 3} more" if len(images) > 3 else ""
            where += f" (images {', '.join(images[:3])}{more})"
        raise ValueError(
            f"stage {self.stage.name!r} stopped: its {what} {where}; lower learning_rate "
            f"({rate:.3g} there), raise warmup, set clip_grad, or look at the weights that it "
            f"starts from and the precision ({self.precision}); the last state before is kept"
        )

    def seconds(self) -> float:
        """Time spent on the stage, before a restart included."""
        return self.before + time.monotonic() - self.started

    def is_due(self) -> bool:
        """Whether the state should be saved again."""
        return time.monotonic() - self.saved > SAVE_SECONDS

    def save(self) -> None:
        """Write all that a restart needs, unless losses or weights are not finite (ValueError)."""
        self.check_weights(self.parts["classifier"])
        self.fetch()
        state = {name: getattr(self, name) for name in KEPT} | {
            "key": self.key,
            "seconds": self.seconds(),
            "unreadable": sorted(self.unreadable),
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
        }
        # Through Python's own file, whose error torch passes on when the disk is full.
        with atomic_path(self.path) as temporary, open(temporary, "wb") as file:
            torch.save(state, file)
        self.saved = time.monotonic()

    def restore(self) -> None:
        """Go on from the state on disk if it belongs to the same settings and is whole."""
        try:
            state: Any = torch.load(self.path, map_location="cpu", weights_only=True)
            if state["key"] != self.key or "classifier" not in state["parts"]:
                return
        except Exception:  # OSError, EOFError, RuntimeError, UnpicklingError, KeyError, ...
            return
        for name in self.parts.keys() & state["parts"].keys():
            self.parts[name].load_state_dict(state["parts"][name])
        self.before, self.unreadable = state["seconds"], set(state["unreadable"])
        for name in KEPT:
            setattr(self, name, state[name])
        print(f"{self.stage.name}: going on from step {self.step:,}", flush=True)

    def speed(self) -> float:
        """Images per second in this process's lifetime."""
        return self.seen / (time.monotonic() - self.started)

    def note(self) -> str:
        """`loss 5.43, 612 images/s` over the last fifty steps, for a line within an epoch."""
        losses = self.fetch(is_underway=True)[-50:]
        return f"loss {np.mean(losses):.3f}, {self.speed():.0f} images/s"

    def epoch_line(self, epoch: int) -> str:
        """`arcface 3/12: loss 5.43, learning rate 0.034, 612 images/s, 80 s left`."""
        stage, loss, speed = self.stage, np.mean(self.fetch()[-self.steps :]), self.speed()
        left = (self.steps * stage.epochs - self.step) * stage.batch_size / speed
        line = f"{stage.name} {epoch + 1}/{stage.epochs}: loss {loss:.3f}"
        line += f", learning rate {self.rates[-1]:.3g}, {speed:.0f} images/s, {left:.0f} s left"
        return line + (f", mAP held out {self.scores[-1]:.4f}" if self.scores else "")

    def history(self) -> pd.DataFrame:
        """Mean loss and last learning rate over about fifty pieces of each epoch, and scores."""
        steps = np.arange(self.step)
        columns = {"epoch": steps // self.steps + 1, "step": steps + 1, "learning_rate": self.rates}
        table = pd.DataFrame(columns | {"loss": self.fetch()})
        pieces = table.groupby(steps // math.ceil(self.steps / 50))
        table = pieces.agg(dict.fromkeys(columns, "last") | {"loss": "mean"})
        if not self.scores:
            return table
        epochs = np.arange(len(self.scores))
        scores = {"epoch": epochs, "step": epochs * self.steps, "held_out_map": self.scores}
        return table.merge(pd.DataFrame(scores), how="outer", on=["epoch", "step"], sort=True)
