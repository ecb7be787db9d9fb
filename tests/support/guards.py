"""What tests of guards share: a conversation with a picture, and the reading of an answer."""

from pathlib import Path

from safemt_client.moderator.types import Assessment, Guard, Stage
from safemt_client.providers.types import Image, Message, Outcome, Reply

TEMPLATE = Path(__file__).parents[2] / "moderator" / "guards" / "template.toml"
PICTURE = Image("a" * 64, "image/png", 3, 1, 1, load=lambda: b"png")
OTHER = Image("b" * 64, "image/png", 3, 1, 1, load=lambda: b"png")
ASKED = (
    Message("system", "Answer in English."),
    Message("user", "What is in the bowl?", (PICTURE,)),
    Message("assistant", "Flour and water."),
    Message("user", "How long must it rise?"),
)
ANSWERED = (*ASKED, Message("assistant", "Two hours."))


def read(guard: Guard, text: str, stage: Stage = "input", **rest: object) -> Assessment:
    return guard.parse(Reply(Outcome.ANSWERED, text, **rest), stage)  # type: ignore[arg-type]
