"""The exception for a user's mistake, and the exit statuses of the commands."""

from enum import IntEnum


class UserError(Exception):
    """A mistake that the user can fix.

    The message says what is wrong, where, and what to do. The command line prints it without a
    traceback and exits with status 2.
    """


class ReportedElsewhereError(UserError):
    """A mistake that another process of the same run reports."""

    def __init__(self) -> None:
        super().__init__("The first process of this run says what is wrong.")


class DivergedError(Exception):
    """The loss or the parameters of a run became infinite or not a number."""


class ExitCode(IntEnum):
    """How a command, or the process of one run of a sweep, ended."""

    FINISHED = 0
    FAILED = 1  # something broke
    USER_ERROR = 2
    DIVERGED = 3  # a loss or a parameter became infinite or not a number
    INTERRUPTED = 75  # stopped on request; the same command goes on from the last checkpoint
