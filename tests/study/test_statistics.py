"""Intervals and tests, compared with SciPy or with numbers computed by hand."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from deeper.errors import UserError
from deeper.record.schema import RunRecord
from deeper.study import hypothesis_tests
from deeper.study.definition import Study
from deeper.study.hypothesis_tests import (
    OPEN,
    examine,
    examine_all,
    holm,
    least_sign_flip_p,
    least_trend_p,
    reach,
    sign_flip,
)
from deeper.study.means import mean_of
from deeper.study.read_runs import Collection, collect
from deeper.study.verdict import judge
from tests.study.conftest import DEFINITION, DEPTHS, write_net, write_study

AT_44 = DEFINITION["tests"][0]
EVERYWHERE = {"claim": "x", "better": {"residual": True}, "worse": {"residual": False}}


def test_the_interval_is_students():
    values = [13.1, 13.5, 12.9, 13.3, 13.4]
    found = mean_of(values)
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert found.mean - found.half_width == pytest.approx(low)
    assert found.mean + found.half_width == pytest.approx(high)
    assert found.std == pytest.approx(np.std(values, ddof=1))
    assert str(found) == "13.24 ± 0.30"
    low, high = stats.t.interval(0.99, 4, np.mean(values), stats.sem(values))
    assert mean_of(values, comparisons=5).half_width == pytest.approx((high - low) / 2)


def test_few_seeds_have_their_range_and_no_interval():
    for n in (2, 3, 4):
        assert mean_of([13.0, 12.5, 13.4, 13.1][:n]).half_width is None
    assert str(mean_of([13.0, 12.5])) == "12.75 (12.50 to 13.00)"
    assert mean_of([-0.5, 0.25]).write("{:+.2f}") == "−0.12 (−0.50 to +0.25)"


def test_a_single_value_has_no_interval():
    assert mean_of([1.0]).half_width is None
    assert str(mean_of([1.0])) == "1.00"


def pair(root, better, worse, test=AT_44):
    for seed, (a, b) in enumerate(zip(better, worse, strict=True)):
        write_net(root, True, 44, seed, a)
        write_net(root, False, 44, seed, b)
    return examine(test, collect(root))


@pytest.mark.parametrize(
    ("better", "worse", "verdict", "says"),
    [
        ((13.0, 13.1, 12.9), (25.0, 24.0, 26.0), "supported", "+12.00 points over 3 seeds"),
        ((25.0, 24.0, 26.0), (13.0, 13.1, 12.9), "contradicted", "−12.00, −10.90, −13.10"),
        ((13.0, 13.1), (14.0, 19.0), "inconclusive", "every seed agrees"),
        ((14.0, 19.0), (13.0, 13.1), "inconclusive", "every seed contradicts the claim"),
        ((13.0, 14.0, 13.5), (13.2, 13.8, 13.6), "inconclusive", "2 of 3 seeds agree"),
        ((13.0, 14.0, 13.5, 13, 13), (14, 14, 14, 14, 14), "supported", "+0.70 points over 5"),
    ],
)
def test_two_nets_are_compared_by_the_paired_t_test(tmp_path, better, worse, verdict, says):
    found = pair(tmp_path, better, worse)
    assert found.verdict == verdict
    assert found.p == pytest.approx(stats.ttest_rel(worse, better).pvalue)
    low, high = stats.ttest_rel(worse, better).confidence_interval(0.95)
    interval = f"{low:+.2f} to {high:+.2f}".replace("-", "−")
    assert (interval in found.words) == (len(better) >= 5)
    assert says in found.words


def test_a_single_seed_is_not_tested(tmp_path):
    found = pair(tmp_path, (13.0,), (14.0,))
    assert (found.verdict, found.p) == ("inconclusive", None)
    assert "+1.00" in found.words
    assert "no test is possible" in found.words


def test_only_seeds_that_both_nets_have_are_compared(tmp_path):
    write_net(tmp_path, True, 44, 7, 1.0)
    found = pair(tmp_path, (13.0, 13.1, 12.9), (25.0, 24.0, 26.0))
    assert "over 3 seeds" in found.words
    other = {**AT_44, "worse": {"residual": False, "depth": 110}}
    assert examine(other, collect(tmp_path)).words == "no seed has a finished run of both"


def test_the_seeds_that_would_decide_are_estimated(tmp_path):
    # Mean 2, deviation sqrt(2): t(0.975, 4) sqrt(2 / 5) = 1.76 < 2 but t(0.975, 3) / sqrt(2) > 2.
    found = pair(tmp_path, (10.0, 10.0), (11.0, 13.0))
    assert "about 5 seeds would decide" in found.words


def test_an_exact_tie_decides_nothing(tmp_path):
    assert pair(tmp_path, (10.0, 10.0), (10.0, 10.0)).verdict == "inconclusive"


def test_random_signs_are_counted_exactly():
    # Of the 8 patterns of 1, 2, 3 two reach a sum of 6; of 1, 2, -4 sums of at least 1 are all.
    assert sign_flip(np.array([1.0, 2.0, 3.0])) == (2 / 8, True)
    assert sign_flip(np.array([1.0, 2.0, -4.0])) == (1.0, True)
    values = np.random.default_rng(3).normal(0.4, 1, size=9)
    expected = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert sign_flip(values) == (pytest.approx(expected), True)


def test_random_signs_of_many_pairs_are_sampled_to_the_same_p():
    values = np.random.default_rng(4).normal(0.45, 1, size=18)
    p, exact = sign_flip(values)
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=18)), np.float32)
    full = np.mean(np.abs(signs @ values.astype(np.float32)) >= abs(values.sum()) - 1e-5)
    assert not exact
    assert p == pytest.approx(full, abs=0.003)
    assert sign_flip(values) == (p, False)


def test_lines_are_compared_over_seeds_and_depths(tmp_path):
    collection = collect(write_study(tmp_path, seeds=(0, 1)))
    found = examine(EVERYWHERE, collection)
    assert found.verdict == "supported"
    assert "10 pairs" in found.words
    assert "in favour in 10 of 10" in found.words
    assert found.p == 2 / 2**10
    metric = {**EVERYWHERE, "metric": "train/error"}
    assert examine(metric, collection).p == 2 / 2**10
    turned = {"claim": "x", "better": EVERYWHERE["worse"], "worse": EVERYWHERE["better"]}
    assert examine(turned, collection).verdict == "contradicted"


def test_a_trend_is_pages(tmp_path):
    collection = collect(write_study(tmp_path))
    table = np.array(
        [
            [
                next(
                    r.value("test/error")
                    for r in collection.finished
                    if (r.seed, r.value("depth"), r.value("residual")) == (seed, depth, False)
                )
                for depth in DEPTHS
            ]
            for seed in (0, 1, 2)
        ]
    )
    rises = {"claim": "x", "among": {"residual": False}, "trend": "rises"}
    found = examine(rises, collection)
    assert found.verdict == "supported"
    assert found.p == pytest.approx(2 * stats.page_trend_test(table).pvalue)
    assert examine({**rises, "trend": "falls"}, collection).verdict == "contradicted"
    gap = examine({**EVERYWHERE, "trend": "rises"}, collection)
    assert gap.verdict == "supported"
    assert gap.words.startswith("the gap at depth 8, 14, 20, 32, 44: +0.")


def test_a_trend_is_tested_where_seeds_have_the_same_depths(tmp_path):
    for depth in DEPTHS:
        write_net(tmp_path, True, depth, 0, 30.0 - depth / 10)
        write_net(tmp_path, True, depth, 1, 30.0 - depth / 9)
    write_net(tmp_path, True, 8, 2, 99.0)
    falls = {"claim": "x", "among": {"residual": True}, "trend": "falls"}
    found = examine(falls, collect(tmp_path))
    assert found.verdict == "supported"
    assert "(means of 2 seeds), leaving out seed 2, where runs are missing" in found.words


def test_a_trend_of_one_seed_or_two_depths_is_not_tested(tmp_path):
    falls = {"claim": "x", "among": {"residual": True}, "trend": "falls"}
    for depth in (8, 14):
        write_net(tmp_path, True, depth, 0, 30.0 - depth)
    assert "three or more" in examine(falls, collect(tmp_path)).words
    write_net(tmp_path, True, 20, 0, 5.0)
    found = examine(falls, collect(tmp_path))
    assert (found.verdict, found.p) == ("inconclusive", None)
    assert "one seed" in found.words


def test_a_test_that_picks_too_much_says_so(study):
    loose = {"claim": "x", "better": {"residual": True, "depth": 8}, "worse": {"residual": False}}
    with pytest.raises(UserError, match="more than one run of seed"):
        examine(loose, collect(study))


def verdict_of(root, **errors):
    collection = collect(write_study(root, **errors))
    return judge(examine_all(collection), collection)


def test_a_claim_is_supported_if_every_test_is(tmp_path):
    found = verdict_of(tmp_path)
    assert found.word == "supported"
    assert found.sentence == "Both tests are significant in favour of the claim, at the 5 % level."


def test_a_claim_is_contradicted_if_one_test_goes_the_other_way(tmp_path):
    found = verdict_of(tmp_path, residual=(12.5, 12.8, 13.1, 13.3, 13.5))
    assert found.word == "contradicted"
    assert "1 of 2 tests is significant against the claim" in found.sentence
    assert "1 is significant in its favour" in found.sentence
    assert "With shortcuts, depth helps." in found.sentence


def test_a_claim_is_inconclusive_if_a_test_is_open(tmp_path):
    found = verdict_of(tmp_path, residual=(13.1, 13.0, 13.1, 13.0, 13.1), jitter=0.3)
    assert found.word == "inconclusive"
    assert "1 of 2 tests is significant in favour of the claim" in found.sentence
    assert "Not decided: With shortcuts, depth helps." in found.sentence


def test_the_verdict_says_if_the_study_is_not_complete(tmp_path):
    collection = collect(write_study(tmp_path, seeds=(0, 1)))
    found = judge([examine(AT_44, collection)], collection)
    assert found.sentence.endswith("The study is not complete (10 not begun).")
    assert "states no test" in judge([], collection).sentence


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ((13.0, 13.4), (14.2, 14.6)),  # equal, though not to the last bit
        ((13.1, 13.1, 13.1), (13.0, 13.0, 13.0)),
        ((10.0, 10.0), (10.0, 10.0)),
    ],
)
def test_without_a_spread_no_t_test_is_made(tmp_path, better, worse):
    found = pair(tmp_path, better, worse)
    assert found.p is None
    assert judge([found], collect(tmp_path)).word not in ("supported", "contradicted")


@pytest.mark.parametrize("pairs", [2, 5, 9])
def test_the_least_p_of_the_sign_flip_test_is_that_of_equal_signs(pairs):
    assert least_sign_flip_p(pairs) == sign_flip(np.linspace(1, 2, pairs))[0]


@pytest.mark.parametrize(("seeds", "values"), [(2, 3), (2, 5), (3, 3)])
def test_the_least_p_of_a_trend_is_that_of_one_order_of_all(seeds, values):
    # Of all values! rankings a seed, one alone reaches the largest L; p is two-sided.
    expected = 2 / np.prod(np.arange(1, values + 1.0)) ** seeds
    assert least_trend_p(seeds, values) == pytest.approx(expected, rel=0.01)


def test_what_so_many_seeds_can_decide_is_known_before_a_run(tmp_path):
    falls = {"claim": "x", "among": {"residual": True}, "trend": "falls"}
    for depth in (8, 14, 20):
        for residual in (True, False):
            for seed in (0, 1):
                write_net(tmp_path, residual, depth, seed, 1.0)
    collection = collect(tmp_path)

    def of(test):
        return reach(test, collection.runs, collection.study)

    assert of(falls).least_p == pytest.approx(2 / 36)
    assert not of(falls).can_decide
    assert of(EVERYWHERE).least_p == 2 / 2**6
    at_8 = {"claim": "x", "better": {"residual": True, "depth": 8}, "worse": {"residual": False}}
    at_8["worse"] = {"residual": False, "depth": 8}
    assert of(at_8).least_p == 0
    assert of(AT_44).least_p is None  # no run of it
    # An outcome that could not decide says so.
    assert "0.056" in examine(falls, collection).words


def test_holm_multiplies_by_the_number_of_tests_that_are_left():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.04, 1.0]) == [0.08, 1.0]
    assert holm([0.04]) == [0.04]


CHAIN = ("lenet5", "alexnet", "vgg16", "googlenet", "resnet20", "resnet56")


def chain_verdicts(seeds, better_by, studies=500):
    """Return how often each verdict comes where each net is better than the one before by so much.

    Errors of ten thousand images, with a deviation of 0.3 points over seeds.
    """
    tests = [
        {"claim": f"{b} is better.", "better": {"label": b}, "worse": {"label": a}}
        for a, b in itertools.pairwise(CHAIN)
    ]
    study = Study.of({"name": "chain", "claim": "x", "tests": tests})
    draw = np.random.default_rng(seeds)
    verdicts = []
    for _ in range(studies):
        runs = []
        for number, label in enumerate(CHAIN):
            for seed in range(seeds):
                error = round(20 - sum(better_by[:number]) + float(draw.normal(0, 0.3)), 2)
                config, result = {"label": label, "seed": seed}, {"metrics": {"test/error": error}}
                runs.append(RunRecord(Path(label), "finished", config, result))
        collection = Collection(Path("chain"), study, "quick", runs, [])
        verdicts.append(judge(examine_all(collection), collection).word)
    return {word: verdicts.count(word) / studies for word in set(verdicts)}


@pytest.mark.parametrize("seeds", [2, 5])
def test_without_an_effect_either_verdict_comes_in_at_most_one_study_of_twenty(seeds):
    found = chain_verdicts(seeds, [0.0] * 5)
    assert found.get("contradicted", 0) <= 0.05
    assert found.get("supported", 0) <= 0.05


def test_a_claim_with_one_false_part_is_rarely_supported_and_rarely_contradicted():
    found = chain_verdicts(5, [5.0, 5.0, 0.0, 5.0, 5.0])
    assert found.get("contradicted", 0) <= 0.05
    assert found.get("supported", 0) <= 0.05


def test_a_claim_that_is_true_or_reversed_is_told_so():
    assert chain_verdicts(5, [3.0] * 5, studies=20) == {"supported": 1.0}
    assert chain_verdicts(5, [3.0, 3.0, -3.0, 3.0, 3.0], studies=20) == {"contradicted": 1.0}


def test_not_a_number_is_no_finding():
    assert holm([float("nan"), 0.01]) == [1.0, 0.02]
    assert hypothesis_tests._verdict(float("nan"), 1.0) == OPEN
