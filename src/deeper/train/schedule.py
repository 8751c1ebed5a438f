"""Learning-rate schedules: functions of the step, with lengths stated as shares of the run.

Each is a dataclass that a file of `conf/schedule` constructs; `over(peak, steps)` returns the optax
schedule.
"""

from dataclasses import dataclass
from itertools import pairwise

import optax

from deeper.errors import UserError


def _warmed_up(after: optax.Schedule, peak: float, warmup_steps: int) -> optax.Schedule:
    """Return a linear rise from zero to the peak, followed by ``after``."""
    if warmup_steps == 0:
        return after
    rise = optax.linear_schedule(0.0, peak, warmup_steps)
    return optax.join_schedules([rise, after], [warmup_steps])


def _checked_share(name: str, share: float) -> float:
    if not 0.0 <= share < 1.0:
        raise UserError(f"schedule.{name} is {share}: give a share of the run from 0 to below 1.")
    return share


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from the peak to zero after a linear warm-up (Loshchilov and Hutter 2016).

    Attributes:
        warmup: length of the linear warm-up as a share of the run (Goyal et al. 2017).
    """

    warmup: float

    def over(self, peak: float, steps: int) -> optax.Schedule:
        """Return the schedule of a run of ``steps`` steps whose highest rate is ``peak``."""
        warmup_steps = round(_checked_share("warmup", self.warmup) * steps)
        fall = optax.cosine_decay_schedule(peak, max(1, steps - warmup_steps))
        return _warmed_up(fall, peak, warmup_steps)


@dataclass(frozen=True)
class Steps:
    """The peak, multiplied by ``factor`` at each milestone, as in most of the papers.

    Attributes:
        milestones: shares of the run at which the rate drops. He et al. 2015 drop it after 32k and
            48k of 64k steps on CIFAR-10, at 0.5 and 0.75.
        factor: multiplier at each milestone, 0.1 in the papers.
        warmup: length of the linear warm-up as a share of the run.
    """

    milestones: tuple[float, ...]
    factor: float
    warmup: float

    def over(self, peak: float, steps: int) -> optax.Schedule:
        """Return the schedule of a run of ``steps`` steps whose highest rate is ``peak``."""
        warmup_steps = round(_checked_share("warmup", self.warmup) * steps)
        shares = [_checked_share("milestones", share) for share in self.milestones]
        if any(a >= b for a, b in pairwise([self.warmup, *shares])):
            raise UserError(
                f"schedule.milestones are {list(self.milestones)} after a warm-up of "
                f"{self.warmup}: they have to rise, and to begin after the warm-up."
            )
        drops = {round(share * steps) - warmup_steps: self.factor for share in shares}
        return _warmed_up(optax.piecewise_constant_schedule(peak, drops), peak, warmup_steps)


@dataclass(frozen=True)
class Constant:
    """The peak throughout, after a linear warm-up.

    Attributes:
        warmup: length of the linear warm-up as a share of the run.
    """

    warmup: float

    def over(self, peak: float, steps: int) -> optax.Schedule:
        """Return the schedule of a run of ``steps`` steps whose highest rate is ``peak``."""
        warmup_steps = round(_checked_share("warmup", self.warmup) * steps)
        return _warmed_up(optax.constant_schedule(peak), peak, warmup_steps)


@dataclass(frozen=True)
class Staircase:
    """The peak, multiplied by ``factor`` at regular intervals (Szegedy et al. 2014).

    Attributes:
        every: length of an interval as a share of the run.
        factor: multiplier after each interval.
        warmup: length of the linear warm-up as a share of the run; the first interval follows it.
    """

    every: float
    factor: float
    warmup: float

    def over(self, peak: float, steps: int) -> optax.Schedule:
        """Return the schedule of a run of ``steps`` steps whose highest rate is ``peak``."""
        warmup_steps = round(_checked_share("warmup", self.warmup) * steps)
        if not 0.0 < self.every <= 1.0:
            raise UserError(f"schedule.every is {self.every}: give a share of the run, up to 1.")
        fall = optax.exponential_decay(
            peak, max(1, round(self.every * steps)), self.factor, staircase=True
        )
        return _warmed_up(fall, peak, warmup_steps)


@dataclass(frozen=True)
class RangeTest:
    """An exponential rise to the peak over the whole run (Smith 2017, arXiv:1506.01186).

    Attributes:
        begin: the first rate as a share of the peak.
    """

    begin: float

    def over(self, peak: float, steps: int) -> optax.Schedule:
        """Return the schedule of a run of ``steps`` steps whose last rate is ``peak``."""
        if not 0.0 < self.begin < 1.0:
            raise UserError(f"schedule.begin is {self.begin}: give a share of the peak, below 1.")
        return optax.exponential_decay(self.begin * peak, max(1, steps - 1), 1 / self.begin)


Schedule = Cosine | Steps | Constant | Staircase | RangeTest
