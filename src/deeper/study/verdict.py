"""What a study's tests say of its claim together.

Verdicts on a claim, each with an error of at most 5 %:

- Supported: each of its tests supports its part. As all of them have to, none needs a correction
  for their number (Berger 1982, Technometrics 24, intersection-union test).
- Contradicted: one of its tests is significant in the other direction. As any one is enough, their
  p are corrected for the number of the study's tests (Holm 1979, "A simple sequentially rejective
  multiple test procedure"), those included that are not carried out.
- Inconclusive: neither.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from deeper.study.hypothesis_tests import CONTRADICTED, OPEN, SUPPORTED, Finding
from deeper.study.read_runs import Collection


@dataclass(frozen=True)
class Verdict:
    """What all tests together say of the study's claim.

    Attributes:
        word: supported, contradicted or inconclusive.
        sentence: why.
    """

    word: str
    sentence: str


def judge(findings: Sequence[Finding], collection: Collection) -> Verdict:
    """Put the findings together into a verdict on the claim."""
    absences = collection.absences()
    note = f" The study is not complete ({absences})." if absences else ""
    total = len(findings)
    if not total:
        return Verdict(OPEN, f"The study states no test; the figures are all there is.{note}")
    kinds = [finding.verdict for finding in findings]
    against, for_it = kinds.count(CONTRADICTED), kinds.count(SUPPORTED)
    if against:
        which = " ".join(finding.claim for finding in findings if finding.verdict == CONTRADICTED)
        corrected = f" (p corrected for {total} tests by Holm's method)" if total > 1 else ""
        return Verdict(
            CONTRADICTED,
            f"{_count(against, total)} significant against the claim, at the 5 % level{corrected}"
            f"{_rest(for_it)}. The runs show the opposite of: {which}{note}",
        )
    if for_it == total:
        words = (
            f"{_count(total, total)} significant in favour of the claim, at the 5 % level.{note}"
        )
        return Verdict(SUPPORTED, words)
    left = total - for_it
    if for_it:
        is_or_are = "is" if left == 1 else "are"
        words = (
            f"{_count(for_it, total)} significant in favour of the claim and {left} {is_or_are} "
            "inconclusive,"
        )
    else:
        words = f"{_count(total, total)} inconclusive,"
    undecided = [finding.claim for finding in findings if finding.verdict == OPEN]
    which = f" Not decided: {' '.join(undecided)}" if for_it else ""
    return Verdict(OPEN, f"{words} at the 5 % level.{which}{note}")


def _count(n: int, total: int) -> str:
    if total == 1:
        return "The test is"
    if n == total:
        return "Both tests are" if total == 2 else f"All {total} tests are"
    return f"{n} of {total} tests {'is' if n == 1 else 'are'}"


def _rest(supporting: int) -> str:
    if not supporting:
        return ""
    return f"; {supporting} {'is' if supporting == 1 else 'are'} significant in its favour"
