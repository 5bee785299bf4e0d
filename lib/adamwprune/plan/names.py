"""Names of runs for people: the slug, and between runs of one slug the options that differ."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from types import MappingProxyType

from adamwprune.base.wording import plain
from adamwprune.plan.spec import RunSpec

NONE: MappingProxyType[RunSpec, str] = MappingProxyType({})
_UNSAFE = re.compile(r"[^a-z0-9._]+")


def names(specs: Iterable[RunSpec], axes: Sequence[str] = ()) -> dict[RunSpec, str]:
    """``lenet5-mnist5k-sgd-none-lr0.001-s0`` where runs differ in more than their slugs say.

    ``axes``: options that are named before others where either would do.
    """
    alike: dict[str, list[RunSpec]] = {}
    for spec in specs:
        alike.setdefault(spec.slug.rpartition("-s")[0], []).append(spec)
    found: dict[RunSpec, str] = {}
    for slug, own in alike.items():
        telling = differing(own, axes)
        for spec in own:
            words = [_word(name, spec[name]) for name in telling if name in spec]
            found[spec] = "-".join([slug, *words, f"s{spec['SEED']}"])
    return found


def may_be_called(spec: RunSpec, name: str) -> bool:
    """Whether some configuration calls the run so: its slug, and settings of it before the seed,
    which may be left out.
    """
    slug, seed = spec.slug.rpartition("-s")[0], f"-s{spec['SEED']}"
    if not name.startswith(f"{slug}-"):
        return False
    words = name.removeprefix(f"{slug}-").removesuffix(seed).split("-")
    return set(words) <= {_word(option, value) for option, value in spec.values.items()}


def differing(specs: Sequence[RunSpec], first: Sequence[str] = ()) -> list[str]:
    """As few options as tell the specs apart, beside their seeds; those of ``first`` before others.

    An option that follows from others (a preset) tells nothing that they do not.
    """
    every = sorted({name for spec in specs for name in spec.values} - {"SEED"})
    found: list[str] = []
    places: list[tuple[object, ...]] = [()] * len(specs)
    for name in [*(each for each in first if each in every), *every]:
        values = [spec.values.get(name) for spec in specs]
        if len(set(values)) < 2:
            continue
        apart = [(*place, value) for place, value in zip(places, values, strict=True)]
        if len(set(apart)) > len(set(places)):
            found.append(name)
            places = apart
    return found


def _word(name: str, value: object) -> str:
    between = "_" if name[-1].isdigit() else ""  # BETA1
    return name.lower() + between + _UNSAFE.sub("_", plain(value).lower())
