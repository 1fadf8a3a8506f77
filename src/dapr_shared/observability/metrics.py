"""The metrics registry: plain numbers that count themselves, rendered as Prometheus text on scrape.

Beside both roads: every step counts with it. A family has a name and label names; a child is one set of label values.
Hot code looks its children up once and keeps them: counting is then an addition to an attribute. Names are rendered as
they were given (Dapr's counters do not end in `_total`). Everything here belongs to the event loop's thread.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of the rendered text (Prometheus exposition format 0.0.4)."""

DEFAULT_LABEL_SET_LIMIT = 10_000
"""Children a family may have; past it everything new counts in one child."""

OTHER = "_other"
"""Every label value of the child that counts what the limit kept out."""

LONGEST_LABEL_VALUE = 256
"""Characters; a longer value is cut."""

_CHUNK = 64 * 1024


class Counter:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def inc(self, n: float = 1) -> None:
        """Add `n`, which is not negative."""
        self.value += n

    def render(self, name: str, labels: str) -> str:
        """The child's lines."""
        return f"{name}{_braces(labels)} {_number(self.value)}\n"


class Gauge:
    """A number that goes up and down."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def set(self, value: float) -> None:
        """Replace the number."""
        self.value = value

    def inc(self, n: float = 1) -> None:
        """Add `n`."""
        self.value += n

    def dec(self, n: float = 1) -> None:
        """Subtract `n`."""
        self.value -= n

    def render(self, name: str, labels: str) -> str:
        """The child's lines."""
        return f"{name}{_braces(labels)} {_number(self.value)}\n"


class Histogram:
    """How many observations fell under each bound, and their sum."""

    __slots__ = ("bounds", "counts", "first", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        """Inclusive upper bounds, ascending, without +Inf; shared by the whole family."""
        self.first = bounds[0] if bounds else -inf
        """Most observations fall under the lowest bound: asking for it first saves the search, 0.05 µs each."""
        self.counts = [0] * (len(bounds) + 1)
        self.sum: float = 0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self.counts[0 if value <= self.first else bisect_left(self.bounds, value)] += 1
        self.sum += value

    def render(self, name: str, labels: str) -> str:
        """The child's lines."""
        head = f"{name}_bucket{{{labels}," if labels else f"{name}_bucket{{"
        lines: list[str] = []
        total = 0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            total += count
            lines.append(f'{head}le="{_number(bound)}"}} {total}\n')
        total += self.counts[-1]
        lines.append(f'{head}le="+Inf"}} {total}\n')
        braces = _braces(labels)
        lines.append(f"{name}_sum{braces} {_number(self.sum)}\n{name}_count{braces} {total}\n")
        return "".join(lines)


class Child(Protocol):
    """One set of label values of a family."""

    def render(self, name: str, labels: str) -> str:
        """The child's lines; `labels` is what stands between the braces."""
        ...


C = TypeVar("C", bound=Child)


class Family(Generic[C]):
    """All children of one name."""

    def __init__(
        self, name: str, kind: str, documentation: str, labels: Sequence[str], limit: int, make: Callable[[], C]
    ) -> None:
        self.name = name
        self.kind = kind
        """`counter`, `gauge` or `histogram`."""
        self.documentation = documentation
        self.labels = tuple(labels)
        self.limit = limit
        """Label sets; the child `_other` comes on top of them."""
        self._make = make
        self._children: dict[tuple[str, ...], C] = {}
        self._other = (OTHER,) * len(self.labels)

    def child(self, *values: str) -> C:
        """The child of these label values, in the order of the label names; made at the first call.

        Past the family's limit it is the one whose label values are all `_other`. An empty value is a label that is
        absent from the output. Raises `ValueError` when the number of values is not that of the labels.
        """
        found = self._children.get(values)
        return found if found is not None else self._admit(values)

    def forget(self, label: str, value: str) -> None:
        """Drop the children with that value of that label. Who kept one counts into nothing from now on."""
        if label in self.labels:
            index = self.labels.index(label)
            for values in [values for values in self._children if values[index] == value]:
                del self._children[values]

    def __len__(self) -> int:
        return len(self._children)

    def samples(self) -> Iterator[tuple[dict[str, str], C]]:
        """Each child with its labels; an empty label is left out."""
        for values, child in list(self._children.items()):
            yield {label: value for label, value in zip(self.labels, values, strict=True) if value}, child

    def render(self) -> Iterator[str]:
        """The family's lines; none while it has no children."""
        children = list(self._children.items())
        if not children:
            return
        yield f"# HELP {self.name} {_escaped_help(self.documentation)}\n# TYPE {self.name} {self.kind}\n"
        for values, child in children:
            labels = ",".join(
                f'{label}="{_escaped(value)}"' for label, value in zip(self.labels, values, strict=True) if value
            )
            yield child.render(self.name, labels)

    def _admit(self, values: tuple[str, ...]) -> C:
        if len(values) != len(self.labels):
            raise ValueError(f"{self.name} has {len(self.labels)} labels, not {len(values)}")
        values = tuple(value[:LONGEST_LABEL_VALUE] for value in values)
        if values not in self._children and len(self._children) - (self._other in self._children) >= self.limit:
            values = self._other
        return self._children.setdefault(values, self._make())


class Registry:
    """The families of one instance."""

    def __init__(self, *, limit: int = DEFAULT_LABEL_SET_LIMIT) -> None:
        self.limit = limit
        """Label sets of each family that is made without a limit of its own."""
        self._families: dict[str, Family[Counter] | Family[Gauge] | Family[Histogram]] = {}
        self._readers: list[Callable[[], None]] = []

    def counter(
        self, name: str, documentation: str, labels: Sequence[str] = (), *, limit: int | None = None
    ) -> Family[Counter]:
        """Make a family of counters. Raises `ValueError` when the name is taken."""
        family = Family(name, "counter", documentation, labels, self._limit(name, limit), Counter)
        self._families[name] = family
        return family

    def gauge(
        self, name: str, documentation: str, labels: Sequence[str] = (), *, limit: int | None = None
    ) -> Family[Gauge]:
        """Make a family of gauges. Raises `ValueError` when the name is taken."""
        family = Family(name, "gauge", documentation, labels, self._limit(name, limit), Gauge)
        self._families[name] = family
        return family

    def histogram(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str] = (),
        *,
        buckets: Sequence[float],
        limit: int | None = None,
    ) -> Family[Histogram]:
        """Make a family of histograms with these upper bounds.

        Raises `ValueError` when the name is taken or the bounds do not ascend.
        """
        bounds = tuple(buckets)
        if any(low >= high for low, high in pairwise(bounds)):
            raise ValueError(f"{name}: the buckets {bounds} do not ascend")
        family = Family(name, "histogram", documentation, labels, self._limit(name, limit), lambda: Histogram(bounds))
        self._families[name] = family
        return family

    def on_scrape(self, read: Callable[[], None]) -> None:
        """Have `read` set its gauges whenever the metrics are rendered."""
        self._readers.append(read)

    def forget(self, label: str, value: str) -> None:
        """Drop the children with that label value in all families, as of an app that is gone."""
        for family in self._families.values():
            family.forget(label, value)

    def families(self) -> list[Family[Counter] | Family[Gauge] | Family[Histogram]]:
        """All families, in order of name; the documentation reads it."""
        return [self._families[name] for name in sorted(self._families)]

    def read(self) -> None:
        """Bring the gauges that are read on demand up to date."""
        for read in self._readers:
            read()

    def chunks(self) -> Iterator[bytes]:
        """The exposition in parts of about 64 KiB, so that a server can do other work between them."""
        self.read()
        parts: list[str] = []
        size = 0
        for family in self.families():
            for text in family.render():
                parts.append(text)
                size += len(text)
                if size >= _CHUNK:
                    yield "".join(parts).encode(errors="replace")
                    parts.clear()
                    size = 0
        if parts:
            yield "".join(parts).encode(errors="replace")

    def render(self) -> bytes:
        """The whole exposition."""
        return b"".join(self.chunks())

    def _limit(self, name: str, limit: int | None) -> int:
        if name in self._families:
            raise ValueError(f"the metric {name} exists already")
        return self.limit if limit is None else limit


def _braces(labels: str) -> str:
    return f"{{{labels}}}" if labels else ""


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    if value != value:  # noqa: PLR0124 - only NaN differs from itself
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _escaped_help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")
