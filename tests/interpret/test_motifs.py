"""Filters as motifs, the known matrices that they are, and letters by height."""

import numpy as np
import pytest

from deeper.errors import UserError
from deeper.interpret.motifs import (
    Tomtom,
    filter_motifs,
    filters_of,
    information,
    other_strand,
    recovery,
    split_matrices,
)
from deeper.interpret.sequence_figure import sequence_figure
from deeper.interpret.sequence_logo import motif_figure


def random_matrices(count, seed=0):
    rng = np.random.default_rng(seed)
    return {f"M{i}": rng.dirichlet(np.full(4, 0.3), int(rng.integers(6, 15))) for i in range(count)}


def test_a_filter_that_is_a_consensus_has_its_sites_as_motif():
    rng = np.random.default_rng(0)
    site = np.array([1, 2, 3, 4, 4, 1, 3, 2], np.uint8)
    bases = rng.integers(1, 5, (300, 40)).astype(np.uint8)
    for row in bases[:150]:
        place = rng.integers(0, 32)
        row[place : place + 8] = site
    kernel = np.zeros((8, 4, 2), np.float32)
    kernel[np.arange(8), site - 1, 0] = 1.0
    found = filter_motifs(kernel, bases)
    assert list(found) == [0]  # a filter of zeros has none
    np.testing.assert_array_equal(found[0].argmax(axis=1), site - 1)
    np.testing.assert_allclose(found[0].sum(axis=1), 1.0)


def test_a_motif_matches_itself_on_either_strand_and_shifted():
    known = random_matrices(60)
    tomtom = Tomtom(known)
    target = known["M3"]
    flanked = np.concatenate([np.full((4, 4), 0.25), target, np.full((3, 4), 0.25)])
    for motif in (target, other_strand(target), flanked):
        p = tomtom.matches(motif, list(known))
        assert min(p, key=p.get) == "M3" and p["M3"] < 1e-3
        assert np.median(list(p.values())) > 0.1


def test_p_values_of_motifs_that_match_nothing_are_uniform_or_larger():
    known = random_matrices(80, seed=0)
    others = random_matrices(40, seed=1)
    tomtom = Tomtom(known)
    p = np.array([list(tomtom.matches(one, list(known)[:10]).values()) for one in others.values()])
    for level in (0.05, 0.2, 0.5):
        assert (p < level).mean() < 1.5 * level + 0.01


def test_recovery_counts_the_planted_motifs_that_are_filters():
    known = random_matrices(60)
    planted = ["M0", "M1", "M2", "M3"]
    strangers = random_matrices(2, seed=9)
    motifs = {5: known["M1"], 7: other_strand(known["M2"]), 9: strangers["M0"]}
    found = recovery(motifs, known, planted)
    assert {name: number for name, (number, _) in found.found.items()} == {"M1": 5, "M2": 7}
    assert found.share == 0.5 and found.filters == 3
    assert recovery({}, known, planted).share == 0.0


def test_first_filters_are_found_on_one_strand_and_on_both():
    kernel = np.ones((8, 4, 3), np.float32)
    params = {"conv1": {"kernel": kernel}}
    for tree in (params, {"net": params}):
        np.testing.assert_array_equal(filters_of(tree), kernel)
    for tree in ({}, {"conv1": {"kernel": np.ones((3, 3, 1, 4))}}):
        with pytest.raises(UserError):
            filters_of(tree)


def test_a_certain_base_has_two_bits_and_an_even_one_none():
    heights = information(np.array([[1.0, 0, 0, 0], [0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0, 0]]))
    np.testing.assert_allclose(heights.sum(axis=1), [2.0, 0.0, 1.0], atol=1e-6)


def test_stored_matrices_are_divided_by_their_lengths():
    columns = np.arange(20.0).reshape(5, 4)
    parts = split_matrices(columns, np.array([2, 3]), ["a", "b"])
    np.testing.assert_array_equal(parts["a"], columns[:2])
    np.testing.assert_array_equal(parts["b"], columns[2:])


def heights_of(axes):
    """Return (position, low, high) of each letter that is drawn."""
    boxes = [patch.get_path().get_extents() for patch in axes.patches]
    return [(round((b.x0 + b.x1) / 2), b.y0, b.y1) for b in boxes]


def test_letters_of_dna_are_as_high_as_their_values():
    values = np.array([0.5, -0.25, 0.0, 1.0, 9.0])  # beyond the symbols: padding
    [axes] = sequence_figure("heading", [values], ["one"], [list("ACGT")]).axes
    drawn = heights_of(axes)
    assert [place for place, *_ in drawn] == [0, 1, 3]
    np.testing.assert_allclose([low for _, low, _ in drawn], [0, -0.25, 0], atol=1e-6)
    np.testing.assert_allclose([high for *_, high in drawn], [0.5, 0, 1.0], atol=1e-6)


def test_characters_of_texts_are_written_on_colours():
    [axes] = sequence_figure("heading", [np.ones(6)], ["one"], [list("a text")]).axes
    assert not axes.patches and len(axes.texts) == 6


def test_a_logo_stacks_letters_to_the_positions_information():
    matrix = np.array([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0]])
    axes = motif_figure("heading", [("one", matrix)]).axes[0]
    tops = [max(high for place, _, high in heights_of(axes) if place == i) for i in (0, 1)]
    np.testing.assert_allclose(tops, [2.0, 1.0], atol=1e-5)
