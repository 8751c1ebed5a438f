"""A pool of processes that decode photographs into memory shared with the training process.

Threads decode in parallel only while they release Python's global lock; the rest of the work on a
photograph is serial. Processes do that part in parallel, too. They take about a second to start,
and memory.
"""

import errno
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from deeper.data.dataset import EncodedImages
from deeper.errors import UserError

TERM_SECONDS = 60.0  # lifetime of a worker after SIGTERM, unless the training process ends before
MEMORY = Path("/dev/shm")  # Linux's file system for shared memory


class Processes:
    """A pool of decoding processes and the shared memory of a few batches.

    Args:
        photographs: the photographs to decode.
        count: number of processes.
        slots: number of batches in preparation at a time.
        shape: shape of a batch, (B, H, W, C).
        seed: seed of the random crops; None takes the central crop.

    Raises:
        UserError: there is not enough shared memory.
    """

    def __init__(
        self,
        photographs: EncodedImages,
        count: int,
        slots: int,
        shape: tuple[int, ...],
        seed: int | None,
    ):
        self._memory = _reserved(slots * int(np.prod(shape)))
        self._slots = np.ndarray((slots, *shape), np.uint8, self._memory.buf)
        self._free = list(range(slots))
        self._pool = ProcessPoolExecutor(
            count,
            # A fork would copy the state of locks that JAX's threads hold.
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(photographs, seed, self._memory.name, self._slots.shape),
        )
        for _ in range(count):
            self._submit(int)  # each submission starts one process

    def __enter__(self) -> "Processes":
        """Return the pool."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the processes and free the memory."""
        if isinstance(error, BrokenProcessPool):
            for process in multiprocessing.active_children():
                process.kill()  # the pool sends SIGTERM, on which a worker waits (`_end_later`)
        self._pool.shutdown(cancel_futures=True)
        del self._slots
        self._memory.close()
        self._memory.unlink()
        if isinstance(error, BrokenProcessPool):
            raise UserError(
                "A process that decodes photographs was ended from outside, as happens where "
                "memory is short: try data.workers with fewer, or data.processes=false. The same "
                "command continues from the last checkpoint."
            ) from error

    def take(self, size: int) -> tuple[int, np.ndarray]:
        """Return a free slot and its first ``size`` images."""
        slot = self._free.pop()
        return slot, self._slots[slot, :size]

    def give_back(self, slot: int | None) -> None:
        """Mark a slot as free."""
        assert slot is not None
        self._free.append(slot)

    def submit(self, slot: int | None, begin: int, rows: np.ndarray, place: int) -> Future[None]:
        """Decode photographs into a slot, starting at its image ``begin``.

        Args:
            slot: slot from `take`.
            begin: first image of the slot to write.
            rows: numbers of the photographs.
            place: place of the first photograph in the training stream, which seeds its crop.
        """
        assert slot is not None
        return self._submit(_decode, slot, begin, rows, place)

    def _submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Submit a call to the pool, which may start a process for it."""
        # SIGTERM stays blocked until the worker has its handler: a batch system sends it to all
        # processes of a job.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        try:
            return self._pool.submit(function, *args)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _reserved(size: int) -> SharedMemory:
    """Allocate ``size`` bytes of shared memory now, so that no later write fails."""
    try:
        # Do not fill the file system in an attempt that has to fail: other processes use it.
        if MEMORY.is_dir() and free_memory() < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        memory = SharedMemory(create=True, size=size)
        try:
            if MEMORY.is_dir():
                with (MEMORY / memory.name).open("r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, size)
        except OSError:
            memory.close()
            memory.unlink()
            raise
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.ENOMEM):
            raise
        raise UserError(
            f"data.processes needs {size >> 20} MB of shared memory, more than is free in "
            f"{MEMORY}: give the container more (docker run --shm-size), or set "
            "data.processes=false."
        ) from error
    return memory


def free_memory() -> int:
    """Return the number of free bytes of shared memory; 0 where it is not known."""
    return shutil.disk_usage(MEMORY).free if MEMORY.is_dir() else 0


_worker: dict[str, Any] = {}  # state of a worker process: photographs, seed and shared memory


def _begin(
    photographs: EncodedImages, seed: int | None, memory: str, shape: tuple[int, ...]
) -> None:
    """Initialise a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the training process ends its workers
    signal.signal(signal.SIGTERM, _end_later)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    shared = SharedMemory(memory)
    slots = np.ndarray(shape, np.uint8, shared.buf)
    _worker.update(photographs=photographs, seed=seed, shared=shared, slots=slots)


def _end_later(number: int, frame: object) -> None:
    """Exit `TERM_SECONDS` after SIGTERM, which a batch system sends to all processes of a job.

    Until then the training process needs batches to reach its checkpoint.
    """
    timer = threading.Timer(TERM_SECONDS, os._exit, (128 + number,))
    timer.daemon = True
    timer.start()


def _end_with_parent() -> None:
    """Exit when the training process ends, also if it is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _decode(slot: int, begin: int, rows: np.ndarray, place: int) -> None:
    images = _worker["slots"][slot, begin : begin + len(rows)]
    _worker["photographs"].decode_into(images, rows, _worker["seed"], place)
