"""Times our training steps on request: reads a number of steps, prints seconds.

Run by step.py. With the CPU's formulations the steps run inside the compiled loop, as in training.
"""

import os
import sys
import time

from deeper.xla_flags import set_flags

NAME, BATCH, SIZE, CHANNELS, DTYPE, FORM, _THREADS = sys.argv[1:]
if FORM == "onednn":
    FLAG = "--xla_cpu_experimental_onednn_custom_call=true"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAG}".strip()
set_flags()

import jax
import numpy as np
import optax

from deeper.augment.pipeline import Normalise
from deeper.kernels import cpu_dispatch
from deeper.models.initializers import initialise
from deeper.models.lenet import lenet5
from deeper.models.resnet import resnet
from deeper.models.vgg import vgg
from deeper.tasks.classification import Classification
from deeper.train.data_parallel import data_mesh, parallelise, replicate
from deeper.train.device_feed import OWN, Resident, on_device
from deeper.train.losses import cross_entropy
from deeper.train.optimizer import SGD
from deeper.train.phases import Phase
from deeper.train.state import create
from deeper.train.step import make_step, many_steps

NETS = {
    "resnet18": lambda: resnet(18, 1000, dtype=DTYPE),
    "resnet50": lambda: resnet(50, 1000, dtype=DTYPE),
    "vgg16": lambda: vgg(16, 10, hidden=512, dtype=DTYPE),
    "resnet20": lambda: resnet(20, 10, dtype=DTYPE),
    "lenet5": lambda: lenet5(10, dtype=DTYPE),
}


def main():
    """Time steps of one net until the input ends."""
    batch, size, channels = int(BATCH), int(SIZE), int(CHANNELS)
    cpu_dispatch.use(FORM != "plain")
    mesh = data_mesh(jax.devices()[:1])
    model = NETS[NAME]()
    schedule = optax.constant_schedule(1e-3)
    optimizer = SGD(0.1, 0.9, True, 1e-4, True).transformation(schedule)
    normalise = Normalise((0.286,) * channels, (0.353,) * channels)
    step = make_step(
        model,
        Phase(0, 1, optimizer, schedule),
        Classification((), normalise, cross_entropy),
        steps=1,
        accumulate=1,
        ema_decay=None,
    )
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (2 * batch, size, size, channels)).astype(np.uint8)
    labels = rng.integers(0, 10, 2 * batch).astype(np.int32)
    source = on_device({"image": images, "label": labels}, mesh)
    feed = Resident(source, lambda i: {OWN: np.arange(batch, dtype=np.int32) + i % 2 * batch})

    def one_step(state, source, numbers, count):
        del count
        return step(state, feed.take(source, {OWN: numbers[OWN][0]}))

    # Plain convolutions are 30 times slower inside a compiled loop, so they are timed outside of
    # it.
    kernels = FORM != "plain"
    capacity = 200 if kernels else 1
    function = many_steps(step, feed.take) if kernels else one_step
    call = parallelise(function, mesh, "shard_map", donate_first=True)
    variables = initialise(model, 0, (size, size, channels))
    state = replicate(create(variables, optimizer, seed=0, keep_ema=False), mesh)
    numbers = feed.steps(0, capacity, capacity)

    def run(state, steps):
        while steps > 0:
            count = min(steps, capacity)
            state, metrics = call(state, source, numbers, np.int32(count))
            steps -= count
        jax.block_until_ready(metrics)
        return state

    state = run(state, 1)
    print("ready", jax.__version__, flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        state = run(state, int(line))
        print(time.perf_counter() - start, flush=True)


main()
