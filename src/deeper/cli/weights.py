"""``deeper weights``: weights of torchvision and timm in; safetensors, StableHLO, ONNX out."""

from pathlib import Path
from tempfile import TemporaryDirectory

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from deeper.cli.output_files import check_directory, check_file
from deeper.config.compose import directories_of
from deeper.display.terminal import open_console
from deeper.errors import UserError
from deeper.run import device
from deeper.run.export import SUFFIXES, export_weights
from deeper.run.model_card import push, write_card
from deeper.run.weights import import_weights

OF_IMPORT = ("import", "prefix", "ema", "names", "channels")
OF_EXPORT = ("run", "checkpoint", "card", "push", "out")


def run(config: DictConfig) -> None:
    """Import or export weights."""
    source = config["import"]
    if (source is None) == (config.run is None):
        raise UserError("Give import=FILE out=DIRECTORY, or run=DIRECTORY out=FILE.")
    if config.out is None and config.push is None:
        raise UserError("Say where to: out=DIRECTORY for import, out=FILE for export.")
    with TemporaryDirectory() as place:  # of what is pushed and not kept
        out = Path(config.out or place)
        if source is None and not (config.card or config.push):
            check_file(out, "out", SUFFIXES)
        else:
            check_directory(out, "out")
        device.start_jax(config.train.cpu_kernels)
        device.close_cache()  # an exported program holds the weights
        said = _export(config, out) if source is None else _import(config, str(source), out)
    open_console().print("\n".join(said), soft_wrap=True)


def _import(config: DictConfig, source: str, out: Path) -> list[str]:
    hydra = HydraConfig.get()
    own = (*OF_IMPORT, *OF_EXPORT)
    words = [word for word in hydra.overrides.task if word.lstrip("+~").split("=")[0] not in own]
    done = import_weights(
        source,
        out,
        *words,
        directories=directories_of(hydra),
        prefix=config.prefix,
        ema=config.ema,
        names=None if config.names is None else Path(config.names),
        channels=config.channels,
    )
    return [*done.said, f"{done.arrays} arrays of {source} -> {out}"]


def _export(config: DictConfig, out: Path) -> list[str]:
    if config.card or config.push:
        path, repository = Path(config.run), config.push
        done = write_card(path, out, checkpoint=config.checkpoint, repository=repository)
        said = [f"{path}, step {done.step} ({done.architecture}) -> {out}: {', '.join(done.files)}"]
        return said if repository is None else [*said, push(out, repository)]
    step = export_weights(Path(config.run), out, config.names or "torchvision", config.checkpoint)
    size = out.stat().st_size / 2**20
    return [f"{config.run}, step {step} -> {out} ({size:.1f} MiB)"]
