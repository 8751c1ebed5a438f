"""The one exception that stands for a mistake of the person at the keyboard."""


class UserError(Exception):
    """A mistake that its reader can mend.

    The message says what is wrong, where, and what to do. The command line prints it without a
    traceback and exits with status 2.
    """
