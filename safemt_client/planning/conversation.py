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

    `sample` counts, from 1, the conversations of a run about the same dialogue with the same target.

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
    sample: int = 1
    _next: tuple[int, Request, str] | None = None
    _length: int = 0

    @property
    def sample_index(self) -> int:
        """The sample index of its requests, which their hashes contain."""
        return self.target.sample + self.sample - 1

    @property
    def turns_left(self) -> int:
        """Requests that are still to be made."""
        # Counted once: this is asked several times at each turn.
        self._length = self._length or self.dialogue.length
        return self._length - self.turn + 1

    def next(self) -> tuple[Request, str]:
        """The request of the next turn, and the key under which its reply is stored."""
        if self._next is None or self._next[0] != self.turn:
            messages = messages_at(self.dialogue, self.turn, self.target.history, self.replies, self.images)
            if self.target.system_prompt is not None:
                messages = (Message("system", self.target.system_prompt), *messages)
            # The same at every turn and in every session.
            parts = [self.target.key, self.key, *([self.sample] if self.sample > 1 else [])]
            request = Request(
                messages, self.target.sampling_of(self.sample), conversation=digest_of(parts)[:32]
            )
            key = request_hash(
                self.target.identity, request, moderator=self.target.moderator, sample=self.sample_index
            )
            self._next = (self.turn, request, key)
        return self._next[1:]

    @property
    def size(self) -> int:
        """How large the next request is: bytes of its images and characters of its texts."""
        messages = self.next()[0].messages
        return sum(len(m.text) + sum(image.size for image in m.images) for m in messages)

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
