"""The tables of Statements."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from streamlit.column_config import MultiselectColumn, NumberColumn, ProgressColumn, TextColumn

from streamlit_app import wording
from streamlit_app.books import REASONS, Line
from streamlit_app.figures import Row
from streamlit_app.health_tables import provider
from streamlit_app.tables import draw

_STATES = {True: "✓ Closed", False: "◦ Open"}


def months(lines: Sequence[Line]) -> None:
    """Every month with its state."""
    closed = sum(1 for line in lines if line.closed)
    draw(
        [
            {
                "month": line.name,
                "state": [_STATES[line.closed]],
                "requests": line.requests,
                "use": wording.usd(line.use_usd),
                "adjustments": _change(line.adjustments_usd) if line.closed else wording.NOTHING,
                "seats": wording.usd(line.seats_usd),
                "total": wording.usd(line.total_usd),
            }
            for line in lines
        ],
        alt=f"{len(lines)} months, {closed} of them closed; {lines[0].name} comes to {wording.usd(lines[0].total_usd)}",
        month=TextColumn("Month", width="medium"),
        state=MultiselectColumn("State", options=list(_STATES.values()), color=["green", "gray"], width="small"),
        requests=NumberColumn("Requests", format="localized"),
        use=TextColumn("Requests cost", alignment="right", help="As the statement says; of an open month, so far."),
        adjustments=TextColumn("Adjustments", alignment="right", help="What was added since the month was closed."),
        seats=TextColumn("Seats", alignment="right"),
        total=TextColumn("Total", alignment="right"),
    )


def cost_centres(lines: Sequence[Line], closed: bool) -> None:
    """A month by cost centre; adjustments by reason where it is closed."""
    whole = sum((line.total_usd for line in lines), Decimal(0))
    changes = {reason: TextColumn(words, alignment="right") for reason, words in REASONS.items()} if closed else {}
    drawn: list[dict[str, Any]] = [
        {
            "name": line.name,
            "requests": line.requests,
            "use": wording.usd(line.use_usd),
            **{reason: _change(line.changes_usd[reason]) for reason in changes},
            "seats": wording.usd(line.seats_usd),
            "total": wording.usd(line.total_usd),
            "share": float(100 * line.total_usd / whole) if whole else 0.0,
        }
        for line in lines
    ]
    draw(
        drawn,
        alt=f"{len(lines)} cost centres; {lines[0].name} pays the most, {wording.usd(lines[0].total_usd)}",
        name=TextColumn("Cost centre", width="medium"),
        requests=NumberColumn("Requests", format="localized", width="small"),
        use=TextColumn("Statement" if closed else "So far", alignment="right"),
        **changes,
        seats=TextColumn("Seats", alignment="right"),
        total=TextColumn("Total", alignment="right"),
        share=ProgressColumn("Share", format="%d%%", min_value=0, max_value=100, color="blue"),
    )


def seats(rows: Sequence[Row]) -> None:
    """One's own seats: what they cost and what their use is worth, by month."""
    draw(
        [
            {
                "month": f"{row['month']:%B %Y}",
                "plan": f"{provider(row['provider'])} {row['plan']}",
                "fee": wording.usd(row["fee_usd"]),
                "value": wording.usd(row["list_cost_usd"]),
                "saved": wording.signed_usd(row["saved_usd"]),
                "state": ["✓ Paid for itself" if row["saved_usd"] >= 0 else "▲ Below its fee"],
                "days": f"{int(row['active_days'])} of {int(row['days'])}",
            }
            for row in rows
        ],
        alt=f"Your seats by month; in the last one {wording.signed_usd(rows[0]['saved_usd'])} against the fee",
        month=TextColumn("Month"),
        plan=TextColumn("Seat"),
        fee=TextColumn("Fee", alignment="right"),
        value=TextColumn("Value at list", alignment="right"),
        saved=TextColumn("Saved", alignment="right"),
        state=MultiselectColumn(
            "Break-even", options=["✓ Paid for itself", "▲ Below its fee"], color=["green", "orange"]
        ),
        days=TextColumn("Days used", alignment="right"),
    )


def _change(amount: Decimal) -> str:
    return wording.signed_usd(amount) if amount else wording.NOTHING
