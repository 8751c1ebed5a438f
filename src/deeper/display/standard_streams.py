"""Keeps a closed (``| head``) or full standard output or error from ending the process."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _Lasting:
    """A text stream whose reader may end.

    Args:
        stream: the stream.
        log: whether text is dropped silently on a full disk, as in a log; otherwise it is an error.
    """

    def __init__(self, stream: Any, *, log: bool):
        self._stream, self._log = stream, log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text, if possible."""
        with self._errors():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream, if possible."""
        with self._errors():
            self._stream.flush()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in FULL:
                self.leave()  # the reader has ended
            elif not self._log:
                raise

    def leave(self) -> None:
        """Discard buffered and further output."""
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextmanager
def lasting(*, log: bool) -> Iterator[None]:
    """Keep errors of the standard streams from ending this process.

    Args:
        log: whether standard output is a log, as standard error always is: text is dropped on a
            full disk. If results are printed, a full disk is an error. A reader that has ended (``|
            head``) is never an error.
    """
    before = sys.stdout, sys.stderr
    if None in before:  # started without this stream: print handles that
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
                stream.leave()  # otherwise Python would exit with a status of its own
        sys.stdout, sys.stderr = before
