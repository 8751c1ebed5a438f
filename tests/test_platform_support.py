"""The package on a system without CPU affinity, ``/proc``, flock and a suspend-aware clock."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deeper import platform_support
from deeper.data.prepare.atomic_directory import scratch_directory
from deeper.errors import UserError
from deeper.record import lock
from deeper.record.environment import environment
from deeper.record.lock import Holder, holder_of, take_lock
from deeper.sweep.resources import shares
from deeper.sweep.submission import Process

SOURCE = Path(platform_support.__file__).parent


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """A system that has none of it."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    monkeypatch.setattr(platform_support, "fcntl", None)
    monkeypatch.setattr(platform_support, "PROC", tmp_path / "no proc")


def test_cores_are_all_of_the_machine_without_affinity(bare):
    assert platform_support.core_count() == os.cpu_count()
    platform_support.restrict_to_cores(os.getpid(), {0})
    assert len(shares(2, None, 2)) == 2


def test_uptime_goes_on_without_a_clock_of_boot_time(bare, monkeypatch):
    for name in (None, "CLOCK_MONOTONIC_RAW"):
        if name:
            monkeypatch.delattr(time, name, raising=False)
        before = platform_support.suspend_aware_clock()
        time.sleep(0.01)
        assert 0.005 < platform_support.suspend_aware_clock() - before < 5


def test_the_lease_alone_guards_a_run_directory_without_flock(bare, tmp_path):
    held = take_lock(tmp_path, tell=lambda text: None)
    assert holder_of(tmp_path).pid == os.getpid()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"RENEWAL": 0.2, "LEASE": 1.0, "_POLL": 0.05}.items():
            patch.setattr(lock, name, value)
        os.utime(held._file, (time.time() + 3600,) * 2)  # renewed while the other one waits
        with pytest.raises(UserError, match="is being worked on by process"):
            take_lock(tmp_path, tell=lambda text: None)
    held.release()
    assert holder_of(tmp_path) is None
    take_lock(tmp_path).release()


def test_a_data_set_is_prepared_without_flock(bare, tmp_path):
    with scratch_directory(tmp_path, "digits", lambda *arguments: None) as scratch:
        assert scratch.is_dir()


def test_without_proc_a_process_is_known_by_its_start(bare):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        known = Process.of(child.pid)
        assert known.began
        assert known.alive
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not known.alive, "only its exit status is left"
    assert not known.alive


def test_a_machine_is_named_without_proc(bare):
    assert Holder.this_process() == Holder.this_process()
    assert Holder.this_process().kernel
    assert isinstance(environment()["cpu"], str)


def test_a_file_that_another_process_locks_is_busy(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    with (tmp_path / "lock").open("w") as first, (tmp_path / "lock").open("w") as second:
        platform_support.lock_file(first.fileno(), wait=False)
        with pytest.raises(BlockingIOError):
            platform_support.lock_file(second.fileno(), wait=False)
        assert platform_support.is_locked(tmp_path / "lock") in (True, None)
        fcntl.flock(first, fcntl.LOCK_UN)
    assert not platform_support.is_locked(tmp_path / "lock")


def test_no_flock_is_told_as_the_system_tells_it(bare, tmp_path):
    with (tmp_path / "lock").open("w") as file, pytest.raises(OSError) as error:
        platform_support.lock_file(file.fileno(), wait=True)
    assert error.value.errno == errno.ENOSYS


def test_the_command_can_be_imported_on_a_system_without_them():
    """All of it, in a process where importing fcntl fails."""
    code = (
        "import os, sys, time\n"
        "sys.modules['fcntl'] = None\n"
        "del os.sched_getaffinity, os.sched_setaffinity, time.CLOCK_BOOTTIME\n"
        "import deeper.cli.main, deeper.cli.train, deeper.cli.sweep, deeper.cli.launching\n"
        "import deeper.track.wandb_upload, deeper.data.prepare.prepare\n"
        "sys.argv = ['deeper', '--help']\n"
        "raise SystemExit(deeper.cli.main.main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage: deeper" in done.stdout


@pytest.mark.parametrize(
    "call", ["sched_getaffinity", "sched_setaffinity", '"/proc', "CLOCK_BOOTTIME", "import fcntl"]
)
def test_what_not_every_system_has_is_in_one_file(call):
    using = {
        str(file.relative_to(SOURCE)) for file in SOURCE.rglob("*.py") if call in file.read_text()
    }
    assert using == {"platform_support.py"}
