"""The paths that are served, where each leads at the upstream, and what is said of all others.

Every path exists in OpenAI's form, `/v1/...`, and in Azure's: `/openai/v1/...`, and the older
`/openai/deployments/NAME/...` with `?api-version=`, which names the model in the path.
"""

from __future__ import annotations

from urllib.parse import quote

import httpx
from aiohttp import web

from safemt_client.proxy.wire import ApiError

__all__ = ["CHAT", "DEPLOYMENT", "MODELS", "Addresses", "closed"]

DEPLOYMENT = "/openai/deployments/{deployment}/chat/completions"
CHAT = ("/v1/chat/completions", "/openai/v1/chat/completions", DEPLOYMENT)
MODELS = tuple(
    f"{base}/models{one}" for base in ("/v1", "/openai/v1", "/openai") for one in ("", "/{model:.+}")
)
_AZURE_HOSTS = (".azure.com", ".azure.us", ".azure.cn")

_ONLY = "only chat completions are moderated, and nothing else is passed on"
_USE = "POST /v1/chat/completions"
_INSTEAD = {
    "responses": f"{_ONLY}: set your client from the Responses API to chat completions, {_USE}",
    "completions": f"a prompt is not a conversation that a guard could be shown: use {_USE}",
    "messages": f"{_ONLY}: use an OpenAI client and {_USE}",
    "embeddings": f"{_ONLY}: ask the upstream itself for embeddings",
}
"""What is said of a path that is not served, by its last part."""


class Addresses:
    """Where the paths that are served lead at the upstream.

    An upstream at one of Azure's hosts, or whose address ends with `/openai`, is asked for deployments in
    Azure's form; any other is asked as usual, with the deployment's name as the model.
    """

    def __init__(self, upstream: httpx.URL) -> None:
        base, path = str(upstream).rstrip("/"), upstream.path.rstrip("/")
        azure = path.endswith("/openai") or (
            upstream.host.endswith(_AZURE_HOSTS) and path in ("", "/openai/v1")
        )
        root = base.removesuffix("/v1").removesuffix("/openai")
        self._openai = f"{root}/openai/v1" if azure else base
        self._azure = f"{root}/openai" if azure else None

    def chat(self, request: web.Request) -> str:
        """Where a chat completion goes."""
        deployment = request.match_info.get("deployment")
        if deployment is None:
            return f"{self._openai}/chat/completions{_query(request)}"
        name = _part(deployment)
        if self._azure is None:
            return f"{self._openai}/chat/completions"
        return f"{self._azure}/deployments/{name}/chat/completions{_query(request)}"

    def models(self, request: web.Request) -> str:
        """Where the list of models is, or one of them."""
        dated = not request.path.removeprefix("/openai").startswith("/v1/")
        base = self._azure if dated and self._azure is not None else self._openai
        query = "" if dated and self._azure is None else _query(request)
        model = request.match_info.get("model")
        names = [] if model is None else [_part(part) for part in model.split("/")]
        return "/".join([f"{base}/models", *names]) + query


def closed(request: web.Request) -> ApiError:
    """The error for a path that is not served: what to use instead."""
    path = request.path.rstrip("/")
    last = path.rsplit("/", 1)[-1]
    if path.endswith("/chat/completions"):
        why = f"the path is {_USE}: set the base URL of your client to http://{request.host}/v1"
    else:
        why = _INSTEAD.get(last, f"{_ONLY}: the paths are {_USE}, GET /v1/models and GET /v1/models/NAME")
    return ApiError(404, "not_found", f"{request.method} {request.path[:200]} is not served here: {why}")


def _part(text: str) -> str:
    """One part of a path, which must not lead out of its folder.

    Raises:
        ApiError: it would.
    """
    if text in ("", ".", "..") or "/" in text or "\\" in text:
        raise ApiError(404, "not_found", "there is no model of this name")
    return quote(text, safe="")


def _query(request: web.Request) -> str:
    query = request.rel_url.raw_query_string
    return f"?{query}" if query else ""
