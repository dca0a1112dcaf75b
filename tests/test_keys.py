"""A key proves its own spelling, and nobody can make one from what is stored."""

from __future__ import annotations

import hashlib
import hmac
import json
import string
from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from governance.keys import PREFIX, KeyRecord, key_hash, key_id, make, new_record, well_formed

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
made = st.builds(make)


@given(made)
def test_a_key_that_was_made_is_well_formed(key: str) -> None:
    assert well_formed(key)
    assert key.startswith("sk-tally-")
    assert len(key) == 47


@given(made, st.integers(0, 46), st.characters())
def test_any_one_character_changed_is_noticed(key: str, at: int, other: str) -> None:
    changed = key[:at] + other + key[at + 1 :]
    assert well_formed(changed) == (changed == key)


@given(made, st.integers(len(PREFIX), 45))
def test_two_neighbours_swapped_are_noticed(key: str, at: int) -> None:
    swapped = key[:at] + key[at + 1] + key[at] + key[at + 2 :]
    assert well_formed(swapped) == (swapped == key)


@given(st.text(max_size=60) | st.from_regex(r"sk-tally-[0-9A-Za-z]{38}", fullmatch=True))
def test_what_was_not_made_here_is_refused_without_a_look_up(text: str) -> None:
    assert not well_formed(text)


def test_a_key_cut_padded_or_in_other_letters_is_refused() -> None:
    key = make()
    for other in (
        "",
        PREFIX,
        key[:-1],
        key + "0",
        key.upper(),
        f" {key}",
        key.replace("sk", "pk"),
        key[:-1] + "\u0663",
    ):
        assert not well_formed(other)


def test_keys_use_the_whole_alphabet_and_none_comes_twice() -> None:
    keys = [make() for _ in range(3000)]
    assert len(set(keys)) == 3000
    counts = Counter("".join(key[len(PREFIX) : -6] for key in keys))
    assert set(counts) == set(string.ascii_letters + string.digits)
    expected = 3000 * 32 / 62
    assert all(abs(count - expected) < 6 * expected**0.5 for count in counts.values())


@given(made, st.text(min_size=1, max_size=40))
def test_a_key_is_stored_as_its_hmac_under_the_pepper(key: str, pepper: str) -> None:
    hashed = key_hash(key, pepper)
    assert hashed == hmac.new(pepper.encode(), key.encode(), hashlib.sha256).hexdigest()
    assert hashed != key_hash(key, pepper + "x")
    assert hashed.startswith(key_id(hashed))
    assert len(key_id(hashed)) == 12


def test_a_record_holds_the_last_four_characters_and_no_more_of_the_key() -> None:
    key = make()
    hashed, record = new_record(key, "pepper", person="ada@example.com", team="Search", expires_at=NOW)
    assert hashed == key_hash(key, "pepper")
    assert (record.key_id, record.last4) == (hashed[:12], key[-4:])
    written = json.dumps(record.document()) + repr(record)
    assert not any(key[n : n + 5] in written for n in range(len(PREFIX), 43))
    assert KeyRecord.model_validate(json.loads(json.dumps(record.document()))) == record


def test_a_key_that_ended_says_what_can_be_done_about_it() -> None:
    _, human = new_record(make(), "pepper", person="ada@example.com", revoked_at=NOW, revoked_why="idle")
    assert "nobody used it on 23 November 2026; ask for a new one with /tally issue" in str(human.refusal(NOW))
    _, service = new_record(make(), "pepper", kind="service", owner="grace@example.com", expires_at=NOW)
    assert str(service.refusal(NOW)).endswith("; ask grace@example.com for a new one")
    left = human.model_copy(update={"revoked_why": "left"})
    assert str(left.refusal(NOW)) == "this key ended with its owner's time in the company on 23 November 2026"


def test_a_record_written_by_a_newer_version_is_still_read() -> None:
    _, record = new_record(make(), "pepper", person=None, team=None, kind="service")
    assert KeyRecord.model_validate(record.document() | {"colour": ["x"]}) == record


def test_a_key_is_refused_from_the_moment_it_expires_or_is_revoked() -> None:
    _, record = new_record(make(), "pepper", person="ada@example.com", team="Search", expires_at=NOW)
    assert record.refusal(NOW - timedelta(microseconds=1)) is None
    assert "expired on 23 November 2026" in str(record.refusal(NOW))
    revoked = record.model_copy(update={"revoked_at": NOW - timedelta(days=2)})
    assert "revoked on 21 November 2026" in str(revoked.refusal(NOW - timedelta(days=9)))
    assert record.model_copy(update={"expires_at": None}).refusal(NOW) is None
