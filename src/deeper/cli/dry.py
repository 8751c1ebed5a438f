"""``mode=dry``: the cost of the runs of a sweep in one table, without data."""

from collections.abc import Sequence

from deeper.config.schema import RunConfig
from deeper.display.cost_table import print_costs
from deeper.display.terminal import open_console
from deeper.errors import ExitCode
from deeper.run import device
from deeper.sweep.planned import check_study
from deeper.sweep.planned_costs import decidable, different, names_of, rows_of


def run(configs: Sequence[RunConfig], overrides: Sequence[Sequence[str]]) -> int:
    """Print the cost of a sweep and return the exit status; see `rows_of`.

    A study's mistakes are those that the sweep itself would tell.
    """
    check_study(configs, overrides)
    device.start_jax(configs[0].train.cpu_kernels)
    console = open_console()
    configs, overrides = different(configs, overrides)
    rows = rows_of(configs, overrides)
    print_costs(rows, configs[0], console)
    for line in decidable(configs, names_of(configs, overrides), rows):
        console.print(line)
    return ExitCode.FINISHED
