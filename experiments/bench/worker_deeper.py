"""Times our training steps on request: reads a number of steps, prints seconds.

Run by step.py. With the CPU's formulations the steps run inside the compiled loop, as in training.
With the form "features" a step is what comes before the net, alone.
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
from deeper.augment.sound import LogMel, Waveform
from deeper.kernels import cpu_dispatch
from deeper.models.initializers import initialise
from deeper.models.lenet import lenet5
from deeper.models.resnet import resnet
from deeper.models.textcnn import textcnn
from deeper.models.vdcnn import vdcnn
from deeper.models.vgg import vgg
from deeper.models.waveform import waveform
from deeper.tasks.classification import Classification
from deeper.tasks.sequence import SequenceClassification
from deeper.train.data_parallel import data_mesh, parallelise, replicate
from deeper.train.device_feed import OWN, Resident, on_device
from deeper.train.losses import cross_entropy
from deeper.train.optimizer import SGD
from deeper.train.phases import Phase
from deeper.train.state import create
from deeper.train.step import make_step, many_steps

BATCH, SIZE, CHANNELS = int(BATCH), int(SIZE), int(CHANNELS)
NETS = {
    "resnet18": lambda: resnet(18, 1000, dtype=DTYPE),
    "resnet50": lambda: resnet(50, 1000, dtype=DTYPE),
    "vgg16": lambda: vgg(16, 10, hidden=512, dtype=DTYPE),
    "resnet20": lambda: resnet(20, 10, dtype=DTYPE),
    "resnet20_thin": lambda: resnet(20, 10, form="cifar", width=8, stem="stride2", dtype=DTYPE),
    "resnet44_thin": lambda: resnet(44, 10, form="cifar", width=8, stem="stride2", dtype=DTYPE),
    "lenet5": lambda: lenet5(10, dtype=DTYPE),
    "vdcnn29": lambda: vdcnn(29, 10, CHANNELS, residual=True, dtype=DTYPE),
    "textcnn": lambda: textcnn(10, CHANNELS, dtype=DTYPE),
    "m11": lambda: waveform(11, 10, dtype=DTYPE),
    "resnet20_log_mel": lambda: resnet(20, 10, dtype=DTYPE),
}


def task_and_inputs(rng):
    """Return the net's task, the column that it reads, and random inputs for two batches."""
    if NAME in (
        "vdcnn29",
        "textcnn",
    ):  # texts of a quarter of the length to all of it, then padding
        texts = rng.integers(1, CHANNELS, (2 * BATCH, SIZE)).astype(np.int32)
        lengths = rng.integers(SIZE // 4, SIZE + 1, (2 * BATCH, 1))
        texts[np.arange(SIZE)[None] >= lengths] = 0
        return SequenceClassification("text", (), lambda x: x, cross_entropy), "text", texts
    if NAME in ("m11", "resnet20_log_mel"):
        features = Waveform(SIZE) if NAME == "m11" else LogMel(SIZE, 8000, 256, 128, 40)
        sounds = rng.integers(-(2**15), 2**15, (2 * BATCH, SIZE)).astype(np.int16)
        return SequenceClassification("sound", (), features, cross_entropy), "sound", sounds
    images = rng.integers(0, 255, (2 * BATCH, SIZE, SIZE, CHANNELS)).astype(np.uint8)
    normalise = Normalise((0.286,) * CHANNELS, (0.353,) * CHANNELS)
    return Classification((), normalise, cross_entropy), "image", images


def main():
    """Time steps of one net until the input ends."""
    cpu_dispatch.use(FORM != "plain")
    mesh = data_mesh(jax.devices()[:1])
    model = NETS[NAME]()
    schedule = optax.constant_schedule(1e-3)
    optimizer = SGD(0.1, 0.9, True, 1e-4, True).transformation(schedule)
    rng = np.random.default_rng(0)
    task, column, inputs = task_and_inputs(rng)
    labels = rng.integers(0, 10, 2 * BATCH).astype(np.int32)
    step = make_step(
        model,
        Phase(0, 1, optimizer, schedule),
        task,
        steps=1,
        accumulate=1,
        ema_decay=None,
    )

    def features_alone(state, batch):
        # Sums with the number of the step, so that no step can be left out.
        given, _, _ = task.inputs(None, None, batch, train=False)
        return state.replace(step=state.step + 1), {"loss": given.sum() + state.step}

    if FORM == "features":
        step = features_alone
    example = jax.eval_shape(
        lambda x: task.inputs(None, None, {column: x, "label": labels[:1]}, train=False)[0],
        inputs[:1],
    )
    source = on_device({column: inputs, "label": labels}, mesh)
    feed = Resident(source, lambda i: {OWN: np.arange(BATCH, dtype=np.int32) + i % 2 * BATCH})

    def one_step(state, source, numbers, count):
        del count
        return step(state, feed.take(source, {OWN: numbers[OWN][0]}))

    # Plain convolutions are 30 times slower inside a compiled loop, so they are timed outside of
    # it.
    kernels = FORM != "plain"
    capacity = 200 if kernels else 1
    function = many_steps(step, feed.take) if kernels else one_step
    call = parallelise(function, mesh, "shard_map", donate_first=True)
    variables = initialise(model, 0, jax.ShapeDtypeStruct(example.shape[1:], example.dtype))
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
