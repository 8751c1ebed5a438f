"""All configs in conf/ build; every mistake is reported in one sentence."""

import importlib.metadata
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from deeper.cli.main import tell
from deeper.config import instantiate
from deeper.config.compose import configure, register_resolvers
from deeper.config.data_sections import OwnDataset
from deeper.config.identity import config_hash, run_directory
from deeper.config.schema import RunConfig
from deeper.config.yaml_files import conf_directory
from deeper.data.dataset import Split, known_size
from deeper.data.encoded_images import View
from deeper.display.banner import seen_of
from deeper.errors import ExitCode, UserError
from deeper.run import build, input_pipeline
from deeper.run.check import check
from deeper.run.cost import cost_of
from deeper.run.dataset import Splits, view_of
from deeper.sweep.planned import check_study

CONF = Path("conf")


def compose_train(*overrides):
    register_resolvers()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_directory()), version_base="1.3"):
        return compose("train", overrides=list(overrides), return_hydra_config=True)


def names(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


# Arms of the studies on ImageNet: nets of their papers, by the recipes of their papers.
NETS = {
    "alexnet": "krizhevsky2012",
    "googlenet": "szegedy2014",
    **{f"vgg{depth}": "simonyan2014" for depth in (11, 13, 16, 19)},
    **{f"resnet{depth}": "he2015" for depth in (18, 34, 50, 101, 152)},
    **{f"plain{depth}": "he2015" for depth in (18, 34)},
    **{f"densenet{depth}": "huang2017" for depth in (121, 169, 201)},
    **{
        f"regnet_{kind}_{size}": "torchvision_regnet"
        for kind in "xy"
        for size in ("400mf", "3_2gf")
    },
    **{f"convnext_{size}": "liu2022" for size in ("tiny", "small", "base")},
    "mobilenet_v2": "torchvision_mobilenet_v2",
    "inception_v3": "torchvision_v1",
}

CHOICES = [
    *(f"model={name}" for name in names("model")),
    *(f"data={name}" for name in names("data")),
    *(f"augment={name}" for name in names("augment")),
    *(f"optimizer={name}" for name in names("optimizer")),
    *(f"schedule={name}" for name in names("schedule")),
    *(f"study={name}" for name in names("study")),
    *(f"mode={name}" for name in names("mode")),
    *(f"train={name}" for name in names("train")),
    *(f"transfer={name}" for name in names("transfer")),
    *(f"arm={name}" for name in names("arm") if name not in NETS),
]


# Nets and data of sequences go together.
BESIDE = {
    "model=faster_rcnn": ["data=scenes"],
    "data=scenes": ["model=faster_rcnn"],
    "data=coco": ["model=faster_rcnn", "data.name=mine", "data.classes=3"],
    "data=coco_tfds": ["model=faster_rcnn"],
    "data=voc": ["model=faster_rcnn"],
    "data=voc_tfds": ["model=faster_rcnn"],
    "arm=faster_resnet18": ["data=scenes"],
    "arm=faster_resnet34": ["data=scenes"],
    "arm=faster_resnet50": ["data=scenes"],
    "arm=faster_resnet101": ["data=scenes"],
    "arm=faster_plain18": ["data=scenes"],
    "arm=faster_plain34": ["data=scenes"],
    "arm=faster_vgg16_c4": ["data=scenes"],
    "arm=faster_resnet101_c4": ["data=scenes"],
    "augment=detection": ["data=scenes", "model=faster_rcnn"],
    "augment=detection_flip": ["data=scenes", "model=faster_rcnn"],
    "augment=detection_strong": ["data=scenes", "model=faster_rcnn"],
    "recipe=lin2017": ["data=scenes", "model=faster_rcnn"],
    "recipe=ren2015": ["data=scenes", "model=faster_rcnn"],
    "study=depth_detection": ["arm=faster_resnet18"],
    "study=depth_voc": ["arm=faster_vgg16_c4"],
    "model=vdcnn": ["data=languages"],
    "data=languages": ["model=vdcnn"],
    "model=textcnn": ["data=snippets"],
    "data=snippets": ["model=textcnn"],
    "data=imdb_reviews": ["model=textcnn"],
    "data=texts": ["model=vdcnn"],
    "data=texts_words": ["model=textcnn"],
    "model=charcnn": ["data=ag_news_subset"],
    "data=ag_news_subset": ["model=charcnn"],
    "model=inception_v3": ["data=imagenet"],
    "model=deepbind": ["data=motifs"],
    "model=basset": ["data=genomics_ood"],
    "model=deepsea": ["data=genomics_ood"],
    "model=zeng": ["data=motifs"],
    "study=depth_dna": ["data=motifs"],
    "data=splice": ["model=deepbind"],
    "data=motifs": ["model=deepbind"],
    "data=sequences": ["model=deepbind"],
    "data=genomics_ood": ["model=deepbind"],
    "model=waveform": ["data=spoken_digits"],
    "data=spoken_digits": ["model=waveform"],
    "data=speech_commands": ["model=waveform"],
    "data=sounds": ["model=waveform"],
    "augment=sounds": ["data=spoken_digits", "model=waveform"],
    "augment=specaugment": ["data=spoken_digits", "arm=log_mel"],
    "arm=log_mel": ["data=spoken_digits"],
    "study=depth_speech": ["arm=m18"],
    "study=depth_detection_pretrained": ["arm=faster_resnet18"],
    **{
        f"arm={net}": ["data=spoken_digits"] for net in ("m3", "m5", "m11", "m18", "m34", "m34_res")
    },
}


COUNTED = {}  # summaries of nets: many choices have the same net


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes_and_builds_without_compiling(choice):
    # Somebody's own photographs, or sets that are as large as they were prepared.
    own = choice in (
        "data=texts", "data=texts_words", "data=sounds", "data=folder", "data=photos", "data=tfds",
        "study=transfer_imagenet", "study=detection_backbones",
    )  # fmt: skip
    beside = BESIDE.get(choice, [])
    config = configure(choice, *beside, *(["data.name=pets", "data.classes=3"] if own else []))
    size = 25000
    if not isinstance(config.data, OwnDataset):
        size = 1000 if own else known_size(config.data.name, "train", Path("nowhere"))
    size -= config.data.validation
    net = repr((config.plain()["model"], config.data.example, config.transfer.truncate_at))
    plan = build.make_plan(config, size, COUNTED.get(net))
    COUNTED[net] = plan.summary
    assert plan.summary.parameters > 1_000  # DeepBind has 2,162
    assert plan.summary.macs > 100_000
    assert plan.summary.residual_bytes > 0  # the net is traced in training too
    assert plan.settings.steps > 0
    build.operations_of(config)
    check_study([config])  # of a study: the keys that its figure and tests name are there
    if config.train.consistency is not None:
        instantiate.build(config.train.consistency)
        for view in (config.train.views.weak, config.train.views.strong):
            assert [instantiate.build(operation) for operation in view]
    plain = config.plain()
    stored = yaml.safe_load(yaml.safe_dump(plain, sort_keys=False))
    assert config_hash(stored) == config_hash(plain)
    assert RunConfig.of(stored).plain() == plain


def test_the_run_directory_is_a_function_of_what_changes_numbers():
    def directory(*overrides):
        return run_directory(configure(*overrides).plain())

    first = directory("study=depth_fashion", "mode=quick")
    assert first == directory("study=depth_fashion", "mode=quick", "data.dir=elsewhere")
    assert first.parent == Path("runs/depth_fashion")
    assert first.name.startswith("resnet20-s0-")
    assert first != directory("study=depth_fashion", "mode=quick", "optimizer.learning_rate=0.3")
    full = directory("study=depth_fashion")
    assert full.parent == Path("runs/depth_fashion-full")


@pytest.mark.parametrize("name", ["folder", "imagenet", "tfds", "photos"])
def test_the_shorter_side_follows_the_images_size_unless_it_is_said(name):
    def side(*overrides):
        given = [f"data={name}", "data.name=pets", "data.classes=3", *overrides]
        return configure(*given).data.shorter_side

    assert side() == (146 if name == "photos" else 256)
    assert side("data.image_shape=[224,224,3]") == 256
    assert side("data.image_shape=[64,96,3]") == 73
    assert side("data.image_shape=[64,64,3]", "data.shorter_side=80") == 80


def test_a_shorter_side_below_the_nets_size_is_found_without_data(mistake):
    own = ("data=folder", "data.name=pets", "data.classes=3", "data.shorter_side=200")
    with pytest.raises(UserError, match=r"data\.shorter_side=200 is less than the 224 pixels"):
        check(configure(*own))
    with pytest.raises(UserError, match=r"data\.shorter_side=200 is less than the 224 pixels"):
        cost_of(configure(*own, "data.examples=100", "mode=dry"), {})
    assert "data.shorter_side=200" in mistake("train", *own)


@pytest.mark.parametrize(
    ("kept", "classes"), [("[0,1,10]", 3), ("[0,1,1]", 3), ("[]", 1), ("[0,1,2]", 10)]
)
def test_classes_that_cannot_be_kept_are_found_without_data(mistake, tmp_path, kept, classes):
    given = (f"data.keep_classes={kept}", f"data.classes={classes}", f"data.dir={tmp_path}")
    with pytest.raises(UserError, match=r"data\.(keep_classes|classes)="):
        check(configure(*given))
    said = mistake("train", "mode=dry", *given)
    assert "data.keep_classes" in said


def test_the_banner_says_what_share_of_a_photograph_is_seen():
    view = View((224, 224, 3), "inception", 256, antialias=True)
    assert "77%" in seen_of(view)
    assert "100%" in seen_of(replace(view, shorter_side=224))


def test_a_record_from_before_the_key_exif_has_the_hash_of_exif_ignore():
    plain = configure("data=imagenet").plain()
    assert plain["data"]["exif"] == "ignore"
    old = plain | {"data": {key: v for key, v in plain["data"].items() if key != "exif"}}
    assert config_hash(old) == config_hash(plain)
    assert not view_of(RunConfig.of(old).data).exif
    turned = plain | {"data": plain["data"] | {"exif": "apply"}}
    assert config_hash(turned) != config_hash(plain)
    assert view_of(RunConfig.of(turned).data).exif


@pytest.mark.parametrize(
    ("mode", "depths", "seeds", "epochs"),
    [("quick", "44,32,20,14,8", "2,3", 1), ("full", "56,44,32,20,14,8", "4,5,6,7,8", 5)],
)
def test_the_arms_of_the_depth_study_have_the_longest_first(mode, depths, seeds, epochs):
    config = compose_train("study=depth_fashion", f"mode={mode}")
    params = config.hydra.sweeper.params
    assert params["model.depth"] == depths
    assert params["seed"] == seeds
    assert params["model"] == "plain,resnet"
    assert config.train.epochs == epochs


EPOCHS = {  # recipe -> epochs, their learning rates as the paper (or its replication) states them
    "he2015": (120, {0: 0.1, 29.9: 0.1, 30.1: 0.01, 60.1: 0.001, 90.1: 0.0001}),
    "torchvision_v1": (90, {0: 0.1, 29.9: 0.1, 30.1: 0.01, 60.1: 0.001, 89.9: 0.001}),
    "rsb_a1": (600, {0: 0.0, 2.5: 0.0025, 5: 0.005, 302.5: 0.0025, 599.9: 0.0}),
    "rsb_a2": (300, {0: 0.0, 2.5: 0.0025, 5: 0.005, 152.5: 0.0025, 299.9: 0.0}),
    "rsb_a3": (100, {0: 0.0, 2.5: 0.004, 5: 0.008, 52.5: 0.004, 99.99: 0.0}),
    "simonyan2014": (74, {0: 0.01, 18.4: 0.01, 18.6: 1e-3, 37.1: 1e-4, 73: 1e-5}),
    "krizhevsky2012": (90, {0: 0.01, 22.4: 0.01, 22.6: 1e-3, 45.1: 1e-4, 89: 1e-5}),
    "szegedy2014": (250, {0: 0.01, 7.9: 0.01, 8.1: 0.0096, 16.1: 0.009216}),
    "huang2017": (90, {0: 0.1, 29.9: 0.1, 30.1: 0.01, 60.1: 0.001, 89.9: 0.001}),
    "torchvision_mobilenet_v2": (300, {0: 0.045, 0.9: 0.045, 1.1: 0.0441, 299.9: 1.07e-4}),
    "torchvision_regnet": (100, {0: 0.0, 2.5: 0.4, 5: 0.8, 52.5: 0.4, 99.99: 0.0}),
    "liu2022": (300, {0: 0.0, 10: 0.002, 20: 0.004, 160: 0.002, 299.9: 0.0}),
}
BATCHES = {
    "krizhevsky2012": 128,
    "liu2022": 4096,
    "rsb_a1": 2048,
    "rsb_a2": 2048,
    "rsb_a3": 2048,
    "szegedy2014": 32,
    "torchvision_regnet": 1024,
}  # the others: 256
DECAYS = {  # recipe -> weight decay, and whether biases and normalisation decay too
    "he2015": (1e-4, False),
    "torchvision_v1": (1e-4, True),
    "rsb_a1": (0.01, False),
    "rsb_a2": (0.02, False),
    "rsb_a3": (0.02, False),
    "simonyan2014": (5e-4, False),
    "krizhevsky2012": (5e-4, False),
    "szegedy2014": (2e-4, False),
    "huang2017": (1e-4, True),
    "torchvision_mobilenet_v2": (4e-5, True),
    "torchvision_regnet": (5e-5, True),
    "liu2022": (0.05, False),
}


# Those of detectors are of data and nets of their own.
@pytest.mark.parametrize(
    "recipe", [one for one in names("recipe") if one not in ("none", "lin2017", "ren2015")]
)
def test_a_recipe_builds_and_has_its_papers_learning_rates(recipe):
    config = configure(f"recipe={recipe}", "data=imagenet", "model.depth=8")
    plan = build.make_plan(config, 1_281_167)
    epochs, rates = EPOCHS[recipe]
    batch = BATCHES.get(recipe, 256)
    assert plan.settings.batch_size == batch
    assert plan.settings.steps == math.ceil(epochs * 1_281_167 / batch)
    assert config.recipe.name == recipe
    assert config.recipe.protocol in ("1crop", "10crop", "dense", "multiscale")
    build.operations_of(config)
    for epoch, expected in rates.items():
        rate = plan.phases[0].learning_rate(round(epoch * 1_281_167 / batch))
        assert float(rate) == pytest.approx(expected, rel=0.01, abs=1e-6), epoch
    optimizer = config.optimizer
    assert (optimizer.weight_decay, optimizer.decay_all) == DECAYS[recipe]
    if recipe == "rsb_a3":
        assert (config.train.loss, config.train.target_threshold) == ("binary_cross_entropy", 0.2)
        assert (config.data.shorter_side, config.train.gradient_clip) == (168, 1.0)
    elif recipe in ("rsb_a1", "rsb_a2"):
        targets = (config.train.target_threshold, config.train.label_smoothing)
        assert targets == {"rsb_a1": (None, 0.1), "rsb_a2": (0.2, 0.0)}[recipe]
        assert (config.train.loss, config.train.repeats) == ("binary_cross_entropy", 3)
        assert config.model["stochastic_depth"] == 0.05
        assert (config.data.shorter_side, config.data.interpolation) == (236, "bicubic")
    elif recipe == "liu2022":
        assert (config.train.label_smoothing, config.train.ema) == (0.1, 0.9999)
        assert (optimizer.b1, optimizer.b2) == (0.9, 0.999)
    else:
        assert (optimizer.momentum, optimizer.nesterov) == (0.9, recipe == "huang2017")
        assert (config.train.loss, config.train.gradient_clip) == ("cross_entropy", None)
        assert config.train.label_smoothing == 0.0


RATES = {  # overrides -> torchvision's --lr
    "arm=alexnet": 0.01,
    "arm=vgg16": 0.01,
    "model=vgg model.batch_norm=true": 0.1,
    "arm=googlenet": 0.01,
    "model=googlenet": 0.1,
    "arm=plain18": 0.1,
    "arm=resnet50": 0.1,
    "arm=alexnet optimizer.learning_rate=0.3": 0.3,
}


@pytest.mark.parametrize("overrides", RATES)
def test_torchvision_trains_nets_without_batchnorm_at_a_tenth_of_the_rate(overrides):
    plain = configure("data=imagenet", "recipe=torchvision_v1", *overrides.split()).plain()
    assert plain["optimizer"]["learning_rate"] == RATES[overrides]
    assert (plain["train"]["batch_size"], plain["train"]["epochs"]) == (256, 90)


@pytest.mark.parametrize(
    ("variant", "batch", "rate"),
    [("x_400mf", 1024, 0.8), ("y_400mf", 1024, 0.4), ("y_3_2gf", 512, 0.4), ("y_32gf", 256, 0.2)],
)
def test_torchvision_trains_larger_regnets_with_smaller_batches(variant, batch, rate):
    overrides = ("model=regnet", f"model.variant={variant}", "recipe=torchvision_regnet")
    plain = configure("data=imagenet", *overrides).plain()
    assert plain["train"]["batch_size"] == batch
    assert plain["optimizer"]["learning_rate"] * batch / 256 == pytest.approx(rate)


@pytest.mark.parametrize("model", ["plain", "alexnet", "convnext"])
def test_a_recipe_with_stochastic_depth_trains_nets_without_it(model):
    config = configure("data=imagenet", "recipe=rsb_a2", f"model={model}")
    assert config.train.repeats == 3
    assert not config.model.get("stochastic_depth")
    build.build_model(config)


def test_what_a_recipe_states_for_one_net_is_of_a_recipe_and_a_net_that_are_there():
    for path in (CONF / "recipe" / "for").glob("*.yaml"):
        pairs = [f"{recipe}_{model}" for recipe in names("recipe") for model in names("model")]
        assert path.stem in pairs


@pytest.mark.parametrize("net", NETS)
def test_a_net_has_the_recipe_of_its_paper_and_takes_another(net):
    config = configure("study=families_imagenet", f"arm={net}")
    assert config.label == net
    assert (config.recipe.name, config.data.name) == (NETS[net], "imagenet")
    build.build_model(config)
    other = configure("study=families_imagenet", f"arm={net}", "recipe=rsb_a3")
    assert (other.recipe.name, other.train.epochs) == ("rsb_a3", 100)
    assert other.optimizer["_target_"].endswith("LAMB")


def test_a_dry_sweep_is_one_table_without_data(start, tmp_path):
    arguments = ("study=families_imagenet", "mode=dry", "study.nets=[resnet18,alexnet]")
    done = start("train", "-m", *arguments)
    assert done.returncode == 0, done.output
    lines = done.output.splitlines()
    assert all(len(line) <= 100 for line in lines)
    resnet, alexnet = (line.split() for line in lines[2:4])
    # 6 FLOP a MAC and image, 120 passes, a quarter of TF32's 156 TFLOP/s.
    assert resnet[:7] == ["resnet18", "he2015", "3", "11.52", "1.79", "256", "601"]
    hours = 6 * 1.79e9 * 120 * 1_281_167 / (0.25 * 156e12) / 3600
    assert float(resnet[9]) == pytest.approx(hours, rel=0.01)
    assert alexnet[:4] == ["alexnet", "krizhevsky2012", "3", "60.97"]
    # What each of the study's tests could decide with these runs.
    output = " ".join(done.output.split()).partition("5 % level:")[2]
    assert output.count("aired t test, 0 seeds") == 7  # each has a net that is not in this sweep
    assert not list(tmp_path.glob("runs/families_imagenet*"))


def test_a_dry_sweep_tells_a_tests_mistakes_as_the_sweep_does(mistake):
    sides = "better: {label: resnet20},worse: {label: resnet8}"  # at each depth, which differs
    study = ("study=depth_fashion", f"study.tests=[{{claim: It is.,{sides}}}]")
    for mode in ("dry", "quick"):
        told = mistake("train", "-m", *study, "study.depths=[8,20]", f"mode={mode}")
        assert "have 20 and 8" in told


MISTAKES = {
    "an unknown verb": (("trian",), "Did you mean train?"),
    "an unknown model": (
        ("train", "model=resnett"),
        "model=resnett: there is no such file; model has alexnet, basset",
    ),
    "an unknown group": (("train", "modle=resnet"), "There is no key modle. Did you mean"),
    "a task that is nowhere": (("train", "task=regression"), "--config-dir"),
    "an unknown depth": (("train", "model.depth=21"), "18, 34, 50, 101, 152"),
    "an unknown data set": (("train", "data=cifar"), "cifar10"),
    "a typo in an override": (("train", "model.dpth=20"), "model.depth"),
    "a value of the wrong type": (("train", "train.batch_size=many"), "train.batch_size"),
    "a wrong value that others are taken from": (
        ("train", "train.dtype=float8"),
        "train.dtype=float8",
    ),
    "the same for another verb": (("inspect", "train.dtype=float8"), "train.dtype=float8"),
    "a rate that phases are given": (
        ("train", "transfer=finetune", "transfer.rate=-1"),
        "transfer.rate=-1",
    ),
    "an unknown option": (("train", "model.stem=huge"), "paper, small, stride2"),
    "a missing data directory": (
        ("train", "data.dir=nowhere"),
        "deeper prepare data=fashion_mnist",
    ),
    "another class count": (("train", "model.classes=7"), "has 10 classes"),
    "a stage that is not there": (
        ("train", "transfer.truncate_at=stage9"),
        "it has stage1, stage2, stage3",
    ),
    "phases that do not make a whole": (
        ("train", "transfer=staged", "transfer.phases.2.share=0.1"),
        "add up to 0.7",
    ),
    "more stages than there are": (
        ("train", "transfer=staged", "transfer.phases.1.stages=4"),
        "give 0 (the head alone) to 3, or all",
    ),
    "a source that is not there": (("train", "init_from=runs/x-*"), "fits no run directory"),
    "an empty study": (("report", "study=depth_fashion"), "deeper train -m study=depth_fashion"),
    "no study": (("report",), "study=depth_fashion"),
    "a set that cannot be prepared": (("prepare", "data=imagenet"), "two tars or its tree"),
    "packages that are not there": (
        ("prepare", "data=photos", "data.source=nowhere"),
        "apt-get download lomiri-wallpapers-16.04 mate-backgrounds plasma-workspace-wallpapers",
    ),
    "a set that TFDS has not prepared": (
        ("prepare", "data=tfds", "data.name=imagenette/160px-v2"),
        "tfds.builder('imagenette/160px-v2', data_dir='",
    ),
    "a directory that is no run": (("evaluate", "run=nowhere"), "no config.yaml"),
    "an unknown suite": (("evaluate", "run=nowhere", "suite=weather"), "corrupt, robust"),
    "a key that a suite does not use": (
        ("evaluate", "run=nowhere", "suite=corrupt", "protocol=flip"),
        "protocol=flip has no part in suite=corrupt",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gets_one_clear_sentence_and_no_traceback(name, mistake):
    arguments, expected = MISTAKES[name]
    assert expected in mistake(*arguments)


@pytest.mark.parametrize(
    "words",
    [
        ("train", "--foo"),
        ("train", "--cfg"),
        ("train", "--cfg", "nonsense"),
        ("train", "-m", "--cfg", "job"),
        ("inspect", "conv", "-z"),
    ],
)
def test_a_wrong_option_gets_one_sentence_that_says_where_help_is(words, mistake):
    verb = "inspect conv" if words[0] == "inspect" else words[0]
    [line] = mistake(*words).splitlines()
    assert f"`deeper {verb} --help`" in line


def test_a_mistake_in_python_is_a_sentence_too():
    for wrong, said in {
        "modle=resnet": "There is no key modle. `deeper train --cfg job` prints",
        "model=resnett": "model=resnett: there is no such file; model has alexnet",
        "train.epochs": "train.epochs: give KEY=VALUE",
        3: "3 is no override",
    }.items():
        with pytest.raises(UserError, match=f"^{said}"):
            configure(wrong)
    with pytest.raises(UserError, match="model='resnet' is no section"):
        configure(model="resnet")


def test_flags_for_xla_fit_the_device_and_keep_the_users(monkeypatch):
    from deeper import xla_flags

    def flags(**environ):
        xla_flags.set_flags(environ)
        return environ.get("XLA_FLAGS", "")

    cpu, gpu = xla_flags.CONVOLUTION_FLAG, xla_flags.GPU_FLAG
    assert flags(XLA_FLAGS="--xla_dump_to=x") == f"--xla_dump_to=x {cpu}"
    mine = "--xla_cpu_experimental_ynn_fusion_type=mine"
    assert flags(XLA_FLAGS=mine) == mine
    assert flags(JAX_PLATFORMS="tpu") == ""
    monkeypatch.setattr(xla_flags, "GPU_PLUGINS", ("json",))  # as if it were installed
    graph = xla_flags.GRAPH_FLAG
    assert flags() == flags(JAX_PLATFORMS="cuda") == f"{gpu} {graph}"
    assert flags(JAX_PLATFORMS="cpu") == cpu
    fast = "--xla_gpu_deterministic_ops=false"
    assert flags(XLA_FLAGS=fast) == f"{fast} {graph}"
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.11.2")
    assert flags() == gpu

    def not_installed(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", not_installed)  # deeper.data without JAX
    assert flags(JAX_PLATFORMS="cpu") == ""


def test_choices_of_gpu_kernels_are_written_by_runs_that_are_not_repeatable_alone(monkeypatch):
    from deeper import xla_flags

    monkeypatch.setattr(xla_flags, "GPU_PLUGINS", ("json",))

    def flags(**environ):
        xla_flags.set_flags(environ)
        return environ["XLA_FLAGS"].split()

    mode = xla_flags.CHOICES_MODE_FLAG
    directory = f"{xla_flags.CHOICES_FLAG}/tuned/choices"
    assert {directory, f"{mode}READ"} < set(flags(DEEPER_TUNED="/tuned"))
    fast = "--xla_gpu_deterministic_ops=false"
    assert {directory, f"{mode}UPDATE"} < set(flags(DEEPER_TUNED="/tuned", XLA_FLAGS=fast))
    assert not any("autotune" in flag for flag in flags())


def test_project_and_entity_of_wandbs_environment_are_taken_unless_they_are_given(monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    monkeypatch.setenv("WANDB_ENTITY", "lab")
    tracker = compose_train().tracker
    assert (tracker.project, tracker.entity) == ("theirs", "lab")
    assert compose_train("tracker.project=mine").tracker.project == "mine"
    monkeypatch.delenv("WANDB_PROJECT")
    monkeypatch.delenv("WANDB_ENTITY")
    tracker = compose_train().tracker
    assert (tracker.project, tracker.entity) == ("deeper", None)


def test_what_breaks_while_a_mistake_is_being_handled_is_no_mistake_of_the_user(capsys):
    mistake, broken = UserError("data.dir is wrong."), ZeroDivisionError("ours")
    broken.__context__ = mistake
    assert tell(broken) == ExitCode.FAILED
    broken.__cause__ = mistake
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert tell(broken) == ExitCode.USER_ERROR


def test_features_of_four_bytes_a_value_count_four_bytes(monkeypatch):
    def splits(dtype):
        part = Split.of(image=np.zeros((100, 100), dtype), label=np.zeros(100, np.int32))
        return Splits(None, part, None, part, None, {})  # type: ignore[arg-type]

    config = configure()
    monkeypatch.setattr(input_pipeline, "RESIDENT_SHARE", 30_000 / (8 * 2**30))
    assert input_pipeline.fits(config, splits(np.uint8))
    assert not input_pipeline.fits(config, splits(np.float32))
