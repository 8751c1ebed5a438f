"""Several processes that train one net, started as on several hosts."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from deeper.data.dataset import Split
from deeper.data.host_batches import stream
from deeper.errors import UserError
from deeper.run import distributed, load

RUN = (
    "train",
    "model=lenet5",
    "optimizer.learning_rate=0.01",
    "train.batch_size=32",
    "train.steps=80",
    "train.epochs=null",
    "train.steps_per_call=1",
    "train.log_every=1",
    "train.checkpoint_every=0.5",
    "train.train_error_examples=50",
    "data.validation=100",
)


@pytest.fixture
def start(tmp_path, data_dir):
    """Start a run's processes, each with some CPU devices; all that are left are killed."""
    started = []

    def run(count, devices, *arguments):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        ones = []
        for number in range(count):
            environment = os.environ | {
                "WANDB_MODE": "disabled",
                "DEEPER_DATA": str(data_dir),
                "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
                "PYTHONUNBUFFERED": "1",
            }
            if count > 1:
                environment |= {
                    "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
                    "JAX_NUM_PROCESSES": str(count),
                    "JAX_PROCESS_ID": str(number),
                }
            with (tmp_path / f"out-{number}.txt").open("w") as out:
                ones.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "deeper", *RUN, *arguments],
                        cwd=tmp_path,
                        env=environment,
                        stdout=out,
                        stderr=out,
                    )
                )
        started.extend(ones)
        return ones

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()


def codes(ones, seconds=120):
    deadline = time.monotonic() + seconds
    return [process.wait(max(1, deadline - time.monotonic())) for process in ones]


def wait_for_rows(ones, runs, count):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = [len(file.read_bytes().splitlines()) for file in runs.glob("*/*/metrics.jsonl")]
        if found and max(found) >= count:
            return
        assert all(process.poll() is None for process in ones), "a process ended too early"
        time.sleep(0.05)
    raise AssertionError(f"no {count} rows in time")


def losses(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["train/loss"]) for row in rows if "train/loss" in row]


@pytest.mark.long
def test_a_run_of_two_processes_survives_their_ends_and_gives_what_one_gives(start, tmp_path):
    """Data from the host or the devices, a signal to the second, the second killed."""
    assert codes(start(1, 4, "runs=one")) == [0]
    ones = start(2, 2, "runs=two", "data.on_device=false")
    wait_for_rows(ones, tmp_path / "two", 4)
    ones[1].send_signal(signal.SIGTERM)
    assert codes(ones) == [75, 75], (tmp_path / "out-0.txt").read_text()
    assert "Stopped after step" in (tmp_path / "out-0.txt").read_text()
    assert "Stopped" not in (tmp_path / "out-1.txt").read_text()  # the first one speaks

    ones = start(2, 2, "runs=two")
    wait_for_rows(ones, tmp_path / "two", 26)
    ones[1].kill()
    left = ones[0].wait(120)
    output = (tmp_path / "out-0.txt").read_text()
    if left == 1:  # it was waiting for a sum over the devices
        assert "Another process of this run has ended" in output
        assert "Traceback" not in output
    else:  # it was waiting for the other at a checkpoint: JAX ends it, by the missing heartbeats
        assert left == -signal.SIGABRT
        assert "another task died" in output

    assert codes(start(1, 4, "runs=two")) == [0]
    (process,), (two,) = ((tmp_path / name / "single").iterdir() for name in ("one", "two"))
    environment = json.loads((two / "environment.json").read_text())
    assert [leg["process_count"] for leg in environment["earlier"]] == [2, 2]
    assert environment["run"]["first_step"] > 0
    steps, expected = zip(*losses(process), strict=True)
    found_steps, found = zip(*losses(two), strict=True)
    assert found_steps == steps == tuple(range(1, 81))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    variables = [load.open_stored(run, "last", "run").variables for run in (process, two)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *variables)
    result = json.loads((two / "result.json").read_text())
    assert result["metrics"]["test/n_seen"] == 203


def test_hosts_compute_their_own_rows_of_a_batch():
    images = np.arange(40 * 12, dtype=np.uint8).reshape(40, 2, 2, 3)
    split = Split.of(image=images, label=np.arange(40, dtype=np.int32))

    def numbers(batch):
        return np.where(np.arange(12) + 12 * batch < 40, np.arange(12) + 12 * batch, -1)

    whole = list(stream(split, numbers, 0, stop=4))
    parts = [list(stream(split, numbers, 0, stop=4, rows=r)) for r in (slice(0, 8), slice(8, 12))]
    for batch, *some in zip(whole, *parts, strict=True):
        for name, values in batch.items():
            np.testing.assert_array_equal(np.concatenate([piece[name] for piece in some]), values)
    assert list(stream(split, numbers, 4, stop=4, rows=slice(0, 8))) == []


SLURM = {
    "SLURM_STEP_NODELIST": "n[1-2]",
    "SLURM_NTASKS": "4",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_LOCALID": "1",
}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"SLURM_GPUS_ON_NODE": "8"}, [4, 5, 6, 7]),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, [1]),
        ({"CUDA_VISIBLE_DEVICES": "0"}, [0]),  # each task sees its own GPU alone
        ({"CUDA_VISIBLE_DEVICES": "0,1", "SLURM_GPUS_PER_TASK": "2"}, [0, 1]),
        (
            {
                "SLURM_GPUS_ON_NODE": "8",
                "SLURM_STEP_TASKS_PER_NODE": "1(x4)",
                "SLURM_LOCALID": "0",
            },
            list(range(8)),
        ),
        ({}, None),
    ],
)
def test_a_slurm_task_takes_its_share_of_the_gpus(environment, expected):
    found = distributed._arguments(SLURM | environment)
    assert found == {"cluster_detection_method": "slurm", "local_device_ids": expected}


def test_a_process_that_is_alone_joins_nobody():
    assert distributed._arguments({}) is None
    assert distributed._arguments(SLURM | {"SLURM_NTASKS": "1"}) is None
    batch_script = {key: value for key, value in SLURM.items() if key != "SLURM_STEP_NODELIST"}
    assert distributed._arguments(batch_script) is None


def test_half_an_address_is_refused():
    with pytest.raises(UserError, match="JAX_COORDINATOR_ADDRESS without"):
        distributed._arguments({"JAX_COORDINATOR_ADDRESS": "127.0.0.1:1"})
