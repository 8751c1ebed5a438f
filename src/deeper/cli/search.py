"""``deeper search run|status|finish|lr``: a search over a study's config."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from deeper.cli import launching, local_sweep, train
from deeper.cli.sweep import named_launcher
from deeper.config.compose import directories_of
from deeper.config.search_section import read_search
from deeper.display.search_output import print_answer
from deeper.display.terminal import open_console
from deeper.search.command import Request, answer


def run(config: DictConfig) -> int:
    """Search, show or finish trials, or test the range of the learning rate; return the status."""
    section = read_search(OmegaConf.to_container(config.search, resolve=True))
    hydra, console, runs = HydraConfig.get(), open_console(), Path(config.runs)
    launcher, settings = named_launcher(config) or ("local", {"jobs": config.jobs})
    request = Request(
        section, hydra.overrides.task, directories_of(hydra), runs, launcher, settings,
        config.code, config.readme, train.train_and_tell,
        lambda arms, code: launching.start(arms, runs, launcher, settings, code, "wait", ""),
        lambda work, supply: local_sweep.run_here(work, console, supply),
        lambda line: console.print(line, soft_wrap=True),
    )  # fmt: skip
    return print_answer(*answer(config.action, request, config.trials, config.trial), console)
