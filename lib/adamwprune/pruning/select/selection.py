"""Which weights to prune: exactly k of them, the lowest scores, ties broken by index.

Scores are never all in memory. They are computed in cache-sized parts, anew for each pass. The
first pass takes a sample and brackets the k-th lowest score. The second counts the scores below the
bracket and keeps the few within it. The third applies the choice. Where the sample misleads,
because very many scores are equal, two histograms find the same threshold
(:mod:`adamwprune.pruning.select.radix`). On a GPU they always do.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from adamwprune.pruning.select import radix
from adamwprune.pruning.select.parts import Part, parts
from adamwprune.pruning.select.radix import Threshold
from adamwprune.pruning.shards import Shards

Floats = npt.NDArray[np.floating[Any]]
SMALL = 1 << 18  # up to this number scores are sorted at once: few kernels, and some MB
_SAMPLE_STRIDE = 257  # every 257th score is in the sample; a prime stride favours no column
_SPREAD = 5  # deviations of the sample's rank to both sides of which the threshold is looked for
_BUFFER = 1 << 21  # scores around the threshold that are kept at most, 8 MB


class NotANumber(ValueError):
    """A score is NaN: the training has diverged, or the score's arithmetic is wrong."""


class Scores:
    """Scores of layers by name, computed when they are asked for; NaN marks no candidate.

    ``sizes``: how many candidates each layer has. Members say what the layers are
    (:meth:`layer`) and compute (:meth:`raw`, :meth:`mark`).
    """

    sizes: Mapping[str, int]
    shards: Shards | None = None  # where each rank has scores of its own; sizes are of all

    def __init__(self) -> None:
        self._highest: dict[tuple[str, Part], Tensor] = {}

    def layer(self, name: str) -> Tensor:
        """A tensor of the layer's shape, layout and device."""
        raise NotImplementedError

    def parts(self, name: str) -> Iterator[Part]:
        """The parts in which a layer's scores are asked for."""
        return parts(self.layer(name))

    def input_stride(self, name: str) -> int:
        """How far apart in a layer two weights of neighbouring inputs are, flattened."""
        return math.prod(self.layer(name).shape[2:])

    def raw(self, name: str, part: Part) -> Tensor:
        """Scores [n] of a part, all of them; a fresh tensor."""
        raise NotImplementedError

    def mark(self, name: str, part: Part, scores: Tensor) -> Tensor:
        """These scores with NaN where a weight is no candidate; may write to them."""
        return scores

    def unmarked(self) -> Scores | None:
        """The same without marks, if no score is below 0 and all that would be marked are 0."""
        return None

    def of(self, name: str, part: Part) -> Tensor:
        """Scores [n] of a part as float32, or float64: a fresh tensor, NaN = no candidate."""
        return self.mark(name, part, _float(self.raw(name, part)))

    def each(self, names: Iterable[str]) -> Iterator[Tensor]:
        """All parts of these layers; call :meth:`refuse_nan` when they were seen."""
        for name in names:
            for part in self.parts(name):
                scores = _float(self.raw(name, part))
                # The largest of numbers with a NaN among them is NaN.
                self._highest[name, part] = scores.amax()
                yield self.mark(name, part, scores)

    def sample(self, name: str, every: int) -> Tensor:
        """Scores of some of a layer, about one of ``every``, at even distances."""
        return self.of(name, Part(0, self.layer(name).numel(), every))

    def refuse_nan(self) -> None:
        """Raise :class:`NotANumber` if a score that was computed is NaN, naming its layer, and
        the weights where it is they.

        One flag a part is read back.
        """
        seen = list(self._highest)
        flags = torch.stack([*self._highest.values()]).isnan().tolist() if seen else []
        self._highest.clear()
        elsewhere = self.shards is not None and self.shards.total([sum(flags)])[0] > sum(flags)
        for (name, _), is_nan in zip(seen, flags, strict=True):
            if is_nan:
                layer = self.layer(name)
                count, what = int(layer.isnan().sum()), "weights"
                if not count:
                    scores = (self.raw(name, part) for part in self.parts(name))
                    count, what = sum(int(each.isnan().sum()) for each in scores), "scores"
                raise NotANumber(f"{name}: {count} of {layer.numel()} {what} are NaN")
        if elsewhere:
            raise NotANumber("scores of weights on another rank are NaN")


def _float(scores: Tensor) -> Tensor:
    """float32 holds each number of the shorter types."""
    return scores if scores.dtype in (torch.float32, torch.float64) else scores.float()


# -- the threshold ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Cut:
    """What is chosen of some layers: all scores below a threshold, and of those that equal it the
    first, in the order of the layers and of the indices in them.
    """

    scores: Scores
    names: tuple[str, ...]
    threshold: Threshold

    @property
    def splits_ties(self) -> bool:
        """Whether some that equal the threshold are chosen and others are not."""
        return self.threshold.chosen < self.threshold.ties


def cut(scores: Scores, names: Iterable[str], k: int) -> Cut:
    """The ``k`` lowest of these layers together.

    Raises ``ValueError`` if a score is NaN, naming its layer, or if ``k`` is no count of them.
    """
    names = tuple(names)
    numel = sum(scores.sizes[name] for name in names)
    if not 0 <= k <= numel:
        raise ValueError(f"cannot choose {k} of {numel} weights")
    plain = scores.unmarked() if scores.shards is None else None
    if plain is not None and k and _is_large(scores, names) and scores.layer(names[0]).is_cpu:
        # As long as the threshold is above 0, those that are 0 are chosen with the others.
        zeros = sum(plain.sizes[name] for name in names) - numel
        found = _around(plain, names, k + zeros, above=0.0)
        if found is not None:
            return Cut(plain, names, found)
    return Cut(scores, names, _threshold(scores, names, k))


def _is_large(scores: Scores, names: Iterable[str]) -> bool:
    return sum(scores.layer(name).numel() for name in names) > SMALL


def _threshold(scores: Scores, names: Sequence[str], k: int) -> Threshold:
    if k == 0:
        for _ in scores.each(names):
            pass
        scores.refuse_nan()
        return Threshold(math.nan, 0, 0)  # nothing is lower than that
    if scores.shards is not None:
        return _by_histograms(scores, names, k)
    if not _is_large(scores, names):
        return _sorted(scores, names, k)
    if scores.layer(names[0]).is_cpu:
        found = _around(scores, names, k)
        if found is not None:
            return found
    if _dtype(scores, names) == torch.float64:
        return _sorted(scores, names, k)  # more numbers than two histograms tell apart
    return _by_histograms(scores, names, k)


def _by_histograms(scores: Scores, names: Sequence[str], k: int) -> Threshold:
    summed = () if scores.shards is None else (scores.shards.sum,)
    found = radix.threshold(lambda: scores.each(names), k, *summed)
    scores.refuse_nan()
    return found


def _sorted(scores: Scores, names: Sequence[str], k: int) -> Threshold:
    flat = torch.cat(list(scores.each(names)))
    scores.refuse_nan()
    lowest = flat.kthvalue(k).values  # a NaN counts as the highest
    numbers = [lowest.double(), (flat < lowest).sum(), (flat == lowest).sum()]
    score, below, ties = torch.stack([number.double() for number in numbers]).tolist()
    return Threshold(score, int(ties), k - int(below))


def _around(
    scores: Scores, names: Sequence[str], k: int, above: float | None = None
) -> Threshold | None:
    """By a sample that says where to look, on a CPU; None if the threshold is not found there, or
    where it is looked for is not ``above`` this.

    A single-pass form of Floyd & Rivest's selection (CACM 18(3), 1975).
    """
    low, high = _bracket(_sample(scores, names), k / sum(scores.sizes[name] for name in names))
    if above is not None and not low > above:
        return None
    held = torch.empty(_BUFFER, dtype=_dtype(scores, names))
    near, number, below = held.numpy(), 0, 0
    for part in scores.each(names):
        values = part.numpy()
        lower, around = torch.empty(2, len(part), dtype=torch.bool).numpy()
        below += int(np.count_nonzero(np.less(values, low, out=lower)))
        found = values[np.logical_xor(np.less_equal(values, high, out=around), lower, out=around)]
        if number + len(found) > _BUFFER:
            return None
        near[number : number + len(found)] = found
        number += len(found)
    scores.refuse_nan()
    if not below < k <= below + number:
        return None
    near, place = near[:number], k - below
    near.partition(place - 1)
    score = near[place - 1]
    ties, lower_ones = int((near == score).sum()), int((near < score).sum())
    return Threshold(float(score), ties, place - lower_ones)


def _sample(scores: Scores, names: Iterable[str]) -> Floats:
    """Scores of every 257th candidate."""
    found = [scores.sample(name, _SAMPLE_STRIDE) for name in names if scores.sizes[name]]
    flat: Floats = torch.cat(found).numpy()
    candidates: Floats = flat[~np.isnan(flat)]
    return candidates


def _bracket(sample: Floats, fraction: float) -> tuple[float, float]:
    """Two numbers between which this fraction's quantile lies, if the sample is a fair one."""
    number = len(sample)
    spread = _SPREAD * math.sqrt(number * fraction * (1 - fraction)) + 2
    first, last = math.floor(fraction * number - spread), math.ceil(fraction * number + spread)
    places = [place for place in (first, last) if 0 <= place < number]
    sample.partition(np.array(places, dtype=np.intp))
    low = float(sample[first]) if first in places else -math.inf
    high = float(sample[last]) if last in places else math.inf
    return low, high


def _dtype(scores: Scores, names: Iterable[str]) -> torch.dtype:
    """That of all these scores together."""
    longer = any(scores.raw(name, Part(0, 1)).dtype == torch.float64 for name in names)
    return torch.float64 if longer else torch.float32


# -- what a cut chooses -------------------------------------------------------------------------


class Chooser:
    """Says which scores a cut chooses, part by part, in the order of layers and indices."""

    def __init__(self, cut: Cut) -> None:
        self.threshold = cut.threshold
        self._splits = cut.splits_ties
        self._seen: Any = 0  # ties; on a GPU a tensor, which is not read back
        self._before = _ties_before(cut) if self._splits and cut.scores.shards else {}

    def enter(self, name: str) -> None:
        """The next scores are the first ones of this layer; of a sharded one they come after those
        of ranks before.
        """
        self._seen = self._before.get(name, self._seen)

    def bound(self, scores: Tensor) -> float:
        """What those chosen of the next ``scores`` are at most, and no others.

        Those that equal the threshold, but come too late, become NaN.
        """
        score, _, chosen = self.threshold
        if not self._splits:
            return score
        if not scores.is_cuda:
            if self._seen >= chosen:
                return _next_below(score, scores.dtype)
            ties = torch.empty(len(scores), dtype=torch.bool)
            number = int(np.count_nonzero(np.equal(scores.numpy(), score, out=ties.numpy())))
            if self._seen + number <= chosen:
                self._seen += number
                return score
        else:
            ties = scores == score
        places = ties.cumsum(0).add_(self._seen)
        self._seen = places[-1:] if scores.is_cuda else chosen
        scores.masked_fill_(ties.logical_and_(places > chosen), math.nan)
        return score


def _ties_before(cut: Cut) -> dict[str, int]:
    """How many equal the threshold before the first score that this rank has of each layer."""
    assert cut.scores.shards is not None
    ours = []
    for name in cut.names:
        values = (cut.scores.of(name, part) for part in cut.scores.parts(name))
        ours.append(sum(int((each == cut.threshold.score).sum()) for each in values))
    return dict(zip(cut.names, cut.scores.shards.before(ours), strict=True))


def _next_below(score: float, dtype: torch.dtype) -> float:
    """The next lower number of this type; NaN, than which nothing is lower, under −∞."""
    if score == -math.inf:
        return math.nan
    number, infinity = torch.tensor([score, -math.inf], dtype=dtype)
    return float(number.nextafter(infinity))


def masks(scores: Scores, cuts: Iterable[Cut]) -> dict[str, Tensor]:
    """Bool tensors, True where a weight is chosen."""
    found = {}
    for each in cuts:
        chooser = Chooser(each)
        for name in each.names:
            layer = scores.layer(name)
            mask = torch.empty(layer.numel(), dtype=torch.bool, device=layer.device)
            chooser.enter(name)
            for part in each.scores.parts(name):
                values = each.scores.of(name, part)
                torch.le(values, chooser.bound(values), out=part.of(mask))
            found[name] = mask.view(layer.shape)
    return {name: found[name] for name in scores.sizes if name in found}


def counts(cut: Cut) -> dict[str, int]:
    """How many are chosen of each layer, read back at once."""
    chooser, sums = Chooser(cut), {}
    for name in cut.names:
        numbers = [torch.zeros((), dtype=torch.int64, device=cut.scores.layer(name).device)]
        chooser.enter(name)
        for part in cut.scores.parts(name):
            values = cut.scores.of(name, part)
            numbers.append((values <= chooser.bound(values)).sum())
        sums[name] = torch.stack(numbers).sum()
    found, shards = torch.stack([*sums.values()]), cut.scores.shards
    return dict(zip(sums, (found if shards is None else shards.sum(found)).tolist(), strict=True))
