"""Standard output and error that end no work: closed (``| head``), or on a full disk."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _Lasting:
    """A text stream whose reader may go.

    Args:
        stream: the stream.
        log: whether a full disk costs the text alone, as in a log; else it is an error.
    """

    def __init__(self, stream: Any, *, log: bool):
        self._stream, self._log = stream, log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text, if it can be written."""
        with self._errors():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Hand over what was written, if that is possible."""
        with self._errors():
            self._stream.flush()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in FULL:
                self.leave()  # nobody reads it any more
            elif not self._log:
                raise

    def leave(self) -> None:
        """Send everything from here on, and what waits in buffers, to nowhere."""
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextmanager
def lasting(*, log: bool) -> Iterator[None]:
    """Let what this process prints end nothing that it does.

    Args:
        log: whether standard output is a log, as standard error always is: a full disk costs the
            text alone. A result that is printed has to arrive: there a full disk is an error. A
            reader that has gone (``| head``) is none in either case.
    """
    before = sys.stdout, sys.stderr
    if None in before:  # started without one of them: print copes
        yield
        return
    streams = _Lasting(sys.stdout, log=log), _Lasting(sys.stderr, log=True)
    sys.stdout, sys.stderr = streams
    try:
        yield
    finally:
        for stream in streams:
            try:
                stream._stream.flush()
            except (OSError, ValueError):
                stream.leave()  # or Python would end with a status of its own
        sys.stdout, sys.stderr = before
