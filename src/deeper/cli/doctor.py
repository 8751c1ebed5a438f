"""``deeper doctor``: what this machine has and what is missing."""

import os
import shutil
from pathlib import Path

from omegaconf import DictConfig

from deeper.cli import device
from deeper.data.sources import prepared_directory
from deeper.terminal import facts_table, open_console
from deeper.track.environment import environment
from deeper.track.mirror import has_api_key


def run(config: DictConfig) -> None:
    """Print a line for each thing that a run stands on."""
    device.start_jax(cpu_kernels=True)
    mesh = device.mesh_of(None)
    facts = environment() | device.facts(mesh)
    table = facts_table()
    table.add_row("python", facts["python"])
    versions = ", ".join(f"{name} {facts[name]}" for name in ("jax", "jaxlib", "flax", "optax"))
    table.add_row("packages", versions)
    kind = f"{facts['device_count']} x {facts['device_kind']} ({facts['platform']})"
    table.add_row("devices", f"{kind}, {facts['cores']} cores for this process")
    table.add_row("xla flags", facts["xla_flags"] or "none")
    name, data_dir = config.data.name, Path(config.data.dir)
    prepared = prepared_directory(name, data_dir)
    table.add_row("data", str(prepared or f"{name} is not prepared: deeper prepare data={name}"))
    key = "an API key: runs are mirrored online" if has_api_key() else "no API key: offline"
    table.add_row("wandb", key)
    free = shutil.disk_usage(Path(config.runs) if Path(config.runs).exists() else Path()).free
    table.add_row("disk", f"{free / 2**30:.0f} GiB free for {config.runs}")
    table.add_row("slurm", "found" if shutil.which("sbatch") else "not found")
    table.add_row("code", f"{facts['git_commit']}{' + changes' if facts['git_dirty'] else ''}")
    table.add_row("cache", os.environ.get("DEEPER_CACHE") or "~/.cache/deeper/xla")
    open_console().print(table)
