"""Where a stage is: its steps and losses, the state on disk, and the line after each epoch."""

import math
import time
from pathlib import Path

import pandas as pd
import torch

from lib.config import StageConfig
from lib.learner import Learner
from lib.runs import atomic_path

SAVE_SECONDS = 600


class Progress:
    """Where a stage is: its steps and losses, the state on disk, and the line after each epoch."""

    def __init__(self, stage: StageConfig, steps: int, key: str, path: Path) -> None:
        self.stage, self.steps, self.key, self.path = stage, steps, key, path
        self.step = 0
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
        """The loss of every step so far, the latest taken from their device."""
        if self.waiting:
            self.losses += torch.stack(self.waiting).float().tolist()
            self.waiting = []
        return self.losses

    def seconds(self) -> float:
        """Time spent on the stage, before a restart included."""
        return self.before + time.monotonic() - self.started

    def is_due(self) -> bool:
        """Whether the state on disk is so old that losing it would hurt."""
        return time.monotonic() - self.saved > SAVE_SECONDS

    def save(self, learner: Learner, optimizer: torch.optim.Optimizer) -> None:
        """Write everything that a restart needs."""
        state = {
            "key": self.key,
            "step": self.step,
            "rates": self.rates,
            "losses": self.fetch(),
            "seconds": self.seconds(),
            "learner": learner.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        with atomic_path(self.path) as temporary:
            torch.save(state, temporary)
        self.saved = time.monotonic()

    def restore(self, learner: Learner, optimizer: torch.optim.Optimizer) -> None:
        """Go on from the state on disk if it belongs to the same settings."""
        if not self.path.is_file():
            return
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        if state["key"] != self.key:
            return
        learner.load_state_dict(state["learner"])
        optimizer.load_state_dict(state["optimizer"])
        self.step, self.rates, self.before = state["step"], state["rates"], state["seconds"]
        self.losses = state["losses"]
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
