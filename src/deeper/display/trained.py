"""Output of ``deeper train`` when its run has ended: the outcome, and how to go on."""

from rich.console import Console

from deeper.errors import ExitCode
from deeper.run.train import Trained
from deeper.train.loop import Outcome


def print_trained(trained: Trained, word: str, console: Console) -> int:
    """Print the outcome of the run and return the exit status.

    Args:
        trained: the run.
        word: what an example is called.
        console: where to print.
    """
    outcome = trained.outcome
    if outcome is None:
        console.print(
            f"{trained.path} is {trained.status} already; remove it to run it again.",
            soft_wrap=True,
        )
        return ExitCode.FINISHED if trained.status == "finished" else ExitCode.DIVERGED
    if trained.status == "interrupted":
        console.print(
            f"Stopped after step {outcome.step}; the same command goes on from there. "
            f"{trained.path}",
            soft_wrap=True,
        )
        return ExitCode.INTERRUPTED
    if trained.status == "diverged":
        console.print(
            f"The {outcome.not_finite} became not finite at step {outcome.step}: try a smaller "
            "optimizer.learning_rate, a longer schedule.warmup or train.gradient_clip=1."
        )
        console.print(str(trained.path), soft_wrap=True)
        return ExitCode.DIVERGED
    for line in _results(outcome, word):
        console.print(line)
    console.print(str(trained.path), soft_wrap=True)
    return ExitCode.FINISHED


def _results(outcome: Outcome, word: str) -> list[str]:
    """Return the result of a finished run as text; an example is called by the word."""
    metrics, metric, unit = outcome.metrics, outcome.metric, outcome.unit
    line = f"test {metric} {metrics[f'test/{metric}']:.2f}{unit} of "
    line += f"{metrics['test/n_seen']:,} {word}s"
    if f"validation/{metric}" in metrics:
        line += f", validation {metrics[f'validation/{metric}']:.2f}{unit}"
    line += f", training {metrics[f'train/{metric}']:.2f}{unit}; {outcome.seconds:.0f} s, "
    lines = [f"{line}{outcome.images_per_second:,.0f} ex/s"]
    for split in ("test", "validation", "train"):
        if unanswered := metrics.get(f"{split}/n_unanswered"):
            lines.append(
                f"{unanswered:,} answers on the {split} split are NaN or infinite; they count as "
                "wrong."
            )
    return lines
