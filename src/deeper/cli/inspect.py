"""``deeper inspect``: the layers of a net, a comparison of nets, a contact sheet of an
augmentation.

Only the contact sheet compiles anything and reads data.
"""

import csv
import json
import sys
from dataclasses import asdict
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from deeper.augment import contact_sheet
from deeper.cli.output_files import check_file
from deeper.config.compose import run_config
from deeper.config.schema import RunConfig
from deeper.display.net_layers import print_layers, unit_of_field
from deeper.display.terminal import open_console, tables
from deeper.errors import UserError
from deeper.interpret.traced_net import unrolled
from deeper.profile import depth_figure
from deeper.profile.layer_rows import HEADINGS, row_of
from deeper.profile.layer_table import layers_of
from deeper.run import build, device
from deeper.run.dataset import open_splits
from deeper.run.net_totals import compared_net, totals_of
from deeper.study.tables import markdown

COMMAND_KEYS = ("format", "compare", "out", "sheet")  # not part of a run's config


def run(config: DictConfig) -> None:
    """Print a net's layers and totals, or compare several nets."""
    if config.out is not None:
        check_file(Path(config.out), "out", (".png", ".svg"))
    if config.compare:
        _compare(config)
        return
    hydra = HydraConfig.get()
    typed = run_config(config, hydra, COMMAND_KEYS)
    if any(override.startswith("augment=") for override in hydra.overrides.task):
        _sheet(typed, config.sheet, config.out)
        return
    shape = build.example_of(typed)
    layers = layers_of(unrolled(build.build_model(typed)), shape)
    totals = totals_of(typed, layers, shape)
    if config.format == "json":
        rows = [
            asdict(layer) | {"receptive_field": layer.field and layer.field.size}
            for layer in layers
        ]
        print(json.dumps({"totals": totals, "layers": rows}, indent=1))
    elif config.format == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerow(HEADINGS)
        writer.writerows(row_of(layer, totals["macs"], plain=True) for layer in layers)
    elif config.format == "markdown":
        print(markdown(HEADINGS, [row_of(layer, totals["macs"]) for layer in layers]))
    else:
        print_layers(layers, totals, typed.data, open_console())


def _sheet(config: RunConfig, count: int, path: str | None) -> None:
    """Draw the augmentation of the first images of the training split."""
    device.start_jax(cpu_kernels=True)
    name = str(config.choices["augment"])
    out = Path(path or f"{name}-{config.data.name}.png")
    images = open_splits(config).train.images
    if not 2 <= count <= len(images):
        raise UserError(f"sheet={count}: give 2 to {len(images)} images.")
    shown = images[: count - count % 2]  # Mixup and CutMix take them in pairs
    contact_sheet.sheet(build.operations_of(config), name, shown, out)
    print(f"-> {out}", file=sys.stderr)


def _compare(config: DictConfig) -> None:
    """Tabulate and draw several nets."""
    from hydra import compose

    mine = [o for o in HydraConfig.get().overrides.task if not o.startswith(("compare=", "model"))]
    nets = []
    for name in config.compare:
        family, _, depth = str(name).partition("-")
        overrides = [*mine, f"model={family}", *([f"model.depth={depth}"] if depth else [])]
        composed = compose("inspect", overrides=overrides, return_hydra_config=True)
        config_of_net = run_config(composed, composed.hydra, COMMAND_KEYS)
        nets.append(compared_net(config_of_net, label=str(name), family=family))
    headings = ("net", "depth", "parameters", "GMAC", "receptive field")
    rows = [
        (n.label, str(n.depth), f"{n.parameters:,}", f"{n.macs / 1e9:.4f}", str(n.field))
        for n in nets
    ]
    if config.format == "json":
        print(json.dumps([asdict(net) for net in nets], indent=1))
    elif config.format == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerow(headings)
        writer.writerows((n.label, n.depth, n.parameters, n.macs / 1e9, n.field) for n in nets)
    elif config.format == "markdown":
        print(markdown(headings, rows))
    else:
        console = open_console()
        for table in tables(headings, rows, console.width):
            console.print(table)
    if config.out is not None:
        out = Path(config.out)
        data = config_of_net.data
        depth_figure.draw(nets, out, data.example[0][0], unit_of_field(data))
        print(f"-> {out}", file=sys.stderr)
