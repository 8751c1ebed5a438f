"""Output of ``deeper inspect conv``: the numbers of one layer."""

from rich.console import Console

from deeper.display.terminal import facts_table
from deeper.profile.conv_arithmetic import Geometry


def print_geometry(geometry: Geometry, console: Console) -> None:
    """Print a layer's result, window, parameters and multiply-accumulates."""
    rows, columns, features = geometry.output
    table = facts_table()
    table.add_row("result", f"{rows}x{columns}x{features}")
    table.add_row("window spans", f"{geometry.extent}x{geometry.extent}")
    table.add_row("parameters", f"{geometry.parameters:,}")
    table.add_row("multiply-accumulates", f"{geometry.macs:,}")
    if any(geometry.unseen):
        down, right = geometry.unseen
        table.add_row("never under the window", f"the last {down} rows, {right} columns")
    if geometry.kind != "pool":
        table.add_row(
            "a dense layer instead",
            f"{geometry.height}*{geometry.width}*{geometry.channels} -> {geometry.features:,}: "
            f"{geometry.dense_parameters:,} parameters",
        )
    console.print(table)
