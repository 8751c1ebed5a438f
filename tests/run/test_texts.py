"""From packages of texts to a trained net, its answers and what they depend on."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

import deeper
from deeper.config.identity import config_hash
from deeper.errors import UserError
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
