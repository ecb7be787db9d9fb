"""`NAME@URL` is NAME wherever that is clear, and the address stays where it is not."""

from hypothesis import given
from hypothesis import strategies as st

from safemt_client.results.names import addresses, meant, short_names

A, B = "http://127.0.0.1:8000/v1", "https://b.example/v1"


def test_an_address_is_left_out_where_the_name_alone_is_clear() -> None:
    names = [f"org/big@{A}", f"org/big@{A} + guard+block", "gpt-4o", f"majority of j1@{A}, j2@{B}, gpt-4o"]
    assert list(short_names(names).values()) == [
        "org/big",
        "org/big + guard+block",
        "gpt-4o",
        "majority of j1, j2, gpt-4o",
    ]
    assert addresses(names) == {A: ["org/big", "j1"], B: ["j2"]}
    assert short_names([f"m@{A},{B} + guard"]) == {f"m@{A},{B} + guard": "m + guard"}


def test_an_address_stays_where_two_models_would_be_called_the_same() -> None:
    names = [f"m@{A}", f"m@{B}", f"n@{A}", "n", f"o@{A}"]
    assert list(short_names(names).values()) == [*names[:4], "o"]
    assert addresses(names) == {A: ["o"]}
    panel = [f"j@{A}", f"j@{B}", f"majority of j@{A}, j@{B}"]
    assert list(short_names(panel).values()) == panel


def test_what_a_user_means_is_the_name_or_the_only_one_that_is_shown_so() -> None:
    names = [f"m@{A}", f"n@{A}", f"n@{B}", "o"]
    assert [meant(word, names) for word in ("m", f"m@{A}", "o", "n", "p")] == [
        names[0],
        names[0],
        "o",
        "n",
        "p",
    ]


def test_a_name_of_a_megabyte_is_read_at_once() -> None:
    names = ["x" * 1_000_000, f"{'y' * 1_000_000}@{A}"]
    assert list(short_names(names).values()) == [names[0], "y" * 1_000_000]


_PART = st.sampled_from(["m", "n", f"m@{A}", f"m@{B}", f"n@{A}", "@", f"@{A}", "a@b"])


@given(st.lists(st.lists(_PART, min_size=1, max_size=3).map(" + ".join), unique=True))
def test_no_two_names_become_one(names: list[str]) -> None:
    short = short_names(names)
    assert list(short) == names
    assert len(set(short.values())) == len(names)
