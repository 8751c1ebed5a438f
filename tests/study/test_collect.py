"""Reading run directories in every possible state."""

import json
import shlex
import shutil

import pytest

from deeper.errors import UserError
from deeper.study.comparability import warnings
from deeper.study.definition import Study
from deeper.study.read_runs import collect
from tests.study.conftest import DEFINITION, write_net, write_run


def states(collection):
    return {run.path.name.rsplit("-", 1)[0]: (run.status, run.note) for run in collection.runs}


def the(study, name):
    return next(study.glob(f"{name}-*"))


def test_a_complete_study_is_complete(study):
    collection = collect(study)
    assert len(collection.finished) == 30
    assert collection.complete
    assert collection.absences() == ""
    assert warnings(collection) == []


def test_each_unfinished_run_is_told_apart(study):
    shutil.rmtree(the(study, "plain44-s2"))
    (the(study, "resnet8-s1") / "result.json").unlink()
    shutil.rmtree(the(study, "plain14-s0"))
    write_net(study, False, 14, 0, 90.0, status="diverged")
    collection = collect(study)
    found = states(collection)
    assert found["resnet8-s1"] == ("unfinished", "at step 100 of 100")
    assert found["plain14-s0"] == ("diverged", "non-finite loss at step 7")
    assert collection.missing == [("plain44", 2)]
    assert not collection.complete
    assert collection.absences() == "1 diverged, 1 unfinished, 1 not begun"


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("result.json", "{ not json", "result.json cannot be read (JSONDecodeError"),
        ("result.json", "[]", "result.json cannot be read (ValueError: it holds no mapping)"),
        ("result.json", '{"status": "odd"}', "'odd'"),
        ("result.json", '{"status": "finished", "metrics": {}}', "no number test/error"),
        ("config.yaml", "a: [", "config.yaml cannot be read"),
        ("config.yaml", "", "config.yaml cannot be read"),
        ("environment.json", "", "environment.json cannot be read"),
        ("metrics.jsonl", '{"step"\n{"step": 2}\n', "metrics.jsonl cannot be read"),
        ("metrics.jsonl", "\xff\n", "metrics.jsonl cannot be read"),
    ],
)
def test_a_damaged_run_is_named_and_does_no_harm(study, file, content, says):
    path = the(study, "plain8-s0")
    (path / file).write_bytes(content.encode("latin-1"))
    collection = collect(study)
    status, note = states(collection)["plain8-s0"]
    assert status == "damaged"
    assert says in note
    assert len(collection.finished) == 29


def test_a_run_without_a_config_is_damaged_and_other_folders_are_no_runs(study):
    (the(study, "plain8-s0") / "config.yaml").unlink()
    (study / "figures").mkdir()
    found = states(collect(study))
    assert found["plain8-s0"] == ("damaged", "it has no config.yaml")
    assert "figures" not in found


def test_a_half_written_last_row_is_left_out(study):
    path = the(study, "plain8-s1") / "metrics.jsonl"
    whole = len(path.read_text().splitlines())
    with path.open("a") as stream:
        stream.write('{"step": 1')
    run = next(r for r in collect(study).finished if r.path == path.parent)
    assert len(run.rows) == whole


EARLIER, LATER = "2026-01-01T00:00:00+00:00", "2026-02-01T00:00:00+00:00"


def beside(root, older, newer, same_config=False):
    """Write two runs of an arm and seed, and one that is finished; return them as collected."""
    for name, status, started in (("aaaaaaaa", older, EARLIER), ("bbbbbbbb", newer, LATER)):
        path = write_net(
            root, True, 8, 0, 10.0, name=name, environment={"started": started},
            status="finished" if status == "damaged" else status,
            config={"config_hash": "aaaaaaaa" if same_config else name},
        )  # fmt: skip
        if status == "damaged":
            (path / "result.json").write_text("{")
    write_net(root, False, 8, 0, 12.0)
    found = {run.path.name[-8:]: run for run in collect(root).runs}
    return found["aaaaaaaa"], found["bbbbbbbb"]


ENDS = ("finished", "diverged", "unfinished", "damaged")


@pytest.mark.parametrize("newer", ENDS)
@pytest.mark.parametrize("older", ENDS)
def test_the_newest_of_two_configs_counts_whatever_became_of_it(tmp_path, older, newer):
    first, second = beside(tmp_path, older, newer)
    assert (first.status, second.status) == ("superseded", newer)
    assert second.path.name in first.note
    assert second.path.name in " ".join(warnings(collect(tmp_path)))


@pytest.mark.parametrize("newer", ENDS)
@pytest.mark.parametrize("older", ENDS)
def test_of_one_config_a_finished_run_counts_before_a_newer_without_result(tmp_path, older, newer):
    first, second = beside(tmp_path, older, newer, same_config=True)
    if older == "finished" and newer in ("unfinished", "damaged"):
        assert (first.status, second.status) == ("finished", "superseded")
    else:
        assert (first.status, second.status) == ("superseded", newer)


def test_a_run_that_diverged_is_listed_though_an_older_config_is_finished(tmp_path):
    beside(tmp_path, "finished", "diverged")
    collection = collect(tmp_path)
    assert not collection.complete
    assert "1 diverged" in collection.absences()
    assert {run.label for run in collection.finished} == {"plain8"}


def test_an_arm_that_waits_for_its_launcher_is_newer_than_what_ended_before(tmp_path):
    write_net(tmp_path, False, 8, 0, 12.0)
    write_net(tmp_path, True, 8, 0, 10.0, name="aaaaaaaa")
    waits = write_net(tmp_path, True, 8, 0, 10.0, name="00000000", status="unfinished")
    for name in ("environment.json", "metrics.jsonl"):
        (waits / name).unlink()
    for submitted, status in ((LATER, "unfinished"), ("2025-01-01T00:00:00+00:00", "superseded")):
        (waits / "submission.json").write_text(json.dumps({"submitted": submitted}))
        assert next(r for r in collect(tmp_path).runs if r.path == waits).status == status


def test_arms_beyond_the_model_are_told_apart_and_missed(tmp_path):
    definition = {
        **DEFINITION,
        "x": "label",
        "line": None,
        "arms": {
            "model": ["resnet"],
            "augment": ["flip", "cutout"],
            "optimizer.learning_rate": [1],
        },
        "seeds": [0, 1],
    }
    for augment, seed in (("flip", 0), ("cutout", 0), ("flip", 1)):
        write_run(
            tmp_path, "resnet20", seed, 10.0, depth=20, study=definition, name=f"{augment:0<8}",
            config={"optimizer": {"learning_rate": 1}}, overrides=f"augment={augment} model=resnet",
        )  # fmt: skip
    collection = collect(tmp_path)
    assert len(collection.finished) == 3
    assert {run.arm for run in collection.finished} == {
        "resnet20 augment=flip optimizer.learning_rate=1",
        "resnet20 augment=cutout optimizer.learning_rate=1",
    }
    assert collection.missing == [("resnet augment=cutout optimizer.learning_rate=1", 1)]


def test_a_net_whose_name_ends_in_a_digit_is_not_missing(tmp_path):
    arms = {"model": ["lenet5", "vgg"]}
    definition = {**DEFINITION, "x": "label", "arms": arms, "seeds": [0]}
    write_run(tmp_path, "lenet5", 0, 10.0, study=definition)
    write_run(tmp_path, "vgg16", 0, 10.0, depth=16, study=definition)
    assert collect(tmp_path).missing == []


def test_the_definition_handed_in_goes_before_that_of_the_runs(study):
    collection = collect(study, {**DEFINITION, "seeds": [0, 1, 2, 3]})
    assert len(collection.missing) == 10


@pytest.mark.parametrize("definition", [None, DEFINITION])
def test_a_study_without_a_finished_run_names_directory_and_command(tmp_path, definition):
    root = tmp_path / "depth_test"
    expected = "deeper train -m study=depth_test mode=quick"
    with pytest.raises(UserError, match="no run at all") as caught:
        collect(root, definition)
    assert str(root) in str(caught.value)
    assert expected in str(caught.value)
    write_net(root, True, 8, 0, 10.0, status="unfinished")
    write_net(root, True, 8, 1, 10.0, status="diverged")
    with pytest.raises(UserError, match="1 diverged, 1 unfinished") as caught:
        collect(root, definition)
    assert expected in str(caught.value)
    with pytest.raises(UserError, match="mode=full"):
        collect(root, DEFINITION, mode="full")


def test_runs_of_other_code_machines_or_recipes_are_pointed_out(study):
    path = the(study, "plain8-s0")
    environment = json.loads((path / "environment.json").read_text())
    environment |= {"git_commit": "decaf", "git_dirty": True, "jax": "0.10", "cpu": "Another"}
    (path / "environment.json").write_text(json.dumps(environment))
    config = (path / "config.yaml").read_text().replace("learning_rate: 0.1", "learning_rate: 0.3")
    (path / "config.yaml").write_text(config)
    text = "\n".join(warnings(collect(study)))
    assert "different commits of the code: c0ffee0123456789 (29), decaf (1)" in text
    assert "1 of 30 runs were made with uncommitted changes" in text
    assert "different versions of JAX" in text
    assert "different processors" in text
    assert "differ in optimizer.learning_rate, which no arm varies: 0.1 (29), 0.3 (1)" in text
    assert len(text.splitlines()) == 5


def test_runs_on_other_cores_or_with_other_variables_are_pointed_out(study):
    for path in study.iterdir():
        facts = json.loads((path / "environment.json").read_text())
        facts |= {"cores": 2, "jax_variables": {}, "xla_flags": ""}
        if path.name.startswith("plain8-s0"):
            facts |= {"earlier": [{"cores": 1}], "jax_variables": {"JAX_DISABLE_JIT": "1"}}
        (path / "environment.json").write_text(json.dumps(facts))
    text = "\n".join(warnings(collect(study)))
    assert "different numbers of cores: 2 (29), 1, then 2 (1)" in text
    assert "different variables of JAX in the environment: {} (29), {'JAX_DISABLE_JIT'" in text
    assert len(text.splitlines()) == 2


def test_runs_of_other_data_under_one_name_are_pointed_out(study):
    for path in study.iterdir():
        seen = "c0ffee" if path.name.startswith("plain8-s0") else "decaf0"
        record = {"name": "photographs", "fingerprint": seen * 10}
        (path / "data.json").write_text(json.dumps(record))
    [told] = warnings(collect(study))
    assert "different data under the name photographs: decaf0decaf0 (29), c0ffeec0ffee (1)" in told


@pytest.mark.parametrize(
    ("test", "says"),
    [
        ({"claim": "x", "better": {}, "worst": {}}, "'worst'"),
        ({"claim": "x", "better": {}}, "`better` and `worse`"),
        ({"claim": "x", "among": {}, "trend": "sinks"}, "'sinks'"),
        ({"better": {}, "worse": {}}, "no `claim`"),
    ],
)
def test_a_test_that_cannot_be_understood_is_a_users_error(test, says):
    with pytest.raises(UserError, match=f"Test 1 of study depth_test.*{says}"):
        Study.of({**DEFINITION, "tests": [test]})


@pytest.mark.parametrize("value", ["NaN", "Infinity"])
def test_a_metric_that_is_no_finite_number_counts_as_none(study, value):
    path = the(study, "resnet8-s0") / "result.json"
    result = json.loads(path.read_text())
    result["metrics"]["test/error"] = 0
    path.write_text(json.dumps(result).replace('"test/error": 0', f'"test/error": {value}'))
    assert states(collect(study))["resnet8-s0"] == (
        "damaged", "result.json has no number test/error",
    )  # fmt: skip


def test_what_changes_no_number_is_no_difference(tmp_path):
    for model, workers in (("plain", 1), ("resnet", 2)):
        write_net(
            tmp_path, model == "resnet", 8, 0, 10.0, overrides=f"model={model}",
            config={
                "choices": {"model": model, "recipe/for": f"he2015_{model}", "mode": "quick"},
                "data": {"name": "mnist", "workers": workers, "processes": workers, "dir": model},
                "tracker": {"mode": model}, "recipe": {"name": model}, "config_hash": model,
            },
        )  # fmt: skip
    assert warnings(collect(tmp_path)) == []


def test_the_command_repeats_what_all_runs_were_given(tmp_path):
    root = tmp_path / "my runs" / "depth_test"
    for seed, more in ((0, ""), (1, "train.ema=0.9")):
        path = write_net(root, True, 8, seed, 10.0)
        result = json.loads((path / "result.json").read_text())
        words = ["study=depth_test", "mode=quick", f"seed={seed}", "model.depth=8"]
        result["overrides"] = [*words, "data.dir='/my data'", "train.epochs=2", "jobs=3"] + (
            [more] if more else []
        )
        (path / "result.json").write_text(json.dumps(result))
    collection = collect(root, config_directories=["/my conf"])
    assert shlex.split(collection.command()) == [
        "deeper", "train", "-m", "study=depth_test", "mode=quick", "data.dir='/my data'",
        "train.epochs=2", f"runs={tmp_path}/my runs", "--config-dir", "/my conf",
    ]  # fmt: skip
    # What is published names no directory of the machine.
    published = collection.command(places=False)
    assert published == "deeper train -m study=depth_test mode=quick train.epochs=2"


def test_what_is_published_names_what_was_given_of_the_study_and_no_directory(tmp_path):
    given = "study.source=/my/source.safetensors study.plan.full.steps=60 train.batch_size=28"
    for seed in (0, 1):
        write_net(tmp_path, True, 8, seed, 10.0, overrides=given)
    assert collect(tmp_path).command(places=False).split()[5:] == [
        "study.source=source.safetensors", "study.plan.full.steps=60", "train.batch_size=28",
    ]  # fmt: skip
