"""Photographs with boxes in published formats: what is wrong is counted and named, or refused."""

import io
import json
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import ExifTags, Image

from deeper.data.detection import detection, tables_of
from deeper.data.prepare.coco import coco
from deeper.data.prepare.tfds_boxes import tfds_boxes
from deeper.data.prepare.voc import voc
from deeper.errors import UserError
from tests.data import scenes


@pytest.fixture
def content():
    return scenes.coco_content(9)


def prepare(root, content, on_bad="raise", **others):
    scenes.write_coco(root, content)
    return coco(
        str(root / "data"),
        "things",
        images=str(root / "train"),
        annotations=str(root / "train.json"),
        on_bad=on_bad,
        **others,
    )


def boxes_of(root, split=None):
    tables, _ = tables_of(str(root / "data"), "things")
    chosen = tables.values() if split is None else [tables[split]]
    return {
        int(number): one.boxes[end - count : end]
        for one in chosen
        for number, end, count in zip(one.ids, one.ends, one.counts, strict=True)
    }


def test_coco_annotations_keep_their_corners_areas_and_numbers(tmp_path, content):
    content["annotations"][1]["iscrowd"] = 1
    path, said = prepare(tmp_path, content)
    assert said == []
    assert path == tmp_path / "data" / "things" / "1.0.0"
    tables, classes = tables_of(str(tmp_path / "data"), "things")
    assert classes.names == ("red", "green", "blue")
    assert {name: len(one) for name, one in tables.items()} == {"train": 8, "test": 1}
    told = {
        int(number): [
            (tuple(one.boxes[j]), classes.ids[one.labels[j]], one.areas[j], bool(one.crowd[j]))
            for j in range(end - count, end)
        ]
        for one in tables.values()
        for number, end, count in zip(one.ids, one.ends, one.counts, strict=True)
    }
    expected = {one["id"]: [] for one in content["images"]}
    for one in content["annotations"]:
        x, y, w, h = one["bbox"]
        expected[one["image_id"]].append(
            ((x, y, x + w, y + h), one["category_id"], one["area"], bool(one["iscrowd"]))
        )
    assert told == expected


def test_a_data_set_that_is_prepared_is_not_read_again_unless_its_annotations_changed(
    tmp_path, content
):
    path, _ = prepare(tmp_path, content)
    assert prepare(tmp_path, content)[0] == path
    assert coco(str(tmp_path / "data"), "things", None, None)[0] == path
    content["annotations"].pop()
    with pytest.raises(UserError, match="other annotations"):
        prepare(tmp_path, content)


def broken(content, **changes):
    content["annotations"][0].update(changes)


FAULTS = {
    "boxes that are no numbers": {"bbox": [float("nan"), 1, 5, 5]},
    "boxes whose corners are in the wrong order": {"bbox": [20, 20, -5, 5]},
    "boxes of no area": {"bbox": [3, 3, 0, 5]},
    "boxes outside of their photograph": {"bbox": [200, 3, 5, 5]},
    "boxes of an unknown class": {"category_id": 77},
    "annotations of an unknown photograph": {"image_id": 77},
    "annotations whose number is taken": {"id": 2},
    "annotations that cannot be read": {"bbox": [1, 2, 3]},
    "objects whose area is no number": {"area": float("nan")},
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_wrong_annotation_is_refused_or_left_out_counted_and_named(tmp_path, content, kind):
    whole = len(content["annotations"])
    broken(content, **FAULTS[kind])
    with pytest.raises(UserError, match=f"1 {kind}.*on_bad=skip") as refused:
        prepare(tmp_path, content)
    assert f"{kind}: " in str(refused.value)
    assert not (tmp_path / "data" / "things").exists()
    _, said = prepare(tmp_path, content, "skip")
    assert len(said) == 1
    assert said[0].startswith(f"1 {kind}: ")
    assert sum(map(len, boxes_of(tmp_path).values())) == whole - 1
    # A later call says so, too.
    assert coco(str(tmp_path / "data"), "things", None, None)[1] == said


def test_a_box_over_the_edge_is_cut_counted_and_named_and_rounding_stays(tmp_path, content):
    first = content["annotations"][0]
    image = first["image_id"]
    about = next(one for one in content["images"] if one["id"] == image)
    first["bbox"] = [about["width"] - 10, 2, 30, 5]
    content["annotations"][1]["bbox"][:2] = [-0.4, 3]
    _, said = prepare(tmp_path, content)
    assert said == [
        f"1 boxes cut at the edge of their photograph: annotation 1 in photo{image}.jpg"
    ]
    boxes = boxes_of(tmp_path)
    assert boxes[image][0].tolist() == [about["width"] - 10, 2, about["width"], 7]
    assert min(one[:, 0].min() for one in boxes.values() if len(one)) == -0.4


def test_photographs_that_are_missing_damaged_or_of_another_size_are_named(tmp_path, content):
    scenes.write_coco(tmp_path, content)
    names = [one["file_name"] for one in content["images"]]
    content["images"][2]["width"] += 1

    def spoil():
        (tmp_path / "train.json").write_text(json.dumps(content))
        (tmp_path / "train" / names[0]).unlink(missing_ok=True)
        (tmp_path / "train" / names[1]).write_bytes(b"no picture")
        return {
            "images": str(tmp_path / "train"),
            "annotations": str(tmp_path / "train.json"),
        }

    place = str(tmp_path / "data")
    with pytest.raises(UserError) as refused:
        coco(place, "things", **spoil())
    for kind in ("without a file", "that cannot be read", "of another size than stated"):
        assert f"1 photographs {kind}" in str(refused.value)
    _, said = coco(place, "things", **spoil(), on_bad="skip")
    assert len(said) == 3
    assert len(boxes_of(tmp_path)) == 6


@pytest.mark.parametrize("what", ["images", "categories"])
def test_two_photographs_or_classes_of_one_number_are_refused(tmp_path, content, what):
    content[what][1]["id"] = content[what][0]["id"]
    with pytest.raises(UserError, match=f"{what} has the id .* twice"):
        prepare(tmp_path, content, "skip")


@pytest.mark.parametrize("text", ["{", "[]", '{"images": []}', '{"images": 3}'])
def test_a_file_of_another_format_is_refused(tmp_path, content, text):
    scenes.write_coco(tmp_path, content)
    (tmp_path / "train.json").write_text(text)
    with pytest.raises(UserError, match="COCO's format"):
        coco(str(tmp_path / "d"), "x", str(tmp_path / "train"), str(tmp_path / "train.json"))


def test_splits_with_other_classes_are_refused(tmp_path, content):
    other = scenes.coco_content(3, seed=1)
    other["categories"][0]["name"] = "violet"
    scenes.write_coco(tmp_path, other, seed=1, name="test")
    with pytest.raises(UserError, match="violet"):
        prepare(
            tmp_path,
            content,
            test_images=str(tmp_path / "test"),
            test_annotations=str(tmp_path / "test.json"),
        )


def test_boxes_of_pixels_as_stored_are_turned_with_their_photograph(tmp_path):
    content = scenes.coco_content(2)  # photographs of 40 x 60 and 60 x 40
    scenes.write_coco(tmp_path, content)
    entry = Image.Exif()
    entry[ExifTags.Base.Orientation] = 6
    for one, ((height, width), objects) in zip(content["images"], scenes.drawn(2), strict=True):
        assert (one["height"], one["width"]) == (height, width)  # as stored
        Image.fromarray(scenes.photograph((height, width), objects)).save(
            tmp_path / "train" / one["file_name"], "JPEG", quality=95, subsampling=0,
            exif=entry.tobytes(),
        )  # fmt: skip
    coco(
        str(tmp_path / "data"), "things",
        str(tmp_path / "train"), str(tmp_path / "train.json"), fraction=0.5,
    )  # fmt: skip
    dataset = detection(str(tmp_path / "data"), "things", (60, 60), 3)
    looked_at = 0
    for part in dataset.splits.values():
        for i in range(len(part)):
            count = int((part.columns["labels"][i] >= 0).sum())
            box, label = part.columns["boxes"][i][count - 1], part.columns["labels"][i][count - 1]
            x, y = int((box[0] + box[2]) / 2), int((box[1] + box[3]) / 2)
            middle = part.columns["image"][i][y, x].astype(int)
            assert np.abs(middle - scenes.colour(int(label))).max() < 60
            looked_at += 1
    assert looked_at == 2


# --- Pascal VOC ----------------------------------------------------------------------------------

CLASSES = ["red", "green", "blue"]


def write_voc(root, count=6, **changes):
    """Write a folder of VOC, the photographs painted; of the first, text may be replaced."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    names = []
    for i, ((height, width), objects) in enumerate(scenes.drawn(count)):
        names.append(f"{i:06d}")
        Image.fromarray(scenes.photograph((height, width), objects)).save(
            root / "JPEGImages" / f"{names[-1]}.jpg", quality=95, subsampling=0
        )
        parts = "".join(
            f"<object><name>{CLASSES[label]}</name><difficult>{int(i == 3)}</difficult>"
            f"<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax>"
            f"<ymax>2</ymax></bndbox></part>"
            f"<bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax>"
            f"<ymax>{y2}</ymax></bndbox></object>"
            for x1, y1, x2, y2, label in objects
        )
        text = (
            f"<annotation><filename>{names[-1]}.jpg</filename><size><width>{width}</width>"
            f"<height>{height}</height><depth>3</depth></size>{parts}</annotation>"
        )
        for old, new in changes.items() if i == 0 else ():
            assert f"<{old}>" in text
            head, _, tail = text.partition(f"<{old}>")
            text = f"{head}<{old}>{new}{tail[tail.index('<') :]}"
        (root / "Annotations" / f"{names[-1]}.xml").write_text(text)
    sets = root / "ImageSets" / "Main"
    (sets / "trainval.txt").write_text("\n".join(names[:4]) + "\n")
    (sets / "test.txt").write_text("\n".join(names[4:]) + "\n")


def test_a_folder_of_voc_keeps_corners_and_flags(tmp_path):
    write_voc(tmp_path / "voc")
    _, said = voc(str(tmp_path / "data"), "things", str(tmp_path / "voc"), CLASSES)
    assert said == []
    tables, _ = tables_of(str(tmp_path / "data"), "things")
    assert {name: len(one) for name, one in tables.items()} == {"train": 4, "test": 2}
    drawn = scenes.drawn(6)
    for one in tables.values():
        for name, end, count in zip(one.names, one.ends, one.counts, strict=True):
            number = int(name[:6])
            expected = [list(each[:4]) for each in drawn[number][1]]
            assert one.boxes[end - count : end].tolist() == expected
            assert one.labels[end - count : end].tolist() == [o[4] for o in drawn[number][1]]
            assert (one.difficult[end - count : end] == (number == 3)).all()


VOC_FAULTS = {
    "boxes of an unknown class": {"name": "violet"},
    "boxes whose corners are in the wrong order": {"xmax": "-9"},
    "boxes that are no numbers": {"ymin": "nan"},
}


@pytest.mark.parametrize("kind", VOC_FAULTS)
def test_a_wrong_object_of_voc_is_refused_or_left_out_counted_and_named(tmp_path, kind):
    # The first bndbox of a text is that of a part, which is not read: it is taken out.
    write_voc(tmp_path / "voc")
    path = tmp_path / "voc" / "Annotations" / "000000.xml"
    tree = ElementTree.parse(path)
    for one in tree.getroot().findall("object"):
        one.remove(one.find("part"))
    first = tree.getroot().find("object")
    for tag, text in VOC_FAULTS[kind].items():
        next(first.iter(tag)).text = text
    tree.write(path)
    arguments = (str(tmp_path / "data"), "things", str(tmp_path / "voc"), CLASSES)
    with pytest.raises(UserError, match=f"1 {kind}.*object 1 in 000000.jpg|1 {kind}"):
        voc(*arguments)
    _, said = voc(*arguments, on_bad="skip")
    assert said == [f"1 {kind}: object 1 in 000000.jpg"]


@pytest.mark.parametrize(
    "text", ["<annotation>", "no xml", "<a><object><name>red</name></object></a>"]
)
def test_annotations_of_voc_that_cannot_be_read_are_named(tmp_path, text):
    write_voc(tmp_path / "voc")
    (tmp_path / "voc" / "Annotations" / "000001.xml").write_text(text)
    arguments = (str(tmp_path / "data"), "things", str(tmp_path / "voc"), CLASSES)
    with pytest.raises(UserError, match=r"1 annotations that cannot be read.*"):
        voc(*arguments)
    _, said = voc(*arguments, on_bad="skip")
    assert said[0].startswith("1 annotations that cannot be read: 000001.xml")


def test_a_folder_of_voc_without_sets_is_divided(tmp_path):
    write_voc(tmp_path / "voc", count=10)
    voc(
        str(tmp_path / "data"), "things", str(tmp_path / "voc"), CLASSES, train=None, test=None,
        fraction=0.3,
    )  # fmt: skip
    tables, _ = tables_of(str(tmp_path / "data"), "things")
    assert {name: len(one) for name, one in tables.items()} == {"train": 7, "test": 3}


def test_a_set_of_voc_that_is_not_there_is_named(tmp_path):
    write_voc(tmp_path / "voc")
    with pytest.raises(UserError, match=r"val\.txt"):
        voc(str(tmp_path / "d"), "things", str(tmp_path / "voc"), CLASSES, train="val")


# --- TFDS ----------------------------------------------------------------------------------------


def write_tfds(root, name, config, features, examples):
    """Write a data set as TFDS does, with its features."""
    import tensorflow_datasets as tfds

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("4.0.0")
        BUILDER_CONFIGS = (tfds.core.BuilderConfig(name=config),)

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features(tfds.features))
            )

        def _split_generators(self, dl_manager):
            return {split: iter(enumerate(some)) for split, some in examples.items()}

        def _generate_examples(self):
            raise NotImplementedError

    Builder.name = name
    tfds.disable_progress_bar()
    builder = Builder(data_dir=root, config=config, file_format="array_record")
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )


def encoded(size, objects):
    stream = io.BytesIO()
    Image.fromarray(scenes.photograph(size, objects)).save(stream, "JPEG", quality=95)
    stream.seek(0)
    return stream


def test_what_tfds_prepared_of_voc_has_the_boxes_of_voc(tmp_path):
    def features(of):
        return {
            "image": of.Image(),
            "image/filename": of.Text(),
            "objects": of.Sequence(
                {
                    "label": of.ClassLabel(names=CLASSES),
                    "bbox": of.BBoxFeature(),
                    "is_truncated": np.bool_,
                    "is_difficult": np.bool_,
                }
            ),
        }

    import tensorflow_datasets as tfds

    drawn = scenes.drawn(6)
    examples = [
        {
            "image": encoded((height, width), objects),
            "image/filename": f"{i}.jpg",
            "objects": [
                {
                    "label": label,
                    "bbox": tfds.features.BBox(
                        (y1 + 1) / height, (x1 + 1) / width, y2 / height, x2 / width
                    ),
                    "is_truncated": False,
                    "is_difficult": j == 1,
                }
                for j, (x1, y1, x2, y2, label) in enumerate(objects)
            ],
        }
        for i, ((height, width), objects) in enumerate(drawn)
    ]
    parts = {"train": examples[:3], "validation": examples[3:5], "test": examples[5:]}
    write_tfds(tmp_path, "voc", "2007", features, parts)
    path, said = tfds_boxes(str(tmp_path), "voc/2007", first_pixel=1)
    assert said == []
    assert tfds_boxes(str(tmp_path), "voc/2007", first_pixel=1)[0] == path
    splits = {"train": ["train", "validation"], "test": ["test"]}
    tables, classes = tables_of(str(tmp_path), "voc/2007", splits)
    assert classes.names == tuple(CLASSES)
    assert {name: len(one) for name, one in tables.items()} == {"train": 5, "test": 1}
    for one in tables.values():
        for name, end, count in zip(one.names, one.ends, one.counts, strict=True):
            expected = drawn[int(name[0])][1]
            np.testing.assert_allclose(
                one.boxes[end - count : end],
                np.array([each[:4] for each in expected]).reshape(-1, 4),
                atol=1e-4,
            )
            assert one.difficult[end - count : end].tolist() == [j == 1 for j in range(count)]
    dataset = detection(str(tmp_path), "voc/2007", (60, 60), 3, splits=splits)
    assert len(dataset.splits["train"]) == 5
    assert dataset.splits["train"].columns["image"].shape == (5, 60, 60, 3)


def test_a_set_of_tfds_without_boxes_is_refused(tmp_path):
    def features(of):
        return {"image": of.Image(), "label": of.ClassLabel(names=CLASSES)}

    examples = {"train": [{"image": encoded((20, 20), []), "label": 0}]}
    write_tfds(tmp_path, "plain", "1", features, examples)
    with pytest.raises(UserError, match="no detection"):
        tfds_boxes(str(tmp_path), "plain/1")
