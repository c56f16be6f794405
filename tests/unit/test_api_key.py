"""The form of an API key: what is one, what is none, and what never shows its secret."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.actions.manage_keys import new_key
from app.domain.api_key import ID_LENGTH, SECRET_LENGTH, ApiKey

hexadecimal = st.text("0123456789abcdef", min_size=1)
KEY = ApiKey("00112233445566aa", "c0ffee" * 8)


@given(
    st.text("0123456789abcdef", min_size=ID_LENGTH, max_size=ID_LENGTH),
    st.text("0123456789abcdef", min_size=SECRET_LENGTH, max_size=SECRET_LENGTH),
)
def test_a_written_key_is_read_as_itself(key_id: str, secret: str) -> None:
    key = ApiKey(key_id, secret)
    assert ApiKey.parse(str(key)) == key


@given(st.integers(0, len(str(KEY)) - 1), st.characters())
def test_any_single_mistyped_character_makes_it_no_key(place: int, typed: str) -> None:
    text = str(KEY)
    mistyped = text[:place] + typed + text[place + 1 :]
    assert (ApiKey.parse(mistyped) is None) == (mistyped != text)


@given(st.integers(0, len(str(KEY)) - 1))
def test_a_key_that_was_cut_off_is_none(length: int) -> None:
    assert ApiKey.parse(str(KEY)[:length]) is None


@pytest.mark.parametrize("around", ["{} ", " {}", "{}\n", "{0}{0}"])
def test_nothing_may_stand_around_a_key(around: str) -> None:
    assert ApiKey.parse(around.format(KEY)) is None


@given(st.text())
def test_a_text_is_a_key_only_if_it_is_written_as_one(text: str) -> None:
    key = ApiKey.parse(text)
    assert key is None or str(key) == text


def test_what_is_shown_or_stored_of_a_key_is_not_its_secret() -> None:
    assert KEY.secret not in repr(KEY)
    assert KEY.secret not in f"{[KEY]}"
    assert KEY.secret.encode() not in KEY.secret_hash
    assert len(KEY.secret_hash) == 32


def test_new_keys_are_well_formed_and_all_different() -> None:
    made = [new_key() for _ in range(1000)]
    assert len({key.key_id for key in made}) == len({key.secret for key in made}) == 1000
    assert all(ApiKey.parse(str(key)) == key for key in made)
