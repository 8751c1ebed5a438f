"""The banner of a run: device, size, length, learning rate, memory, position."""

from collections.abc import Iterator

import jax
from rich.table import Table
from rich.text import Text

from deeper.config.data_sections import word_for_example
from deeper.data.encoded_images import View
from deeper.display.terminal import facts_table
from deeper.run.dataset import view_of
from deeper.run.train import Start
from deeper.train.step import ema_share

GIGA, MEGA = 1e9, 2**20


def banner(start: Start) -> Table:
    """Return the banner of a run as a table."""
    facts, settings, view = start.facts(), start.plan.settings, view_of(start.config.data)
    step, mesh, word = start.step, start.mesh, word_for_example(start.config.data)
    device = mesh.devices.flat[0]
    table = facts_table()
    table.add_row("run", Text(start.config.label, style="bold"))
    kind = f"{mesh.devices.size} x {device.device_kind} ({device.platform})"
    table.add_row("device", f"{kind}, JAX {jax.__version__}, {settings.parallel}")
    table.add_row(
        "net",
        f"{facts['parameters']:,} parameters, {facts['macs'] / GIGA:.4f} GMAC an {word}",
    )
    table.add_row(
        "length",
        f"{facts['steps']:,} steps of {facts['batch_size']} = {facts['epochs']:.2f} passes over "
        f"{facts['train_size']:,} {word}s",
    )
    rate = f"peak {facts['peak_learning_rate']:g} at batch {facts['batch_size']}"
    table.add_row("learning rate", rate)
    if settings.ema_decay is not None:
        last = 1.0 - float(ema_share(settings.ema_decay, settings.steps - 1))
        words = f"of decay {settings.ema_decay:g}, warmed up: min(decay, (1 + step) / (10 + step))"
        table.add_row("averages", f"{words}, {last:.5g} at the end")
    table.add_row("memory", f"about {facts['memory_estimate_bytes'] / MEGA:,.0f} MiB a device")
    if view is not None:
        table.add_row("evaluation", seen_of(view))
    position = (
        "the beginning" if step == 0 else f"step {step:,}, example {facts['first_example']:,}"
    )
    table.add_row("position", position)
    return table


def seen_of(view: View) -> str:
    """Return the preprocessing of a photograph in evaluation, as text."""
    height, width, _ = view.image_shape
    side = view.shorter_side
    share = height * width / (max(side, height) * max(side, width))
    return (
        f"the middle {height}x{width} of photographs whose shorter side is {side}: {share:.0%} of "
        "a square one"
    )


def transfer_lines(start: Start) -> Iterator[str]:
    """Return the origin of a run's initial weights, the new layers, and what trains in each
    phase.
    """
    plan, begin = start.plan, start.beginning
    if begin is None:
        return
    if begin.source is not None:
        yield f"Begins from {begin.source}"
        yield f"  new: {', '.join(begin.new) or 'nothing'}"
        if begin.left_out:
            yield f"  left out: {_some(begin.left_out)}"
    if plan.stages is None or not plan.phases[0].multipliers:
        return
    sizes = {
        layer: sum(leaf.size for leaf in jax.tree.leaves(tree))
        for layer, tree in begin.variables["params"].items()
    }
    for phase in plan.phases:
        trained = {
            stage: [layer for layer in layers if not phase.frozen(layer)]
            for stage, layers in plan.stages.layers.items()
        }
        count = sum(sizes[layer] for layers in trained.values() for layer in layers)
        frozen = [stage for stage, layers in trained.items() if not layers]
        yield (
            f"Steps {phase.begins:,} to {phase.ends:,}: {_stages(trained)} train, "
            f"{count:,} of {sum(sizes.values()):,} parameters; frozen: "
            f"{', '.join(frozen) or 'nothing'}"
        )
    if plan.last_layer is not None:
        yield "The features of the frozen layers are computed once."


def _stages(trained: dict[str, list[str]]) -> str:
    return ", ".join(stage for stage, layers in trained.items() if layers)


def _some(layers: list[str], most: int = 6) -> str:
    """Return names as text, shortened if there are many."""
    shown = ", ".join(layers[:most])
    return shown if len(layers) <= most else f"{shown} and {len(layers) - most} more"
