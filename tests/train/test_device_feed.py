"""Batches of the host, sent to the devices a call ahead."""

import threading
import time

import jax
import numpy as np
import pytest

from deeper.train import data_parallel
from deeper.train.device_feed import Streamed


class Source:
    """Batches that tell their number, and that take note of having been asked for."""

    def __init__(self, stop=None, bad=None):
        self.asked, self.closed, self.stop, self.bad = [], 0, stop, bad

    def __call__(self, first):
        try:
            while self.stop is None or first < self.stop:
                if first == self.bad:
                    raise OSError("the disk is gone")
                self.asked.append(first)
                image = np.full((4, 2, 2, 3), first % 256, np.uint8)
                yield {"image": image, "label": np.arange(4, dtype=np.int32) + first}
                first += 1
        finally:
            self.closed += 1


@pytest.fixture
def mesh():
    return data_parallel.data_mesh(jax.devices()[:1])


def numbers(fed, count):
    found = np.asarray(fed["label"])[:count]
    np.testing.assert_array_equal(found, found[:, :1] + np.arange(4))
    np.testing.assert_array_equal(np.asarray(fed["image"])[:count, 0, 0, 0, 0], found[:, 0])
    assert isinstance(fed["image"], jax.Array) and fed["image"].dtype == np.uint8
    return found[:, 0].tolist()


def until(true):
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_each_call_gets_its_own_batches_however_many_it_takes(mesh):
    source = Source()
    feed = Streamed(source, mesh, "shard_map")
    held, step = [], 3
    for count in (4, 4, 1, 2, 4, 3, 1, 4):
        held.append((step, count, feed.steps(step, count, 4)))
        step += count
    for first, count, fed in held:  # later calls took nothing back
        assert numbers(fed, count) == list(range(first, first + count))
    assert source.asked[: step - 3] == list(range(3, step))  # each is computed once
    assert numbers(feed.steps(10, 2, 4), 2) == [10, 11]  # elsewhere
    feed.close()
    assert source.closed == 2


def test_the_next_calls_batches_are_sent_before_they_are_asked_for(mesh):
    source = Source()
    feed = Streamed(source, mesh, "shard_map")
    feed.steps(0, 3, 3)
    until(lambda: source.asked == [0, 1, 2, 3, 4, 5])
    until(lambda: feed._gathered.done())
    assert numbers(feed._gathered.result().sent, 3) == [3, 4, 5]
    feed.close()


def test_the_last_call_may_be_short_and_the_end_is_no_error(mesh):
    source = Source(stop=5)
    feed = Streamed(source, mesh, "shard_map")
    assert numbers(feed.steps(0, 3, 3), 3) == [0, 1, 2]
    assert numbers(feed.steps(3, 2, 3), 2) == [3, 4]
    assert numbers(feed.steps(0, 3, 3), 3) == [0, 1, 2]  # as each evaluation begins
    feed.close()


def test_an_error_of_the_data_reaches_who_asks_for_the_batch(mesh):
    feed = Streamed(Source(bad=5), mesh, "shard_map")
    feed.steps(0, 3, 3)
    with pytest.raises(OSError, match="the disk is gone"):
        feed.steps(3, 3, 3)
    feed.close()


def test_closing_does_not_wait_for_a_whole_call(mesh):
    running = threading.Event()

    def slow(first):
        while True:
            yield {"label": np.array([first], np.int32)}
            running.set()
            time.sleep(0.05)

    feed = Streamed(slow, mesh, "shard_map")
    feed.steps(0, 1, 1)
    feed.steps(1, 1, 1_000)
    start = time.monotonic()
    feed.close()
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("form", ["shard_map", "pmap"])
def test_each_device_gets_its_rows_of_what_was_sent(form):
    mesh = data_parallel.data_mesh(jax.devices()[:2])

    def rows_of(state, source, feed, count):
        del source, count
        return state, jax.lax.all_gather(feed["label"], data_parallel.DATA_AXIS)

    call = data_parallel.parallelise(rows_of, mesh, form, donate_first=False)
    feed = Streamed(Source(), mesh, form)
    sent = feed.steps(0, 3, 3)
    if form == "shard_map":
        shards = sent["image"].addressable_shards
        assert {shard.data.shape for shard in shards} == {(3, 2, 2, 2, 3)}
    _, found = call(np.float32(0), feed.source, sent, np.int32(3))
    expected = np.arange(3)[:, None] + np.arange(4)
    np.testing.assert_array_equal(np.asarray(found).reshape(2, 3, 2)[0], expected[:, :2])
    np.testing.assert_array_equal(np.asarray(found).reshape(2, 3, 2)[1], expected[:, 2:])
    feed.close()


def test_a_closed_feed_leaves_no_thread_and_begins_anew_when_asked(mesh):
    feed = Streamed(Source(), mesh, "shard_map")
    feed.steps(0, 2, 4)
    feed.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("feed")]
    feed.steps(7, 1, 4)
    feed.close()
