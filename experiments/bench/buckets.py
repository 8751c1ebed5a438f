"""What a step for several H200s does with one exchange of all gradients, and with one a bucket.

    JAX_PLATFORMS=cpu python experiments/bench/buckets.py    # the table in README.md

Compiled without a device, as `compiled.py` does; needs the extra cuda.
"""

import os
import subprocess
import sys
from pathlib import Path

from compiled import NETS

from deeper.config.compose import configure
from deeper.run.compile_for import compile_for
from deeper.study.tables import insert_between_markers, markdown
from deeper.train import data_parallel

PAGE = Path(__file__).with_name("README.md")
LIMITS = {"one": sys.maxsize, "25 MiB": data_parallel.BUCKET}


def row(net: str, devices: int, limit: str) -> tuple[str, ...]:
    """Compile a step and return its row of the table."""
    data_parallel.BUCKET = LIMITS[limit]
    rows, words = NETS[net]
    batch = (f"train.batch_size={rows * devices}", f"train.devices={devices}")
    found = compile_for(configure(*words, "augment=none", *batch), "h200")
    program = found.program
    exchanged = program.collectives
    return (
        net,
        str(devices),
        limit,
        str(len(exchanged)),
        f"{max(exchanged) / 1e6:.1f}",
        str(program.beside_collectives),
        f"{program.kernels:,}",
        f"{program.traffic / 1e9:.2f}",
        f"{(found.memory - found.data) / 1e9:.2f}",
    )


def main() -> None:
    """Compile each step in a process of its own, and write the table."""
    if sys.argv[1:]:
        net, devices, limit = sys.argv[1:]
        print("|".join(row(net, int(devices), limit)))
        return
    headings = (
        "net", "devices", "bucket", "exchanges", "largest MB", "kernels meanwhile", "kernels",
        "GB moved", "GB of memory",
    )  # fmt: skip
    rows = []
    for net in ("resnet50", "vgg16"):
        for devices in (4, 8):
            for limit in LIMITS:
                command = [sys.executable, __file__, net, str(devices), limit]
                environment = os.environ | {"JAX_PLATFORMS": "cpu"}
                done = subprocess.run(command, capture_output=True, text=True, env=environment)
                if done.returncode:
                    sys.exit(done.stderr[-2000:])
                rows.append(tuple(done.stdout.splitlines()[-1].split("|")))
                print(*rows[-1], file=sys.stderr)
    insert_between_markers(PAGE, "buckets", markdown(headings, rows))


if __name__ == "__main__":
    main()
