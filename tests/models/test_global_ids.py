"""Global ids: whatever nobody gave out names nothing, and the field that held it is named."""

import pytest

from errors import NotFound
from models.global_ids import global_id, number_of


def test_the_key_of_an_id_comes_back() -> None:
    assert number_of("Member", global_id("Member", 7)) == 7


@pytest.mark.parametrize("text", ["", "x", "é", "TWVtYmVy", global_id("User", 7), global_id("Member", "7a"), global_id("Member", 2**31)])
def test_what_is_no_id_of_the_kind_is_refused_with_the_field_it_came_in(text: str) -> None:
    with pytest.raises(NotFound) as refused:
        number_of("Member", text, path=("memberId",))

    assert refused.value.path == ("memberId",)
