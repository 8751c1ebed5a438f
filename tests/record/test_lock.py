"""The lock between machines. The second machine is simulated by another boot id.

Where a file system does not carry flock from one machine to the other, each sees a ``lock`` that
nobody has locked. Here the file is put aside, so that the taker locks another one.
"""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from deeper.errors import UserError
from deeper.record import lock
from deeper.record.lock import Holder, holder_of, take_lock
from deeper.record.run_directory import RunDirectory

HERE = Holder.this_process()
ELSEWHERE = replace(HERE, host="elsewhere", kernel="another")
QUICK = {"RENEWAL": 0.2, "LEASE": 1.0, "_POLL": 0.05}

HOLD = f"""
import sys, time
from deeper.errors import UserError
from deeper.record import lock
from deeper.record.run_directory import RunDirectory
vars(lock).update({QUICK})
with RunDirectory.open(sys.argv[1], {{}}, "0123abcd") as directory:
    directory.log({{"step": 0}})
    print("held", flush=True)
    for step in range(1, 1000):
        try:
            directory.log({{"step": step}})
        except UserError as error:
            print(error, flush=True)
            break
        time.sleep(0.01)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    for name, value in QUICK.items():
        monkeypatch.setattr(lock, name, value)
    return tmp_path


@contextmanager
def holder(place):
    """Another process that holds a directory and writes into it."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(place)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "held\n"
            (place / "lock").unlink()  # see above
            yield process
        finally:
            process.kill()


def rows(place):
    return (place / "metrics.jsonl").read_text()


def test_a_holder_on_another_machine_is_respected_while_it_lives(place):
    with holder(place) as process:
        for _ in range(3):
            with pytest.raises(UserError, match=f"worked on by process {process.pid} on"):
                take_lock(place, holder=ELSEWHERE)


def test_a_holder_that_another_machine_lost_is_waited_for_and_replaced(place, capsys):
    with holder(place) as process:
        process.kill()
        process.wait()
        renewed = (place / "lock.1").stat().st_mtime
        taken = take_lock(place, holder=ELSEWHERE)
        assert (place / "lock.2").stat().st_mtime - renewed > QUICK["LEASE"]
        assert f"was held by process {process.pid} on" in capsys.readouterr().out
        assert [file.name for file in place.glob("lock.*")] == ["lock.2"]
        taken.release()


def test_a_holder_that_was_suspended_too_long_stops_before_it_writes(place):
    with holder(place) as process:
        process.send_signal(signal.SIGSTOP)
        taken = take_lock(place, holder=ELSEWHERE)
        before = rows(place)
        process.send_signal(signal.SIGCONT)
        assert "was taken over by process" in process.stdout.readline()
        process.wait(timeout=10)
        assert rows(place) == before
        with pytest.raises(UserError):
            take_lock(place, holder=replace(ELSEWHERE, kernel="a third"))
        taken.release()


def test_a_holder_that_was_suspended_shortly_goes_on(place):
    with holder(place) as process:
        process.send_signal(signal.SIGSTOP)
        process.send_signal(signal.SIGCONT)
        with pytest.raises(UserError, match="worked on by"):
            take_lock(place, holder=ELSEWHERE)


def test_a_requeued_job_takes_over_from_its_earlier_start_at_once(place, capsys):
    first = replace(ELSEWHERE, job="7 on cluster", start=1)
    lost = take_lock(place, holder=first)
    (place / "lock").unlink()
    with pytest.raises(UserError):
        take_lock(place, holder=replace(first, kernel="another yet", job="8 on cluster", start=2))
    capsys.readouterr()
    take_lock(place, holder=replace(first, kernel="another yet", start=2)).release()
    assert not capsys.readouterr().out, "it waited"
    lost.release()


def test_a_released_directory_is_free_at_once_everywhere(place, capsys):
    for taker in (HERE, ELSEWHERE, HERE):
        take_lock(place, holder=taker).release()
    assert not capsys.readouterr().out


def test_of_many_machines_that_take_a_free_directory_one_gets_it(place, monkeypatch, capsys):
    monkeypatch.setattr(fcntl, "flock", lambda *arguments: None)  # each has its own
    for _ in range(10):
        began = threading.Barrier(8)
        got, refused = [], []

        def take(name, began=began, got=got, refused=refused):
            began.wait(10)
            try:
                got.append(take_lock(place, holder=replace(ELSEWHERE, kernel=name)))
            except UserError:
                refused.append(name)

        takers = [threading.Thread(target=take, args=(f"kernel {n}",)) for n in range(8)]
        for taker in takers:
            taker.start()
        for taker in takers:
            taker.join(30)
        assert (len(got), len(refused)) == (1, 7)
        got[0].release()


def test_without_flock_the_lease_alone_keeps_others_out(place, monkeypatch):
    def none(*arguments):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", none)
    first = take_lock(place)
    with pytest.raises(UserError, match="worked on by process"):
        take_lock(place)
    first.release()
    with RunDirectory.open(place, {}, "0123abcd") as directory:
        directory.log({"step": 1})


def test_a_full_disk_takes_no_words_to_hold(place, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        first = take_lock(place)
    with pytest.raises(UserError, match="worked on by another process"):
        take_lock(place)
    first.release()
    take_lock(place).release()


def test_a_holder_is_found_by_the_kernels_list_of_locks(place):
    taken = take_lock(place)
    assert holder_of(place) == HERE
    taken.release()
    assert holder_of(place) is None


def test_a_lock_on_a_file_of_another_device_with_the_same_inode_is_another(place, monkeypatch):
    taken = take_lock(place)
    inode = (place / "lock").stat().st_ino
    taken.release()
    other = f"1: FLOCK  ADVISORY  WRITE 7 ff:ff:{inode} 0 EOF\n"
    read = Path.read_text
    monkeypatch.setattr(
        Path,
        "read_text",
        lambda file, *a, **k: other if str(file) == "/proc/locks" else read(file, *a, **k),
    )
    assert holder_of(place) is None
