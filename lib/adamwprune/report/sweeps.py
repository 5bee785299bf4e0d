"""Settings that differ in the values of options only: one table, with these options as columns."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from adamwprune.base.metrics import Metric
from adamwprune.plan.spec import IN_STEPS
from adamwprune.report.groups import (
    JUDGED_BY,
    SUBJECT,
    Group,
    Setting,
    axis_name,
    held_out,
    prefix_of,
    title_of,
    value_text,
)


@dataclass(frozen=True, eq=False)
class Sweep:
    """Settings of one model, dataset and metric; ``axes`` are the options in which they differ."""

    title: str
    axes: tuple[str, ...]  # none where there is one setting
    settings: tuple[Setting, ...]
    prefix: str = ""  # of the names of figures along the axes: empty where one table holds all

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Each once; where there are axes, by method and then along the axes."""
        distinct = {g.spec.run_id: g for setting in self.settings for g in setting.groups}
        groups = tuple(distinct.values())
        return tuple(sorted(groups, key=self._order)) if self.axes else groups

    @property
    def headline(self) -> Metric | None:
        """What its runs are judged by; None where no run is done."""
        return next(filter(None, (setting.headline for setting in self.settings)), None)

    def values(self, group: Group) -> dict[str, object]:
        """Axis → the group's value; without an axis that it does not have.

        Of an axis that has numbers of steps as well as fractions of the training the value is a
        text: the two have no common scale.
        """
        found = {name: group.spec[name] for name in self.axes if name in group.spec}
        return {n: value_text(v) if n in self._mixed else v for n, v in found.items()}

    def texts(self, group: Group) -> dict[str, str]:
        """The same for people, empty where it has none: ``{"LR": "0.001"}``."""
        found = self.values(group)
        return {name: value_text(found[name]) if name in found else "" for name in self.axes}

    def ticks(self, axis: str) -> list[object]:
        """The values of an axis: numbers by size, numbers of steps and fractions by the steps that
        they mean, others as the matrix has them.
        """
        groups = [group for s in self.settings for group in s.groups if axis in group.spec]
        if axis in self._mixed:
            groups.sort(key=lambda group: group.spec.steps(axis))
        distinct = list(dict.fromkeys(self.values(group)[axis] for group in groups))
        return sorted(distinct, key=float) if is_numeric(distinct) else distinct  # type: ignore[arg-type]

    @cached_property
    def _mixed(self) -> frozenset[str]:
        """Axes with numbers of steps and fractions of the training; 0 is either."""
        specs = [group.spec for setting in self.settings for group in setting.groups]
        kinds = {n: {type(s[n]) for s in specs if s.values.get(n)} for n in IN_STEPS}
        return frozenset(name for name, found in kinds.items() if len(found) > 1)

    @cached_property
    def cells(self) -> list[list[Group]]:
        """Groups that differ along the axes only: those of one optimizer, method and target."""
        found: dict[tuple[str, str, float], list[Group]] = {}
        for group in self.groups:
            found.setdefault((group.optimizer, group.method, group.sparsity), []).append(group)
        return list(found.values())

    @cached_property
    def _ranks(self) -> dict[str, dict[object, int]]:
        groups = [group for setting in self.settings for group in setting.groups]
        ranks: dict[str, dict[object, int]] = {axis: _rank(self.ticks(axis)) for axis in self.axes}
        ranks["optimizer"] = _rank(group.optimizer for group in groups)
        ranks["method"] = _rank(group.method for group in groups)
        return ranks

    def _order(self, group: Group) -> tuple[float, ...]:
        ranks, values = self._ranks, self.values(group)
        along = (ranks[axis][values[axis]] if axis in values else -1 for axis in self.axes)
        return (
            ranks["optimizer"][group.optimizer],
            ranks["method"][group.method],
            group.sparsity,
            *along,
        )


def _rank(values: Iterable[object]) -> dict[object, int]:
    return {value: rank for rank, value in enumerate(dict.fromkeys(values))}


def is_numeric(values: Iterable[object]) -> bool:
    """Whether all of an axis's values are numbers."""
    return all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)


def texts_along(sweeps: Iterable[Sweep], axis: str) -> list[str]:
    """The values of an axis for people, in its order."""
    ticks = [tick for sweep in sweeps if axis in sweep.axes for tick in sweep.ticks(axis)]
    ordered = sorted(ticks, key=float) if is_numeric(ticks) else ticks  # type: ignore[arg-type]
    return list(dict.fromkeys(map(value_text, ordered)))


def place_text(texts: Mapping[str, str]) -> str:
    """``lr 0.001, batch size 64``."""
    return ", ".join(f"{axis_name(name)} {text}" for name, text in texts.items() if text)


def sweeps(settings: Sequence[Setting]) -> list[Sweep]:
    """The settings that one table holds, together; in the order of the first of each."""
    found: dict[tuple[object, ...], list[Setting]] = {}
    for setting in settings:
        spec = setting.groups[0].spec
        subject = (*(spec[name] for name in SUBJECT), held_out(setting.groups))
        found.setdefault((*subject, setting.place.get(JUDGED_BY)), []).append(setting)
    return [_sweep(own) for own in found.values()]


def _sweep(settings: list[Setting]) -> Sweep:
    if len(settings) == 1:
        return Sweep(settings[0].title, (), tuple(settings))
    names = dict.fromkeys(name for setting in settings for name in setting.place)
    varying = [n for n in names if len({setting.place.get(n) for setting in settings}) > 1]
    shared = {n: v for n, v in settings[0].place.items() if n not in varying}
    groups = [group for setting in settings for group in setting.groups]
    return Sweep(title_of(groups, shared), tuple(varying), tuple(settings), prefix_of(shared))
