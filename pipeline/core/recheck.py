"""The audit's own reading of a sampled choice: replays the seeded draw of a CVS variant from its stored row.

All other rules of GRN and CVS are recomputed in SQL; a keyed hash is not to be had there. Written from the equations
and apart from the sampler, so that a mistake would have to be made twice.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.seeds import uniform


@dataclass(frozen=True, slots=True)
class Drawn:
    """One choice as a row holds it: candidates with their confidences, the nucleus (most probable first), the pick."""

    step: int
    region: int
    candidates: Sequence[int]
    confidences: Sequence[float]
    nucleus: Sequence[int]


def replay(choice: Drawn, temperature: float, draw: float) -> int:
    """The region of the nucleus at which cumulated P ∝ exp(c / τ) first exceeds `draw` in [0, 1) times its mass."""
    confidence = dict(zip(choice.candidates, choice.confidences, strict=True))
    top = max(choice.confidences)
    mass = [math.exp((confidence[region] - top) / temperature) for region in choice.nucleus]
    total = math.fsum(math.exp((each - top) / temperature) for each in choice.confidences)
    mass = [each / total for each in mass]
    below = 0.0
    for region, each in zip(choice.nucleus, mass, strict=True):
        below += each
        if below > draw * sum(mass):
            return region
    return choice.nucleus[0]


def wrong_draws(
    choices: Sequence[Drawn], *, seed: int, question_id: str, variant: int, n_redraws: int, temperature: float
) -> list[tuple[int, str]]:
    """(step, what is wrong) for every choice that this variant's seed does not give; nuclei are taken as stored."""
    found = []
    for number, choice in enumerate(choices):
        if not _is_whole(choice):
            continue  # another rule's business
        draw = uniform("cvs", seed, question_id, variant, n_redraws, number)
        if (region := replay(choice, temperature, draw)) != choice.region:
            found.append((choice.step, f"draw {draw:.6f} gives region {region}, stored is {choice.region}"))
    return found


def _is_whole(choice: Drawn) -> bool:
    return (
        len(choice.candidates) == len(choice.confidences)
        and None not in choice.confidences
        and len(choice.nucleus) > 0
        and set(choice.nucleus) <= set(choice.candidates)
    )
