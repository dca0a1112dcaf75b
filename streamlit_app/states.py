"""The states of a page: who it is drawn for, how fresh it is, loading, empty, late and failed. Used by every page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from governance.warehouse import WarehouseError
from streamlit_app import charts, figures, queries, wording
from streamlit_app.identity import Viewer

NAMED_MODELS = 5  # the palette has five hues, and grey for the rest
PERIODS = {"7 days": 7, "28 days": 28, "90 days": 90}


def now() -> datetime:
    """The time, UTC: the one clock of all pages."""
    return datetime.now(UTC)


def heading(title: str, viewer: Viewer) -> tuple[DeltaGenerator, DeltaGenerator]:
    """The title. Returns a place beside it, for filters, and one below, for what the page says of its data."""
    if viewer.is_local:
        st.markdown(
            f":orange-badge[:material/science: Local demo] :small[drawn for {wording.plain(viewer.email)}, "
            "who is chosen, not signed in]"
        )
    row = st.container(horizontal=True, vertical_alignment="center", gap="small")
    row.title(title, anchor=False)
    return row, st.container(gap="small")


def period_filter() -> int:
    """How many days are shown; the choice lives in the URL."""
    chosen = st.segmented_control(
        "Period",
        list(PERIODS),
        default="28 days",
        required=True,
        key="period",
        bind="query-params",
        label_visibility="collapsed",
    )
    return PERIODS[chosen or "28 days"]


def data_through(freshness: figures.Row, stale_after_s: int, *also: str) -> None:
    """The caption under every title; and a warning when the newest event is old."""
    newest = freshness["newest_event_at"]
    if newest is None:
        return
    said = [f"Data through {wording.moment(newest)}", *also]
    if freshness["fallback_share"] is not None:
        said.append(f"{wording.percent(1 - float(freshness['fallback_share']))} of spend priced from the price book")
    if freshness["counted_share"]:
        said.append(f"{wording.percent(float(freshness['counted_share']))} of requests counted by Tally")
    if freshness["shelved"]:
        said.append(f":orange[:material/warning:] {freshness['shelved']:,} unreadable messages shelved")
    st.caption(" · ".join(said))
    age = now() - newest
    if age > timedelta(seconds=stale_after_s):
        st.warning(
            f"**Nothing new for {wording.span(age)}.** The newest request is of {wording.moment(newest)}. Either "
            "nobody has called a model since, or events do not arrive: then what is below is late.",
            icon=":material/schedule:",
        )


def empty_company(proxy_url: str) -> None:
    """Nothing has ever arrived: what to do next."""
    _connect("No requests yet", "Tally shows what passes its gateway, and nothing has passed so far.", proxy_url)


def empty_person(days: int, proxy_url: str) -> None:
    """Nothing of the viewer's: what to do next."""
    _connect("Nothing of yours yet", f"None of your keys was used in the last {days} days.", proxy_url)


def _connect(title: str, why: str, proxy_url: str) -> None:
    with st.container(border=True):
        st.subheader(title, anchor=False)
        st.markdown(
            f"{why} Point a coding agent at the gateway, with a key of your own, and make one request: it is here "
            "within seconds."
        )
        if proxy_url:
            address = proxy_url.rstrip("/")
            st.code(
                f"# Claude Code\nexport ANTHROPIC_BASE_URL={address}\nexport ANTHROPIC_AUTH_TOKEN=sk-tally-…\n\n"
                f"# anything that speaks OpenAI's API\nexport OPENAI_BASE_URL={address}/v1\n"
                "export OPENAI_API_KEY=sk-tally-…",
                language="bash",
            )


def model_chart(rows: Sequence[figures.Row], models: list[str], period: figures.Period, what: str) -> None:
    """Daily bars by model. `models` is the company's ranking: a model has one colour on every page and filter."""
    if not rows:
        empty_period()
        return
    named = models[:NAMED_MODELS]
    stacked = figures.top_and_other(rows, "model", named, period)
    order = [*named, figures.OTHER] if len(models) > len(named) else named
    whole = figures.total(rows, "cost_usd", period.first, period.last)
    dearest = figures.by_key(stacked, ["model"], ["cost_usd"])[0]
    part = f", {wording.percent(float(dearest['cost_usd'] / whole))} of it {dearest['model']}" if whole else ""
    said = f"{what} by model over {period.days} days: {wording.usd(whole)} in total{part}"
    st.altair_chart(charts.spend_by_model(stacked, order), alt=said)


def csv_button(place: DeltaGenerator, content: str, file_name: str) -> None:
    """A download of what is shown, where there is something."""
    place.download_button(
        "CSV",
        content,
        file_name,
        "text/csv",
        icon=":material/download:",
        type="tertiary",
        on_click="ignore",
        disabled=not content,
    )


def empty_period() -> None:
    """Nothing in the chosen days."""
    empty("No requests in this period.", "Try a longer one.")


def empty(what: str, hint: str) -> None:
    """Nothing in this period or group, and what to try."""
    st.info(f"{what} {hint}", icon=":material/inbox:")


def refused() -> None:
    """The page of somebody whom nobody vouches for."""
    st.error(
        "**Tally cannot tell who you are.** Open it through its own address, behind the sign-in; if you did, sign in "
        "again.",
        icon=":material/lock:",
    )


@contextmanager
def card(height: int, name: str) -> Iterator[None]:
    """The body of a card: a skeleton while it loads, a short note when the warehouse does not answer."""
    try:
        with st.skeleton(height=height):
            yield
    except WarehouseError:
        _failed(name)


@contextmanager
def whole_page(name: str) -> Iterator[None]:
    """What a page cannot do without: when the warehouse does not answer, one card says so and the page ends there."""
    try:
        yield
    except WarehouseError:
        _failed(name)
        st.stop()


def _failed(name: str) -> None:
    since = queries.outage().since
    with st.container(border=True):
        st.markdown(
            ":red-badge[:material/cloud_off: Not available] **The warehouse does not answer"
            f"{f' since {wording.moment(since)}' if since else ''}.**"
        )
        st.markdown(
            "These figures cannot be drawn until it does. Requests are not affected: agents go on working, and what "
            "they use is kept and counted afterwards."
        )
        if st.button("Retry", icon=":material/refresh:", key=f"retry-{name}"):
            queries.forget()
            st.rerun()
