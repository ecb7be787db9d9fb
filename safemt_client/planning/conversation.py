"""A dialogue being run against a target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from safemt_client.datasets.model import Dialogue
from safemt_client.planning.messages import messages_at
from safemt_client.planning.target import Target, digest_of
from safemt_client.providers.types import Image, Message, Request, request_hash

__all__ = ["Conversation"]


@dataclass(slots=True)
class Conversation:
    """A dialogue being run against a target: what was said so far, and the next user turn.

    `before` are its images as an earlier version of the program sent them; empty if it sent the same.
    `earlier` says that `images` are those.
    """

    target: Target
    dialogue: Dialogue
    key: str
    images: Mapping[str, Image]
    turn: int
    before: Mapping[str, Image] = field(default_factory=dict)
    replies: list[Message] = field(default_factory=list)
    earlier: bool = False
    _next: tuple[int, Request, str] | None = None

    @property
    def turns_left(self) -> int:
        """Requests that are still to be made."""
        return self.dialogue.length - self.turn + 1

    def next(self) -> tuple[Request, str]:
        """The request of the next turn, and the key under which its reply is stored."""
        if self._next is None or self._next[0] != self.turn:
            messages = messages_at(self.dialogue, self.turn, self.target.history, self.replies, self.images)
            if self.target.system_prompt is not None:
                messages = (Message("system", self.target.system_prompt), *messages)
            # The same at every turn and in every session.
            conversation = digest_of([self.target.key, self.key])[:32]
            request = Request(messages, self.target.sampling, conversation=conversation)
            key = request_hash(
                self.target.identity, request, moderator=self.target.moderator, sample=self.target.sample
            )
            self._next = (self.turn, request, key)
        return self._next[1:]

    def with_earlier_images(self) -> Conversation:
        """The same with the images of an earlier version; what a target said of those goes on with those."""
        return replace(self, images=self.before, before={}, earlier=True, _next=None)

    @property
    def was_shown_anew(self) -> bool:
        """Whether a reply was taken to a picture of `images` that `before` has otherwise."""
        users = [message for message in self.dialogue.messages if message.role == "user"][: self.turn - 1]
        return bool(self.replies and self.before) and any(
            self.images[path].sha256 != self.before[path].sha256
            for message in users
            for path in message.images
            if path in self.images
        )

    def take(self, reply: Message) -> None:
        """Go on to the turn after this reply."""
        self.turn += 1
        if self.turns_left:
            self.replies.append(reply)
        else:
            # A session keeps its conversations until its end: what was said need not be.
            self.replies.clear()
            self._next = None
