"""Output of ``deeper inspect``: a net's layers, and a sentence on the whole of it."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from deeper.config.data_sections import word_for_example
from deeper.display.terminal import tables
from deeper.profile.layer_rows import SHORT_HEADINGS, short_row_of
from deeper.profile.layer_table import Layer


def print_layers(
    layers: Sequence[Layer], totals: dict[str, Any], data: Any, console: Console
) -> None:
    """Print a row for each layer, and the totals.

    Args:
        layers: of the net.
        totals: of the net, see `totals_of`.
        data: section of what the net is for.
        console: where to print.
    """
    short = [short_row_of(layer, totals["macs"]) for layer in layers]
    for table in tables(SHORT_HEADINGS, short, console.width, left=3, padding=1):
        console.print(table)
    console.print(_sentence(totals, data))


def unit_of_field(data: Any) -> str:
    """Return the unit of receptive fields, for a section of data."""
    return "pixels" if word_for_example(data) == "image" else "positions"


def _sentence(totals: dict[str, Any], data: Any) -> str:
    memory = ", ".join(
        f"{size / 2**30:.2f} GiB in {dtype}" for dtype, size in totals["training_bytes"].items()
    )
    (shape, _), word = data.example, word_for_example(data)
    return (
        f"\n{totals['label']} on {'x'.join(map(str, shape))}: {totals['depth']} layers with "
        f"weights, {totals['parameters']:,} parameters, {totals['macs'] / 1e9:.4f} GMAC, "
        f"{totals['activation_bytes'] / 2**20:.1f} MiB of activations an {word}; its maps see "
        f"{totals['receptive_field']} {unit_of_field(data)}.\n"
        f"Training at batch {totals['batch_size']}: "
        f"{memory} (parameters, gradients, optimizer, averages, activations)."
    )
