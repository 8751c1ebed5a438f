"""Mistakes in a run's config that can be found before anything is written or compiled."""

from pathlib import Path

from deeper.config.schema import RunConfig
from deeper.profile.stages import stages_of
from deeper.run import build, data_record, load, transfer
from deeper.run.dataset import view_of
from deeper.train import losses

# What to do where a run directory holds a run on other data.
OTHER_DATA = "to run on these, move the directory away, or choose another place with runs=DIRECTORY"


def check(config: RunConfig) -> None:
    """Raise a UserError for a mistake in a config, as far as no data are needed."""
    train = config.train
    losses.loss_of(train.loss, train.label_smoothing, train.target_threshold)
    composed = build.as_config(config.plain())
    view_of(composed.data)
    model = build.build_model(composed)
    if config.transfer.phases:
        transfer.phase_configs(composed, stages_of(model, tuple(config.data.image_shape)))
    load.source_of(composed)


def check_same_data(directory: Path, config: RunConfig) -> None:
    """Raise a UserError if a run's data, where they are there now, are not those that it saw."""
    data = build.as_config(config.plain()).data
    data_record.require_same_if_there(directory, data, OTHER_DATA)
