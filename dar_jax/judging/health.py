"""Checks whether the judge's verdicts are fit to learn from."""

from collections import Counter
from collections.abc import Sequence

from dar_jax.errors import JudgeStopped
from dar_jax.judging.questions.thoughts import is_unfinished
from dar_jax.records import Verdict

_EXAMPLES = 3
_UNANSWERED = ("failed", "timeout")
# The start of the reason of a reply with status 200 that is not an answer (`chat.failures.NotAnAnswer`).
_NO_ANSWER = "HTTP 200, but no "


def check_failures(verdicts: Sequence[Verdict], max_failure_share: float, describe: str) -> None:
    """Raise JudgeStopped if the share of judgements without a reward is above `max_failure_share`.

    Verdicts by rule, without a question to the judge, do not count.
    """
    asked = [verdict for verdict in verdicts if not _ruled(verdict)]
    failed = [verdict for verdict in asked if verdict.status != "ok"]
    if not failed or len(failed) <= max_failure_share * len(asked):
        return
    reasons = "".join(f"\n  {reason}" for reason in _reasons(failed))
    finding = _finding(failed, len(asked), max_failure_share)
    raise JudgeStopped(f"{finding}\n  judge: {describe}{reasons}\n  {_way_out(failed)}")


def _ruled(verdict: Verdict) -> bool:
    return is_unfinished(verdict) or (verdict.status == "ok" and verdict.provenance == "rule")


def _finding(failed: Sequence[Verdict], asked: int, share: float) -> str:
    counts = ", ".join(f"{status} {count}" for status, count in Counter(v.status for v in failed).most_common())
    if len(failed) < asked:
        more = f"more than judge.max_failure_share={share:g} allows"
        return f"the judge is unfit: {len(failed)} of {asked} judgements gave no reward ({counts}), {more}"
    if all(verdict.status in _UNANSWERED for verdict in failed):
        return f"the judge does not answer: none of {asked} judgements came back ({counts})"
    return f"the judge is useless: it answers, but none of {asked} judgements gave a reward ({counts})"


def _reasons(failed: Sequence[Verdict]) -> list[str]:
    """Return an example of each status, the most common reason first."""
    common = Counter((verdict.status, verdict.reason) for verdict in failed).most_common()
    first = {status: f"{status}, for example: {reason}" for (status, reason), _ in reversed(common)}
    return [first[status] for status, _ in Counter(v.status for v in failed).most_common(_EXAMPLES)]


def _way_out(failed: Sequence[Verdict]) -> str:
    status = Counter(verdict.status for verdict in failed).most_common(1)[0][0]
    if status in _UNANSWERED and 2 * sum(verdict.reason.startswith(_NO_ANSWER) for verdict in failed) > len(failed):
        return (
            "something answers at this address, but not as this judge's API does: check judge.base_url (often .../v1),"
            " and what stands between (a proxy, a login page), then resume"
        )
    if status in _UNANSWERED:
        return "see that its server is up and takes these requests, then resume: answers already paid for are kept"
    if status == "truncated":
        return "nothing was learnt from them; give it more judge.max_tokens (thinking counts), or use another model"
    return "nothing was learnt from them; use a judge that follows its rubric, or another judge.mode"
