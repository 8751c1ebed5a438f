"""``python -m deeper arm DIRECTORY``: the run that a directory's frozen config says.

Launchers start the arms of a sweep so: what was composed when the sweep was submitted is what runs,
whatever has become of ``conf/`` since. It does what ``deeper train`` does with the same config.
"""

import os
import sys
from pathlib import Path

from deeper.cli import train
from deeper.errors import ExitCode
from deeper.run import distributed
from deeper.sweep.claim import frozen_config
from deeper.sweep.code_snapshot import Code, changed_since
from deeper.sweep.submission import Submission, note, now, read_submission


def run(directory: Path) -> int:
    """Train the run of a directory, or go on with it; return the exit status.

    Raises:
        UserError: as `frozen_config` does, or `deeper train` with the same config, or where other
            code runs than was frozen.
    """
    config = frozen_config(directory)
    submission = read_submission(directory)
    if submission is not None:
        _compare_code(directory, submission)
        # The record shall hold a command that a person can type.
        sys.argv = ["deeper train", *submission.overrides]
    overrides = None if submission is None else submission.overrides
    status = train.train_and_tell(config, directory, overrides)
    if submission is not None and status == ExitCode.INTERRUPTED and distributed.first():
        # Its launcher writes that down, too, but may have ended before.
        ended = {"code": status, "reason": None, "time": now()}
        note(directory, submission.sweep, ended=ended)
    return status


def _compare_code(directory: Path, submission: Submission) -> None:
    """Say it, and record it, if the code is another than the one that was submitted.

    Raises:
        UserError: a snapshot was to run, and it is not what runs.
    """
    changed = changed_since(Code(**submission.code))
    if changed is None:
        return
    print(
        f"The code has changed since this run was submitted ({submission.code['git_commit']}): "
        f"what runs is commit {changed['git_commit']}, digest {changed['digest']}. code=snapshot "
        "would have kept it."
    )
    if os.environ.get("SLURM_PROCID", "0") == "0":  # the first process writes it down
        note(directory, submission.sweep, changed=changed)
