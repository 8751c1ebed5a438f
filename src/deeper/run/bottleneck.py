"""The bottleneck of a run with streamed data, measured in its first calls, and remedies."""

from collections.abc import Iterator

from deeper.config.data_sections import Tfds
from deeper.config.schema import RunConfig
from deeper.data.encoded_images import Photographs
from deeper.data.prepare.jpeg_storage import RESTART, layout_of
from deeper.platform_support import core_count
from deeper.run.input_pipeline import workers_of
from deeper.train.throughput import Rates

SMALL = 0.25  # share of the cores' time; below it, cheaper decoding gains little


def rate_lines(config: RunConfig, images: object, rates: Rates, *, on_cpu: bool) -> Iterator[str]:
    """Return lines with both rates, the one that limits the run, and remaining remedies with their
    cost.

    Args:
        config: config of the run.
        images: number of images in the training split.
        rates: rates measured by the training loop.
        on_cpu: whether the net runs on the same cores as decoding.
    """
    yield (
        f"data alone {rates.data:,.0f} ex/s, compute {rates.compute:,.0f} ex/s: "
        f"the run is bound by {rates.bound_by}"
    )
    if rates.bound_by == "data":
        yield from (f"  faster: {remedy}" for remedy in _remedies(config, images))
    elif on_cpu and rates.compute > SMALL * rates.data:
        yield "  both share the cores, so that cheaper decoding helps all the same:"
        yield from (f"  faster: {remedy}" for remedy in _remedies(config, images))
    else:
        yield "  faster decoding would not help; more or faster devices, or a lighter net, would"


def _remedies(config: RunConfig, images: object) -> Iterator[str]:
    data, cores = config.data, core_count()
    if not isinstance(images, Photographs):
        yield "data.on_device=true, if the devices' memory holds the data set (the same numbers)"
        return
    if data.workers is not None and data.workers < cores:
        yield f"data.workers=null, a worker on each of the {cores} cores (the same pixels)"
    if not isinstance(data, Tfds) and layout_of(images.directory) != RESTART:
        yield "deeper prepare layout=restart into another data.dir (the same pixels, once)"
    if not workers_of(data).processes:
        yield "data.processes=true (the same pixels; memory, and a second at the start)"
    if data.antialias is True:
        yield "data.antialias=fast (pixels within one grey level; scripts/setup resizer)"
    if data.antialias:
        yield "data.antialias=false (other pixels, and so a slightly other accuracy)"
    yield "more cores"
