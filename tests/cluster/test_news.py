"""News of a worker: in groups, none lost, none twice, and at once where something cannot wait."""

import asyncio

import pytest

from safemt_client.cluster.news import News


def test_news_come_in_groups() -> None:
    async def told() -> list[str]:
        news = News()
        asking = asyncio.ensure_future(news.after(0, 60.0))
        for text in ("one", "two"):
            await asyncio.sleep(0)
            news.notice(text)
        _, items = await asking
        return [about[0] for _, about in items]

    assert asyncio.run(told()) == ["one", "two"]


def test_news_whose_arrival_is_not_known_are_there_again() -> None:
    async def told() -> None:
        news = News()
        news.notice("one")
        number, items = await news.after(0, 60.0)
        news.notice("two")
        assert await news.after(0, 60.0) == (2, [*items, ("notice", ("two",))])
        assert await news.after(number, 60.0) == (2, [("notice", ("two",))])
        assert await news.after(2, 0.0) == (2, [])

    asyncio.run(told())


def test_what_cannot_wait_is_told_at_once_and_what_follows_is_gathered_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("safemt_client.cluster.news._GATHER_S", 3600.0)

    async def told() -> None:
        news = News()
        news.notice("one")
        news.tell("done", 1)
        news.notice("two")
        number, items = await asyncio.wait_for(news.after(0, 60.0), 60.0)
        assert [what for what, _ in items] == ["notice", "done", "notice"]
        news.notice("three")
        asking = asyncio.ensure_future(news.after(number, 60.0))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not asking.done()
        news.tell("failed", 2, ValueError())
        assert [what for what, _ in (await asyncio.wait_for(asking, 60.0))[1]] == ["notice", "failed"]

    asyncio.run(told())
