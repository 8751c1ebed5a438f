"""The contract between the training loop and what is learned.

A task is a value: an object with these attributes and pure functions, which need no base class. The
loop, the step, evaluation, checkpoints, records and reports know nothing else of it, so that a task
of a user's own (``task._target_`` in the config) trains, resumes and is reported like those here.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from jaxtyping import Array, Float, Int, Key
from numpy import ndarray

# A pytree whose leaves share the leading example axis, with `mask` bool (B,): False is padding.
Batch = Mapping[str, Any]
# Purpose -> key of (seed, purpose, step). A draw for an example folds in its row.
Keys = Callable[[int], Key[Array, ""]]
Rows = Int[Array, " batch"]


class Task(Protocol):
    """What is learned, and how it is measured.

    A task may have one more method, ``examples(batch, rows, class_names)``: what ``examples.npz``
    keeps of the first test examples, see `Classification.examples`. Without it there is no such
    file.
    """

    @property
    def metric(self) -> str:
        """The number that reports and the best checkpoint go by; `summarise` returns it."""

    @property
    def less_is_better(self) -> bool:
        """Whether a smaller value of the metric is a better one."""

    @property
    def percent(self) -> tuple[str, ...]:
        """Metrics of `loss` that are shares and are recorded in per cent.

        Those of `summarise` are recorded as they are; the metric is shown with a per cent sign
        where it is named here.
        """

    @property
    def streams(self) -> Mapping[str, int]:
        """Further splits that a training batch holds examples of: name -> how many an example.

        ``batch[name]`` is a batch whose leaves are (B, how many, ...), in an order of its own.
        """

    def inputs(self, keys: Keys, rows: Rows, batch: Batch, train: bool) -> tuple[Any, Any, Rows]:
        """Return what the net is given and what its outputs are held against.

        Args:
            keys: purpose -> random key of the step; a draw for example i folds in ``rows[i]``. A
                purpose is a number, of your own from 100 on.
            rows: the examples' rows in the step's global batch, the same on any number of devices
                and under accumulation.
            batch: as stored.
            train: with augmentation. Otherwise nothing is drawn, and targets are not looked at:
                they may be None, and a batch of examples to answer has none.

        Returns:
            The model's inputs and the targets (pytrees), and a number of each input by which
            dropout draws its mask: ``rows`` where an example gives one input, else any that differ
            and are functions of ``rows``.
        """

    def loss(
        self, outputs: Any, targets: Any, progress: Float[Array, ""]
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Return what is minimised, and the scalars to record, ``loss`` among them.

        Args:
            outputs: of the net in training, or of one of its auxiliary heads.
            targets: from `inputs`.
            progress: share of the run's steps that are done, 0 to below 1.

        Returns:
            The mean over these examples, to which the mean over devices and micro-batches is
            applied, and means by name.
        """

    def predict(self, outputs: Any, batch: Batch) -> dict[str, Array]:
        """Return what is kept of each example in evaluation; leaves (B, ...), on the device."""

    def summarise(self, rows: Mapping[str, ndarray]) -> dict[str, float | int]:
        """Return a split's numbers, `metric` among them.

        Args:
            rows: every example's predictions, (n, ...) in the split's order, on the host.
        """
