"""Checks of a run's config that need no data and no compilation."""

from pathlib import Path

from deeper.config.data_sections import OwnDataset
from deeper.config.schema import RunConfig
from deeper.errors import UserError
from deeper.profile.stages import stages_of
from deeper.run import build, data_record, transfer
from deeper.run.dataset import check_kept_classes, view_of
from deeper.run.initial_weights import source_of
from deeper.track.tensorboard_events import require_writer
from deeper.train import losses

# Advice for a run directory that holds a run on other data.
OTHER_DATA = "to run on these, move the directory away, or choose another place with runs=DIRECTORY"


def check(config: RunConfig) -> None:
    """Raise a UserError for a mistake in a config that can be found without data."""
    train = config.train
    losses.loss_of(train.loss, train.label_smoothing, train.target_threshold)
    view_of(config.data)
    check_kept_classes(config.data)
    if isinstance(config.data, OwnDataset) and config.task is None:
        raise UserError(
            f"{config.data.name} is a data set of your own: say which task its columns are for, "
            "task=NAME with a file of task/ in your --config-dir, or task=deeper.call(...) in "
            "Python."
        )
    build.task_of(config)
    model = build.build_model(config)
    if config.transfer.phases:
        transfer.phase_configs(config, stages_of(model, build.example_of(config)))
    source_of(config)
    if config.tracker.tensorboard:
        require_writer()


def check_same_data(directory: Path, config: RunConfig) -> None:
    """Raise a UserError if the present data of a run, if any, are not those that it saw."""
    data_record.require_same_if_there(directory, config.data, OTHER_DATA)
