"""A model under evaluation that repeats what it was asked."""

from __future__ import annotations

from safemt_client.providers.types import Outcome, Reply, Request, Usage


class Echo:
    """`--provider echo` or `--provider echo/loud`: the factory is called with what follows the slash."""

    def __init__(self, model: str) -> None:
        self._loud = model == "loud"
        # Model and version: whoever changes the answers changes this, so that they are asked anew.
        self.identity = f"echo/{model or 'plain'}-1"

    async def ask(self, request: Request) -> Reply:
        """Answer one request. Permits, deadlines and retries are the program's."""
        text = f"You said: {request.messages[-1].text}"
        return Reply(Outcome.ANSWERED, text.upper() if self._loud else text, usage=Usage(cost_usd=0.0))
