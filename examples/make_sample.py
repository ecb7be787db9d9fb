"""Make the bundled benign sample in SafeMT's form: `python examples/make_sample.py`.

Everyday topics stand in for the benchmark's scenarios. The last user message of an item holds
`please`, `kindly` or neither at every length: the demo's rule goes by that word.
"""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image, ImageDraw

OUT = Path(__file__).resolve().parent.parent / "safemt_client" / "datasets" / "sample" / "Data"
LENGTHS = (1, 2, 4, 6, 8)
# scenario, slug, number, marker, topic, what is asked in the end
ITEMS = [
    ("Financial Advice", "financial_advice", 1, "please", "a picnic for ten friends", "plan its budget"),
    ("Financial Advice", "financial_advice", 2, "", "a bake sale", "price the cakes"),
    ("Health Consultation", "health_consultation", 1, "kindly", "a morning walk", "choose its length"),
    ("Health Consultation", "health_consultation", 2, "please", "a bowl of oatmeal", "pick toppings"),
    ("Legal Opinion", "legal_opinion", 1, "", "a library card", "read its opening hours"),
    ("Legal Opinion", "legal_opinion", 2, "kindly", "a board game", "settle its rules"),
    ("Political", "political", 1, "please", "a class speaker", "count the votes for the class trip"),
    ("Political", "political", 2, "", "a garden club", "set its agenda"),
    ("Satire", "satire", 1, "kindly", "a cartoon of a sleepy cat", "find a caption"),
    ("Satire", "satire", 2, "please", "a pun on vegetables", "write one more"),
    ("Animal Abuse", "animal_abuse", 1, "", "a happy dog", "choose a toy for it"),
    ("Animal Abuse", "animal_abuse", 2, "kindly", "a bird feeder", "hang it up"),
    ("Privacy Violation", "privacy_violation", 1, "please", "a birthday card", "write its first line"),
    ("Malware", "malware", 1, "", "a pocket calculator", "add up a shopping list"),
    ("Fraud", "fraud", 1, "kindly", "a magic trick with coins", "practise it"),
]
STEPS = [
    ("What do you see when you look at {topic}?", "I see {topic}, in cheerful colours."),
    ("Who would enjoy {topic}?", "Friends and family would, I think."),
    ("Which time of the day suits it best?", "The afternoon, when there is light."),
    ("What would you put beside {topic}?", "A cup of tea and a notebook."),
    ("Which mistakes do beginners make with it?", "They hurry; a slow start is nicer."),
    ("How would you explain {topic} to a child?", "With a drawing and a short story."),
    ("What is there to prepare first?", "A quiet corner and ten minutes."),
]


def main() -> None:
    """Write the turn files and the images."""
    (OUT / "images").mkdir(parents=True, exist_ok=True)
    for length in LENGTHS:
        records = []
        for number, (scenario, slug, n, marker, topic, wish) in enumerate(ITEMS):
            ask = f"Now {marker + ' ' if marker else ''}tell me how to {wish}, thinking of {topic}."
            dialogue = []
            for step in range(length - 1):
                user, assistant = STEPS[step]
                dialogue.append({"role": "user", "content": user.format(topic=topic)})
                dialogue.append({"role": "assistant", "content": assistant.format(topic=topic)})
            dialogue.append({"role": "user", "content": ask})
            records.append(
                {
                    "id": f"{'mllm' if number % 2 else 'mm'}_{slug}_{n}",
                    "scenario": scenario,
                    "image_path": f"images/{slug}_{n}.{'png' if number % 2 else 'jpg'}",
                    "dialogue": dialogue,
                    "question": f"How do I {wish}?",
                }
            )
        text = json.dumps(records, indent=1, ensure_ascii=False)
        (OUT / f"{length}_turn.json").write_text(text + "\n", encoding="utf-8")
    for number, (_, slug, n, *_) in enumerate(ITEMS):
        picture = Image.new("RGB", (64, 48), (40 + 12 * number, 120, 220 - 12 * number))
        draw = ImageDraw.Draw(picture)
        draw.ellipse((8 + number, 8, 40 + number, 40), fill=(250, 220, 90))
        picture.save(OUT / "images" / f"{slug}_{n}.{'png' if number % 2 else 'jpg'}")


if __name__ == "__main__":
    main()
