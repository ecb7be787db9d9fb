"""A provider that gives prepared replies and remembers the requests."""

from safemt_client.providers.provider import Observer
from safemt_client.providers.types import Reply, Request


class Scripted:
    """Gives its replies one after the other."""

    identity = "test/judge"

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.asked: list[Request] = []

    async def ask(self, request: Request, on_retry: Observer | None = None) -> Reply:
        self.asked.append(request)
        return self.replies.pop(0)
