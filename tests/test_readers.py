"""Every reader of a file on a few damaged ones; `python -m tests.torture readers` tries thousands.

What comes is a value, or one sentence that names the file: never another error.
"""

from pathlib import Path

import pytest
from hypothesis import Phase, given, settings

from tests.torture.readers import CHECKS, READERS, damaged, write_reader_samples


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return write_reader_samples(tmp_path_factory.mktemp("samples"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.file)
def test_readers_give_a_value_or_one_sentence(reader, samples, tmp_path):
    content = damaged(reader.prepare(samples, tmp_path), Path(reader.file).suffix)

    @settings(
        derandomize=True,
        max_examples=8,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # looking for a smaller example takes minutes
        suppress_health_check=CHECKS,
    )
    @given(content)
    def check(content):
        assert reader.fault(tmp_path, content) == ""

    check()
