"""``python -m deeper arm DIRECTORY``: the run that a directory's frozen config says.

Launchers start the arms of a sweep so: what was composed when the sweep was submitted is what runs,
whatever has become of ``conf/`` since. It does what ``deeper train`` does with the same config.
"""

import sys
from pathlib import Path

from deeper.cli import build, train
from deeper.cli.snapshot import digest
from deeper.cli.submission import Submission, read_submission, update_submission
from deeper.errors import UserError
from deeper.track.environment import code_version, root
from deeper.track.run_directory import CONFIG, read_config


def run(directory: Path) -> int:
    """Train the run of a directory, or go on with it; return the exit status.

    Raises:
        UserError: there is no frozen config, or it is another one than was frozen.
    """
    plain = read_config(directory)
    if plain is None:
        raise UserError(f"{directory} has no {CONFIG}: it is no run directory.")
    frozen = plain.pop("config_hash", None)
    if "choices" not in plain:
        raise UserError(
            f"{directory / CONFIG} does not say which groups were chosen, as those of an older "
            "deeper: repeat the command `deeper train` that made it."
        )
    if frozen != build.config_hash(plain):
        raise UserError(
            f"{directory / CONFIG} was edited: its config_hash is {frozen}, but what it says has "
            f"{build.config_hash(plain)}. Undo that, or give `deeper train` the new values."
        )
    submission = read_submission(directory)
    if submission is not None:
        _compare_code(directory, submission)
        # The record shall hold a command that a person can type.
        sys.argv = ["deeper train", *submission.overrides]
    return train.run_frozen(build.as_config(plain), directory)


def _compare_code(directory: Path, submission: Submission) -> None:
    """Say it, and record it, if the code is another than the one that was submitted."""
    now = digest()
    if now == submission.code["digest"]:
        return
    commit = code_version(root())["git_commit"]
    print(
        f"The code has changed since this run was submitted ({submission.code['git_commit']}): "
        f"what runs is commit {commit}, digest {now}. code=snapshot would have kept it."
    )
    changed = {"digest": now, "git_commit": commit}
    update_submission(directory, submission.sweep, changed=changed)
