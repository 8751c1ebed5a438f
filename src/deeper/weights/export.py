"""Export of nets to files that other programs can run: StableHLO and ONNX.

The exported function takes images as stored, uint8 (batch, height, width, channels) for any batch
size, and returns logits, float32 (batch, classes). It includes the normalisation. Of a net of
sequences it takes what the net takes; the metadata's reader says how texts or files become that.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from deeper.errors import UserError
from deeper.kernels import cpu_dispatch

PLATFORMS = ("cpu", "cuda", "tpu")
ONNX_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Metadata:
    """The metadata of an exported net.

    Attributes:
        label: label of the run.
        image_shape: (height, width, channels).
        mean: mean of each channel, on the scale 0 to 1.
        std: standard deviation of each channel, on the scale 0 to 1.
        classes: names of the classes, in the order of the logits.
        step: training step of the checkpoint.
        shorter_side: pixels that a photograph's shorter side is resized to before the middle is cut
            out; None of nets for images of one size.
        interpolation: of that resizing.
        wordnet_ids: of the classes, where they are ImageNet's.
        source: of imported weights.
        revision: commit of the source, or of the code that trained the net.
        licence: of the weights, if known.
        architecture: section ``model`` of the config.
    """

    label: str
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]
    step: int
    shorter_side: int | None = None
    interpolation: str = "bilinear"
    wordnet_ids: tuple[str, ...] = ()
    source: str | None = None
    revision: str | None = None
    licence: str | None = None
    architecture: Mapping[str, Any] | None = None

    @property
    def example(self) -> jax.ShapeDtypeStruct:
        """Shape and type of what the exported function takes of one example."""
        return jax.ShapeDtypeStruct(self.image_shape, jnp.uint8)

    def inputs(self, images: Any) -> Any:
        """Return what the net takes."""
        mean, std = (np.array(v, np.float32).reshape(1, 1, 1, -1) for v in (self.mean, self.std))
        return (images.astype(jnp.float32) / 255.0 - mean) / std


@dataclass(frozen=True)
class ExampleMetadata:
    """The metadata of an exported net of other examples than images.

    Attributes:
        label: label of the run.
        input_shape: of one example, as the net takes it.
        input_dtype: of it.
        reader: the call that makes it of texts or files, see `deeper.data.reader`; None if there
            is none.
        classes: names of the classes, in the order of the logits.
        step: training step of the checkpoint.
    """

    label: str
    input_shape: tuple[int, ...]
    input_dtype: str
    reader: Mapping[str, Any] | None
    classes: tuple[str, ...]
    step: int

    @property
    def example(self) -> jax.ShapeDtypeStruct:
        """Shape and type of what the exported function takes of one example."""
        return jax.ShapeDtypeStruct(self.input_shape, jnp.dtype(self.input_dtype))

    def inputs(self, examples: Any) -> Any:
        """Return what the net takes: the examples as they are."""
        return examples


def as_strings(metadata: Metadata | ExampleMetadata) -> dict[str, str]:
    """Return all attributes as strings; those that are not strings are encoded as JSON."""
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in asdict(metadata).items()
    }


def flat(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return path -> array, with paths like ``params/stage1/block1/conv1/kernel``."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree.leaves_with_path(variables)
    }


def unflattened(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the variables of which `flat` made paths, float32."""
    variables: dict[str, Any] = {"params": {}, "batch_stats": {}}
    for path, array in arrays.items():
        *parts, last = path.split("/")
        node = variables
        for part in parts:
            node = node.setdefault(part, {})
        node[last] = np.asarray(array, np.float32)
    return variables


def stablehlo(
    model: nn.Module, variables: Any, metadata: Metadata | ExampleMetadata, out: Path
) -> None:
    """Write a serialised `jax.export.Exported` for CPU, CUDA and TPU, and its metadata.

    ``jax.export.deserialize(bytes).call(images)`` runs it.

    Args:
        model: the net.
        variables: its params and batch_stats.
        metadata: the metadata, written to ``OUT.json``.
        out: path of the file.
    """
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *metadata.example.shape), metadata.example.dtype)
    with cpu_dispatch.turned_off():
        function = jax.jit(_inference(model, variables, metadata))
        exported = jax.export.export(function, platforms=PLATFORMS)(images)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(bytes(exported.serialize()))
    out.with_name(out.name + ".json").write_text(
        json.dumps(asdict(metadata), indent=1) + "\n", encoding="utf-8"
    )


def onnx(model: nn.Module, variables: Any, metadata: Metadata | ExampleMetadata, out: Path) -> None:
    """Write an ONNX file with its metadata, after comparing its logits in onnxruntime with ours.

    Args:
        model: the net.
        variables: its params and batch_stats.
        metadata: the metadata.
        out: path of the file.

    Raises:
        UserError: the extra ``onnx`` is not installed, the net cannot be converted, or the logits
            of the converted net are wrong.
    """
    try:
        import jax2onnx
        import onnx as onnx_library
        import onnxruntime
    except ImportError as error:
        raise UserError(f"out={out} needs the extra onnx: run scripts/setup onnx.") from error
    inference = _inference(model, variables, metadata)
    images = _examples(metadata.example)
    # jax2onnx 0.17 ignores the padding of max pooling.
    with cpu_dispatch.turned_off(), cpu_dispatch.joined_padding():
        expected = np.asarray(jax.jit(inference)(images))
        try:
            converted = jax2onnx.to_onnx(
                inference,
                [jax.ShapeDtypeStruct(("batch", *images.shape[1:]), images.dtype)],
                model_name=metadata.label,
            )
        except Exception as error:  # whatever it raises at an operation that it does not know
            raise UserError(
                f"jax2onnx does not translate this net ({type(error).__name__}: {error}), and "
                f"{out} was not written. Take .stablehlo, which is JAX's own and takes every net."
            ) from error
    session = onnxruntime.InferenceSession(converted.SerializeToString())
    (logits,) = session.run(None, {session.get_inputs()[0].name: images})
    off = float(np.abs(logits - expected).max() / np.abs(expected).max())
    if not off < ONNX_TOLERANCE:
        raise UserError(
            f"jax2onnx does not translate this net rightly: onnxruntime's logits are off by "
            f"{off:.1e} of the largest, and {out} was not written. Take .stablehlo, which is JAX's "
            "own and takes every net."
        )
    for name, value in as_strings(metadata).items():
        converted.metadata_props.add(key=name, value=value)
    out.parent.mkdir(parents=True, exist_ok=True)
    onnx_library.save_model(converted, out)


def _examples(example: jax.ShapeDtypeStruct) -> np.ndarray:
    """Return two examples to compare logits of: whole numbers up to 255, or normal values."""
    rng, shape = np.random.default_rng(0), (2, *example.shape)
    if jnp.issubdtype(example.dtype, jnp.integer):
        most = 256 if example.dtype == jnp.uint8 else 2  # tokens: that every net knows
        return rng.integers(0, most, shape).astype(example.dtype)
    return rng.standard_normal(shape).astype(example.dtype)


def _inference(model: nn.Module, variables: Any, metadata: Metadata | ExampleMetadata):
    def inference(images):
        logits: Any = model.apply(variables, metadata.inputs(images), train=False)
        return logits.astype(jnp.float32)

    return inference
