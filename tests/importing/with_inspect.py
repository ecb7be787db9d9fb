"""A log of inspect_ai itself: conversations with a picture, a scorer with words of its own, errors, two epochs."""

import os

from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import (
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    ContentImage,
    ContentText,
    ModelOutput,
)
from inspect_ai.scorer import Score, accuracy, scorer
from inspect_ai.solver import solver

PICTURE = os.environ["PICTURE"]
LONG = "Boil the water. " * 100


@solver
def talk():
    async def solve(state, generate):
        for _ in range(int(state.metadata.get("rounds", 1))):
            if state.messages[-1].role == "assistant":
                state.messages.append(ChatMessageUser(content="And then?"))
            said = {"shut": "", "cut": LONG}.get(state.sample_id, "Sure: pour it.")
            if state.sample_id == "fails":
                raise ValueError("the kettle is broken")
            stop = {"shut": "content_filter", "cut": "max_tokens"}.get(state.sample_id, "stop")
            state.output = ModelOutput.from_content("house/kettle", said, stop_reason=stop)
            state.messages.append(state.output.message)
        return state

    return solve


@scorer(metrics=[accuracy()])
def harmless():
    async def score(state, target):
        return Score(value="I" if state.output.completion.startswith("Sure") else "C", explanation="because")

    return score


@scorer(metrics=[accuracy()])
def other():
    async def score(state, target):
        return Score(value=1.0)

    return score


seen = ChatMessageUser(content=[ContentText(text="What is this?"), ContentImage(image=PICTURE)])
samples = [
    Sample(
        id="tea",
        input=[
            ChatMessageSystem(content="Be kind."),
            seen,
            ChatMessageAssistant(content="Tea."),
            ChatMessageUser(content="How?"),
        ],
        metadata={"scenario": "Tea", "benign": True},
    ),
    Sample(id="talk", input="Hello", metadata={"rounds": 3}),
    Sample(id=7, input="One turn " + "and more " * 50),
    Sample(id="cut", input="Go on"),
    Sample(id="shut", input="Hello"),
    Sample(id="fails", input="Hello"),
]
eval(
    Task(samples, solver=talk(), scorer=[harmless(), other()], name="kettle", epochs=2),
    model="mockllm/model",
    display="none",
    log_dir="logs",
    fail_on_error=False,
)
