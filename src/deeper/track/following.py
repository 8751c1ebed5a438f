"""How the process of a mirror follows the run that has started it."""

import select
import signal
import sys

POLL_SECONDS = 1.0


def wait_for_status() -> str | None:
    """Wait a moment; return what the run sends at its end, or ``killed`` if it ended without a
    word; None while it is running.
    """
    ready, _, _ = select.select([sys.stdin], [], [], POLL_SECONDS)
    return (sys.stdin.read().strip() or "killed") if ready else None


def deaf_to_batch_systems() -> None:
    """Ignore SIGTERM, which a batch system sends to all processes of a job.

    The mirror ends with its run.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
