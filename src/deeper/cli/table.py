"""The table of a sweep's arms, within 100 columns, readable also where there are hundreds."""

from collections import Counter
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from deeper.cli.states import WORDS, State

MOST_WAITING = 10
COLOURS = {
    "failed": "red", "diverged": "red", "lost": "red", "stopped": "yellow", "cancelled": "yellow",
    "running": "green", "requeued": "yellow", "finished": "dim", "waiting": "dim",
}  # fmt: skip


def summary(states: Sequence[State]) -> str:
    """Return in a line how many arms are in which state."""
    counts = Counter(state.word for state in states)
    told = [f"{counts[word]} {word}" for word in WORDS if counts[word]]
    speeds = [s.images_per_second for s in states if s.word == "running" and s.images_per_second]
    speed = f"; {sum(speeds):,.0f} img/s together" if speeds else ""
    return f"{len(states)} arms: {', '.join(told)}{speed}"


def table(states: Sequence[State], *, everything: bool) -> Table:
    """Return the arms, those first that want attention.

    Args:
        states: of the arms.
        everything: whether also each finished arm and each of many that wait.
    """
    result = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    result.add_column("arm", max_width=30, no_wrap=True, overflow="ellipsis")
    result.add_column("state", no_wrap=True)
    for heading in ("step", "img/s", "left"):
        result.add_column(heading, justify="right", no_wrap=True)
    result.add_column("job", no_wrap=True)
    result.add_column("", overflow="fold" if everything else "ellipsis", no_wrap=not everything)
    shown = sorted(states, key=lambda state: WORDS.index(state.word))
    waiting = [state for state in shown if state.word == "waiting"]
    left_out = waiting[3:] if len(waiting) > MOST_WAITING and not everything else []
    hidden = {id(state) for state in left_out}
    for state in shown:
        if id(state) not in hidden and (everything or state.word != "finished"):
            result.add_row(*_row(state))
    if left_out:
        reasons = Counter(state.remark for state in left_out)
        why = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common(3))
        result.add_row(
            f"and {len(left_out)} more", Text("waiting", "dim"), "", "", "", "", Text(why)
        )
    return result


def _row(state: State) -> tuple[str | Text, ...]:
    step = ""
    if state.steps:
        step = f"{state.step:,} of {state.steps:,}"
    running = state.word == "running"
    remark = state.remark
    if state.starts > 1:
        times = f"start {state.starts}" if running else f"{state.starts} starts"
        remark = f"{times}, {remark}" if remark else times
    return (
        Text(state.name),
        Text(state.word, COLOURS.get(state.word, "")),
        step,
        f"{state.images_per_second:,.0f}" if running and state.images_per_second else "",
        duration(state.seconds_left) if state.seconds_left is not None else "",
        state.job,
        Text(remark),
    )


def duration(seconds: float) -> str:
    """Return a time in its two largest units."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "<1 min"
    if minutes < 60:
        return f"{minutes} min"
    hours = minutes // 60
    if hours < 48:
        return f"{hours} h {minutes % 60:02d}"
    return f"{hours // 24} d {hours % 24} h"
