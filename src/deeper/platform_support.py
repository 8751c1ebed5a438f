"""Linux-specific features, each with a fallback for other systems.

Everything that reads ``/proc``, asks for CPU affinity, takes a file lock or needs a clock that runs
while the machine sleeps is here, so that the package runs on macOS and on a Linux that lacks some
of it (a container without ``/proc/locks``, gVisor without a boot id).
"""

import errno
import os
import platform
import re
import socket
import subprocess
import time
import uuid
from collections.abc import Collection
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PROC = Path("/proc")


def cores() -> list[int]:
    """Return the numbers of the CPU cores that this process may use, at least one.

    Where the system does not restrict processes to cores (macOS), all cores of the machine.
    """
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def core_count() -> int:
    """Return how many CPU cores this process may use."""
    return len(cores())


def restrict_to_cores(pid: int, allowed: Collection[int]) -> None:
    """Let a process run on some cores only; does nothing where the system has no affinity.

    Raises:
        ProcessLookupError: the process has ended.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(pid, allowed)


def lock_file(descriptor: int, *, wait: bool) -> None:
    """Lock an open file with flock(2), exclusively, until it is closed or the process ends.

    Raises:
        BlockingIOError: another process has it, and ``wait`` is false.
        OSError: with ``errno.ENOSYS`` where the operating system has no flock, and with another
            number (ENOLCK, EOPNOTSUPP) where the file system has none.
    """
    if fcntl is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def is_locked(path: Path) -> bool | None:
    """Return whether any process of this machine holds flock(2) on a file.

    Returns:
        None if the kernel does not list its locks; False if there is no such file.
    """
    try:
        lines = (PROC / "locks").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    try:
        place = _place_in_locks(path)
    except OSError:
        return False
    return any({"FLOCK", place} <= set(line.split()) for line in lines)


def _place_in_locks(file: Path) -> str:
    """Return the name of a file in ``/proc/locks``: device of its file system, and inode.

    The device is the one of the mount: where a file system has several (btrfs, overlayfs), stat(2)
    gives another.
    """
    descriptor = os.open(file, os.O_PATH)
    try:
        status = os.fstat(descriptor)
        facts = (PROC / f"self/fdinfo/{descriptor}").read_text(encoding="utf-8")
    finally:
        os.close(descriptor)
    mount = re.search(r"^mnt_id:\s*(\d+)$", facts, re.M)
    major, minor = os.major(status.st_dev), os.minor(status.st_dev)
    for line in (PROC / "self/mountinfo").read_text(encoding="utf-8").splitlines():
        number, _, device, *_ = line.split()
        if mount and number == mount[1]:
            major, minor = map(int, device.split(":"))
    return f"{major:02x}:{minor:02x}:{status.st_ino}"


def boot_id() -> str:
    """Return a text that differs from machine to machine and, where possible, from boot to boot."""
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        # Without a hardware address, getnode() is random in each process. Processes of one machine
        # then look like those of different machines, and only wait longer for a lock.
        return _sysctl("kern.bootsessionuuid") or f"{socket.gethostname()}-{uuid.getnode():012x}"


def suspend_aware_clock() -> float:
    """Return a clock for differences, in seconds, that goes on while the machine sleeps.

    Linux has CLOCK_BOOTTIME; on macOS CLOCK_MONOTONIC_RAW goes on. Elsewhere the clock may stop.
    """
    for name in ("CLOCK_BOOTTIME", "CLOCK_MONOTONIC_RAW"):
        if hasattr(time, name):
            return time.clock_gettime(getattr(time, name))
    return time.monotonic()


def process_start(pid: int) -> int | None:
    """Return the start time of a process of this machine, which distinguishes processes with the
    same pid.

    Returns:
        Clock ticks since the boot where there is ``/proc``, else milliseconds since 1970; None if
        there is no such process or only its exit status is left (a zombie).
    """
    if (PROC / "self").exists():
        try:
            state, *values = (
                (PROC / f"{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            )
        except OSError:
            return None
        return None if state in "ZX" else int(values[18])
    import psutil  # not needed on Linux, where this has to import quickly

    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None
        return round(1000 * process.create_time())
    except psutil.Error:
        return None


def cpu_name() -> str:
    """Return the vendor's name of the CPU; empty if unknown."""
    try:
        lines = (PROC / "cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return _sysctl("machdep.cpu.brand_string") or platform.processor()
    return next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "")


def _sysctl(name: str) -> str:
    """Return a sysctl value of macOS or BSD; empty if there is none."""
    try:
        done = subprocess.run(
            ["sysctl", "-n", name], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
