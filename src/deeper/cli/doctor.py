"""``deeper doctor``: lists what this machine has and what is missing, or compiles for others."""

import os
import shutil
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from deeper.cli.run_keys import data_section
from deeper.config.compose import run_config
from deeper.config.schema import RunConfig
from deeper.data.dataset import prepared_directory
from deeper.display.terminal import facts_table, open_console
from deeper.errors import ExitCode, UserError
from deeper.record.environment import environment
from deeper.run import check, device
from deeper.track.wandb_process import how_mirrored


def run(config: DictConfig) -> int:
    """Print one line for each requirement of a run; return the exit status."""
    device.start_jax(cpu_kernels=True)
    if config.compile is not None:
        return _compile(run_config(config, HydraConfig.get(), ("compile",)), config.compile)
    facts = environment()
    table = facts_table()
    table.add_row("python", facts["python"])
    versions = ", ".join(f"{name} {facts[name]}" for name in ("jax", "jaxlib", "flax", "optax"))
    table.add_row("packages", versions)
    status = ExitCode.FINISHED
    try:
        devices = device.facts(device.mesh_of(None))
        kind = f"{devices['device_count']} x {devices['device_kind']} ({devices['platform']})"
        table.add_row("devices", f"{kind}, {devices['cores']} cores for this process")
    except UserError as error:
        table.add_row("devices", str(error))
        status = ExitCode.USER_ERROR
    table.add_row("xla flags", os.environ.get("XLA_FLAGS") or "none")
    data = data_section(config, classes=None)
    prepared = prepared_directory(data.name, Path(data.dir or ""))
    missing = f"{data.name} is not prepared: deeper prepare data={data.name}"
    table.add_row("data", str(prepared or missing))
    table.add_row("wandb", how_mirrored())
    free = shutil.disk_usage(Path(config.runs) if Path(config.runs).exists() else Path()).free
    table.add_row("disk", f"{free / 2**30:.0f} GiB free for {config.runs}")
    table.add_row("slurm", "found" if shutil.which("sbatch") else "not found")
    code = facts["git_commit"] or f"no commit is known: {facts['git_unknown']}"
    table.add_row("code", f"{code}{' + changes' if facts['git_dirty'] else ''}")
    table.add_row("cache", str(device.cache_directory() or "none: this user has no home"))
    open_console().print(table)
    return status


def _compile(config: RunConfig, name: str) -> int:
    """Compile the training step for devices that are not present; return the exit status."""
    from deeper.run.compile_for import compile_for, rows_of  # imports the nets

    check.check(config)
    found, table = compile_for(config, name), facts_table()
    for row in rows_of(config, found):
        table.add_row(*row)
    open_console().print(table)
    return ExitCode.FINISHED if found.fits else ExitCode.USER_ERROR
