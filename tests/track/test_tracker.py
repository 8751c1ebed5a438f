import json
import shutil
import sys
import time
import wave

import numpy as np
import pytest

from deeper.errors import UserError
from deeper.record.run_directory import RunDirectory
from deeper.record.wandb_id import run_id
from deeper.track import wandb_process
from deeper.track.sync import sync
from deeper.track.tracker import Tracker
from deeper.track.wandb_process import has_api_key
from deeper.track.wandb_switches import choose
from tests.track.conftest import config_of, row
from tests.track.wandb_server import offline_records, offline_rows

# A module of the name wandb that breaks where the environment says.
BROKEN = """
import os, sys, time
def fail(place):
    kind, where = os.environ["BREAKS"].split()
    if where == place:
        print("noise"); print("noise", file=sys.stderr)
        if kind == "raises": raise RuntimeError("wandb is broken")
        if kind == "hangs": time.sleep(60)
        if kind == "exits": os._exit(7)
fail("import")
def Settings(**k): return None
class setup:
    run_name = run_group = run_tags = run_job_type = disable_git = disable_code = None
    x_disable_stats = x_disable_machine_info = False
    sources = ()
    settings = property(lambda self: self)
    read_system_settings = lambda self: self
    all = lambda self: {}
class Run:
    starting_step = 0
    summary = {}
    def define_metric(self, *a, **k): pass
    def log(self, *a, **k): fail("log")
    def finish(self, **k): fail("finish")
def init(**k):
    fail("init")
    return Run()
"""


def examples(count=4):
    images = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)
    labels = np.arange(count, dtype=np.int32) % 3
    confusion = np.array([[5, 1, 0], [0, 6, 0], [2, 0, 4]])
    return {
        "images": images,
        "labels": labels,
        "predictions": labels[::-1],
        "confidences": np.full(count, 0.5),
        "class_names": ("a", "b", "c"),
        "confusion": confusion,
    }


def detections(count=3):
    """Return examples of detection: two boxes of each photograph, one of them padding."""
    rng = np.random.default_rng(0)
    boxes = np.tile(np.array([[1.0, 2, 6, 7], [0, 0, 0, 0]]), (count, 1, 1))
    labels = np.tile(np.array([1, -1]), (count, 1))
    return {
        "images": rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8),
        "boxes": boxes,
        "labels": labels,
        "found_boxes": boxes,
        "found_labels": labels,
        "found_scores": np.tile(np.array([0.75, 0.0]), (count, 1)),
        "class_names": ("a", "b $x"),
    }


def record(path, config, warn, rows=3, shown=True, **instead):
    """Make a whole run; ``instead`` of images, its examples have these arrays."""
    with RunDirectory.open(path, config, "0123abcd") as directory:
        tracker = Tracker.start(directory, config, warn)
        for step in range(1, rows + 1):
            tracker.log(row(step))
        tracker.fsync()
        if shown:
            made = examples() if shown is True else dict(shown)
            if instead:
                del made["images"]
            tracker.write_examples(made | instead)
        directory.write_result({"status": "finished", "metrics": {"test/error": 13.5}})
        tracker.finish("finished")


def test_disabled_mirror_leaves_the_record_alone(path, no_account):
    record(path, config_of("disabled"), pytest.fail)
    lines = (path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        row(1),
        row(2),
        row(3),
    ]
    assert not (path / "wandb").exists()


def test_unknown_mode_names_the_known_ones(directory):
    with pytest.raises(UserError, match=r"tracker\.mode=on is unknown; choose one of auto, online"):
        Tracker.start(directory, config_of("on"), pytest.fail)


def test_offline_mirror_shows_boxes_on_photographs(path, no_account):
    record(path, config_of("auto"), pytest.fail, shown=detections())
    row = next(r for r in offline_rows(path) if "examples/nrows" in r)
    assert (row["examples/nrows"], row["examples/ncols"]) == (3, 3)
    [table] = (path / "wandb").rglob("examples*.table.json")
    assert [line[1:] for line in json.loads(table.read_text())["data"]] == [[1, 1]] * 3
    # What the upload sends lies here, the table with its boxes among it.
    staged = [file.read_bytes() for file in (path / "wandb/data/artifacts/staging").iterdir()]
    sent = next(json.loads(one) for one in staged if one.startswith(b'{"_type": "table"'))
    for image, *_ in sent["data"]:
        [[found], [true]] = (image["boxes"][panel] for panel in ("detections", "objects"))
        assert found["position"] == {"minX": 1, "maxX": 6, "minY": 2, "maxY": 7}
        assert (found["class_id"], found["box_caption"]) == (1, "b $x 0.75")
        assert true == {key: found[key] for key in found if key != "scores"} | {
            "box_caption": "b $x"
        }


def test_offline_mirror_holds_rows_config_summary_and_tables_and_prints_nothing(
    path, no_account, capfd
):
    record(path, config_of("auto"), pytest.fail, rows=30)
    assert capfd.readouterr() == ("", "")

    rows = offline_rows(path)
    assert [r["step"] for r in rows[:30]] == list(range(1, 31))
    assert rows[4]["train/loss"] == row(5)["train/loss"]
    assert rows[30]["examples/nrows"] == 4
    assert rows[30]["confusion_table/nrows"] == 9

    records = offline_records(path)
    run = next(r.run for r in records if r.WhichOneof("record_type") == "run")
    assert run.run_id == run_id(path)
    assert run.run_group == "depth_fashion/resnet20"
    assert run.job_type == "train"
    assert set(run.tags) == {"depth_fashion", "resnet20", "quick"}
    assert {u.key: u.value_json for u in run.config.update}["model.depth"] == "20"
    metrics = [r.metric for r in records if r.WhichOneof("record_type") == "metric"]
    assert any(m.glob_name == "*" and m.step_metric == "step" for m in metrics)
    summary = {}
    for r in records:
        if r.WhichOneof("record_type") == "summary":
            summary |= {i.key or "/".join(i.nested_key): i.value_json for i in r.summary.update}
    assert summary["test/error"] == "13.5"


def hide(module, tmp_path, monkeypatch):
    """Make a package of Python's missing for the process of the mirror."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / f"{module}.py").write_text(
        f"raise ModuleNotFoundError(\"No module named '{module}'\")"
    )
    monkeypatch.setenv("PYTHONPATH", ":".join([str(hidden), *filter(None, sys.path)]))


def table_of(path):
    """Return columns and rows of the table of examples that W&B keeps."""
    [file] = path.glob("wandb/**/table/examples_*.table.json")
    table = json.loads(file.read_text())
    return table["columns"], table["data"]


def test_sounds_are_heard_in_the_table_of_examples(path, no_account, tmp_path, monkeypatch):
    hide("soundfile", tmp_path, monkeypatch)
    sounds = np.random.default_rng(0).integers(-(2**15), 2**15, (4, 800)).astype(np.int16)
    record(path, config_of("offline"), pytest.fail, inputs=sounds, rate=8000)
    columns, rows = table_of(path)
    assert columns[0] == "sound" and [cells[0] for cells in rows] == ["Audio"] * 4
    heard = []
    for file in path.glob("wandb/data/artifacts/staging/*"):  # what is uploaded with the table
        if file.read_bytes()[:4] == b"RIFF":
            with wave.open(str(file)) as sound:
                assert (sound.getframerate(), sound.getnchannels()) == (8000, 1)
                heard.append(sound.readframes(1000))
    assert sorted(heard) == sorted(one.astype("<i2").tobytes() for one in sounds)
    assert offline_rows(path)[3]["examples/nrows"] == 4


def test_texts_are_read_in_the_table_of_examples(path, no_account):
    texts = np.array(["ein Hund", "en hund", "", "пёс"])
    tokens = np.ones((4, 8), np.int32)
    record(path, config_of("offline"), pytest.fail, inputs=tokens, texts=texts)
    columns, rows = table_of(path)
    assert columns == ["text", "label", "prediction", "confidence"]
    assert [cells[0] for cells in rows] == texts.tolist()
    assert [cells[1] for cells in rows] == ["a", "b", "c", "a"]


def test_a_metric_that_is_no_number_is_null(path, no_account):
    with RunDirectory.open(path, config_of("offline"), "0123abcd") as directory:
        tracker = Tracker.start(directory, config_of("offline"), pytest.fail)
        tracker.log(row(1) | {"test/auprc": float("nan"), "test/auroc": np.float32("inf")})
        metrics = {"test/auprc": float("nan"), "test/error": 1.0}
        directory.write_result({"status": "finished", "metrics": metrics})
        tracker.finish("finished")
    [line] = (path / "metrics.jsonl").read_text().splitlines()
    logged = json.loads(line, parse_constant=pytest.fail)
    assert logged["test/auprc"] is None and logged["test/auroc"] is None
    result = json.loads((path / "result.json").read_text(), parse_constant=pytest.fail)
    assert result["metrics"] == {"test/auprc": None, "test/error": 1.0}
    assert offline_rows(path)[0]["train/loss"] == row(1)["train/loss"]


@pytest.mark.parametrize(
    "breaks",
    [
        "raises import",
        "raises init",
        "raises log",
        "raises finish",
        "exits log",
        "hangs init",
        "hangs finish",
    ],
)
def test_broken_wandb_costs_one_warning(breaks, path, no_account, tmp_path, monkeypatch, capfd):
    (tmp_path / "broken" / "wandb").mkdir(parents=True)
    (tmp_path / "broken" / "wandb" / "__init__.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(tmp_path / "broken")
    monkeypatch.setenv("PYTHONPATH", ":".join([str(tmp_path / "broken"), *filter(None, sys.path)]))
    monkeypatch.setenv("BREAKS", breaks)
    if "hangs" in breaks:
        monkeypatch.setattr(wandb_process, "FINISH_SECONDS", 2.0)
    warnings = []
    began = time.monotonic()
    record(path, config_of("offline"), warnings.append, shown=False)
    assert time.monotonic() - began < 20
    assert len(warnings) == 1, warnings
    assert "Weights & Biases failed" in warnings[0]
    assert "deeper sync" in warnings[0]
    if "raises" in breaks:
        assert "RuntimeError: wandb is broken" in warnings[0]
    assert len((path / "metrics.jsonl").read_text().splitlines()) == 3
    assert capfd.readouterr() == ("", "")


def test_wandb_that_is_missing_costs_one_warning(path, no_account, tmp_path, monkeypatch):
    hide("wandb", tmp_path, monkeypatch)
    warnings = []
    record(path, config_of("offline"), warnings.append)
    assert len(warnings) == 1
    assert "No module named 'wandb'" in warnings[0]


def test_dead_network_costs_one_warning(path, no_account, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(wandb_process, "FINISH_SECONDS", 1.5)
    warnings = []
    record(path, config_of("auto"), warnings.append)
    assert len(warnings) == 1
    assert "no answer for 2 s" in warnings[0]


@pytest.mark.parametrize("mode", ["dryrun", "offline", "DRYRUN"])
def test_wandb_mode_offline_holds_where_the_command_leaves_it_open(mode, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", mode)
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert choose("auto").mode == "offline"
    assert choose("online").mode == "online"
    assert choose("disabled").mode == "disabled"


def test_a_wandb_mode_in_capitals_is_understood_by_the_mirror_too(path, online, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "DRYRUN")
    record(path, config_of("auto"), pytest.fail, shown=False)
    assert online.requests == 0
    assert len(offline_rows(path)) == 3


@pytest.mark.parametrize(
    ("variable", "value"),
    [("WANDB_MODE", "disabled"), ("WANDB_MODE", "Off"), ("WANDB_DISABLED", "true"),
     ("WANDB_DISABLED", "1")],
)  # fmt: skip
def test_an_off_switch_of_the_environment_always_holds(variable, value, path, online, monkeypatch):
    monkeypatch.setenv(variable, value)
    said = []
    record(path, config_of("online"), said.append, shown=False)
    assert online.requests == 0
    assert len(said) == 1
    assert f"{variable}={value}" in said[0]
    assert not (path / "wandb").exists()
    with pytest.raises(UserError, match=f"{variable}={value}"):
        sync([path], warn=pytest.fail)


def test_wandb_disabled_false_turns_nothing_off(no_account, monkeypatch):
    monkeypatch.setenv("WANDB_DISABLED", "false")
    assert choose("online").mode == "online"


def test_an_unknown_wandb_mode_sends_nothing(directory, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "onlin")
    with pytest.raises(UserError, match="WANDB_MODE=onlin is unknown"):
        Tracker.start(directory, config_of("auto"), pytest.fail)


@pytest.fixture(params=["user", "directory"])
def settings_file(request, tmp_path, monkeypatch):
    """A settings file of W&B's: that of ``~/.config/wandb``, or of the working directory."""
    monkeypatch.chdir(tmp_path)
    place = tmp_path / ("wandb-config" if request.param == "user" else "wandb") / "settings"
    place.parent.mkdir()
    return place


def test_wandb_disabled_by_its_own_command_sends_nothing(path, online, settings_file):
    settings_file.write_text("[default]\nmode = disabled\n")
    said = []
    record(path, config_of("online"), said.append, shown=False)
    assert online.requests == 0
    assert len(said) == 1
    assert str(settings_file) in said[0]
    assert sync([path], warn=said.append) == {}
    assert online.requests == 0


def test_wandb_offline_by_its_own_command_keeps_a_run_here(path, online, settings_file):
    settings_file.write_text("[default]\nmode = offline\n")
    record(path, config_of("auto"), pytest.fail, shown=False)
    assert online.requests == 0
    assert len(offline_rows(path)) == 3
    assert sync([path], warn=pytest.fail) == {path: 3}, "to sync is to say yes"


def test_name_tags_and_group_of_the_environment_are_taken(path, online, monkeypatch):
    monkeypatch.setenv("WANDB_NAME", "mine")
    monkeypatch.setenv("WANDB_TAGS", "a,b")
    monkeypatch.setenv("WANDB_RUN_GROUP", "together")
    record(path, config_of("auto") | {"study": None}, pytest.fail, shown=False)
    [run] = online.runs.values()
    assert run["variables"]["displayName"] == "mine"
    assert run["variables"]["groupName"] == "together"
    assert {"a", "b", "resnet20"} <= set(run["variables"]["tags"])


def test_a_study_is_the_group_whatever_the_environment_says(path, online, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_GROUP", "together")
    record(path, config_of("auto"), pytest.fail, shown=False)
    [run] = online.runs.values()
    assert run["variables"]["groupName"] == "depth_fashion/resnet20"


def test_wandb_folder_that_is_removed_costs_a_warning_at_most(path, no_account):
    said = []
    config = config_of("offline")
    with RunDirectory.open(path, config, "0123abcd") as directory:
        tracker = Tracker.start(directory, config, said.append)
        tracker.log(row(1))
        deadline = time.monotonic() + 60
        while not list(path.glob("wandb/offline-run-*")) and time.monotonic() < deadline:
            time.sleep(0.05)
        shutil.rmtree(path / "wandb", ignore_errors=True)
        tracker.log(row(2))
        tracker.finish("finished")
    assert len(said) <= 1


def test_key_of_a_login_is_found_for_its_server(no_account, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password secret\n")
    assert has_api_key()
    (tmp_path / "wandb-config").mkdir()
    (tmp_path / "wandb-config" / "settings").write_text(
        "[default]\nbase_url = https://wandb.lab.org:80\n"
    )
    assert not has_api_key()
    (tmp_path / "netrc").write_text("machine wandb.lab.org login user password secret\n")
    assert has_api_key()
