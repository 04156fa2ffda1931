"""A file's questions asked through the Batch API: what the ledger does not hold is submitted, waited for and filed."""

import asyncio
import functools
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from dar_jax.chat.failures import ChatError, Transient
from dar_jax.chat.openai_batches import MOST_BYTES, MOST_REQUESTS, OpenAIBatches, Progress
from dar_jax.chat.wire import Answer, Request
from dar_jax.errors import BudgetSpent, Interrupted, JudgeStopped, SettingError
from dar_jax.judging.asking.open_judge import described
from dar_jax.judging.judge_settings import OpenAIJudge
from dar_jax.judging.ledger.ledger import Ledger, Question
from dar_jax.judging.money.prices import BATCH_SHARE, Price, dollars
from dar_jax.judging.money.spent import Spent, billed, estimate
from dar_jax.judging.questions.calls import about_one
from dar_jax.judging.questions.rules import by_rule
from dar_jax.judging.questions.thoughts import without_thoughts
from dar_jax.judging.section import Settings
from dar_jax.records import Completion
from dar_jax.relabeling.batch_state import OpenBatch, place_of, read_state, write_state

Result = TypeVar("Result")
_MODES = ("single", "samples", "logprobs")
_FIRST_WAIT_S, _LONGEST_WAIT_S, _LOOK_S = 0.25, 60.0, 0.25
# So many failures in a row to ask how far a batch is: a quarter of an hour.
_LOST = 20
_LOOKED_UP = 1000


@dataclass
class BatchQuestion:
    """What became of the questions: the keys of those bought now, what they cost, how many of them reported no usage,
    and why others have no answer.
    """

    spent: Spent = field(default_factory=Spent)
    bought: set[str] = field(default_factory=set)
    estimated: int = 0
    reasons: dict[Request, str] = field(default_factory=dict)


def batchable(settings: Settings) -> OpenAIJudge:
    """Return the settings of a judge that can be asked by batch. Raises SettingError for any other."""
    if not isinstance(settings, OpenAIJudge):
        raise SettingError(f"--batch: judge {settings.name} has none; set judge.name=openai, or leave --batch out")
    for found, setting, way in (
        (settings.mode not in _MODES, f"judge.mode is {settings.mode}", f"set it to one of {', '.join(_MODES)}"),
        (settings.reasoning, "judge.reasoning asks its second question after the first", "set it to false"),
        (settings.exact_digits, "judge.exact_digits is vLLM's, which has no batches", "set it to false"),
        (settings.labels != "reward", f"judge.labels is {settings.labels}", "set it to reward"),
    ):
        if found:
            raise SettingError(f"--batch: {setting}, and a batch is one chat request a question; {way}")
    return settings


def batch_price(settings: OpenAIJudge) -> Price | None:
    """What a token of a batch costs: as stated, else the batch's share of the list price; None: unknown."""
    return settings.prices or (settings.price and settings.price.times(BATCH_SHARE))


class Batches:
    """The questions about some completions, on their way through batches into a ledger.

    `note` says a line; `signal` names the signal that came, if any.
    """

    def __init__(
        self, settings: OpenAIJudge, ledger: Ledger, place: Path, note: Callable[[str], None], signal: Callable[[], str]
    ) -> None:
        self._settings, self._ledger, self._state_place = settings, ledger, place_of(place)
        self._note, self._signal = note, signal
        self._wire = OpenAIBatches(settings)
        self._state = read_state(self._state_place, settings.base_url)
        self._missing: dict[str, Question] = {}
        self._asked = BatchQuestion()

    async def ask(self, completions: Iterable[Completion]) -> BatchQuestion:
        """Ask every question by batch. When this returns, answers are in the ledger and failures have reasons.

        Raises BudgetSpent before anything is submitted that the budget has no room for, JudgeStopped where the server
        takes no batch, Interrupted at a signal; then the same call goes on with the batches under way.
        """
        try:
            await self._look_up(completions)
            await self._collect_all()
            if open_ := {key: q for key, q in self._missing.items() if q.request not in self._asked.reasons}:
                self._check_budget(open_)
                await self._submit(open_)
                await self._collect_all()
            return self._asked
        finally:
            await self._wire.close()

    async def _look_up(self, completions: Iterable[Completion]) -> None:
        questions = {question.key: question for question in _questions(self._settings, completions)}
        keys = list(questions)
        for start in range(0, len(keys), _LOOKED_UP):
            part = keys[start : start + _LOOKED_UP]
            known = await asyncio.gather(*map(self._ledger.get, part))
            self._missing |= {key: questions[key] for key, answer in zip(part, known, strict=True) if answer is None}
        if any(set(batch.keys) - questions.keys() for batch in self._state.batches):
            raise SettingError(
                f"--batch: {self._state_place} has batches under way of other questions; give the input and the judge"
                " that they were made of, or give them up by removing that file"
            )

    def _check_budget(self, questions: Mapping[str, Question]) -> None:
        settings, price = self._settings, batch_price(self._settings)
        asked = sum((estimate(q.request, q.judge) for q in questions.values()), Spent())
        before = self._ledger.spent + self._asked.spent
        cost = dollars(None if price is None else asked.priced(price))
        self._note(f"batch: {len(questions):,} questions that the ledger does not hold; about {cost}; up to 24 h")
        have = before.annotations
        if settings.budget_annotations is not None and have + asked.annotations > settings.budget_annotations:
            raise _no_room("judge.budget_annotations", settings.budget_annotations, have, asked.annotations)
        # What was paid before may not have been half price.
        if settings.budget_usd is not None and price and settings.price:
            spent, more = before.priced(settings.price), asked.priced(price)
            if spent + more > settings.budget_usd:
                raise _no_room("judge.budget_usd", settings.budget_usd, spent, more)

    async def _submit(self, questions: Mapping[str, Question]) -> None:
        for keys, content in _files(self._wire, questions):
            batch = OpenBatch(mark=uuid.uuid4().hex, keys=keys)
            self._state.batches.append(batch)
            write_state(self._state_place, self._state)
            try:
                batch.id = await self._wire.submit(content, batch.mark)
            except ChatError as error:
                raise JudgeStopped(f"the batch was not taken: {error}") from None
            write_state(self._state_place, self._state)
            self._note(f"batch {batch.id}: {len(keys):,} questions submitted; {self._state_place} remembers it")

    async def _collect_all(self) -> None:
        for batch in list(self._state.batches):
            batch.id = batch.id or await self._patiently(functools.partial(self._wire.find, batch.mark))
            if batch.id is not None:
                await self._collect(batch, batch.id)
            self._state.batches.remove(batch)
            write_state(self._state_place, self._state)

    async def _collect(self, batch: OpenBatch, name: str) -> None:
        progress = await self._waited(name)
        for file in progress.files:
            for key, said in await self._patiently(functools.partial(self._rows, file)):
                await self._file(key, said)
        why = f"batch {name} {progress.status}{f': {progress.error}' if progress.error else ''}, no answer in it"
        if progress.status == "failed":
            self._state.batches.remove(batch)
            write_state(self._state_place, self._state)
            raise JudgeStopped(f"{why}; nothing was billed")
        for key in batch.keys:
            if (question := self._missing.get(key)) is not None:
                self._asked.reasons.setdefault(question.request, why)

    async def _rows(self, file: str) -> list[tuple[str, Answer | str]]:
        return [row async for row in self._wire.rows(file)]

    async def _file(self, key: str, said: Answer | str) -> None:
        question = self._missing.get(key)
        if question is None:
            return  # nobody's, or a second row of the same name
        if isinstance(said, str):
            self._asked.reasons[question.request] = said
            return
        await self._ledger.put(question, said, 1)
        del self._missing[key]
        self._asked.bought.add(key)
        self._asked.spent += billed(question.request, said.usage, question.judge)
        self._asked.estimated += said.usage is None

    async def _waited(self, name: str) -> Progress:
        wait_s, told = _FIRST_WAIT_S, ""
        while not (progress := await self._patiently(functools.partial(self._wire.progress, name))).over:
            if (now := f"batch {name}: {progress.status}, {progress.done:,} of {progress.total:,} answered") != told:
                self._note(told := now)
            await self._sleep(wait_s)
            wait_s = min(_LONGEST_WAIT_S, 1.5 * wait_s)
        return progress

    async def _patiently(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """Try until the server answers: what it holds is paid for."""
        wait_s, failures = _FIRST_WAIT_S, 0
        while True:
            try:
                return await call()
            except ChatError as error:
                failures += 1
                if failures == _LOST or not isinstance(error, Transient):
                    raise JudgeStopped(f"the batches cannot be asked for: {error}") from None
            await self._sleep(wait_s)
            wait_s = min(_LONGEST_WAIT_S, 2.0 * wait_s)

    async def _sleep(self, seconds: float) -> None:
        until = asyncio.get_running_loop().time() + seconds
        while (left := until - asyncio.get_running_loop().time()) > 0:
            if signal := self._signal():
                kept = f"{self._state_place} remembers them: the same command waits for them"
                raise Interrupted(f"{signal} received; the batches go on, {kept}")
            await asyncio.sleep(min(_LOOK_S, left))


def _questions(settings: OpenAIJudge, completions: Iterable[Completion]) -> Iterator[Question]:
    identity = described(settings, settings)
    for completion in completions:
        shown = without_thoughts(completion, settings)
        if isinstance(shown, Completion) and by_rule(completion, settings) is None:
            for call in about_one(settings, shown):
                yield Question(
                    judge={**identity, "rubric": call.rubric},
                    request=call.request,
                    prompt=shown.prompt.text,
                    completion=shown.text,
                    occasion=shown.occasion,
                )


def _files(wire: OpenAIBatches, questions: Mapping[str, Question]) -> Iterator[tuple[list[str], bytes]]:
    """Divide questions into files that the server takes."""
    keys: list[str] = []
    content = bytearray()
    for key, question in questions.items():
        line = wire.line(key, question.request)
        if keys and (len(keys) == MOST_REQUESTS or len(content) + len(line) > MOST_BYTES):
            yield keys, bytes(content)
            keys, content = [], bytearray()
        keys.append(key)
        content += line
    yield keys, bytes(content)


def _no_room(setting: str, limit: float, spent: float, more: float) -> BudgetSpent:
    stop = BudgetSpent(
        f"{setting}={limit:.10g} has no room for the batch: {spent:.6g} spent, and it may take {more:.6g}; raise it, or"
        " give fewer rows; nothing was submitted"
    )
    stop.setting = setting
    return stop
