"""Profile of some training steps: a trace of JAX's profiler, and a summary of one page.

The trace can be opened in XProf (``pip install xprof``) or Perfetto. The summary lists the
operations by time, with their memory traffic where the text of the program tells it.
"""

import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import jax

from deeper.profile.compiled_program import Program, read_program
from deeper.record.schema import PROFILE
from deeper.study.tables import markdown

SHOWN = 30  # operations in the summary
# Operations that contain others, whose time would count twice.
CONTAINERS = ("while", "call", "conditional", "command_buffer")


@dataclass(frozen=True)
class Event:
    """One execution of an operation.

    Attributes:
        name: name of the operation in the compiled program.
        device: name of the device in the trace.
        start: start in ns.
        duration: duration in ns.
    """

    name: str
    device: str
    start: float
    duration: float


class StepProfile:
    """Profiles the steps between `start` and `stop`.

    Args:
        directory: directory of the run; trace and summary are written to `PROFILE` in it.
        first: first step, counted from 1.
    """

    def __init__(self, directory: Path, first: int):
        self._place, self._first = directory / PROFILE, first

    def start(self) -> None:
        """Start the trace."""
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0  # Python's calls would be most of the trace
        jax.profiler.start_trace(str(self._place), profiler_options=options)

    def stop(self, last: int, program: Callable[[], str | None]) -> None:
        """Stop the trace and write the summary.

        Args:
            last: last step that was profiled.
            program: returns the text of the compiled program, or None if it is not available.
        """
        jax.profiler.stop_trace()
        text = program()
        events = list(read_events(self._place))
        page = summary_of(events, self._first, last, read_program(text) if text else None)
        (self._place / "summary.md").write_text(page, encoding="utf-8")


def read_events(place: Path) -> Iterator[Event]:
    """Yield the operations that a trace recorded on devices.

    Args:
        place: directory that was given to the profiler.
    """
    for file in sorted(place.glob("plugins/profile/*/*.xplane.pb")):
        for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
            for line in plane.lines:
                for event in line.events:
                    with warnings.catch_warnings():  # of the binding's own types
                        warnings.simplefilter("ignore", DeprecationWarning)
                        stats = dict(event.stats)
                    name = stats.get("hlo_op")
                    if name is None and line.name == "XLA Ops":  # a TPU's
                        name = event.name.partition(" = ")[0].lstrip("%")
                    if name is None or event.name.startswith("end: "):
                        continue
                    # All devices of a CPU share one plane.
                    device = f"{plane.name} {stats.get('device_ordinal', '')}"
                    if kind_of(str(name)) not in CONTAINERS:
                        yield Event(str(name), device, event.start_ns, event.duration_ns)


def kind_of(name: str) -> str:
    """Return the name of an operation without its number: ``loop_add_fusion`` of several."""
    return re.sub(r"(\.(\d+|clone|remat\d*))+$", "", name)


def summary_of(events: list[Event], first: int, last: int, program: Program | None) -> str:
    """Return the summary in Markdown.

    Args:
        events: operations of the profiled steps, on all devices.
        first: first step.
        last: last step.
        program: what one device does in a step; None leaves out the traffic.
    """
    steps = last - first + 1
    title = f"# Steps {first} to {last}\n"
    if not events:
        return f"{title}\nThe trace has no operations of a device.\n"
    devices = len({event.device for event in events})
    span = max(e.start + e.duration for e in events) - min(e.start for e in events)
    busy = sum(busy_time([e for e in events if e.device == d]) for d in {e.device for e in events})
    busy /= devices
    lines = [
        title,
        f"Mean over {steps} steps and {devices} devices, in ms a step: {_ms(span / steps)} from "
        f"the first operation to the last, {_ms(busy / steps)} with one or more running, "
        f"{_ms((span - busy) / steps)} in gaps. Operations that run at the same time, on several "
        "cores or streams, each count in full below.",
    ]
    traffic: dict[str, int] = {}
    if program is not None:
        traffic = program.traffic_of
        lines.append(
            f"The program of a step has {program.kernels:,} kernels and moves "
            f"{program.traffic / 1e9:.3f} GB."
        )
    share = steps * devices
    lines += [
        "## By kind\n",
        _table(events, kind_of, share, {}),
        "## By operation\n",
        _table(events, str, share, traffic),
    ]
    return "\n\n".join(line.rstrip() for line in lines) + "\n"


def busy_time(events: list[Event]) -> float:
    """Return the ns in which at least one of some operations runs."""
    total, end = 0.0, 0.0
    for event in sorted(events, key=lambda event: event.start):
        stop = event.start + event.duration
        total += max(0.0, stop - max(event.start, end))
        end = max(end, stop)
    return total


def _table(
    events: list[Event], group: Callable[[str], str], share: int, traffic: dict[str, int]
) -> str:
    """Return the groups of operations that take most of the time."""
    spent: dict[str, float] = defaultdict(float)
    calls: dict[str, int] = defaultdict(int)
    for event in events:
        spent[group(event.name)] += event.duration
        calls[group(event.name)] += 1
    total = sum(spent.values())
    longest = sorted(spent, key=lambda name: -spent[name])[:SHOWN]
    headings = ("operation", "calls a step", "ms a step", "share")
    rows = [
        (name, f"{calls[name] / share:.1f}", _ms(spent[name] / share), f"{spent[name] / total:.1%}")
        for name in longest
    ]
    if not traffic:
        return markdown(headings, rows)
    moved = [f"{traffic[name] / 1e6:,.1f}" if name in traffic else "" for name in longest]
    return markdown((*headings, "MB a call"), [(*row, mb) for row, mb in zip(rows, moved)])


def _ms(ns: float) -> str:
    return f"{ns / 1e6:,.3f}"
