"""What a net carries besides its variables: ``net.json`` in a run directory.

Whoever has the directory knows from this file alone how images are shown to the net, what its
outputs mean, which architecture it is and where its weights are from. It is written when weights
are imported and when training ends; the verbs and the exports read it. Directories of an older
deeper lack it: there it is put together from ``config.yaml``, ``data.json`` and ``weights.json``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from deeper.config.data_sections import OwnDataset
from deeper.config.schema import RunConfig
from deeper.data.prepare.imagenet import CLASSES, wordnet_ids
from deeper.errors import UserError
from deeper.record.atomic_files import read_json
from deeper.record.schema import NET
from deeper.run import data_record
from deeper.run.class_names import class_names, imagenet_names

OLD_ORIGIN = "weights.json"  # of imports by an older deeper


@dataclass(frozen=True)
class NetRecord:
    """What a net carries.

    Attributes:
        label: of the net, as its directory is called.
        architecture: section ``model`` of the config.
        preprocessing: how images are shown: image_shape, crop, shorter_side, interpolation,
            antialias, exif, mean, std; empty where the data are a user's own.
        class_names: in the order of the outputs.
        wordnet_ids: likewise, where the classes are ImageNet's; else empty.
        data: name of the data set that it was trained on.
        source: of imported weights, as it was asked for; None of a run's.
        revision: commit of the source, or of the code that trained the net.
        sha256: of the file that was imported.
        licence: of the weights, if known.
        init_from: what training began from.
        new_layers: layers of imported weights that were drawn, and are not trained.
    """

    label: str
    architecture: Mapping[str, Any]
    preprocessing: Mapping[str, Any]
    class_names: Sequence[str]
    data: str
    wordnet_ids: Sequence[str] = ()
    source: str | None = None
    revision: str | None = None
    sha256: str | None = None
    licence: str | None = None
    init_from: str | None = None
    new_layers: Sequence[str] = field(default=())

    @property
    def imported(self) -> bool:
        """Whether the weights are from elsewhere."""
        return self.source is not None

    def plain(self) -> dict[str, Any]:
        """Return what ``net.json`` holds."""
        return asdict(self)


def record_of(config: RunConfig, names: Sequence[str], **origin: Any) -> NetRecord:
    """Return the record of a config's net.

    Args:
        config: of the run or of the import.
        names: of the classes; WordNet ids stand for ImageNet's names.
        **origin: source, revision, sha256, licence, init_from and new_layers.
    """
    plain = config.plain()
    data = plain["data"]
    shown: dict[str, Any] = {}
    if not isinstance(config.data, OwnDataset):
        shown = {key: data[key] for key in data_record.PREPROCESSING if key in data}
    ids = wordnet_ids() if len(names) == CLASSES else ()
    by_id = bool(ids) and tuple(names) in (ids, tuple(imagenet_names()))
    return NetRecord(
        label=str(config.label),
        architecture=plain["model"],
        preprocessing=shown,
        class_names=imagenet_names() if by_id else list(names),
        wordnet_ids=list(ids) if by_id else [],
        data=config.data.name,
        **origin,
    )


def read(path: Path, config: RunConfig) -> NetRecord:
    """Return what a run directory's net carries.

    Args:
        path: the run directory.
        config: the run's.
    """
    stored = read_json(path / NET)
    if stored is not None:
        known = NetRecord.__dataclass_fields__
        return NetRecord(**{key: value for key, value in stored.items() if key in known})
    origin = read_json(path / OLD_ORIGIN) or {}
    known_origin = {key: origin.get(key) for key in ("source", "revision", "sha256")}
    return record_of(
        config,
        class_names(path, config),
        **known_origin,
        init_from=config.init_from,
        new_layers=origin.get("new_layers") or (),
    )


def is_import(path: Path) -> bool:
    """Whether a directory holds imported weights."""
    return bool((read_json(path / NET) or read_json(path / OLD_ORIGIN) or {}).get("source"))


def require_trained_head(record: NetRecord, path: Path) -> None:
    """Raise a UserError where a net's answers come from a layer that is not trained.

    Args:
        record: of the net.
        path: its directory.
    """
    if record.new_layers:
        raise UserError(
            f"{path} has layers with random values, as its file has none for these classes: "
            f"{', '.join(record.new_layers)}. Its answers mean nothing. Train them: deeper train "
            f"init_from={path}; features and see layer=... need no head."
        )
