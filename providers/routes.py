"""Where the keys and texts of a session go: checked before anything is sent, and told in the plan."""

from __future__ import annotations

from safemt_client.providers.addresses import host_of, origin_of, shown
from safemt_client.providers.errors import InputError
from safemt_client.providers.keys import clear_text_warning
from safemt_client.providers.proxies import certificates_for, proxy_for
from safemt_client.providers.registry import ProviderSpec

__all__ = ["Routes"]


class Routes:
    """The addresses of a session's targets, judges and guards together: a key goes to one host only."""

    def __init__(self) -> None:
        self._aliases: dict[str, ProviderSpec] = {}
        self._keys: dict[str, str] = {}
        self._notes: dict[str, None] = {}

    def add(self, spec: ProviderSpec) -> None:
        """Check the way to one more endpoint.

        Raises:
            InputError: its name is another's, its key would go to a second host, or its proxy or the
                certificates that the environment names cannot be used.
        """
        if spec.aliased:
            other = self._aliases.setdefault(spec.name, spec)
            if (other.identity, other.base_url) != (spec.identity, spec.base_url):
                raise InputError(
                    f"--provider {spec.name}=...: stands for two models: name one of them otherwise"
                )
        if spec.vendor.managed:
            return
        self._one_host(spec)
        if spec.moved_by is not None and spec.base_url is not None:
            note = f"{spec.vendor.name} is asked at {shown(spec.base_url)}, as {spec.moved_by} says"
            self._notes[note] = None
        # Where only litellm knows the address, the vendor's name stands for the host.
        url = None if spec.kind == "plugin" else spec.base_url or f"https://{spec.vendor.name}"
        proxy = None if url is None else proxy_for(url)
        certificates_for(url, proxy)
        if proxy is not None:
            asked = host_of(spec.base_url) or spec.vendor.name
            self._notes[f"{asked} is asked through the proxy {shown(proxy)}"] = None
        clear_text_warning(spec.base_url)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the environment changes about the ways, a sentence each."""
        return tuple(self._notes)

    def _one_host(self, spec: ProviderSpec) -> None:
        """A variable goes to one host, be it that of a key or one that a header, a query or a body names."""
        # Where only litellm knows the address, the vendor's name stands for the host.
        origin = origin_of(spec.base_url) or spec.vendor.name
        variables = dict.fromkeys(spec.options.environment, "")
        if spec.key_variable is not None:
            variables[spec.key_variable] = "by api_key_env "
        for variable, how in variables.items():
            other = self._keys.setdefault(variable, origin)
            if other != origin:
                raise InputError(
                    f"{variable}: would be sent to {other} and to {origin}: name a variable for each server, "
                    f"{how}in a table [providers.NAME] of the settings file"
                )
