"""The ``data`` section of a run's config, by kind of data set.

What each value means for a data set of its kind stands in conf/data, too, with its source.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any, Literal

from deeper.config.calls import TARGET, OwnCall
from deeper.config.settings import OpenSection, ReadBy, UnfitError, plain, read_section, setting
from deeper.errors import UserError


@dataclass(frozen=True)
class ImagesOfOneSize:
    """A data set of the catalogue, whose images are stored as arrays of one size."""

    name: str = setting("what the data set is called")
    classes: int = setting("how many classes it has", least=1)
    image_shape: tuple[int, ...] = setting("height, width, channels", least=1, length=3)
    mean: tuple[float, ...] = setting("of the pixels, a value a channel, on the scale 0 to 1")
    std: tuple[float, ...] = setting("deviation of the pixels, a value a channel", above=0)
    padding: int = setting("of random crops, pixels a side", least=0)
    hole: int = setting("side of Cutout's square, pixels", least=1)
    autoaugment: str = setting("the data set that AutoAugment's policy was learnt on")
    dir: str = setting("where prepared data sets are")
    original_dir: str | None = setting("where the original files are")
    validation: int = setting("examples held out of the training split: a count, no share", least=0)
    on_device: bool | Literal["auto"] = setting("keep the images on the device")
    keep_classes: tuple[int, ...] | None = setting("numbers of the classes to keep", least=0)
    examples: int | None = setting("training examples to use, a count", least=1)
    draw: int = setting("which of the ways to choose them", least=0)
    limit: int | None = setting("examples of each split to use, a count", least=1)
    stem: str = setting("of AlexNet and GoogLeNet: paper or small")
    hidden: int = setting("width of AlexNet's and VGG's hidden layers", least=1)
    batch_norm: bool = setting("in VGG")

    @property
    def of_any_size(self) -> bool:
        """Whether the images are photographs, decoded and cropped when they are needed."""
        return False

    @property
    def example(self) -> tuple[tuple[int, ...], str]:
        """Shape and type of what the net is given of one example."""
        return self.image_shape, "float32"


@dataclass(frozen=True)
class Photographs(ImagesOfOneSize):
    """Photographs of any size, decoded on the host; `crop` is null for images of one size."""

    crop: Literal["inception", "vgg", "resnet", "alexnet", "middle"] | None = setting(
        "how photographs are cropped in training"
    )
    shorter_side: int = setting("pixels, before the middle is evaluated", least=1)
    antialias: bool | Literal["fast"] = setting("in resizing")
    workers: int | None = setting("that decode at a time", least=1)
    processes: bool | Literal["auto"] = setting("decode in processes, not threads")
    on_bad: Literal["raise", "skip"] = setting(
        "what to do with photographs that cannot be read", default="raise"
    )
    exif: Literal["apply", "ignore"] = setting(
        "EXIF orientation; older configs, which have no such key, ignore it", default="ignore"
    )
    interpolation: Literal["bilinear", "bicubic", "lanczos"] = setting(
        "filter of the resizing", default="bilinear"
    )

    @property
    def of_any_size(self) -> bool:
        """Whether the images are photographs, decoded and cropped when they are needed."""
        return self.crop is not None


@dataclass(frozen=True)
class ImageNet(Photographs):
    """ImageNet's photographs."""

    source: str | None = setting("directory of the two tars, or of train/ and val/", default=None)


@dataclass(frozen=True)
class ImageFolder(Photographs):
    """A user's photographs, a folder a class."""

    source: str | None = setting("directory of the folders", default=None)
    fraction: float = setting("share of each class that is tested", above=0, below=1, default=0.1)


@dataclass(frozen=True)
class DebianPhotographs(Photographs):
    """Crops of the photographs in Debian's packages."""

    source: str | None = setting("where the packages were extracted to", default=None)
    packages: tuple[str, ...] = setting("Debian's packages", default=())
    crops: OpenSection | None = setting("crops of each photograph, by split", default=None)


@dataclass(frozen=True)
class Tfds(Photographs):
    """A data set that TensorFlow Datasets prepared."""

    test_fraction: float = setting(
        "share of each class that is tested, without a test split", above=0, below=1, default=0.1
    )


@dataclass(frozen=True)
class OwnDataset:
    """What a ``_target_`` returns, a `deeper.data.dataset.Dataset`: a data set of the user's own.

    Keys that are not listed here are arguments of the target; ``dir`` is both.
    """

    name: str = setting("what the data set is called")
    input_shape: tuple[int, ...] = setting("of one example, as the net is given it", least=1)
    input_dtype: str = setting("type of the net's input", default="float32")
    classes: int | None = setting("how many classes it has", least=1, default=None)
    validation: int = setting("examples held out of the training split", least=0, default=0)
    on_device: bool | Literal["auto"] = setting("keep it on the device", default="auto")
    dir: str | None = setting("where prepared data sets are", default=None)
    prepare: OwnCall | None = setting("the call that makes the data set once", default=None)
    examples: int | None = setting("training examples to use, a count", least=1, default=None)
    draw: int = setting("which of the ways to choose them", least=0, default=0)
    limit: int | None = setting("examples of each split to use, a count", least=1, default=None)
    folds: int | None = setting("parts of the training split", least=2, default=None)
    fold: int = setting("number of the part that is tested on", least=0, default=0)
    call: OpenSection = field(default_factory=lambda: OpenSection({}))

    of_any_size = False

    @property
    def example(self) -> tuple[tuple[int, ...], str]:
        """Shape and type of what the net is given of one example."""
        return self.input_shape, self.input_dtype


OF_DEEPER = tuple(one.name for one in fields(OwnDataset) if one.name != "call")
FOR_BOTH = ("dir",)  # known here, and an argument of the target

KINDS: dict[str, type[ImagesOfOneSize]] = {
    "images": ImagesOfOneSize,
    "imagenet": ImageNet,
    "folder": ImageFolder,
    "debian": DebianPhotographs,
    "tfds": Tfds,
}


def kind_of(data: Mapping[str, Any]) -> type[ImagesOfOneSize]:
    """Return the kind of a data section: its ``kind``.

    Raises:
        UserError: there is no such kind.
    """
    kind = data.get("kind")
    if kind is None:
        return _kind_by_keys(data)
    if not isinstance(kind, str) or kind not in KINDS:
        raise UserError(f"data.kind={kind}: choose one of {', '.join(KINDS)}.")
    return KINDS[kind]


def _kind_by_keys(data: Mapping[str, Any]) -> type[ImagesOfOneSize]:
    """Return the kind of a section of an older run, which only its keys tell."""
    by_key: dict[str, type[ImagesOfOneSize]] = {
        "test_fraction": Tfds,
        "packages": DebianPhotographs,
        "fraction": ImageFolder,
        "source": ImageNet,
        "crop": Photographs,
    }
    return next((kind for key, kind in by_key.items() if key in data), ImagesOfOneSize)


def word_for_example(data: Any) -> str:
    """Return what an example of a data section is called."""
    return "image" if isinstance(data, ImagesOfOneSize) else "example"


def read_data(value: Any, key: str) -> tuple[Any, dict[str, Any]]:
    """Read a data section; one with a ``_target_`` of the user's own passes as it is."""
    if not isinstance(value, Mapping):
        raise UnfitError
    if TARGET in value:
        target = str(value[TARGET])
        known = {k: v for k, v in value.items() if k in OF_DEEPER}
        known.setdefault("name", target.rpartition(".")[2])
        own = {k: v for k, v in value.items() if k not in OF_DEEPER or k in FOR_BOTH}
        call = OpenSection({k: plain(v) for k, v in own.items()})
        section, written = read_section(OwnDataset, known, key)
        if section.folds is not None and section.fold >= section.folds:
            raise UserError(
                f"{key}.fold={section.fold}: the parts of {key}.folds={section.folds} are 0 to "
                f"{section.folds - 1}."
            )
        return replace(section, call=call), {**plain(value), **written}
    without_kind = {name: entry for name, entry in value.items() if name != "kind"}
    section, written = read_section(kind_of(value), without_kind, key)
    return section, ({"kind": value["kind"]} if "kind" in value else {}) | written


# One of the sections above; which of their values there are, its kind says.
Data = Annotated[
    Any,
    ReadBy(read_data, "a data set, as data=NAME of conf/data gives it"),
]
