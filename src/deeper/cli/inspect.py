"""``deeper inspect model=NAME data=NAME``: a net in numbers; nothing is compiled."""

import jax
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from deeper.cli import build
from deeper.inspect.arithmetic import parameter_count, summarise
from deeper.models.init import shapes_of


def run(config: DictConfig) -> None:
    """Print parameters by layer, and the totals."""
    console = Console(width=100, highlight=False)
    model = build.build_model(config)
    image_shape = tuple(config.data.image_shape)
    params = shapes_of(model, image_shape)["params"]
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for heading in ("layer", "shapes", "parameters"):
        table.add_column(heading, justify="right" if heading == "parameters" else "left")
    for name, leaves in _layers(params).items():
        shapes = "  ".join("x".join(map(str, leaf.shape)) for leaf in leaves)
        table.add_row(name, shapes, f"{parameter_count(leaves):,}")
    console.print(table)
    summary = summarise(model, image_shape)
    size = "x".join(map(str, image_shape))
    console.print(
        f"\n{build.label_of(config)} on {size}: {summary.parameters:,} parameters, "
        f"{summary.macs / 1e9:.4f} GMAC and "
        f"{summary.residual_bytes / 2**20:.1f} MiB of activations an image"
    )


def _layers(params) -> dict[str, list]:
    """Group the leaves of the parameters' tree by layer."""
    layers: dict[str, list] = {}
    for path, leaf in jax.tree.leaves_with_path(params):
        name = jax.tree_util.keystr(path[:-1], simple=True, separator="/")
        layers.setdefault(name, []).append(leaf)
    return layers
