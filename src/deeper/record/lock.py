"""One process at a time on a directory, also where several machines share its file system.

A directory is held by two means, since neither is enough alone:

- flock(2) on the file ``lock``. The kernel releases it when the process ends, however it ends.
  NFS and Lustre (mounted with -o flock) carry it between machines; other file systems keep it
  within one machine, or do not support it.
- A lease, the file ``lock.N``. It names the holder, and a thread of the holder renews its
  modification time. A lease that was not renewed for `LEASE` seconds has expired. A process that
  takes over an expired lease creates ``lock.(N+1)`` exclusively and removes ``lock.N``; a holder
  that was only suspended finds its lease gone and stops before it writes again.

All times that are compared are the file system's, whose clock may differ from this machine's. The
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
from deeper.platform_support import boot_id, is_locked, lock_file, seconds_awake_and_asleep
from deeper.record.atomic_files import disk_errors

RENEWAL, LEASE = 15.0, 60.0  # seconds
_POLL = 0.5


@dataclass(frozen=True)
class Holder:
    """Who holds a directory.

    Attributes:
        host: name of the machine.
        kernel: a number that differs from machine to machine and from boot to boot.
        pid: of the process.
        job: of Slurm, on this cluster; empty outside of one.
        start: how often Slurm has started this job before.
    """

    host: str
    kernel: str
    pid: int
    job: str = ""
    start: int = 0

    @classmethod
    def this_process(cls) -> "Holder":
        """Return this process."""
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
        """Return what a message says."""
        job = f", Slurm job {self.job}" if self.job else ""
        return f"process {self.pid} on {self.host}{job}"


@dataclass(frozen=True)
class _Lease:
    """What is known of a lease; number 0 is of a directory that nobody held yet."""

    number: int
    renewed: float
    holder: Holder | None  # a full disk cost its words

    def is_over(self, taker: Holder, *, locked: bool, now: float) -> bool:
        """Return whether a directory may be taken over, by whom flock allows it."""
        holder = self.holder
        if holder and locked and holder.kernel == taker.kernel:
            return True  # a living one would have the flock
        if holder and holder.job and holder.job == taker.job and holder.start < taker.start:
            return True  # Slurm starts a job again when its earlier start has ended
        return now - self.renewed > LEASE


class Lock:
    """A directory that is held; made by `take_lock`."""

    def __init__(self, path: Path, descriptor: int, number: int):
        self._path, self._descriptor = path, descriptor
        self._file, self._next = path / f"lock.{number}", path / f"lock.{number + 1}"
        self._renewed = seconds_awake_and_asleep()
        self._lost = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Make sure that the directory is still held; for use before a write.

        Raises:
            UserError: this process was away for so long that another one has taken over.
        """
        if seconds_awake_and_asleep() - self._renewed > 2 * RENEWAL:
            self._renew()
        if self._lost:
            raise UserError(
                f"{self._path} was taken over by {_newest(self._path).holder or 'another process'} "
                f"while this process stood still for more than {LEASE:.0f} s. It stops here and "
                "leaves the run to the other."
            )

    def release(self) -> None:
        """Let go of the directory."""
        self._ended.set()
        self._thread.join()
        if not self._lost:
            with suppress(OSError):
                os.utime(self._file, (0, 0))  # run out at once
        os.close(self._descriptor)

    def _keep(self) -> None:
        while not self._lost and not self._ended.wait(RENEWAL):
            self._renew()

    def _renew(self) -> None:
        try:
            os.utime(self._file)
            self._lost = self._next.exists()
            self._renewed = seconds_awake_and_asleep()
        except OSError as error:
            # Of another error nothing follows: where nobody can write, nobody can take over.
            self._lost = error.errno in (errno.ENOENT, errno.ESTALE)


def take_lock(
    path: Path, *, holder: Holder | None = None, tell: Callable[[str], None] = print
) -> Lock:
    """Hold a directory for this process.

    A holder on this machine that lives is seen at once. One on another machine is waited for: until
    it renews its lease, and so lives, or until the lease has run out.

    Args:
        path: the directory.
        holder: who takes it; this process.
        tell: told of a wait.

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
    """Return the number of the lease that was made for a taker."""
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
            tell(f"{path} was held by {lease.holder}: {patience:.0f} s at most show if it lives")
        time.sleep(_POLL)
    raise UserError(
        f"{path} is being worked on by {lease.holder or 'another process'}. Wait for it, or "
        "stop it."
    )


def _flock(path: Path, descriptor: int) -> bool | None:
    """Return whether the file is locked now; None where the file system has no locks."""
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
    """Make a lease and remove those before it; False if another process was faster."""
    with disk_errors(path):
        try:
            file = os.open(path / f"lock.{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return False
    with suppress(OSError):  # a full disk costs only the words
        os.write(file, json.dumps(asdict(holder)).encode())
    os.close(file)
    for old in _numbers(path):
        if old < number:
            (path / f"lock.{old}").unlink(missing_ok=True)
    return True


def _newest(path: Path) -> _Lease:
    """Return the last lease in a directory."""
    while True:
        number = max(_numbers(path), default=0)
        if number == 0:
            return _Lease(0, 0.0, None)
        try:
            # Opening asks the server: what a client remembers of a file can be a minute old.
            with (path / f"lock.{number}").open("rb") as stream:
                renewed, text = os.fstat(stream.fileno()).st_mtime, stream.read()
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ESTALE):
                continue  # another process has just taken over
            raise
        try:
            return _Lease(number, renewed, Holder(**json.loads(text)))
        except (ValueError, TypeError):
            return _Lease(number, renewed, None)


def _numbers(path: Path) -> list[int]:
    words = [file.name.partition(".")[2] for file in path.glob("lock.*")]
    return [int(word) for word in words if word.isdecimal()]


def _file_system_time(path: Path, descriptor: int) -> float:
    """Return the time by the clock that sets the leases' times."""
    with disk_errors(path):
        os.utime(descriptor)
    return os.fstat(descriptor).st_mtime


def holder_of(path: Path) -> Holder | None:
    """Return who holds a directory, found without touching it; None if nobody does.

    A holder on this machine is known by the kernel's list of locks, where it has one; another
    machine's, and any without such a list, by its lease.
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
