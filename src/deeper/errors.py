"""The one exception that stands for a mistake of the person at the keyboard."""


class UserError(Exception):
    """A mistake that its reader can mend.

    The message says what is wrong, where, and what to do. The command line prints it without a
    traceback and exits with status 2.
    """


class SaidElsewhereError(UserError):
    """Of several processes of a run another one has the mistake, and says it."""

    def __init__(self) -> None:
        super().__init__("The first process of this run says what is wrong.")


class DivergedError(Exception):
    """The loss or the parameters of a run became infinite or not a number."""
