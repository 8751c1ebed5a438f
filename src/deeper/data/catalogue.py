"""The small data sets that `deeper prepare` can make: shapes, class names and original files.

Class names, splits, and the addresses and checksums of the original files are those of the
TensorFlow Datasets builder of the same name, which can read the prepared directories.
"""

from dataclasses import dataclass

IDX = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)

DIGITS = tuple("0123456789")

CLOTHES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


@dataclass(frozen=True)
class CifarArchive:
    """The layout of a CIFAR archive in the binary version.

    Attributes:
        folder: folder of all members.
        parts: split -> files of its images.
        labels: feature -> file of its class names, in the order of the label bytes of an image.
    """

    folder: str
    parts: dict[str, tuple[str, ...]]
    labels: dict[str, str]


@dataclass(frozen=True)
class Entry:
    """A data set of the catalogue.

    Attributes:
        version: version of the TFDS builder.
        image_shape: (height, width, channels).
        class_names: None if the original files hold them.
        classes: number of classes.
        sizes: split -> number of examples.
        files: names of the original files; empty if scikit-learn has the data.
        archive: layout of a CIFAR archive; None for IDX files.
        contents: file -> SHA-256 of the decompressed content, for files that others distribute
            with a different compression.
        debian: directory and name of the Debian package that holds the files, or None.
        description: one line.
        citation: the paper.
    """

    version: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...] | None
    classes: int
    sizes: dict[str, int]
    files: tuple[str, ...]
    archive: CifarArchive | None
    contents: dict[str, str]
    debian: tuple[str, str] | None
    description: str
    citation: str


CATALOGUE = {
    "fashion_mnist": Entry(
        version="3.0.1",
        image_shape=(28, 28, 1),
        class_names=CLOTHES,
        classes=10,
        sizes={"train": 60_000, "test": 10_000},
        files=IDX,
        archive=None,
        # Debian's dataset-fashion-mnist holds the published files' compressed data under another
        # gzip header; with the header put back, they have the published SHA-256.
        contents={
            "train-images-idx3-ubyte.gz": (
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
            ),
            "train-labels-idx1-ubyte.gz": (
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
            ),
            "t10k-images-idx3-ubyte.gz": (
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
            ),
            "t10k-labels-idx1-ubyte.gz": (
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
            ),
        },
        debian=("/usr/share/datasets/fashion-mnist", "dataset-fashion-mnist"),
        description="70,000 grey pictures of clothes, 28x28.",
        citation="Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747",
    ),
    "mnist": Entry(
        version="3.0.1",
        image_shape=(28, 28, 1),
        class_names=DIGITS,
        classes=10,
        sizes={"train": 60_000, "test": 10_000},
        files=IDX,
        archive=None,
        contents={},
        debian=None,
        description="70,000 handwritten digits, 28x28, grey.",
        citation="LeCun, Bottou, Bengio and Haffner 1998",
    ),
    "digits": Entry(
        version="1.0.0",
        image_shape=(28, 28, 1),
        class_names=DIGITS,
        classes=10,
        sizes={"train": 1_297, "test": 500},
        files=(),
        archive=None,
        contents={},
        debian=None,
        description="1,797 scans of handwritten digits, 8x8, enlarged to 28x28, grey.",
        citation="Alpaydin and Kaynak 1998, Optical recognition of handwritten digits (UCI)",
    ),
    "cifar10": Entry(
        version="3.0.2",
        image_shape=(32, 32, 3),
        class_names=None,
        classes=10,
        sizes={"train": 50_000, "test": 10_000},
        files=("cifar-10-binary.tar.gz",),
        archive=CifarArchive(
            folder="cifar-10-batches-bin",
            parts={
                "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
                "test": ("test_batch.bin",),
            },
            labels={"label": "batches.meta.txt"},
        ),
        contents={},
        debian=None,
        description="60,000 colour pictures of 10 classes, 32x32.",
        citation="Krizhevsky 2009, Learning multiple layers of features from tiny images",
    ),
    "cifar100": Entry(
        version="3.0.2",
        image_shape=(32, 32, 3),
        class_names=None,
        classes=100,
        sizes={"train": 50_000, "test": 10_000},
        files=("cifar-100-binary.tar.gz",),
        archive=CifarArchive(
            folder="cifar-100-binary",
            parts={"train": ("train.bin",), "test": ("test.bin",)},
            labels={"coarse_label": "coarse_label_names.txt", "label": "fine_label_names.txt"},
        ),
        contents={},
        debian=None,
        description="60,000 colour pictures of 100 classes, 32x32.",
        citation="Krizhevsky 2009, Learning multiple layers of features from tiny images",
    ),
}
