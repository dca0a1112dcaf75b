"""The tables of Data health."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from streamlit.column_config import MultiselectColumn, NumberColumn, TextColumn

from streamlit_app import health, wording
from streamlit_app.figures import Row
from streamlit_app.tables import PRICES, draw

_STATUS = {"ok": "✓ Pass", "warn": "▲ Warning", "fail": "✕ Fail", "none": "Nothing yet"}
_CHANNELS = {"slack": "Slack", "mail": "E-mail", "webhook": "Webhook"}
_PROVIDERS = {"anthropic": "Anthropic", "openai": "OpenAI", "openrouter": "OpenRouter", "moonshot": "Moonshot"}


def provider(name: str | None) -> str:
    """A provider as it writes itself."""
    return _PROVIDERS.get(name or "", name or wording.NOTHING)


def checks(rows: Sequence[Row]) -> None:
    """Every check: result, rule and status, a sign and a word."""
    passed, looked = health.passed(rows)
    failing = [row["name"] for row in rows if row["status"] in ("warn", "fail")]
    draw(
        [
            {
                "status": [_STATUS[row["status"]]],
                "name": row["name"],
                "result": health.result(row["value"], row["unit"]),
                "rule": row["rule"],
            }
            for row in rows
        ],
        alt=f"{passed} of {looked} checks pass; not: {', '.join(failing) or 'none'}",
        status=MultiselectColumn(
            "Status", options=list(_STATUS.values()), color=["green", "orange", "red", "gray"], width=90
        ),
        name=TextColumn("Check", width=160),
        result=TextColumn("Result", alignment="right", width=90),
        rule=TextColumn("Rule", width=660),
    )


def shelved(rows: Sequence[Row], today: date) -> None:
    """Unreadable messages by reason."""
    draw(
        [
            {
                "reason": row["reason"],
                "messages": int(row["messages"]),
                "last": wording.day_seen(row["last_at"].date(), today),
            }
            for row in rows
        ],
        alt=f"{len(rows)} reasons; the most frequent: {rows[0]['reason']}",
        reason=TextColumn("Reason"),
        messages=NumberColumn("Messages", format="localized", width="small"),
        last=TextColumn("Last", width="small"),
    )


def unattributed(rows: Sequence[Row], today: date) -> None:
    """Calls of nobody, by reason and tool."""
    draw(
        [
            {
                "reason": str(row["reason"]).capitalize(),
                "tool": row["tool"],
                "calls": int(row["calls"]),
                "last": wording.day_seen(row["last_day"], today),
            }
            for row in rows
        ],
        alt=f"{sum(int(row['calls']) for row in rows):,} calls that are put down to nobody",
        reason=TextColumn("Why"),
        tool=TextColumn("Tool"),
        calls=NumberColumn("Calls", format="localized", width="small"),
        last=TextColumn("Last", width="small"),
    )


def deliveries(rows: Sequence[Row], today: date) -> None:
    """Channels: what they took lately, and why they did not take the rest."""
    failing = [_CHANNELS.get(row["channel"], str(row["channel"])) for row in rows if row["failing"]]
    draw(
        [
            {
                "status": [_STATUS["fail" if row["failing"] else "ok"]],
                "channel": _CHANNELS.get(row["channel"], row["channel"]),
                "sent": int(row["sent"]),
                "last": wording.day_seen(row["last_sent_at"].date(), today) if row["last_sent_at"] else wording.NOTHING,
                "unreachable": int(row["unreachable"]),
                "failed": int(row["failed_24h"]),
                "reason": row["last_reason"] or wording.NOTHING,
            }
            for row in rows
        ],
        alt=f"{len(rows)} channels; failing now: {', '.join(failing) or 'none'}",
        status=MultiselectColumn("Status", options=list(_STATUS.values()), color=["green", "orange", "red", "gray"]),
        channel=TextColumn("Channel"),
        sent=NumberColumn("Sent", format="localized", width="small"),
        last=TextColumn("Last sent", width="small"),
        unreachable=NumberColumn(
            "Unknown", format="localized", width="small", help="Attempts to tell people whom the channel does not know."
        ),
        failed=NumberColumn("Failed, 24 hours", format="localized", width="small"),
        reason=TextColumn("Last failure", width="large"),
    )


def unpriced(rows: Sequence[Row], today: date) -> None:
    """Models that the price book lacks, and what they are costed at meanwhile."""
    draw(
        [
            {
                "model": row["model"] or wording.NOTHING,
                "provider": provider(row["provider"]),
                "source": PRICES[row["price_source"]],
                "calls": int(row["calls"]),
                "cost": wording.usd(row["list_cost_usd"]),
                "first": wording.day(row["first_day"]),
                "last": wording.day_seen(row["last_day"], today),
            }
            for row in rows
        ],
        alt=f"{len(rows)} models without a price of their own; {rows[0]['model']} stands for the most",
        model=TextColumn("Model", width="medium"),
        provider=TextColumn("Provider"),
        source=TextColumn(
            "Priced by", help="Standard price: the book knows the model, but not the tier it was used in."
        ),
        calls=NumberColumn("Calls", format="localized"),
        cost=TextColumn("Cost at list", alignment="right"),
        first=TextColumn("Since"),
        last=TextColumn("Last used"),
    )


def routes(rows: Sequence[Row]) -> None:
    """Ours against the gateway's figure, by model and route."""
    whole = sum(row["difference_usd"] for row in rows)
    draw(
        [
            {
                "model": row["model"] or wording.NOTHING,
                "route": row["route"],
                "provider": provider(row["provider"]),
                "calls": int(row["calls"]),
                "counted": None if row["counted_share"] is None else wording.percent(row["counted_share"]),
                "ours": wording.usd(row["ours_usd"]),
                "gateway": wording.usd(row["gateway_usd"]),
                "difference": wording.signed_usd(row["difference_usd"]),
                "share": _share(row["difference_usd"], row["gateway_usd"]),
            }
            for row in rows
        ],
        alt=f"{len(rows)} pairs of model and route; together ours is {wording.signed_usd(whole)} from the gateway's",
        model=TextColumn("Model", width="medium"),
        route=TextColumn("Route"),
        provider=TextColumn("Provider"),
        calls=NumberColumn("Calls", format="localized"),
        counted=TextColumn(
            "Counted", alignment="right", help="Calls whose tokens Tally counted: they are not compared."
        ),
        ours=TextColumn("Ours", alignment="right"),
        gateway=TextColumn("LiteLLM's", alignment="right"),
        difference=TextColumn("Difference", alignment="right"),
        share=TextColumn("In percent", alignment="right"),
    )


def bills(rows: Sequence[Row]) -> None:
    """Ours against the bill, by provider, and the causes of the gap."""
    drawn: list[dict[str, Any]] = []
    for row in rows:
        drawn.append(
            {
                "provider": provider(row["provider"]),
                "theirs": wording.usd(row["theirs_usd"]),
                "ours": wording.usd(row["ours_usd"]),
                "gap": wording.signed_usd(row["gap_usd"]),
                "share": _share(row["gap_usd"], row["theirs_usd"]),
                **{name: wording.signed_usd(row[name]) for name in health.CAUSES},
            }
        )
    said = ", ".join(f"{line['provider']} {line['gap']} of {line['theirs']}" for line in drawn)
    causes = {name: TextColumn(words, alignment="right") for name, words in health.CAUSES.items()}
    draw(
        drawn,
        alt=f"The gap to the bill: {said}",
        provider=TextColumn("Provider"),
        theirs=TextColumn("The bill", alignment="right"),
        ours=TextColumn("Ours", alignment="right"),
        gap=TextColumn("Gap", alignment="right"),
        share=TextColumn("Gap, percent", alignment="right"),
        **causes,
    )


def revisions(rows: Sequence[Row]) -> None:
    """Days that a provider has billed otherwise after the fact."""
    draw(
        [
            {
                "day": wording.day(row["day"]),
                "provider": provider(row["provider"]),
                "first": wording.usd(row["first_usd"]),
                "now": wording.usd(row["now_usd"]),
                "revised": wording.signed_usd(row["revised_usd"]),
            }
            for row in rows
        ],
        alt=f"{len(rows)} days were billed anew, the last of them {wording.day(rows[0]['day'])}",
        day=TextColumn("Day"),
        provider=TextColumn("Provider"),
        first=TextColumn("Billed first", alignment="right"),
        now=TextColumn("Billed now", alignment="right"),
        revised=TextColumn("Revised by", alignment="right"),
    )


def _share(part: Any, whole: Any) -> str:
    if not whole:
        return wording.NOTHING
    share = float(part / whole)
    return f"{'-' if share < 0 else '+' if share > 0 else ''}{wording.percent(abs(share))}"
