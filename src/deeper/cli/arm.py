"""``python -m deeper arm DIRECTORY``: trains the run of a frozen config.

Launchers start the arms of a sweep with it, so that later edits of ``conf/`` do not affect a
submitted sweep. It does the same as ``deeper train`` with the same config.
"""

import os
import sys
from pathlib import Path

from deeper.cli import train
from deeper.errors import ExitCode
from deeper.run import distributed
from deeper.search.trials import rungs_of
from deeper.sweep.claim import frozen_config
from deeper.sweep.code_snapshot import Code, changed_since
from deeper.sweep.submission import Submission, note, now, read_submission


def run(directory: Path) -> int:
    """Train or continue the run of a directory; return the exit status.

    Raises:
        UserError: as in `frozen_config` and `deeper train`, or if other code than the frozen one is
            running.
    """
    config = frozen_config(directory)
    submission = read_submission(directory)
    if submission is not None:
        _compare_code(directory, submission)
        # Record a command that a person can type.
        sys.argv = ["deeper train", *submission.overrides]
    overrides = None if submission is None else submission.overrides
    status = train.train_and_tell(config, directory, overrides, rungs_of(submission))
    if submission is not None and status == ExitCode.INTERRUPTED and distributed.first():
        # The launcher records this too, but may have ended before.
        ended = {"code": status, "reason": None, "time": now()}
        note(directory, submission.sweep, ended=ended)
    return status


def _compare_code(directory: Path, submission: Submission) -> None:
    """Report and record if the code differs from the submitted code.

    Raises:
        UserError: the run has a snapshot, but other code is running.
    """
    changed = changed_since(Code(**submission.code))
    if changed is None:
        return
    print(
        f"The code has changed since this run was submitted ({submission.code['git_commit']}): "
        f"what runs is commit {changed['git_commit']}, digest {changed['digest']}. code=snapshot "
        "would have kept it."
    )
    if os.environ.get("SLURM_PROCID", "0") == "0":  # only the first process writes
        note(directory, submission.sweep, changed=changed)
