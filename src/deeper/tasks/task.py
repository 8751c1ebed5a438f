"""The protocol between the training loop and a task.

A task is a value: an object with these attributes and pure functions, which need no base class. The
loop, the step, evaluation, checkpoints, records and reports use nothing else of it, so that a
user's own task (``task._target_`` in the config) trains, resumes and is reported like those here.
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
    """Inputs, loss, predictions and metrics of a learning problem.

    A task may have more methods:

    - ``examples(batch, rows, class_names)``: the content of ``examples.npz`` for the first test
      examples, see `Classification.examples`. Without it the file is not written.
    - ``details(rows, class_names)``: name -> numbers, or numbers by class, that ``deeper
      evaluate`` adds to those of `summarise`, see `Classification.details`.
    - ``results(rows, data, split)``: what the net says of each example in the format of the data
      set, plain values that ``deeper evaluate results=FILE`` writes as JSON; ``data`` are the
      arguments of the data's ``_target_``. See `Detection.results`.
    - ``probabilities(outputs)``: the class probabilities of ``deeper predict``; by default the
      softmax of the outputs.
    """

    @property
    def metric(self) -> str:
        """The metric of reports and of the best checkpoint; `summarise` returns it."""

    @property
    def less_is_better(self) -> bool:
        """Whether smaller values of the metric are better."""

    @property
    def percent(self) -> tuple[str, ...]:
        """Metrics of `loss` that are shares and are recorded in per cent.

        Those of `summarise` are recorded as they are; the metric is shown with a per cent sign
        where it is named here.
        """

    @property
    def streams(self) -> Mapping[str, int]:
        """Further splits with examples in a training batch: name -> number per example.

        ``batch[name]`` is a batch whose leaves are (B, how many, ...), in an order of its own.
        """

    def inputs(self, keys: Keys, rows: Rows, batch: Batch, train: bool) -> tuple[Any, Any, Rows]:
        """Return the inputs of the net and the targets of the loss.

        Args:
            keys: purpose -> random key of the step; a draw for example i folds in ``rows[i]``. A
                purpose is a number, of your own from 100 on.
            rows: the examples' rows in the step's global batch, the same on any number of devices
                and under accumulation.
            batch: as stored.
            train: with augmentation. Otherwise nothing is random, and targets are not used: they
                may be None, and a batch for inference has none.

        Returns:
            The model's inputs and the targets (pytrees), and a number of each input by which
            dropout draws its mask: ``rows`` where an example gives one input, else any that differ
            and are functions of ``rows``.
        """

    def loss(
        self, outputs: Any, targets: Any, progress: Float[Array, ""]
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Return the loss to minimise, and the scalars to record, including ``loss``.

        Args:
            outputs: outputs of the net in training, or of one of its auxiliary heads.
            targets: from `inputs`.
            progress: share of the run's steps that are done, 0 to below 1.

        Returns:
            The mean over these examples, to which the mean over devices and micro-batches is
            applied, and means by name.
        """

    def predict(self, outputs: Any, batch: Batch) -> dict[str, Array]:
        """Return the predictions of each example in evaluation; leaves (B, ...), on the device."""

    def summarise(self, rows: Mapping[str, ndarray]) -> dict[str, float | int]:
        """Return the metrics of a split, including `metric`.

        Args:
            rows: predictions of all examples, (n, ...) in the split's order, on the host.
        """
