"""Tests the lock of a run on a file system that two machines share without a common flock.

    python experiments/reliability/lock.py     # root and Debian's package bindfs; two minutes

Mounts one directory twice with bindfs. A flock that is taken through one mount does not hold in the
other, and the processes in them identify themselves as two machines. Prints how long the second
process waits while the first is running, is suspended, and is killed.
"""

import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

PROCESS = """
import sys, time
from dataclasses import replace
from pathlib import Path
from deeper.errors import UserError
from deeper.record.lock import Holder, take_lock
name = sys.argv[2]
me = replace(Holder.this_process(), host=name, kernel=name)
began = time.monotonic()
try:
    lock = take_lock(Path(sys.argv[1]), holder=me, tell=lambda text: None)
    print(f"takes it after {time.monotonic() - began:.1f} s", flush=True)
    sys.stdin.readline()
    lock.check()
    lock.release()
except UserError as error:
    print(f"{time.monotonic() - began:.1f} s: {error}", flush=True)
"""


def main() -> None:
    """Run two processes that identify as two machines on one directory, and print their waiting
    times.
    """
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in ("disk", "a", "b"):
            (place / name).mkdir()
        for name in ("a", "b"):
            subprocess.run(["bindfs", place / "disk", place / name], check=True)
            stack.callback(subprocess.run, ["umount", place / name], check=True)
        seen = subprocess.run(
            ["flock", place / "a" / "x", "flock", "--nonblock", place / "b" / "x", "true"]
        )
        print(f"flock is {'not ' if seen.returncode == 0 else ''}seen through the other mount")

        def start(name: str) -> subprocess.Popen:
            process = subprocess.Popen(
                [sys.executable, "-c", PROCESS, place / name, f"machine {name}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        def says(process: subprocess.Popen, what: str) -> None:
            print(
                f"{what}: {process.stdout.readline().strip()}".replace(str(place), ""), flush=True
            )

        first = start("a")
        says(first, "a, alone")
        says(start("b"), "b, while a lives")
        first.send_signal(signal.SIGSTOP)
        second = start("b")
        says(second, "b, while a is suspended")
        first.send_signal(signal.SIGCONT)
        first.stdin.write("\n")
        first.stdin.flush()
        says(first, "a, awake again")
        second.kill()
        time.sleep(1)
        says(start("a"), "a, after b was killed")


if __name__ == "__main__":
    main()
