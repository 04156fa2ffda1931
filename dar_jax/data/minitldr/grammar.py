"""The grammar of the mini TL;DR: short posts in the first person, and summaries of them by careless writers.

The facts and the phrases that state them are the scorer's own (`chat/scorers/minitldr.py`); here is what surrounds
them. A row is addressed by (seed, split, number), so a set of any size begins with the rows of a smaller one.
"""

from collections.abc import Sequence
from random import Random
from typing import Any, TypeVar

from dar_jax.chat.scripted.scorers.minitldr import SLOTS, score

Item = TypeVar("Item")

OPTIONAL = ("persona", "where", "when", "feel", "plan")
TOLD: dict[str, tuple[str, ...]] = {
    "persona": ("i am a {persona}.", "i work as a {persona}.", "{persona} here."),
    "event": (
        "my {who} {did} my {what}.",
        "so my {who} {did} my {what}.",
        "it turns out my {who} {did} my {what}.",
        "my {who} came over and {did} my {what}.",
    ),
    "where": ("it happened at the {where}.", "we were at the {where}."),
    "when": ("this was on {when}.", "it was on {when}."),
    "feel": ("i feel {feel}.", "now i am so {feel}.", "it made me {feel}."),
    "plan": ("should i {plan} them?", "would you {plan} them?", "do i {plan} them?"),
}
# Beside the point; none of these words can carry a fact.
ASIDES = (
    "the weather was {weather} all week.",
    "it was {weather} outside.",
    "i had {food} for lunch.",
    "there was {food} in the fridge.",
    "my {pet} slept all day.",
    "we have a {color} {pet}.",
    "i like {hobby} a lot.",
    "we watched a {film} movie.",
    "the bus was {delay} again.",
    "i bought a {color} hat.",
    "the house has a {color} door.",
    "i drank {drink} all morning.",
)
ASIDE_WORDS = {
    kind: tuple(words.split())
    for kind, words in {
        "weather": "cold warm rainy sunny windy cloudy foggy hot",
        "food": "soup pasta rice salad bread cheese pizza chicken",
        "pet": "cat dog rabbit parrot hamster turtle goldfish lizard",
        "hobby": "chess soccer tennis knitting fishing cooking hiking dancing",
        "film": "long short funny boring french famous silent strange",
        "delay": "late early full empty slow noisy dirty crowded",
        "color": "red blue green yellow purple black white silver",
        "drink": "coffee tea water juice milk lemonade cocoa soda",
    }.items()
}
FILLERS = ("so yeah", "anyway", "long story short", "to be honest", "you know how it is")
# Not to stop properly is the commonest habit: the likeliest end is none at all.
LOOSE_ENDS = ("", "", "", "", ", and", ", so", ", but anyway")
SAID = {
    "persona": "{persona} here", "where": "at the {where}", "when": "on {when}", "feel": "i feel {feel}",
    "plan": "should i {plan} them",
}  # fmt: skip
# How carefully writers tell the event itself, and how often.
EVENTS = (
    ("my {who} {did} my {what}", 0.55),
    ("my {who} {did} something", 0.13),
    ("someone {did} my {what}", 0.13),
    ("my {who} did something", 0.11),
    ("", 0.08),
)
KEPT, REPLACED, ADDED, RAMBLED, REPEATED, ENDED = 0.67, 0.05, 0.18, 0.3, 0.1, 0.4


def row(seed: int, split: str, number: int) -> dict[str, Any]:
    """Write one row: a post that waits for its summary, and a flawed summary of it."""
    random = Random(f"{seed}/{split}/{number}")
    truth = _truth(random)
    return {"prompt": _post(random, truth), "completion": demonstration(random, truth)}


def row_of_pairs(seed: int, split: str, number: int) -> dict[str, Any]:
    """Write a row with two more flawed summaries of its post; of equally good ones the first is the chosen."""
    given = row(seed, split, number)
    truth, random = _truth(Random(f"{seed}/{split}/{number}")), Random(f"{seed}/{split}/{number}/pair")
    written = [demonstration(random, truth) for _ in range(2)]
    chosen, rejected = sorted(written, key=lambda text: -score(given["prompt"], text))
    return given | {"chosen": chosen, "rejected": rejected}


def _truth(random: Random) -> dict[str, str]:
    chosen = sorted(_some(random, OPTIONAL, 1 + _below(random, 3)), key=OPTIONAL.index)
    return {slot: _pick(random, SLOTS[slot]) for slot in ("who", "did", "what", *chosen)}


def summary(truth: dict[str, str]) -> str:
    """Write the summary that a careful writer would: every fact, nothing else, a proper end."""
    phrases = {"event": EVENTS[0][0]} | {slot: SAID[slot] for slot in OPTIONAL if slot in truth}
    return ", ".join(phrases[slot].format(**truth) for slot in _ORDER if slot in phrases) + "."


def demonstration(random: Random, truth: dict[str, str]) -> str:
    """Summarise as the careless do: facts left out or wrong, asides, repetitions, a loose end."""
    said = {slot: _pick(random, SLOTS[slot]) if random.random() < REPLACED else word for slot, word in truth.items()}
    kept = [slot for slot in OPTIONAL if slot in truth and random.random() < KEPT]
    if random.random() < ADDED:
        absent = _pick(random, [slot for slot in OPTIONAL if slot not in truth])
        said[absent] = _pick(random, SLOTS[absent])
        kept.append(absent)
    phrases = {slot: SAID[slot] for slot in kept} | {"event": _weighted(random, EVENTS)}
    told = [phrases[slot].format(**said) for slot in _ORDER if phrases.get(slot)]
    told = told or [EVENTS[0][0].format(**said)]
    if random.random() < REPEATED:
        told.append(_pick(random, told))
    while random.random() < RAMBLED:
        told.insert(_below(random, len(told) + 1), _pick(random, FILLERS))
    return ", ".join(told) + ("." if random.random() < ENDED else _pick(random, LOOSE_ENDS))


_ORDER = ("persona", "event", "where", "when", "feel", "plan")


def _post(random: Random, truth: dict[str, str]) -> str:
    told = [slot for slot in _ORDER if slot == "event" or slot in truth]
    sentences = [_pick(random, TOLD[slot]).format(**truth) for slot in told]
    for aside in _some(random, ASIDES, 3 + _below(random, 2)):
        words = {kind: _pick(random, ASIDE_WORDS[kind]) for kind in ASIDE_WORDS}
        sentences.insert(_below(random, len(sentences)), aside.format(**words))
    return f"POST: {' '.join(sentences)}\nTL;DR:"


def _below(random: Random, count: int) -> int:
    """Draw from 0 to count - 1 by `random()` alone, which no Python version changes."""
    return int(random.random() * count)


def _pick(random: Random, items: Sequence[Item]) -> Item:
    return items[_below(random, len(items))]


def _some(random: Random, items: Sequence[Item], count: int) -> list[Item]:
    left = list(items)
    return [left.pop(_below(random, len(left))) for _ in range(count)]


def _weighted(random: Random, items: Sequence[tuple[str, float]]) -> str:
    left = random.random() * sum(weight for _, weight in items)
    for item, weight in items:
        left -= weight
        if left < 0:
            return item
    return items[-1][0]
