"""The server's side of the three protocols of typed decisions, an optional part (`chat/decisions.py`)."""

from collections.abc import Callable, Mapping
from typing import Any

from dar_jax.chat.scripted.dialects import GEMINI, OPENAI, Dialect
from dar_jax.chat.wire import Answer, AnswerChoice, Level, Request, Score
from dar_jax.records import Message, Usage


def _read_listed(body: Any) -> Request:
    scores = [
        Score(
            name=question["name"],
            instructions=question["instructions"],
            levels=tuple(Level(label=e["label"], description=e.get("description", "")) for e in question["levels"]),
        )
        for question in body["questions"]
    ]
    return _request(body["input"], scores)


def _write_listed(answer: Answer, body: Any) -> dict[str, Any]:
    usage = answer.usage or Usage()
    scores, choices = _read_listed(body).scores, _filtered(answer, len(body["questions"]))
    return {
        "answers": [_listed(score, choice) for score, choice in zip(scores, choices, strict=False)],
        "model": answer.served_model,
        "usage": {
            "input_tokens": usage.input_tokens,
            "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": usage.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.input_tokens + usage.output_tokens,
        },
    }


def _filtered(answer: Answer, count: int) -> tuple[AnswerChoice, ...]:
    # The protocol reports a content filter as a refusal of every question.
    return (AnswerChoice(text=None, finish="refusal"),) * count if answer.blocked else answer.choices


def _listed(score: Score, choice: AnswerChoice) -> dict[str, Any]:
    if choice.finish in ("refusal", "blocked"):
        return {"type": "refusal", "name": score.name}
    if choice.finish != "stop" or choice.probabilities is None:
        return {"type": "moon_phase", "name": score.name}
    labels = [level.label for level in score.levels]
    # With the fault `out_of_range`, a level that was not requested.
    labels += ["beyond"] * (len(choice.probabilities) - len(labels))
    shares = [
        {"value": index, "label": label, "probability": probability}
        for index, (label, probability) in enumerate(zip(labels, choice.probabilities, strict=False))
    ]
    return {"type": "score", "name": score.name, **_summary(choice.probabilities), "probabilities": shares}


def _read_mapped(about: str) -> Callable[[Any], Request]:
    def read(body: Any) -> Request:
        scores = [
            Score(name=name, instructions=question["instructions"], levels=tuple(map(_level, question["criteria"])))
            for name, question in body["questions"].items()
        ]
        return _request(body[about], scores)

    return read


def _level(text: str) -> Level:
    label, _, description = text.partition(": ")
    return Level(label=label, description=description)


def _request(about: str, scores: list[Score]) -> Request:
    if not scores or not all(len(score.levels) > 1 for score in scores):
        raise ValueError("a decision needs questions with 2 or more levels")
    return Request(messages=(Message(role="user", content=about),), max_tokens=len(scores), scores=tuple(scores))


def _mapped(answer: Answer, body: Any) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "type": "score",
            **_summary(choice.probabilities),
            "legend": {str(index): text for index, text in enumerate(question["criteria"])},
            "probabilities": {str(index): value for index, value in enumerate(choice.probabilities)},
        }
        for (name, question), choice in zip(body["questions"].items(), answer.choices, strict=False)
        if choice.finish == "stop" and choice.probabilities is not None
    }


def _summary(probabilities: tuple[float, ...]) -> dict[str, float]:
    score = sum(index * probability for index, probability in enumerate(probabilities))
    return {"score": score, "confidence": max(probabilities)}


def _write_systemone(answer: Answer, body: Any) -> dict[str, Any]:
    usage, answers = answer.usage or Usage(), _mapped(answer, body)
    masses = {name: sum(found["probabilities"].values()) for name, found in answers.items()}
    for name, found in answers.items():
        found["probabilities"] = {key: p / masses[name] for key, p in found["probabilities"].items()}
    return {
        "model": answer.served_model,
        "answers": answers,
        "usage": {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens},
        "diagnostics": {name: {"label_mass": mass, "argmax_is_label": mass > 0.5} for name, mass in masses.items()},
    }


def _write_gemini(answer: Answer, body: Any) -> dict[str, Any]:
    usage = answer.usage or Usage()
    counts = {
        "total_input_tokens": usage.input_tokens,
        "total_cached_tokens": usage.cached_tokens,
        "total_output_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
    stopped: Mapping[str, str] = {"refusal": "other", "blocked": "safety"}
    reasons = [stopped[choice.finish] for choice in answer.choices if choice.finish in stopped]
    if answer.blocked:
        reasons = [answer.blocked.lower()]
    if reasons:
        return {"prompt_feedback": {"block_reason": reasons[0]}, "usage": counts}
    return {"answers": _mapped(answer, body), "usage": counts, "model": answer.served_model}


DECISIONS = Dialect(read=_read_listed, write=_write_listed, error=OPENAI.error)
SYSTEMONE = Dialect(read=_read_mapped("state"), write=_write_systemone, error=OPENAI.error)
GEMINI_DECISIONS = Dialect(read=_read_mapped("input"), write=_write_gemini, error=GEMINI.error)
