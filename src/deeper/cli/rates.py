"""What a run with streamed data is bound by, as its first calls show, and what helps."""

import os
from collections.abc import Iterator

from omegaconf import DictConfig

from deeper.data.photographs import Photographs
from deeper.data.storage import RESTART, layout_of
from deeper.train.rates import Rates


def rate_lines(config: DictConfig, images: object, rates: Rates) -> Iterator[str]:
    """Say both rates, which one bounds the run, and the remedies that are left, with their cost.

    Args:
        config: the run's.
        images: of the training split.
        rates: as the loop measured them.
    """
    yield (
        f"data alone {rates.data:,.0f} img/s, compute alone {rates.compute:,.0f} img/s: "
        f"the run is bound by {rates.bound_by}"
    )
    if rates.bound_by == "compute":
        yield "  faster decoding would not help; more or faster devices, or a lighter net, would"
        return
    for remedy in _remedies(config, images):
        yield f"  faster: {remedy}"


def _remedies(config: DictConfig, images: object) -> Iterator[str]:
    data, cores = config.data, len(os.sched_getaffinity(0))
    if not isinstance(images, Photographs):
        yield "data.on_device=true, if the devices' memory holds the data set (the same numbers)"
        return
    if data.workers is not None and data.workers < cores:
        yield f"data.workers=null, a worker on each of the {cores} cores (the same pixels)"
    if "test_fraction" not in data and layout_of(images.directory) != RESTART:
        yield "deeper prepare layout=restart into another data.dir (the same pixels, once)"
    if not data.processes:
        yield "data.processes=true (the same pixels; memory, and a second at the start)"
    if data.antialias:
        yield "data.antialias=false (other pixels: it changes accuracy by tenths of a point)"
    yield "more cores"
