"""A private kernel cache and verified passes for the whole run."""

import os
import signal
import tempfile

import numpy as np
import pytest

# Set before graphflow is imported anywhere; child processes inherit both.
_cache = tempfile.TemporaryDirectory(prefix="graphflow-test-cache-")
os.environ.setdefault("GRAPHFLOW_CACHE_DIR", _cache.name)
os.environ.setdefault("GRAPHFLOW_CHECK", "1")


def pytest_addoption(parser):
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write tests/compiler/golden/*.txt anew; review the diff",
    )


@pytest.fixture
def rng():
    """The same random numbers in every run."""
    return np.random.default_rng(1234)


@pytest.fixture
def interruptible():
    """A process that was started in the background ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
