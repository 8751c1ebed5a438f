"""The signals that ask a run or a launcher to stop."""

import signal


def asking_to_stop() -> tuple[signal.Signals, ...]:
    """Return SIGINT, SIGTERM and, where nohup does not keep it away, SIGHUP.

    A terminal that is closed sends SIGHUP, and often twice: from its shell and from the kernel.
    """
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    return signals[: 2 if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else 3]
