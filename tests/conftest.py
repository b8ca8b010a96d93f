"""Seeds come from the test's own name; thread counts are fixed, for several test runs may share a machine."""

import zlib

import numba
import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    numba.set_num_threads(1)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A number that depends on nothing but the node id, so that no seed is chosen for its result."""
    return zlib.crc32(request.node.nodeid.encode())


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
