"""The threads of parallel kernels."""

import logging
import warnings

import numba

_log = logging.getLogger(__name__)


def start_threads() -> None:
    """Start numba's threads, if they have not been started.

    Where NUMBA_THREADING_LAYER names what is not installed (tbb, say), those of any layer that is.
    """
    with warnings.catch_warnings():  # of a lock between processes, which a machine without /dev/shm does not have
        warnings.filterwarnings("ignore", "Could not obtain multiprocessing lock", RuntimeWarning)
        _start()


def _start() -> None:
    try:
        numba.get_num_threads()
    except ValueError as error:
        _log.info("%s", " ".join(str(error).split()))
        numba.config.THREADING_LAYER = "default"
        numba.config.THREADING_LAYER_PRIORITY = ["tbb", "omp", "workqueue"]
        numba.get_num_threads()
