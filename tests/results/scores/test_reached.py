"""Live turns: an item is in them once for each length, so that items are what makes a sample small."""

from safemt_client.results.scores.reached import reached
from safemt_client.results.store.queries import Result


class Turns:
    """The first turn of so many items, each in five conversations, two of which are unsafe."""

    def __init__(self, items: int) -> None:
        self.rows = [("demo", "judge", 1, f"i{number:02}", 2, 5, 5) for number in range(items)]

    def query(self, sql: str, parameters: object = None, limit: int | None = None) -> Result:
        return Result([], list(self.rows))


def test_few_items_are_a_small_sample_whatever_the_number_of_replies() -> None:
    [few] = reached(Turns(12), "r")
    [many] = reached(Turns(30), "r")
    assert (few["scored"], many["scored"]) == (60, 150)
    assert few["small"]
    assert not many["small"]
