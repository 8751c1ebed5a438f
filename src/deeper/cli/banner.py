"""What a run is, before it starts: device, size, length, rate, memory, position."""

from typing import Any

import jax
from jax.sharding import Mesh
from rich.table import Table

from deeper.cli.build import Plan

GIGA, MEGA = 1e9, 2**20


def banner_facts(plan: Plan, mesh: Mesh, step: int) -> dict[str, Any]:
    """Return the facts, as `environment.json` records them.

    The memory estimate is parameters, gradients and optimizer memory, and what one device's rows
    keep for the backward pass; the compiler's own buffers come on top.
    """
    settings, summary = plan.settings, plan.summary
    rows = settings.batch_size // mesh.devices.size // settings.accumulate
    copies = 3 + (1 if settings.ema_decay is not None else 0)  # parameters, gradients, momentum
    memory = 4 * copies * summary.parameters + rows * summary.residual_bytes
    return {
        "parameters": summary.parameters,
        "macs": summary.macs,
        "train_size": plan.train_size,
        "batch_size": settings.batch_size,
        "steps": settings.steps,
        "epochs": settings.steps * settings.batch_size / plan.train_size,
        "peak_learning_rate": plan.peak_rate,
        "memory_estimate_bytes": memory,
        "first_step": step,
        "first_example": step * settings.batch_size,
    }


def banner(label: str, plan: Plan, mesh: Mesh, step: int) -> Table:
    """Return the facts as a table."""
    facts = banner_facts(plan, mesh, step)
    device = mesh.devices.flat[0]
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("run", f"[bold]{label}[/bold]")
    kind = f"{mesh.devices.size} x {device.device_kind} ({device.platform})"
    table.add_row("device", f"{kind}, JAX {jax.__version__}, {plan.settings.parallel}")
    table.add_row(
        "net",
        f"{facts['parameters']:,} parameters, {facts['macs'] / GIGA:.4f} GMAC an image",
    )
    table.add_row(
        "length",
        f"{facts['steps']:,} steps of {facts['batch_size']} = {facts['epochs']:.2f} passes over "
        f"{facts['train_size']:,} images",
    )
    rate = f"peak {facts['peak_learning_rate']:g} at batch {facts['batch_size']}"
    table.add_row("learning rate", rate)
    table.add_row("memory", f"about {facts['memory_estimate_bytes'] / MEGA:,.0f} MiB a device")
    position = (
        "the beginning" if step == 0 else f"step {step:,}, example {facts['first_example']:,}"
    )
    table.add_row("position", position)
    return table
