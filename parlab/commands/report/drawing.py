"""What all pictures share: axes, lines that can be told apart, names that are drawn literally."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from parlab.metrics.palette import COLORS
from parlab.metrics.tables import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import BboxBase

FEW = len(COLORS)  # lines and names that can be told apart
_MARKERS = "osD^vP*X"  # with the colours, for eyes and printers that see none
_LONGEST = 32  # characters of a name
Row = TypeVar("Row")


def new_axes(xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), dpi=140, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return figure, axes


def natural_order(text: str) -> list[tuple[int, float, str]]:
    """A key that sorts numbers inside texts by their size."""
    parts = re.findall(r"\d+(?:\.\d+)?|[^\d]+", text)
    return [(0, float(part), "") if part[0].isdecimal() else (1, 0.0, part) for part in parts]


def lines(
    rows: Sequence[Row], key: Callable[[Row], str], cost: Callable[[Row], float] | None = None
) -> list[tuple[tuple[str, str], str, list[Row]]]:
    """Colour and marker, name, and rows of each line, in the order of the names.

    Of more lines than can be told apart those with the lowest ``cost`` of a row stay, or the first ones.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    names = list(groups)
    if cost is not None:
        names.sort(key=lambda name: min(map(cost, groups[name])))
    kept = sorted(names[:FEW], key=natural_order)
    return [(style, name, groups[name]) for style, name in zip(zip(COLORS, _MARKERS, strict=True), kept, strict=False)]


def label(text: str) -> str:
    """A name as matplotlib draws it literally, shortened in its middle; a ``$`` or a leading ``_`` means something there."""
    shown = visible(text)
    if len(shown) > _LONGEST:
        shown = f"{shown[: _LONGEST // 2 - 1]}\u2026{shown[-_LONGEST // 2 :]}"
    shown = shown.replace("$", r"\$")
    return f"\u200b{shown}" if shown.startswith("_") else shown


def percent(shares: Sequence[float]) -> list[float]:
    return [100 * share for share in shares]


def legend_below(figure: Figure, axes: Axes) -> None:
    """Where bars and lines leave no room inside."""
    handles, labels = axes.get_legend_handles_labels()
    columns = 1 if max(map(len, labels), default=0) > 24 else 2
    figure.set_figheight(4.0 + 0.18 * -(-len(labels) // columns))
    figure.legend(handles, labels, loc="outside lower center", frameon=False, fontsize=7, ncols=columns)


def annotate_apart(figure: Figure, axes: Axes, points: Sequence[tuple[str, float, float]]) -> None:
    """Write a text beside each point (text, x, y); one that would cover another text is left out."""
    figure.draw_without_rendering()  # the boxes of texts are known once the layout is
    taken: list[BboxBase] = []
    for text, x, y in points:
        note = axes.annotate(text, (x, y), xytext=(4, -9), textcoords="offset points", fontsize=7)
        box = note.get_window_extent()
        if any(box.overlaps(other) for other in taken):
            note.remove()
        else:
            taken.append(box)
