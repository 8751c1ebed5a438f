"""A run directory as a Python object: its results, its net, and methods such as `Run.evaluate`."""

import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from deeper.config.schema import RunConfig
from deeper.data.image_files import read_picture
from deeper.data.reader import Given, Reader
from deeper.errors import UserError
from deeper.profile.stages import stages_of
from deeper.progress import Progress, quiet
from deeper.record.atomic_files import read_json
from deeper.record.schema import ENVIRONMENT, RESULT, ROWS, read_rows
from deeper.run import build, data_record, load
from deeper.run.class_names import class_names
from deeper.run.dataset import evaluation_view
from deeper.run.evaluate import evaluate_run
from deeper.run.predict import Predictions, predict_files, predict_given, predict_images
from deeper.run.protocols import ProtocolRequest
from deeper.train.evaluate import no_keys

if TYPE_CHECKING:
    from deeper.interpret.attribution import Attribution
    from deeper.interpret.score_sheet import Scores
    from deeper.run.detect import Found

Pictures = str | Path | Sequence[str | Path] | UInt8[np.ndarray, "n height width channels"]


class Net:
    """A run's net with the variables of one of its checkpoints.

    Calling it with examples as the data set stores them gives its outputs (logits, float32).

    Attributes:
        model: the Flax module.
        variables: params and batch_stats; the moving averages if the run has them.
        step: step of the checkpoint.
        config: the run's.
        class_names: class names in the order of the outputs.
    """

    def __init__(self, stored: load.Stored, names: tuple[str, ...], reader: Reader | None = None):
        self.model, self.variables = stored.model, stored.variables
        self.step, self.config, self.class_names = stored.step, stored.config, names
        self._task, self.reader = build.task_of(stored.config), reader
        # Outputs (n, outputs) -> probabilities, as the task makes them.
        self.probabilities = getattr(self._task, "probabilities", jax.nn.softmax)

    def __call__(self, examples: Any) -> Float[Array, "n outputs"]:
        """Return the net's outputs.

        Args:
            examples: images uint8 (n, H, W, C) as stored, normalised here; or a batch of the run's
                task, name -> values (n, ...). Columns that inference does not use may hold any
                values. To a net whose run has a reader: texts (str) or files (Path), too, one or
                several, each of which has to be readable.

        Raises:
            UserError: the task needs a missing column, or a text or file cannot be read.
        """
        if isinstance(examples, dict):
            columns: Mapping[str, Any] = examples
        elif self.reader is not None and not hasattr(examples, "shape"):
            read = self.reader(_given(examples))
            if read.left_out:
                raise UserError("\n".join(read.left_out))
            columns = read.columns
        else:
            columns = {"image": jnp.asarray(examples)}
        outputs: Any = self.model.apply(self.variables, self.inputs(columns), train=False)
        return outputs

    def normalise(self, images: UInt8[np.ndarray, "n height width channels"]) -> Any:
        """Return the model's inputs for images as stored."""
        return self.inputs({"image": jnp.asarray(images)})

    def inputs(self, columns: Mapping[str, Any]) -> Any:
        """Return what the model itself takes of examples, name -> values (n, ...), as stored."""
        count = len(next(iter(columns.values())))
        return self._inputs({"mask": jnp.ones(count, bool)} | dict(columns), count)

    def _inputs(self, batch: dict[str, Any], count: int) -> Any:
        """Return the net's inputs for a batch of the task."""
        try:
            inputs, *_ = self._task.inputs(no_keys, jnp.arange(count), batch, train=False)
        except KeyError as missing:
            raise UserError(
                f"The run's task asks for a column {missing}, which is not there: give all of its "
                "columns as a dictionary, name -> values (n, ...)."
            ) from missing
        return inputs

    def preprocess(self, pictures: Pictures) -> UInt8[np.ndarray, "n height width channels"]:
        """Return pictures of any size, preprocessed as in the evaluation of the run.

        Args:
            pictures: one or several files; or images of the net's size, which are not changed.

        Raises:
            UserError: a picture cannot be read.
        """
        if isinstance(pictures, np.ndarray):
            return pictures
        view = evaluation_view(self.config.data)
        return np.stack([read_picture(file, view) for file in _files(pictures)])

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the net's stages, from input to output; a net without feature maps has none."""
        return tuple(stages_of(self.model, build.example_of(self.config)).names)

    def __repr__(self) -> str:
        return f"Net({self.config.label}, step {self.step})"


class Run:
    """A run directory.

    Attributes:
        path: the directory.
        config: config of the run.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config: RunConfig = load.config_of(self.path, "path")

    @property
    def result(self) -> dict[str, Any]:
        """The content of ``result.json``; empty while the run is not finished."""
        return read_json(self.path / RESULT) or {}

    @property
    def status(self) -> str:
        """Finished, diverged or unfinished."""
        return str(self.result.get("status", "unfinished"))

    @property
    def metrics(self) -> dict[str, float | int]:
        """The final numbers, such as ``test/error`` in per cent.

        Raises:
            UserError: the run is not finished.
        """
        if not self.result:
            raise UserError(f"{self.path} has no result: its run is not finished.")
        return dict(self.result.get("metrics") or {})

    @property
    def environment(self) -> dict[str, Any]:
        """The environment of the run: versions, devices, commit."""
        return read_json(self.path / ENVIRONMENT) or {}

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names of the run's data."""
        return tuple(class_names(self.path, self.config))

    def history(self) -> Any:
        """Return the rows of ``metrics.jsonl``: a pandas DataFrame if pandas is installed, else a
        list.

        Each row has the ``step`` and the values logged at it.
        """
        rows = [row for _, row in read_rows(self.path)] if (self.path / ROWS).exists() else []
        try:
            import pandas
        except ImportError:
            return rows
        return pandas.DataFrame(rows)

    def net(self, checkpoint: str | int = "last") -> Net:
        """Return the net with a checkpoint's variables.

        Args:
            checkpoint: last, best (by the task's metric on the validation split) or a step.
        """
        stored = load.open_stored(self.path, checkpoint, "run")
        return Net(stored, self.class_names, data_record.reader_of(self.path))

    def evaluate(
        self,
        protocol: str = "1crop",
        *,
        split: str = "test",
        checkpoint: str | int = "last",
        size: Any = None,
        shorter_side: int | None = None,
        scales: Sequence[int] | None = None,
        padding: int | None = None,
        data_dir: str | None = None,
        batch_size: int | None = None,
        progress: Progress = quiet,
    ) -> dict[str, Any]:
        """Evaluate a checkpoint, every example of the split once.

        Args:
            protocol: 1crop, flip, 10crop, or of photographs dense and multiscale.
            split: train, validation or test.
            checkpoint: last, best or a step.
            size: size of crops of photographs, pixels or (height, width).
            shorter_side: shorter side of photographs that crops are cut from, pixels.
            scales: shorter sides at which photographs are seen whole.
            padding: padding of ten crops of images of one size, in pixels per side.
            data_dir: present directory of the run's data, if they have moved.
            batch_size: examples at a time.
            progress: told how far it is.

        Returns:
            Metrics by names such as ``test/error``, and how they were measured.
        """
        config = self.config if data_dir is None else self.config.replace({"data.dir": data_dir})
        return evaluate_run(
            self.path,
            config,
            request=ProtocolRequest(protocol, size, shorter_side, scales, padding),
            split=split,
            checkpoint=checkpoint,
            batch_size=batch_size,
            progress=progress,
        )

    def predict(
        self, pictures: Pictures, *, checkpoint: str | int = "last"
    ) -> "Predictions | Found":
        """Return the net's predictions for pictures: class names and probabilities, or boxes.

        Args:
            pictures: files, or images as the run's data set stores them. To a net of sequences:
                texts (str), or files of what it was trained on (Path).
            checkpoint: last, best or a step.
        """
        from deeper.run.detect import detect_files, detects, photographs_in

        if not isinstance(pictures, np.ndarray) and detects(self.path):
            files = photographs_in(_files(pictures))
            return detect_files(self.path, files, checkpoint=checkpoint)
        if isinstance(pictures, np.ndarray):
            return predict_images(self.path, pictures, checkpoint=checkpoint)
        if data_record.reader_of(self.path) is not None:
            return predict_given(self.path, _given(pictures), checkpoint=checkpoint)
        return predict_files(self.path, _files(pictures), checkpoint=checkpoint)

    def attribute(
        self,
        method: str,
        pictures: Pictures,
        *,
        layer: str | None = None,
        classes: Sequence[int | str] | None = None,
        checkpoint: str | int = "last",
    ) -> "Attribution":
        """Return attribution maps: how much each pixel or position contributes to a class score.

        Args:
            method: grad_cam, gradient, ...; `deeper.interpret.attribution.METHODS` has all.
            pictures: files, or images as the run's data set stores them; see `predict`.
            layer: layer of Grad-CAM's maps; by default the last stage of at least 7x7.
            classes: target classes, one per picture or one for all, by index or name; by default
                the predicted classes.
            checkpoint: last, best or a step.

        Returns:
            Maps (n, H, W), or (n, length) of sequences, ``.figure()`` and ``.save("maps.npz")``.
        """
        from deeper.interpret.attribution import attribute, class_numbers
        from deeper.run.attribute import attribute_columns

        net = self.net(checkpoint)
        asked = None if classes is None else class_numbers(classes, net.class_names)
        stored = isinstance(pictures, np.ndarray)
        if net.reader is not None and not stored:
            read = net.reader(_given(pictures))
            return attribute_columns(
                net, read.columns, list(read.names), method, layer=layer, classes=asked
            )
        return attribute(
            net.model,
            net.variables,
            net.preprocess(pictures),
            method=method,
            layer=layer,
            classes=asked,
            normalise=net.normalise,
            class_names=net.class_names,
            names=None if stored else [*map(str, _given(pictures))],
            probabilities=net.probabilities,
        )

    def score(
        self,
        methods: str | Sequence[str] = "all",
        scores: str | Sequence[str] = "all",
        *,
        split: str = "test",
        n: int = 32,
        layer: str | None = None,
        checkpoint: str | int = "last",
        progress: Progress = quiet,
    ) -> "Scores":
        """Measure how far maps of attribution can be trusted, on images of the run's own data.

        Args:
            methods: of attribution: one, several or all.
            scores: insertion, deletion, pointing, sanity; one, several or all.
            split: train, validation or test.
            n: images that are measured.
            layer: as in `attribute`.
            checkpoint: last, best or a step.
            progress: told how far it is.

        Returns:
            Numbers by method (``.by_method``), and ``.table()`` in Markdown.
        """
        from deeper.interpret.attribution import METHODS, choose
        from deeper.interpret.score_sheet import CANDIDATES, SCORES, score
        from deeper.run.subject import subject_of

        chosen = choose(methods, [*METHODS], "methods")
        subject = subject_of(
            self.path,
            "run",
            checkpoint=checkpoint,
            split=split,
            examples=CANDIDATES * n,
            progress=progress,
        )
        return score(
            subject, methods=chosen, scores=choose(scores, SCORES, "scores"), n=n, layer=layer
        )

    def data(self, split: str = "test") -> dict[str, Any]:
        """Return a split of the run's data: name -> values, as the run's task gets them.

        Args:
            split: train, validation or test.

        Raises:
            UserError: the data are missing, or are not those that the run saw.
        """
        splits = data_record.open_own_splits(self.path, self.config)
        return dict(splits.named(split).columns)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {self.status})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{value:.6g}</td></tr>"
            for name, value in (self.result.get("metrics") or {}).items()
        )
        return f"<p>{html.escape(str(self.path))}: {self.status}</p><table>{rows}</table>"


def _given(given: Any) -> list[Given]:
    """Return texts and files, one or several, as a reader takes them."""
    return [given] if isinstance(given, str | Path) else list(given)


def _files(pictures: str | Path | Iterable[str | Path]) -> list[Path]:
    return [Path(pictures)] if isinstance(pictures, str | Path) else [Path(p) for p in pictures]
