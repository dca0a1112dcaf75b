"""A tile: one figure, how it moved since the period before, and its recent course."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import streamlit as st

from streamlit_app import wording

NO_COMPARISON = "too new to compare"
MIN_WIDTH = 180
HEIGHT = 176


def tile(
    label: str,
    value: str | None,
    about: str,
    *,
    course: Sequence[float] = (),
    shape: Literal["area", "line", "bar"] = "area",
    moved: str | int | None = None,
    since: str | None = None,
    alarm: bool = False,
) -> None:
    """Draw a tile. `value` None: it cannot be told. `moved` is a change when there is a `since`, else a remark.

    A change that cannot be told, because the earlier days are not in the data, is said to be so.
    """
    if moved is None and since is not None:
        moved, since = NO_COMPARISON, None
    st.metric(
        label,
        wording.NOTHING if value is None else value,
        moved,
        delta_description=since,
        delta_arrow="auto" if since else "off",
        delta_color="red" if alarm else "blue",
        chart_data=list(course) or None,
        chart_type=shape,
        help=about,
        border=True,
        height="stretch",
    )


def by_percent(rose: float | None) -> str | int | None:
    """A relative change; the number 0 when it is flat, for any text gets an arrow."""
    return None if rose is None else f"{rose:+.1%}" if abs(rose) >= 0.0005 else 0


def by_points(new: float | None, old: float | None) -> str | int | None:
    """A change of a share, in percentage points; None where one of the two is not known."""
    if new is None or old is None:
        return None
    points = 100 * (new - old)
    return f"{points:+.0f} pts" if abs(points) >= 0.5 else 0
