"""Photographs decoded by processes, straight into memory that they share with the one that trains.

Threads decode as long as they hold no lock of Python's; what else there is to do for a photograph
is done by one of them at a time. Processes do that side by side, too; they cost a second at the
beginning, and memory.
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

from deeper.data.encoded_images import Photographs
from deeper.errors import UserError

TERM_SECONDS = 60.0  # that a process lives on after SIGTERM, unless the one that trains ends before
MEMORY = Path("/dev/shm")  # where Linux keeps what processes share


class Processes:
    """A pool of processes and some batches' memory.

    Args:
        photographs: what they decode.
        count: how many.
        slots: batches that are worked on at a time.
        shape: of a batch, (B, H, W, C).
        seed: of random crops; None shows the middle of each.

    Raises:
        UserError: there is not as much shared memory.
    """

    def __init__(
        self,
        photographs: Photographs,
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
            # A fork would copy the locks of JAX's threads.
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(photographs, seed, self._memory.name, self._slots.shape),
        )
        for _ in range(count):
            self._submit(int)  # starts one

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
                process.kill()  # SIGTERM, which the pool sends them, would take a while
        self._pool.shutdown(cancel_futures=True)
        del self._slots
        self._memory.close()
        self._memory.unlink()
        if isinstance(error, BrokenProcessPool):
            raise UserError(
                "A process that decodes photographs was ended from outside, as happens where "
                "memory is short: try data.workers with fewer, or data.processes=false. The same "
                "command goes on from the last checkpoint."
            ) from error

    def take(self, size: int) -> tuple[int, np.ndarray]:
        """Return a free slot and its first ``size`` images."""
        slot = self._free.pop()
        return slot, self._slots[slot, :size]

    def give_back(self, slot: int | None) -> None:
        """Let a slot be used again."""
        assert slot is not None
        self._free.append(slot)

    def submit(self, slot: int | None, begin: int, rows: np.ndarray, place: int) -> Future[None]:
        """Have photographs decoded into a slot, from the image ``begin`` on."""
        assert slot is not None
        return self._submit(_decode, slot, begin, rows, place)

    def _submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Give the pool a call, for which it may start a process."""
        # SIGTERM waits until that can listen: a batch system sends it to all processes of a job.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        try:
            return self._pool.submit(function, *args)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _reserved(size: int) -> SharedMemory:
    """Return new shared memory of so many bytes, which are there: none is missing later on."""
    try:
        # What is too little is not asked for: others need the rest.
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
    """Return how many bytes of shared memory are free; 0 where that is not known."""
    return shutil.disk_usage(MEMORY).free if MEMORY.is_dir() else 0


_own: dict[str, Any] = {}  # of a worker process: what it decodes, and where to


def _begin(photographs: Photographs, seed: int | None, memory: str, shape: tuple[int, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that trains says when to end
    signal.signal(signal.SIGTERM, _end_later)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    shared = SharedMemory(memory)
    slots = np.ndarray(shape, np.uint8, shared.buf)
    _own.update(photographs=photographs, seed=seed, shared=shared, slots=slots)


def _end_later(number: int, frame: object) -> None:
    """Leave time for the checkpoint: a batch system sends SIGTERM to all processes of a job."""
    timer = threading.Timer(TERM_SECONDS, os._exit, (128 + number,))
    timer.daemon = True
    timer.start()


def _end_with_parent() -> None:
    """Leave no process behind when the one that trains is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _decode(slot: int, begin: int, rows: np.ndarray, place: int) -> None:
    images = _own["slots"][slot, begin : begin + len(rows)]
    _own["photographs"].decode_into(images, rows, _own["seed"], place)
