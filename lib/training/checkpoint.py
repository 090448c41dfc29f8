"""Where a stage is: its steps and losses, the state on disk, and the line after each epoch."""

import math
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from lib.artifacts import atomic_path
from lib.config import StageConfig
from lib.training.classification_model import ClassificationModel

SAVE_SECONDS = 600


class TrainingState:
    """Where a stage is: its steps and losses, the state on disk, and the line after each epoch."""

    def __init__(
        self, stage: StageConfig, steps: int, key: str, path: Path, *, precision: str = "no"
    ) -> None:
        self.stage, self.steps, self.key, self.path = stage, steps, key, path
        self.precision = precision
        self.step = 0
        self.unreadable: set[str] = set()  # images that counted as grey, before a restart too
        self.rates: list[float] = []
        self.losses: list[float] = []
        self.waiting: list[torch.Tensor] = []  # losses still on their device
        self.seen = 0  # images in this process's lifetime
        self.before = 0.0  # seconds spent before a restart
        self.started = self.saved = time.monotonic()

    def note(self, loss: torch.Tensor, rate: float, images: int) -> None:
        """Count one step; the loss stays on its device, so that nothing waits for it."""
        self.waiting.append(loss)
        self.rates.append(rate)
        self.step += 1
        self.seen += images

    def fetch(self) -> list[float]:
        """The loss of every step so far, the latest taken from their device.

        Raises:
            ValueError: if one is not finite; in float16 the last one, because steps that overflow
                there are left out.
        """
        if self.waiting:
            losses, self.waiting = torch.stack(self.waiting).float().tolist(), []
            wrong = [n for n, loss in enumerate(losses) if not math.isfinite(loss)]
            if wrong and (self.precision != "fp16" or wrong[-1] == len(losses) - 1):
                self._stop(f"loss is {losses[wrong[0]]}", len(self.losses) + wrong[0])
            self.losses += losses
        return self.losses

    def _stop(self, what: str, step: int) -> None:
        where, rate = "before its first step", self.stage.learning_rate
        if self.step:
            epoch, rate = step // self.steps + 1, self.rates[step]
            where = f"at epoch {epoch} of {self.stage.epochs}, step {step + 1:,}"
        raise ValueError(
            f"stage {self.stage.name!r} stopped: its {what} {where}; lower learning_rate "
            f"({rate:.3g} there), or look at the weights that it starts from and the precision "
            f"({self.precision}); the last state before is kept"
        )

    def check_weights(self, classifier: ClassificationModel) -> None:
        """Refuse weights that are not finite, before they are written.

        Raises:
            ValueError: naming the first of them.
        """
        for name, value in classifier.state_dict().items():
            if value.is_floating_point() and not torch.isfinite(value).all():
                self._stop(f"weight {name} is not finite", self.step - 1)

    def seconds(self) -> float:
        """Time spent on the stage, before a restart included."""
        return self.before + time.monotonic() - self.started

    def is_due(self) -> bool:
        """Whether the state on disk is so old that losing it would hurt."""
        return time.monotonic() - self.saved > SAVE_SECONDS

    def save(self, classifier: ClassificationModel, optimizer: torch.optim.Optimizer) -> None:
        """Write everything that a restart needs.

        Raises:
            ValueError: if losses or weights are not finite; the last state stays as it is.
        """
        self.check_weights(classifier)
        state = {
            "key": self.key,
            "step": self.step,
            "rates": self.rates,
            "losses": self.fetch(),
            "seconds": self.seconds(),
            "unreadable": sorted(self.unreadable),
            "classifier": classifier.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        # Through Python's own file, whose error torch passes on when the disk is full.
        with atomic_path(self.path) as temporary, open(temporary, "wb") as file:
            torch.save(state, file)
        self.saved = time.monotonic()

    def restore(self, classifier: ClassificationModel, optimizer: torch.optim.Optimizer) -> None:
        """Go on from the state on disk if it belongs to the same settings."""
        state = _read_state(self.path)
        if state is None or state.get("key") != self.key:
            return
        classifier.load_state_dict(state["classifier"])
        optimizer.load_state_dict(state["optimizer"])
        self.step, self.rates, self.before = state["step"], state["rates"], state["seconds"]
        self.losses, self.unreadable = state["losses"], set(state["unreadable"])
        print(f"{self.stage.name}: going on from step {self.step:,}", flush=True)

    def epoch_line(self, epoch: int) -> str:
        """`arcface 3/12: loss 5.43, learning rate 0.034, 612 images/s, 80 s left`."""
        losses = self.fetch()[-self.steps :]
        loss = sum(losses) / len(losses)
        elapsed = time.monotonic() - self.started
        done = self.seen / self.stage.batch_size
        left = elapsed / max(done, 1) * (self.steps * self.stage.epochs - self.step)
        return (
            f"{self.stage.name} {epoch + 1}/{self.stage.epochs}: loss {loss:.3f}, "
            f"learning rate {self.rates[-1]:.4f}, {self.seen / elapsed:.0f} images/s, "
            f"{left:.0f} s left"
        )

    def history(self) -> pd.DataFrame:
        """Mean loss and last learning rate over about fifty pieces of each epoch."""
        if not self.step:
            return pd.DataFrame(columns=["epoch", "step", "learning_rate", "loss"])
        table = pd.DataFrame(
            {
                "step": range(1, self.step + 1),
                "learning_rate": self.rates,
                "loss": self.fetch(),
            }
        )
        table["epoch"] = (table["step"] - 1) // self.steps + 1
        piece = (table["step"] - 1) // math.ceil(self.steps / 50)
        means = table.groupby(piece).agg(
            epoch=("epoch", "last"),
            step=("step", "last"),
            learning_rate=("learning_rate", "last"),
            loss=("loss", "mean"),
        )
        return means.reset_index(drop=True)


def _read_state(path: Path) -> dict[str, Any] | None:
    """What `TrainingState.save` wrote; None where it is missing, empty, cut or something else."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # OSError, EOFError, RuntimeError, UnpicklingError, KeyError, ...
        return None
    return state if isinstance(state, dict) else None
