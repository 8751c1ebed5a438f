"""A lock on a directory that also works between machines that share its file system.

A directory is locked in two ways, since neither is enough alone:

- flock(2) on the file ``lock``. The kernel releases it when the process ends for any reason.
  NFS and Lustre (mounted with -o flock) share it between machines; on other file systems it is
  local to one machine or not supported.
- A lease, the file ``lock.N``. It names the holder, and a thread of the holder renews its
  modification time. A lease that was not renewed for `LEASE` seconds has expired. A process that
  takes over an expired lease creates ``lock.(N+1)`` exclusively and removes ``lock.N``; a holder
  that was only suspended finds its lease gone and stops before it writes again.

All compared times come from the file system, whose clock may differ from this machine's. The
lease is not a fencing token: a write in progress when its holder was suspended still completes.
"""

import errno
import itertools
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from deeper.errors import UserError
from deeper.platform_support import boot_id, is_locked, lock_file, suspend_aware_clock
from deeper.record.atomic_files import disk_errors

RENEWAL, LEASE = 15.0, 60.0  # seconds
_POLL = 0.5


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock.

    Attributes:
        host: name of the machine.
        kernel: boot id of the machine; it differs between machines and between boots.
        pid: process id.
        job: Slurm job and cluster; empty outside of Slurm.
        start: number of restarts of the Slurm job.
    """

    host: str
    kernel: str
    pid: int
    job: str = ""
    start: int = 0

    @classmethod
    def this_process(cls) -> "Holder":
        """Return the holder that describes this process."""
        variable = os.environ.get
        job = variable("SLURM_JOB_ID", "")
        return cls(
            host=socket.gethostname(),
            kernel=boot_id(),
            pid=os.getpid(),
            job=job and f"{job} on {variable('SLURM_CLUSTER_NAME', '')}",
            start=int(variable("SLURM_RESTART_COUNT") or 0),
        )

    def __str__(self) -> str:
        """Return the text for messages."""
        job = f", Slurm job {self.job}" if self.job else ""
        return f"process {self.pid} on {self.host}{job}"


@dataclass(frozen=True)
class _Lease:
    """A lease as it was read; number 0 means that the directory was never locked."""

    number: int
    renewed: float
    holder: Holder | None  # None if a full disk kept the holder from being written

    def is_over(self, taker: Holder, *, locked: bool, now: float) -> bool:
        """Return whether a process that flock does not exclude may take over the directory."""
        holder = self.holder
        if holder and locked and holder.kernel == taker.kernel:
            return True  # the holder has ended, or it would still have the flock
        if holder and holder.job and holder.job == taker.job and holder.start < taker.start:
            return True  # Slurm restarts a job only after its earlier start has ended
        return now - self.renewed > LEASE


class Lock:
    """A lock that is held; created by `take_lock`."""

    def __init__(self, path: Path, descriptor: int, number: int):
        self._path, self._descriptor = path, descriptor
        self._file, self._next = path / f"lock.{number}", path / f"lock.{number + 1}"
        self._renewed = suspend_aware_clock()
        self._lost = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Check that the lock is still held; call it before a write.

        Raises:
            UserError: this process was away for so long that another one has taken over.
        """
        if suspend_aware_clock() - self._renewed > 2 * RENEWAL:
            self._renew()
        if self._lost:
            raise UserError(
                f"{self._path} was taken over by {_newest(self._path).holder or 'another process'} "
                f"while this process stood still for more than {LEASE:.0f} s. It stops here and "
                "leaves the run to the other."
            )

    def release(self) -> None:
        """Release the lock."""
        self._ended.set()
        self._thread.join()
        if not self._lost:
            with suppress(OSError):
                os.utime(self._file, (0, 0))  # expires at once
        os.close(self._descriptor)

    def _keep(self) -> None:
        while not self._lost and not self._ended.wait(RENEWAL):
            self._renew()

    def _renew(self) -> None:
        try:
            os.utime(self._file)
            self._lost = self._next.exists()
            self._renewed = suspend_aware_clock()
        except OSError as error:
            # Other errors are ignored: if nobody can write, nobody can take over.
            self._lost = error.errno in (errno.ENOENT, errno.ESTALE)


def take_lock(
    path: Path, *, holder: Holder | None = None, tell: Callable[[str], None] = print
) -> Lock:
    """Lock a directory for this process.

    A running holder on this machine is detected at once. For a holder on another machine, the call
    waits until its lease is renewed, which shows that it is running, or has expired.

    Args:
        path: the directory.
        holder: the new holder; by default this process.
        tell: called with a message before a wait.

    Raises:
        UserError: another process holds it, or the disk refuses.
    """
    holder = holder or Holder.this_process()
    with disk_errors(path):
        descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        return Lock(path, descriptor, _wait_for_turn(path, descriptor, holder, tell))
    except BaseException:
        os.close(descriptor)
        raise


def _wait_for_turn(path: Path, descriptor: int, taker: Holder, tell: Callable[[str], None]) -> int:
    """Wait until the directory is free; return the number of the new lease."""
    patience = LEASE + RENEWAL
    began, first = time.monotonic(), _newest(path)
    for attempt in itertools.count():
        lease = _newest(path) if attempt else first
        locked = _flock(path, descriptor)
        now = _file_system_time(path, descriptor)
        over = locked is not False and lease.is_over(taker, locked=bool(locked), now=now)
        if over and _create(path, lease.number + 1, taker):
            return lease.number + 1
        here = locked is False and lease.holder and lease.holder.kernel == taker.kernel
        if here or lease != first or time.monotonic() - began > patience:
            break
        if attempt == 0 and lease.holder:
            tell(
                f"{path} was held by {lease.holder}: {patience:.0f} s at most show whether it is "
                "still running"
            )
        time.sleep(_POLL)
    raise UserError(
        f"{path} is being worked on by {lease.holder or 'another process'}. Wait for it, or "
        "stop it."
    )


def _flock(path: Path, descriptor: int) -> bool | None:
    """Try to lock the file; return whether it worked, or None if the file system has no locks."""
    try:
        lock_file(descriptor, wait=False)
        return True
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
            return None
        raise UserError(
            f"{path} cannot be locked: {error.strerror}. Choose another file system with "
            "runs=DIRECTORY."
        ) from error


def _create(path: Path, number: int, holder: Holder) -> bool:
    """Create a lease and remove older ones; return False if another process was faster."""
    with disk_errors(path):
        try:
            file = os.open(path / f"lock.{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return False
    with suppress(OSError):  # on a full disk the lease stays empty
        os.write(file, json.dumps(asdict(holder)).encode())
    os.close(file)
    for old in _numbers(path):
        if old < number:
            (path / f"lock.{old}").unlink(missing_ok=True)
    return True


def _newest(path: Path) -> _Lease:
    """Return the newest lease in a directory."""
    while True:
        number = max(_numbers(path), default=0)
        if number == 0:
            return _Lease(0, 0.0, None)
        try:
            # Opening queries the server; an NFS client may cache attributes for a minute.
            with (path / f"lock.{number}").open("rb") as stream:
                renewed, text = os.fstat(stream.fileno()).st_mtime, stream.read()
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ESTALE):
                continue  # another process has just removed it
            raise
        try:
            return _Lease(number, renewed, Holder(**json.loads(text)))
        except (ValueError, TypeError):
            return _Lease(number, renewed, None)


def _numbers(path: Path) -> list[int]:
    words = [file.name.partition(".")[2] for file in path.glob("lock.*")]
    return [int(word) for word in words if word.isdecimal()]


def _file_system_time(path: Path, descriptor: int) -> float:
    """Return the current time of the file system's clock."""
    with disk_errors(path):
        os.utime(descriptor)
    return os.fstat(descriptor).st_mtime


def holder_of(path: Path) -> Holder | None:
    """Return the holder of a directory without changing anything; None if it is free.

    A holder on this machine is found in the kernel's list of locks, if there is one; others by
    their leases.
    """
    if not path.is_dir():
        return None
    lease = _newest(path)
    if lease.holder is None:
        return None
    here = lease.holder.kernel == Holder.this_process().kernel
    held = is_locked(path / "lock") if here else None
    if held is None:
        held = time.time() - lease.renewed <= LEASE
    return lease.holder if held else None
