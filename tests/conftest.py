"""Fixtures that several files share: a dataset of striped squares and settings that fit it."""

import gc
import os

import pytest

# One thread, as `run_all.sh test` has it, or sums come out in an order of their own. Set before
# anything below imports numpy or torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Without GPUs, whose sums differ from time to time: tests.benchmarks.bench_gpu checks those.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else its import asks the network

from lib import data as gldv2
from lib.config import AugmentConfig, ModelConfig, StageConfig
from lib.environment import cores
from tests.dataset import write_stripes

# Files that take longest, about in their order, so that no process is left with one at the end.
LONGEST = (
    *("test_chain.py", "test_stage.py", "test_other_folders.py", "test_kernel.py"),
    *("test_requirements.py", "test_network.py", "test_embedding.py", "test_distributed.py"),
    *("test_readers.py", "test_runner.py", "test_gldv2_folder.py", "test_two_pass.py"),
)


def pytest_collection_modifyitems(items):
    """Start with the longest files."""
    place = {name: -len(LONGEST) + i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, 0))


def pytest_xdist_auto_num_workers():
    """A process more than cores, because some tests wait for other processes and for time."""
    return cores() + 1


def pytest_collection():
    """Imports leave half a million objects, which are never garbage."""
    gc.disable()


def pytest_collection_finish():
    """Look for garbage among what tests make alone, and not often."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 10)
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk():
    """No file here has to outlive the machine; every 1 to 5 ms of waiting for it add up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


@pytest.fixture(scope="session")
def stripes(tmp_path_factory):
    """A folder in GLDv2's layout: six landmarks that a small network tells apart in seconds."""
    return write_stripes(tmp_path_factory.mktemp("stripes"))


@pytest.fixture(scope="session")
def dataset(stripes):
    return gldv2.read(stripes)


@pytest.fixture
def images(dataset):
    """The clean training list: 48 images of six classes."""
    return gldv2.training_list(dataset, "clean")


@pytest.fixture(scope="session")
def evaluation(dataset):
    return gldv2.evaluation(dataset)


@pytest.fixture(scope="session")
def tiny_model():
    options = {"channels": (8, 16, 16, 32)}
    return ModelConfig(backbone="resnet10t", backbone_options=options, embedding_dim=32)


@pytest.fixture(scope="session")
def tiny_stage():
    """Two epochs of four steps."""
    return StageConfig(
        name="tiny",
        loss="softmax",
        epochs=2,
        size=32,
        batch_size=12,
        learning_rate=0.1,
        backbone_lr=1.0,
        schedule="poly",
        augment=AugmentConfig(erasing=0.5),
    )


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    """Where everything that a run writes goes."""
    monkeypatch.setenv("LANDMARK_OUTPUTS", str(tmp_path / "outputs"))
    return tmp_path / "outputs"
