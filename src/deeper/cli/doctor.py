"""``deeper doctor``: what this machine has and what is missing; what a step is elsewhere."""

import os
import shutil
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from deeper.config.compose import run_config
from deeper.config.schema import RunConfig
from deeper.data.dataset import prepared_directory
from deeper.display.terminal import facts_table, open_console
from deeper.errors import ExitCode, UserError
from deeper.record.environment import environment
from deeper.run import check, cost, device
from deeper.track.wandb_process import has_api_key
from deeper.track.wandb_switches import choose, stored_choice


def run(config: DictConfig) -> int:
    """Print a line for each thing that a run stands on; return the exit status."""
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
        found = device.facts(device.mesh_of(None))
        kind = f"{found['device_count']} x {found['device_kind']} ({found['platform']})"
        table.add_row("devices", f"{kind}, {found['cores']} cores for this process")
    except UserError as error:
        table.add_row("devices", str(error))
        status = ExitCode.USER_ERROR
    table.add_row("xla flags", os.environ.get("XLA_FLAGS") or "none")
    name, data_dir = config.data.name, Path(config.data.dir)
    prepared = prepared_directory(name, data_dir)
    table.add_row("data", str(prepared or f"{name} is not prepared: deeper prepare data={name}"))
    table.add_row("wandb", _mirrored())
    free = shutil.disk_usage(Path(config.runs) if Path(config.runs).exists() else Path()).free
    table.add_row("disk", f"{free / 2**30:.0f} GiB free for {config.runs}")
    table.add_row("slurm", "found" if shutil.which("sbatch") else "not found")
    code = facts["git_commit"] or f"no commit is known: {facts['git_unknown']}"
    table.add_row("code", f"{code}{' + changes' if facts['git_dirty'] else ''}")
    table.add_row("cache", str(device.cache_directory() or "none: this user has no home"))
    open_console().print(table)
    return status


def _compile(config: RunConfig, name: str) -> int:
    """Compile the training step for devices that are not there; print what it is."""
    from deeper.run.compile_for import compile_for  # which the other use does not need

    check.check(config)
    found = compile_for(config, name)
    program, table, giga = found.program, facts_table(), 1e9
    table.add_row("step", f"{config.label}, batch {config.train.batch_size}, {found.dtype}")
    table.add_row("for", f"{found.devices} x {found.kind.title}; what follows is for one of them")
    fits = "fits" if found.fits else "does not fit"
    table.add_row(
        "memory", f"{found.memory / giga:.2f} of {found.kind.memory / giga:.0f} GB: {fits}"
    )
    predicted = cost.cost_of(config, {}, devices=found.devices).memory + found.data
    table.add_row("predicted", f"{predicted / giga:.2f} GB by mode=dry, and the examples")
    table.add_row(
        "kernels", f"{program.kernels:,}, {len(program.convolutions)} of them convolutions"
    )
    table.add_row("traffic", f"{program.traffic / giga:.2f} GB between kernels and memory")
    exchanged = sum(program.collectives) / giga
    table.add_row("exchanges", f"{len(program.collectives)} between devices, {exchanged:.3f} GB")
    rate = config.train.batch_size / found.seconds
    least = f"{1e3 * found.seconds:.2f} ms: at most {rate:,.0f} images/s, by the data sheet"
    table.add_row("least time", least)
    open_console().print(table)
    return ExitCode.FINISHED if found.fits else ExitCode.USER_ERROR


def _mirrored() -> str:
    """Return how runs are mirrored at W&B here, and why."""
    try:
        import wandb

        settings = wandb.Settings(silent=True, quiet=True)
        choice = choose("auto", stored_choice(wandb.setup(settings).settings))
    except Exception as error:  # whatever W&B raises, or WANDB_MODE is unknown
        return f"runs are not mirrored: {str(error)[:200]}"
    if choice.mode == "auto":
        return "an API key: runs are mirrored online" if has_api_key() else "no API key: offline"
    return f"{choice.mode}, by {choice.by}"
