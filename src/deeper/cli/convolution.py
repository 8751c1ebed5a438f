"""``deeper inspect conv input=640x480x3 ...``: output size, parameters and cost of one layer."""

import re
from pathlib import Path

from omegaconf import DictConfig

from deeper.cli.output_files import check_file
from deeper.display.convolution import print_geometry
from deeper.display.terminal import open_console
from deeper.errors import UserError
from deeper.profile import conv_figure
from deeper.profile.conv_arithmetic import Geometry


def run(config: DictConfig) -> None:
    """Print output size, parameters and multiply-accumulates; draw the sliding window on
    request.
    """
    match = re.fullmatch(r"(\d+)x(\d+)(?:x(\d+))?", str(config.input))
    if not match:
        raise UserError(f"input={config.input}: give HEIGHTxWIDTHxCHANNELS, such as 224x224x3.")
    height, width, channels = (int(part or 1) for part in match.groups())
    if config.out is not None:
        check_file(Path(config.out), "out", (".png", ".svg", ".gif"))
    geometry = Geometry(
        kind=config.kind,
        height=height,
        width=width,
        channels=channels,
        kernel=config.kernel,
        stride=config.stride,
        padding=config.padding,
        dilation=config.dilation,
        features=channels if config.kind == "pool" else config.channels,
        groups=1 if config.kind == "pool" else config.groups,
        bias=bool(config.bias),
    )
    console = open_console()
    print_geometry(geometry, console)
    if config.out is not None:
        conv_figure.draw(geometry, Path(config.out), bool(config.animate))
        console.print(f"-> {config.out}", soft_wrap=True)
    elif config.animate:
        raise UserError("animate=true needs out=FILE.gif.")
