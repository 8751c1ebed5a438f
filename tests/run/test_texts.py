"""From packages of texts to a trained net, its answers and what they depend on."""

import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest
from safetensors import safe_open

import deeper
from deeper.config import instantiate
from deeper.config.identity import config_hash
from deeper.data import text
from deeper.errors import UserError
from deeper.run.data_record import differences, read_record, record_of
from deeper.run.dataset import open_splits
from deeper.run.evaluate import evaluate_run
from deeper.run.export import export_weights
from deeper.run.features import features_of_run
from tests.data.test_text import PACKAGES
from tests.data.text_files import WORDS, packages

OVERRIDES = (
    "data=languages", "model=vdcnn", "model.hidden=8", "model.width=4", "data.length=64",
    "data.least=1",
    "data.classes=3", "data.validation=8", "train.batch_size=16", "train.steps=6",
    "train.steps_per_call=2", "train.log_every=2", "tracker.mode=disabled",
    "data.prepare.train=40", "data.prepare.test=10",
    f"data.prepare.packages=[{','.join(PACKAGES)}]",
)  # fmt: skip


def config_of(tmp_path, *more):
    source = tmp_path / "debs"
    if not source.exists():
        packages(source)
    places = (f"data.dir={tmp_path / 'data'}", f"runs={tmp_path / 'runs'}")
    return deeper.configure(*OVERRIDES, *places, f"data.prepare.source={source}", *more)


@pytest.mark.long
def test_a_net_of_texts_trains_resumes_and_answers(tmp_path):
    config = config_of(tmp_path)
    path = deeper.prepare(config).path
    assert path == tmp_path / "data" / "languages"
    run = deeper.train(config, progress=False)
    polls = iter(range(100))
    again = config.replace(runs=str(tmp_path / "cut"))
    cut = deeper.train(again, progress=False, stop_asked=lambda: next(polls) >= 1)
    assert cut.status == "unfinished"
    resumed = deeper.train(again, progress=False)
    assert resumed.metrics == run.metrics
    assert {"test/error", "test/macro_f1"} <= set(run.metrics)
    evaluated = run.evaluate()
    assert evaluated["test/error"] == run.metrics["test/error"]
    assert set(evaluated["error_by_class"]) == set(WORDS)

    # The record is enough to ask the net: the data are not needed.
    shutil.rmtree(tmp_path / "data")
    texts = ["bade gade vand mand bade gade", "поле дерево вода ☃"]
    answers = run.predict([*texts, "  "])
    assert answers.class_names == tuple(WORDS) and len(answers) == 2
    assert len(answers.left_out) == 1 and sum(answers.changed.values()) == 1
    np.testing.assert_allclose(answers.probabilities.sum(axis=1), 1, rtol=1e-5)
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(texts), encoding="utf-8")
    np.testing.assert_array_equal(run.predict(file).scores, answers.scores)

    found = run.attribute("integrated_gradients", texts, classes=["aa", "aa"])
    assert found.maps.shape == (2, 64)
    assert not found.maps[0, len(texts[0]) :].any() and found.maps[0].any()
    found.figure()
    for method in ("grad_cam", "occlusion"):
        assert run.attribute(method, texts).maps.shape == (2, 64)


def test_where_texts_lie_and_how_they_are_prepared_change_no_hash(tmp_path):
    config = config_of(tmp_path)
    moved = config.replace({"data.dir": "elsewhere", "data.prepare.source": "elsewhere"})
    assert config_hash(config.plain()) == config_hash(moved.plain())
    assert moved.data.call["dir"] == "elsewhere"
    folds = config.replace({"data.folds": 10, "data.fold": 3})
    assert config_hash(config.plain()) != config_hash(folds.plain())


def test_a_fold_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"data\.fold=10"):
        config_of(tmp_path, "data.folds=10", "data.fold=10")


def test_a_data_set_of_texts_brings_its_task_and_the_user_may_name_another():
    config = deeper.configure("data=languages", "model=vdcnn")
    assert config.task["column"] == "text" and config.augment == ()
    assert replace(config).choices["task"] == "text"
    assert deeper.configure("data=fashion_mnist").task is None


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a run on made-up languages, and the directory of its data."""
    tmp_path = tmp_path_factory.mktemp("texts")
    config = config_of(tmp_path)
    deeper.prepare(config)
    return deeper.train(config, progress=False), tmp_path


TEXTS = ["bade gade vand mand bade gade", "поле дерево вода ☃"]


def test_the_examples_of_a_run_are_texts(trained):
    run, _ = trained
    with np.load(run.path / "examples.npz", allow_pickle=False) as examples:
        texts, labels = examples["texts"], examples["labels"]
        assert len(texts) == len(labels) == len(examples["predictions"])
    ours = run.data("test")
    reader = run.net().reader
    assert [reader.text(row) for row in ours["text"][: len(texts)]] == list(texts)
    assert all(any(word in text for word in WORDS["aa"].split()) for text in texts[labels == 0])


def test_a_net_of_texts_takes_strings_and_files(trained, tmp_path):
    run, _ = trained
    net = run.net()
    scores = run.predict(TEXTS).scores
    np.testing.assert_allclose(net(TEXTS), scores, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(net(TEXTS[0]), scores[:1], rtol=1e-4, atol=1e-5)
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(TEXTS), encoding="utf-8")
    np.testing.assert_allclose(net(file), scores, rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError):
        net([TEXTS[0], " "])


def test_features_of_texts_are_the_inputs_of_the_last_layer(trained):
    run, _ = trained
    found = features_of_run(run.path, batch_size=16)
    assert found.train.shape == (len(run.data("train")["label"]), 8)
    last = run.net().variables["params"]["fc3"]
    logits = found.test @ np.asarray(last["kernel"]) + np.asarray(last["bias"])[None]
    np.testing.assert_allclose(logits, run.net()(run.data("test")), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("suffix", [".safetensors", ".stablehlo"])
def test_a_net_of_texts_is_exported_with_its_reader(trained, tmp_path, suffix):
    run, _ = trained
    out = tmp_path / f"net{suffix}"
    if suffix == ".safetensors":
        with pytest.raises(UserError, match="names=deeper"):
            export_weights(run.path, out)
        export_weights(run.path, out, names="deeper")
        with safe_open(out, "numpy") as file:
            metadata = file.metadata()
            assert "params/fc3/kernel" in file.keys()  # noqa: SIM118
        reader = json.loads(metadata["reader"])
    else:
        export_weights(run.path, out)
        reader = json.loads(out.with_name(f"{out.name}.json").read_text())["reader"]
        exported = jax.export.deserialize(bytearray(out.read_bytes()))
        tokens = instantiate.build(reader)(TEXTS).columns["text"]
        np.testing.assert_allclose(
            exported.call(tokens), run.predict(TEXTS).scores, rtol=1e-4, atol=1e-5
        )
    assert instantiate.build(reader) == run.net().reader


def other_texts(tmp_path, words, name="other"):
    """Prepare texts of two classes of one's own; return the keys of their config."""
    file = tmp_path / "other.jsonl"
    rows = [
        {"text": f"{word} {other} {i}", "label": label}
        for label, (word, other) in words.items()
        for i in range(20)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    keys = (
        "data=texts", f"data.name={name}", "data.classes=2", "data.length=64", "data.tokens=400",
        "model=vdcnn", "model.hidden=8", "model.width=4", "train.batch_size=16", "train.steps=2",
        "train.steps_per_call=2", "tracker.mode=disabled", f"data.dir={tmp_path / 'data'}",
        f"runs={tmp_path / 'runs'}", f"data.prepare.source={file}",
    )  # fmt: skip
    deeper.prepare(deeper.configure(*keys))
    return keys


@pytest.mark.long
def test_a_run_goes_on_from_the_net_of_another_language(trained, tmp_path):
    run, _ = trained
    keys = other_texts(tmp_path, {"aa": ("bade", "gade"), "zz": ("hlal", "lah")})
    start = f"init_from={run.path}"
    with pytest.raises(UserError, match=r"data\.vocabulary="):
        deeper.train(deeper.configure(*keys, start), progress=False)
    config = deeper.configure(*keys, start, f"data.vocabulary={run.path}")
    tuned = deeper.train(config, progress=False)
    assert tuned.net().reader.vocabulary == run.net().reader.vocabulary
    with pytest.raises(UserError, match=r"data\.vocabulary="):
        deeper.train(deeper.configure(*keys, f"data.vocabulary={tmp_path}"), progress=False)


def test_a_net_of_texts_is_evaluated_on_other_texts_by_the_names_of_their_classes(
    trained, tmp_path
):
    run, _ = trained
    keys = other_texts(tmp_path, {"bb": ("поле", "вода"), "aa": ("bade", "gade")})
    other = deeper.configure(*keys).data
    with pytest.raises(UserError, match=r"data\.vocabulary="):
        evaluate_run(run.path, run.config, other=other)
    other = deeper.configure(*keys, f"data.vocabulary={run.path}").data
    found = evaluate_run(run.path, run.config, other=other, split="train")
    assert found["data"] == "other" and found["train/n_seen"] == 36
    texts, names = text.load(tmp_path / "data" / "other", "prepare")
    answers = run.predict([one for one, _ in texts["train"]])
    wrong = [names[n] != name for (_, n), name in zip(texts["train"], answers.names, strict=True)]
    assert found["train/error"] == pytest.approx(100 * np.mean(wrong))
    features = features_of_run(
        run.path, other=deeper.configure(*keys, f"data.vocabulary={run.path}").plain()["data"]
    )
    assert features.data == "other" and len(features.train) == 36
    longer = deeper.configure(*keys, "data.length=80").data
    with pytest.raises(UserError, match="80"):
        evaluate_run(run.path, run.config, other=longer)


@pytest.mark.long
def test_a_net_of_words_begins_with_vectors_and_keeps_static_ones(tmp_path):
    keys = other_texts(tmp_path, {"no": ("bad", "film"), "yes": ("good", "film")})
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("bad 1 2 3\nfilm 4 5 6\n", encoding="utf-8")
    keys = (
        *(key for key in keys if not key.startswith(("data=", "model", "data.tokens"))),
        "data=texts_words", "data.tokens=40", "model=textcnn", "model.maps=4", "model.features=3",
        "model.channels=multichannel", f"data.vectors={vectors}", "augment=word_dropout",
    )  # fmt: skip
    run = deeper.train(deeper.configure(*keys), progress=False)
    net = run.net()
    words = net.reader.vocabulary
    static = net.variables["batch_stats"]["embedding_static"]["table"]
    trained = net.variables["params"]["embedding"]["table"]
    for word, vector in (("bad", [1, 2, 3]), ("film", [4, 5, 6])):
        np.testing.assert_array_equal(static[2 + words.index(word)], vector)
        assert 0 < np.abs(trained[2 + words.index(word)] - np.array(vector)).max() < 0.5
    assert np.abs(static[2 + words.index("good")]).max() <= 0.25
    assert len(run.attribute("occlusion", ["good film"]).maps) == 1
    with pytest.raises(UserError, match=r"model\.features=3"):
        deeper.train(deeper.configure(*keys, "model.features=5"), progress=False)
    record = read_record(run.path)
    vectors.write_text("bad 1 2 3\nfilm 4 5 7\n", encoding="utf-8")
    splits = open_splits(run.config)
    assert len(differences(record, record_of(run.config, splits))) == 1
