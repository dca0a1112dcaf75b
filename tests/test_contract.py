"""What the company pays: overrides, discounts and aliases over the public list, day by day."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from governance import prices
from governance.contract import Alias, Contract, Discount, Override, read_contract
from governance.policy import PolicyError, read_policy
from governance.price_list import TOKEN_KINDS, Entry, entry_of
from governance.prices import Book, PriceBookError
from local.seed_prices import FALLBACK
from tests.conftest import ROOT

DAY_0 = date(2026, 1, 1)
MODELS = ("claude-a", "claude-a-20260101", "claude-b", "other")


def day(number: int) -> date:
    return DAY_0 + timedelta(days=number)


def entry(model: str, since: int, price: Decimal, *, modified: bool = True) -> Entry:
    """Output is five times input; flex half of it; long prompts double; eu a tenth more."""
    standard = {"input": price, "cache_read": price / 10, "output": price * 5}
    half, twice = ({kind: usd * by for kind, usd in standard.items()} for by in (Decimal("0.5"), Decimal(2)))
    if not modified:
        return Entry("p", model, day(since), "list", standard)
    return Entry(
        "p", model, day(since), "list", standard, {"flex": half}, 200_000, {"standard": twice}, {"eu": Decimal("1.1")}
    )


def override(model: str, since: int, until: int | None = None, tier: str = "standard", **usd: Any) -> Override:
    given: dict[str, Any] = {
        "provider": "p",
        "model": model,
        "service_tier": tier,
        "why": "agreed",
        "usd_per_million": usd,
    }
    return Override(**given, valid_from=day(since), valid_to=None if until is None else day(until))


def discount(model: str, percent: Any, since: int, until: int | None = None, provider: str = "p") -> Discount:
    return Discount(
        provider=provider,
        model=model,
        percent=percent,
        valid_from=day(since),
        valid_to=None if until is None else day(until),
    )


def alias(name: str, model: str, since: int | None = None) -> Alias:
    return Alias(provider="p", alias=name, model=model, valid_from=None if since is None else day(since))


def book_of(contract: Contract, *entries: Entry) -> Book:
    return Book([entry_of(FALLBACK), *(entries or [entry(model, 0, Decimal(2)) for model in MODELS])], contract)


def paid(
    book: Book, model: str, number: int, tier: str = "standard", place: str = "", prompt: int = 0, kind: str = "input"
) -> Decimal:
    return book.usd_per_million("p", model, day(number), tier, place, prompt, "contract")[kind]


def public(book: Book, model: str, number: int, *modifier: Any, kind: str = "input") -> Decimal:
    return book.usd_per_million("p", model, day(number), *modifier)[kind]


def test_a_discount_is_off_the_list_price_of_every_kind_tier_residency_and_length() -> None:
    book = book_of(Contract(discounts=(discount("claude-a", 10, 5, 9),)))
    assert [paid(book, "claude-a", n) for n in (4, 5, 8, 9)] == [2, Decimal("1.8"), Decimal("1.8"), 2]
    assert [public(book, "claude-a", n) for n in (4, 5, 8, 9)] == [2, 2, 2, 2]
    assert paid(book, "claude-a", 5, "flex", "eu", 200_001) == Decimal("1.98")  # 2 x 0.5 x 2 x 1.1, less a tenth
    assert paid(book, "claude-a", 5, kind="web_search") == 9000
    assert paid(book, "claude-b", 5) == 2


def test_of_discounts_the_most_exact_holds_and_of_equals_the_one_that_began_last() -> None:
    book = book_of(
        Contract(
            discounts=(
                discount("claude-a", 10, 0),
                discount("claude-*", 20, 3),
                discount("*", 30, 4),
                discount("*", 40, 5, provider="*"),
                discount("*", 35, 8),
                discount("claude-a", 50, 10, 12),
            )
        )
    )
    assert [100 - 50 * paid(book, "claude-a", n) for n in (0, 4, 10, 12)] == [10, 10, 50, 10]
    assert [100 - 50 * paid(book, "claude-b", n) for n in (2, 3, 8)] == [0, 20, 20]
    assert [100 - 50 * paid(book, "other", n) for n in (3, 4, 5, 8)] == [0, 30, 30, 35]
    assert book.usd_per_million("p", "unheard", day(9), price_list="contract")["input"] == 5  # a guess has no discount


def test_an_override_is_what_is_paid_for_the_kinds_that_it_names_and_those_that_follow_them() -> None:
    book = book_of(Contract((override("claude-a", 5, 9, input="1"),), (discount("claude-a", 50, 0),)))
    assert [paid(book, "claude-a", n) for n in (4, 5, 8, 9)] == [1, 1, 1, 1]
    assert paid(book, "claude-a", 4, kind="cache_write_5m") == 1  # half of 2
    assert paid(book, "claude-a", 5, kind="cache_write_5m") == 1  # as input: the list has no price of its own
    assert paid(book, "claude-a", 5, kind="cache_read") == Decimal("0.1")  # half of 0.2
    assert paid(book, "claude-a", 5, kind="output") == 5
    assert paid(book, "claude-a", 5, "standard", "eu", 200_001) == Decimal("2.2")
    assert paid(book, "claude-a", 5, "flex") == Decimal("0.5")  # half of the list's flex: the override is for one tier


def test_an_override_of_a_tier_that_the_list_has_not_is_the_tiers_price() -> None:
    book = book_of(Contract((override("claude-a", 5, tier="priority", input="9"),)))
    assert [public(book, "claude-a", n, "priority") for n in (4, 5)] == [2, 2]
    assert [paid(book, "claude-a", n, "priority") for n in (4, 5)] == [2, 9]
    tiers = {row["service_tier"] for row in book.rows() if row["model"] == "claude-a" and row["valid_from"] == day(0)}
    assert tiers == {"standard", "flex"}  # earlier days are as they were


def test_an_override_holds_for_the_names_with_a_date_that_cost_the_same() -> None:
    book = book_of(
        Contract((override("claude-a", 0, input="1"),)),
        entry("claude-a", 0, Decimal(2)),
        entry("claude-a-20260101", 0, Decimal(2)),
        entry("claude-a-20250505", 0, Decimal(4)),
    )
    assert [paid(book, f"claude-a{date}", 0) for date in ("", "-20260101", "-20250505", "-20270101")] == [1, 1, 4, 1]


def test_a_model_that_no_list_knows_has_its_overrides_as_both_prices() -> None:
    more = (
        override("ours", 5, input="1", output="2"),
        override("ours", 8, output="3"),
        override("ours", 9, 10, "flex", input="0.1"),
    )
    book = book_of(Contract(more, (discount("ours", 10, 0),)))
    assert [public(book, "ours", n) for n in (4, 5, 8, 9)] == [5, 1, 1, 1]
    assert [paid(book, "ours", n) for n in (4, 5, 8, 9)] == [5, 1, 1, 1]
    assert [paid(book, "ours", n, kind="output") for n in (4, 5, 8)] == [25, 2, 3]
    assert [paid(book, "ours", n, "flex") for n in (8, 9, 10)] == [1, Decimal("0.1"), Decimal("0.9")]
    lists = {row["price_list"] for row in book.rows() if row["model"] == "ours"}
    assert lists == {"list", "contract"}
    assert {row["source"] for row in book.rows() if row["model"] == "ours"} == {"policy", "derived"}


def test_the_fallback_can_be_set_from_a_day_on_and_stays_one_price() -> None:
    star = Override(provider="*", model="*", valid_from=day(5), why="x", usd_per_million={"input": "7", "output": "70"})
    book = book_of(Contract((star,), (discount("*", 10, 0, provider="*"),)))
    assert [public(book, "nobody", n) for n in (4, 5)] == [5, 7]
    assert [paid(book, "nobody", n) for n in (4, 5)] == [5, 7]
    rows = [row for row in book.rows() if row["model"] == "*"]
    assert {(r["price_list"], r["service_tier"], r["residency"], r["context_above"]) for r in rows} == {
        ("list", "standard", "", 0)
    }


def test_an_alias_costs_what_its_model_does_contract_and_all() -> None:
    contract = Contract(
        (override("claude-a", 5, input="1"),), (discount("claude-b", 10, 0),), (alias("ours", "claude-a"),)
    )
    book = book_of(contract)
    modifiers: list[tuple[str, str, int]] = [("standard", "", 0), ("flex", "", 0), ("standard", "eu", 200_001)]
    for modifier in modifiers:
        for number in (0, 4, 5):
            assert paid(book, "ours", number, *modifier) == paid(book, "claude-a", number, *modifier)
            assert public(book, "ours", number, *modifier) == public(book, "claude-a", number, *modifier)
    assert paid(book, "ours", -1) == 5  # the fallback


def test_an_alias_holds_until_the_next_of_its_name_and_may_redirect_a_model() -> None:
    entries = [
        entry("a", 0, Decimal(1)),
        entry("b", 0, Decimal(2)),
        entry("b", 7, Decimal(3)),
        entry("c", 0, Decimal(9), modified=False),
    ]
    book = book_of(Contract(aliases=(alias("c", "a", 3), alias("c", "b", 5), alias("new", "b", 4))), *entries)
    assert [public(book, "c", n) for n in (2, 3, 4, 5, 6, 7)] == [9, 1, 1, 2, 2, 3]
    assert [public(book, "new", n) for n in (3, 4, 7)] == [5, 2, 3]
    assert [public(book, "c", n, "flex") for n in (2, 3)] == [9, Decimal("0.5")]
    assert [public(book, "c", n, "standard", "", 200_001) for n in (2, 3)] == [9, 2]


# Any sequence of overrides and discounts, against the same rules written once more by hand

kinds = st.sampled_from(["input", "cache_read", "cache_write_5m", "output", "web_search"])
usd = st.decimals(min_value=Decimal("0.0001"), max_value=100, places=4)
spans = st.tuples(st.integers(-3, 20), st.none() | st.integers(1, 10)).map(
    lambda s: (s[0], None if s[1] is None else s[0] + s[1])
)
overrides = st.builds(
    lambda model, span, tier, prices: override(model, span[0], span[1], tier, **prices),
    st.sampled_from(MODELS), spans, st.sampled_from(["standard", "flex"]), st.dictionaries(kinds, usd, min_size=1),
)  # fmt: skip
discounts = st.builds(
    lambda model, percent, span: discount(model, percent, *span),
    st.sampled_from(["*", "claude-*", "claude-a", "other"]), st.decimals(min_value=1, max_value=100, places=2), spans,
)  # fmt: skip
contracts = st.builds(
    lambda o, d: Contract(tuple(o), tuple(d)),
    st.lists(overrides, max_size=6, unique_by=lambda o: o.key),
    st.lists(discounts, max_size=6, unique_by=lambda d: d.key),
)  # fmt: skip
PRICES = {0: Decimal(2), 8: Decimal(3)}  # of every model, from this day on


def by_hand(contract: Contract, model: str, number: int, tier: str, kind: str) -> Decimal:
    """The price of a million, in the words of policy/prices.yaml."""
    plain = "claude-a" if model == "claude-a-20260101" else model  # the two cost the same
    price = PRICES[0 if number < 8 else 8]
    factor = Decimal("0.5") if tier == "flex" else Decimal(1)
    own = {
        "input": price * factor,
        "cache_read": price * factor / 10,
        "output": price * factor * 5,
        "web_search": Decimal(10_000),
    }
    asked = "input" if kind == "cache_write_5m" else kind  # which the list does not price
    exact = [o for o in contract.overrides if o.model == model and o.service_tier == tier and o.holds(day(number))]
    loose = [
        o for o in contract.overrides if o.model == plain != model and o.service_tier == tier and o.holds(day(number))
    ]
    for wanted in dict.fromkeys((kind, asked)):
        for named in (exact, loose):
            found = [o for o in named if wanted in o.prices]
            if found:
                return max(found, key=lambda o: o.valid_from).prices[wanted]
    fits = [
        d for d in contract.discounts if d.holds(day(number)) and any(fnmatchcase(n, d.model) for n in (model, plain))
    ]
    if not fits:
        return own[asked]
    best = max(fits, key=lambda d: ("*" not in d.model, len(d.model), d.valid_from))
    return (own[asked] * (100 - best.percent) / 100).quantize(Decimal("1e-9"), ROUND_HALF_EVEN)


def dated_book(contract: Contract) -> Book:
    return book_of(contract, *(entry(model, since, price) for model in MODELS for since, price in PRICES.items()))


@settings(deadline=None)
@given(contracts)
def test_each_day_has_the_price_worked_by_hand(contract: Contract) -> None:
    book = dated_book(contract)
    for model in MODELS:
        for number in (*range(0, 24, 3), 7, 8):
            for tier in ("standard", "flex"):
                found = book.usd_per_million("p", model, day(number), tier, price_list="contract")
                for kind in ("input", "cache_read", "cache_write_5m", "output", "web_search"):
                    assert found[kind] == by_hand(contract, model, number, tier, kind), (model, number, tier, kind)


@settings(deadline=None)
@given(contracts)
def test_the_rows_are_whole_and_say_the_same_as_the_look_up(contract: Contract) -> None:
    book = dated_book(contract)
    rows: dict[tuple[Any, ...], dict[str, Decimal]] = {}
    for row in book.rows():
        key = tuple(
            row[name] for name in ("model", "service_tier", "residency", "context_above", "valid_from", "price_list")
        )
        assert row["token_kind"] not in rows.setdefault(key, {})
        rows[key][row["token_kind"]] = row["usd_per_million"]
    assert all(tuple(kinds) == TOKEN_KINDS for kinds in rows.values())
    for model, tier, place, length, since, price_list in rows:
        if model == "*":
            continue
        assert (model, tier, place, length, since, "list") in rows
        listed = rows[model, tier, place, length, since, "list"]
        contracted = rows.get((model, tier, place, length, since, "contract"), listed)
        asked = ("p", model, since, tier, place, length + 1)
        assert book.usd_per_million(*asked) == listed
        assert book.usd_per_million(*asked, "contract") == contracted
        assert price_list == "list" or contracted is not listed


@settings(deadline=None)
@given(contracts, st.integers(0, 20), st.lists(st.one_of(overrides, discounts), max_size=4))
def test_what_is_added_from_a_day_on_never_changes_the_days_before(
    contract: Contract, since: int, added: list[Override | Discount]
) -> None:
    later: list[Override | Discount] = [
        item.model_copy(update={"valid_from": day(since + n), "valid_to": None}) for n, item in enumerate(added)
    ]
    known = {override.key for override in contract.overrides} | {discount.key for discount in contract.discounts}
    later = [item for item in later if item.key not in known]
    grown = Contract(
        contract.overrides + tuple(item for item in later if isinstance(item, Override)),
        contract.discounts + tuple(item for item in later if isinstance(item, Discount)),
    )
    before, after = dated_book(contract), dated_book(grown)

    def until(book: Book) -> list[dict[str, Any]]:
        return [row for row in book.rows() if row["valid_from"] < day(since)]

    assert until(before) == until(after)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 30), usd), unique_by=lambda pair: pair[0], max_size=5), usd)
def test_an_entry_added_to_the_list_never_changes_the_days_before(
    changes: list[tuple[int, Decimal]], first: Decimal
) -> None:
    entries = [entry("m", since, price, modified=False) for since, price in sorted([(0, first), *changes])]
    books = [book_of(Contract((), (discount("m", 7, 2, 9),)), *entries[:count]) for count in range(1, len(entries) + 1)]
    for count, (before, after) in enumerate(pairwise(books), start=1):
        since = entries[count].valid_from
        assert [r for r in before.rows() if r["valid_from"] < since] == [
            r for r in after.rows() if r["valid_from"] < since
        ]


# The file


def policy_prices(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    return path


OVERRIDE = """overrides:
  - provider: openai
    model: gpt-5.4
    service_tier: flex
    valid_from: 2026-03-01
    valid_to: 2026-09-01
    usd_per_million:
      input: 1.10
      output: 7
    why: order 7
"""


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    text = OVERRIDE + (
        'discounts: [{provider: anthropic, model: "claude-*", percent: 12.5, valid_from: 2026-01-01}]\n'
        "aliases: [{provider: openai, alias: best, model: gpt-5.4}]\n"
    )
    contract = read_contract(policy_prices(tmp_path, text))
    (found,) = contract.overrides
    assert (found.prices, found.service_tier) == ({"input": Decimal("1.10"), "output": Decimal(7)}, "flex")
    assert (found.valid_from, found.valid_to, found.why) == (date(2026, 3, 1), date(2026, 9, 1), "order 7")
    assert contract.discounts[0].percent == Decimal("12.5")
    assert contract.aliases == (Alias(provider="openai", alias="best", model="gpt-5.4"),)
    assert prices.usd_per_million("openai", "best", date(2026, 3, 1), "flex", price_list="contract", contract=contract)[
        "input"
    ] == Decimal("1.1")


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "discounts: []\n"])
def test_a_company_that_negotiated_nothing_pays_the_list(tmp_path: Path, text: str) -> None:
    nothing = read_contract(policy_prices(tmp_path, text))
    assert nothing == Contract() == read_contract(tmp_path / "absent.yaml")
    assert prices.rows_for_warehouse(nothing) == prices.rows_for_warehouse()


BEGIN = "  - {provider: openai, model: gpt-5.4, valid_from: 2026-03-01, "


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("prices: []\n", 1, "must hold a list called overrides or discounts or aliases"),
        ("discounts:\n", 1, "must hold a list"),
        ("discounts:\n  - 10 percent\n", 2, "write `valid_from: …`"),
        ("discounts:\n" + BEGIN + "percent: 0}\n", 2, "percent: Input should be greater than 0"),
        ("discounts:\n" + BEGIN + "percent: 101}\n", 2, "percent: Input should be less than or equal to 100"),
        ("discounts:\n" + BEGIN + "percent: 10, off: 3}\n", 2, "off: is not a field of a discount"),
        ("discounts:\n" + BEGIN + "percent: 1}\n\n" + BEGIN + "percent: 2}\n", 4, "the same as line 2 says"),
        ("discounts:\n" + BEGIN.replace("5.4", "5,4") + "percent: 10}\n", 2, "4: is not a field"),
        ("discounts:\n" + BEGIN.replace("gpt", "gtp") + "percent: 10}\n", 2, "openai/gtp-5.4: the book has no such"),
        (OVERRIDE.replace("7\n", "7\n      output: 8\n", 1), 10, "output is given twice"),
        (OVERRIDE.replace("output", "thought"), 9, "usd_per_million: Input should be 'input'"),
        (OVERRIDE.replace("1.10", "a lot"), 8, "usd_per_million"),
        (OVERRIDE.replace("1.10", "-1"), 8, "greater than or equal to 0"),
        (OVERRIDE.replace("1.10", "[1, 2]"), 8, "usd_per_million"),
        (OVERRIDE.replace("flex", "slow"), 4, "service_tier: Input should be 'standard'"),
        (OVERRIDE.replace("2026-09-01", "2026-03-01"), 2, "valid_to 2026-03-01 is not after valid_from 2026-03-01"),
        (OVERRIDE.replace("2026-03-01", "1 March"), 5, "valid_from"),
        (OVERRIDE.replace("    why: order 7\n", ""), 2, "why: is missing"),
        (OVERRIDE.replace("openai", '"*"'), 2, "an override is for one model"),
        (OVERRIDE.replace("gpt-5.4", '"*"').replace("openai", '"*"'), 2, "the fallback has one tier"),
        (OVERRIDE.replace("gpt-5.4", "ours"), 2, "openai/ours: no list knows it; price standard first"),
        (OVERRIDE.replace("gpt-5.4", "ours").replace("flex", "standard"), 2, "cannot just end"),
        ("overrides:\n" + BEGIN.replace("gpt-5.4", "ours") + "usd_per_million: {input: 1}, why: x}", 2, "needs input"),
        ("aliases:\n  - {provider: openai, alias: best, model: gpt-99}\n", 2, "nor an override knows gpt-99"),
        ("aliases:\n  - {provider: openai, alias: gpt-5.4, model: gpt-4o}\n", 2, "has a price of its own"),
        ("aliases:\n" + "  - {provider: openai, alias: a, model: gpt-4o}\n" * 2, 3, "the same as line 2"),
    ],
)  # fmt: skip
def test_a_fault_in_prices_is_told_with_its_line(tmp_path: Path, text: str, line: int, why: str) -> None:
    for name in ("people.csv", "budgets.yaml"):
        (tmp_path / name).write_bytes((ROOT / "policy" / name).read_bytes())
    policy_prices(tmp_path, text)
    with pytest.raises(PolicyError, match=why) as caught:
        read_policy(tmp_path)
    assert (caught.value.file, caught.value.line) == ("prices.yaml", line)


@given(st.text(max_size=80) | st.text(alphabet="{}[]:,-?!&*|><%@`'\"\n\t #~ab1", max_size=60))
def test_whatever_is_written_there_is_a_contract_or_a_policy_error(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path, lines = tmp_path_factory.getbasetemp() / "prices.yaml", [1]
    for beginning in ("", "discounts: ", "overrides:\n  - usd_per_million: "):
        path.write_bytes((beginning + text).encode(errors="surrogatepass"))
        try:
            read_contract(path)
        except PolicyError as error:
            lines.append(error.line)
    assert 1 <= min(lines) <= max(lines) <= 3 + len(text)


def test_the_example_company_has_one_of_each_and_its_prices() -> None:
    contract = read_policy(ROOT / "policy").contract
    assert [len(of) for of in (contract.overrides, contract.discounts, contract.aliases)] == [1, 1, 1]
    today = date(2026, 11, 23)

    def price(model: str, price_list: Any, provider: str = "openai") -> Decimal:
        return prices.usd_per_million(provider, model, today, price_list=price_list, contract=contract)["input"]

    assert [price("gpt-4.1", which) for which in ("list", "contract")] == [2, Decimal("1.9")]
    assert [price("acme-coder-1", which) for which in ("list", "contract")] == [Decimal("0.4")] * 2
    assert price("company-default", "contract", "anthropic") == price("claude-sonnet-5", "list", "anthropic")


def test_a_contract_that_no_book_can_hold_is_told() -> None:
    one = {"input": Decimal(1), "output": Decimal(1)}
    entries = entry("a", 0, Decimal(1)), Entry("p", "b", DAY_0, "s", one, above=100_000, above_tiers={"standard": one})
    with pytest.raises(PriceBookError, match=r"p/x has prices above \[100000, 200000\]") as caught:
        book_of(Contract(aliases=(alias("x", "a", 0), alias("x", "b", 5))), *entries)
    assert caught.value.about == alias("x", "b", 5)
