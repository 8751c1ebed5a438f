"""The table of a sweep's arms, at most 100 columns wide, also for hundreds of arms."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from deeper.sweep.status import FAILED_STATES, WORDS, State

MOST_WAITING, MOST_NAME = 10, 30
REMARK = ""
HEADINGS = ("arm", "state", "step", "ex/s", "left", "job", REMARK)
NUMBERS = ("step", "ex/s", "left")
COLOURS = {
    "failed": "red", "diverged": "red", "lost": "red", "stopped": "yellow", "cancelled": "yellow",
    "running": "green", "requeued": "yellow", "finished": "dim", "waiting": "dim",
}  # fmt: skip


def summary(states: Sequence[State]) -> str:
    """Return the number of arms in each state, as one line."""
    counts = Counter(state.word for state in states)
    parts = [f"{counts[word]} {word}" for word in WORDS if counts[word]]
    speeds = [s.images_per_second for s in states if s.word == "running" and s.images_per_second]
    speed = f"; {sum(speeds):,.0f} ex/s together" if speeds else ""
    return f"{len(states)} arms: {', '.join(parts)}{speed}"


def table(states: Sequence[State], *, everything: bool) -> Group:
    """Return the table of arms, with failed and running ones first.

    Args:
        states: states of the arms.
        everything: show all finished and waiting arms, and complete messages.
    """
    shown = sorted(states, key=lambda state: WORDS.index(state.word))
    parts: list[Text | Table] = []
    for state in shown:
        if state.word in FAILED_STATES:
            parts.append(_failure(state, everything))
    rest = [state for state in shown if state.word not in FAILED_STATES]
    if not everything:
        rest = [state for state in rest if state.word != "finished"]
    if rest:
        parts.append(_table(rest, everything))
    return Group(*parts)


def _failure(state: State, everything: bool) -> Text:
    facts = [_step(state), f"{state.starts} starts" if state.starts > 1 else "", _job(state)]
    note = ", ".join(fact for fact in facts if fact)
    return Text.assemble(
        (state.word, COLOURS[state.word]),
        f"  {state.name}" + (f" ({note})" if note else "") + f"\n  {state.remark}",
        no_wrap=not everything,
        overflow="fold" if everything else "ellipsis",
    )


def _table(states: Sequence[State], everything: bool) -> Table:
    waiting = [state for state in states if state.word == "waiting"]
    left_out = waiting[3:] if len(waiting) > MOST_WAITING and not everything else []
    rows = [_row(state) for state in states if state not in left_out]
    if left_out:
        reasons = Counter(state.remark for state in left_out)
        why = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common(3))
        more, word = Text(f"and {len(left_out)} more"), Text("waiting", "dim")
        rows.append((more, word, Text(), Text(), Text(), Text(), Text(why)))
    columns = dict(zip(HEADINGS, zip(*rows, strict=True), strict=True))
    columns = {heading: cells for heading, cells in columns.items() if any(map(len, cells))}
    result = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for heading, cells in columns.items():
        result.add_column(
            heading,
            justify="right" if heading in NUMBERS else "left",
            no_wrap=True,
            overflow="ellipsis",
            # Only the remarks are shortened to fit.
            min_width=min(max(map(len, cells)), MOST_NAME) if heading != REMARK else None,
            max_width=MOST_NAME if heading == "arm" else None,
        )
    for row in zip(*columns.values(), strict=True):
        result.add_row(*row)
    return result


def _row(state: State) -> tuple[Text, ...]:
    running = state.word == "running"
    remark = state.remark
    if state.starts > 1:
        times = f"start {state.starts}" if running else f"{state.starts} starts"
        remark = f"{times}, {remark}" if remark else times
    rate = f"{state.images_per_second:,.0f}" if running and state.images_per_second else ""
    return (
        Text(state.name),
        Text(state.word, COLOURS.get(state.word, "")),
        Text(_step(state)),
        Text(rate),
        Text("" if state.seconds_left is None else duration(state.seconds_left)),
        Text(state.job),
        Text(remark),
    )


def _step(state: State) -> str:
    return f"{state.step:,} of {state.steps:,}" if state.steps else ""


def _job(state: State) -> str:
    on_slurm = state.submission is not None and state.submission.launcher == "slurm"
    return f"job {state.job}" if on_slurm and state.job else ""


def duration(seconds: float) -> str:
    """Return a duration in its two largest units."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "<1 min"
    if minutes < 60:
        return f"{minutes} min"
    hours = minutes // 60
    if hours < 48:
        return f"{hours} h {minutes % 60:02d}"
    return f"{hours // 24} d {hours % 24} h"
