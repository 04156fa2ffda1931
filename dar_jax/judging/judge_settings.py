"""The available judges: settings of a wire and of judging (`terms.py`) in one class each; and panels."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, Self

from pydantic import model_validator
from pydantic.dataclasses import dataclass

from dar_jax.chat import gemini, openai
from dar_jax.chat.gemini import GeminiWire
from dar_jax.chat.openai import OpenAIWire
from dar_jax.chat.scripted.rule import ScriptedWire
from dar_jax.errors import SettingError
from dar_jax.judging.answers.parsing import Mode
from dar_jax.judging.asking.open_judge import LedgerLocation, Seat, open_judge, panel_price
from dar_jax.judging.canaries import Canaries
from dar_jax.judging.judge import Judge
from dar_jax.judging.money.prices import FREE, Price, Prices
from dar_jax.judging.terms import Judging
from dar_jax.records import Completion
from dar_jax.settings.fields import STRICT, Count, CountOrZero, FreeOnResume, Positive, Seconds, Share, one_of


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ScriptedJudge(ScriptedWire, Judging):
    """A scripted rule in this process (`chat/scripted/rule.py`): no key, no network, no cost, no canaries."""

    canary_every: FreeOnResume[CountOrZero] = 0

    def open(self, ledger_place: Path | str, others: Sequence[Path] = (), index: int = 0, count: int = 1) -> Judge:
        """Open the judge as host `index` of `count`; answers in the ledgers of `others` are used too."""
        return open_judge([(self, self)], self, LedgerLocation(ledger_place, others, index, count))

    @property
    def price(self) -> Price:
        """The price: nothing unless set."""
        return self.prices or FREE


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OpenAIJudge(OpenAIWire, Judging):
    """A model behind any server that speaks OpenAI's chat completions."""

    def open(self, ledger_place: Path | str, others: Sequence[Path] = (), index: int = 0, count: int = 1) -> Judge:
        """Open the judge as host `index` of `count`; answers in the ledgers of `others` are used too."""
        return open_judge([(self, self)], self, LedgerLocation(ledger_place, others, index, count))

    @property
    def price(self) -> Price | None:
        """The price: as set, or the vendor's list price at the vendor's own address; None if unknown."""
        return self.prices or (self.listed(self.model) if self.base_url == openai.VENDOR_URL else None)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GeminiJudge(GeminiWire, Judging):
    """A Gemini model. By default the mean of sampled answers, as many Gemini models return no log-probabilities."""

    mode: Mode | Literal["auto"] = "samples"

    def check(self) -> None:
        """Check as `wire.WireSettings` does; the legacy SDK has no decisions."""
        GeminiWire.check(self)
        if self.mode == "decision" and self.identity()["sdk"] != "google-genai":
            raise SettingError(
                "judge.mode: decision needs google-genai, and google-generativeai was chosen; set"
                " judge.sdk=google-genai, or another judge.mode"
            )

    def open(self, ledger_place: Path | str, others: Sequence[Path] = (), index: int = 0, count: int = 1) -> Judge:
        """Open the judge as host `index` of `count`; answers in the ledgers of `others` are used too."""
        return open_judge([(self, self)], self, LedgerLocation(ledger_place, others, index, count))

    @property
    def price(self) -> Price | None:
        """The price: as set, or the vendor's list price at the vendor's own address; None if unknown."""
        return self.prices or (self.listed(self.model) if self.base_url == gemini.VENDOR_URL else None)


SINGLE = {"openai": OpenAIJudge, "gemini": GeminiJudge, "scripted": ScriptedJudge}

_LARGEST = 8


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PanelJudge(Canaries):
    """Several judges of every completion; the reward is their mean, and if one fails the panel's verdict fails.

    Settings of the panel as a whole belong here, not in its judges: `batch_deadline_s`, `max_failure_share`, the
    budgets, which count the answers of all judges, and the canaries (off for a panel of scripted rules).
    """

    name: Literal["panel"] = "panel"
    judges: tuple[one_of(SINGLE), ...]  # type: ignore[valid-type]
    batch_deadline_s: FreeOnResume[Seconds] = 1800.0
    max_failure_share: FreeOnResume[Share] = 0.2
    budget_usd: FreeOnResume[Positive | None] = None
    budget_annotations: FreeOnResume[Count | None] = None

    @model_validator(mode="after")
    def _judges_agree(self) -> Self:
        if not 2 <= len(self.judges) <= _LARGEST:
            raise ValueError(f"a panel of {len(self.judges)} is none; state 2 to {_LARGEST} judges")
        for index, judge in enumerate(self.judges):
            if judge in self.judges[:index]:
                raise ValueError(f"judges.{index} is there twice; its second vote would be the first, from the ledger")
        levels = sorted({judge.levels for judge in self.judges})
        if len(levels) > 1:
            raise ValueError(f"judges of {levels[0]} and {levels[-1]} levels have no mean; give all the same levels")
        if len({judge.labels for judge in self.judges}) > 1:
            raise ValueError("judges of reward and of preference have no mean; give all the same labels")
        if len({(judge.thoughts, judge.thought_end) for judge in self.judges}) > 1:
            raise ValueError("judges that see different texts have no mean; give all the same thoughts and thought_end")
        plain = Judging()
        for index, judge in enumerate(self.judges):
            for key in ("batch_deadline_s", "max_failure_share", "budget_usd", "budget_annotations"):
                if getattr(judge, key) != getattr(plain, key):
                    raise ValueError(f"judges.{index}.{key} holds for the panel as a whole; state it beside judges")
        if self.budget_usd is not None and self.price is None:
            raise ValueError(
                f"budget_usd is {self.budget_usd:g}, but the price of one of the judges is unknown, not 0; state its"
                " prices, or bound the answers by judge.budget_annotations"
            )
        return self

    def canaries(self, step: int) -> list[Completion]:
        """Return the canaries of a step (see `Canaries`); [] if none of its judges has any."""
        return Canaries.canaries(self, step) if any(judge.canary_every for judge in self.judges) else []

    @property
    def _seats(self) -> list[Seat]:
        return [(judge, judge) for judge in self.judges]

    @property
    def model(self) -> str:
        """The models of its judges."""
        return ", ".join(judge.model for judge in self.judges)

    @property
    def price(self) -> Price | Prices | None:
        """The prices of its judges; None if one is unknown."""
        return panel_price(self._seats)

    @property
    def mass_floor(self) -> float:
        """The lowest of its judges'."""
        return min(judge.mass_floor for judge in self.judges)

    @property
    def labels(self) -> str:
        """The labels of its judges, the same for all."""
        return str(self.judges[0].labels)

    @property
    def thoughts(self) -> Literal["hide", "show"]:
        """Whether thoughts are hidden from its judges, the same for all."""
        return self.judges[0].thoughts

    @property
    def thought_end(self) -> str | None:
        """The mark that closes a thought, if set, the same for all."""
        return self.judges[0].thought_end

    @property
    def concurrency(self) -> int:
        """The number of completions judged at once by all judges."""
        return min(judge.concurrency for judge in self.judges)

    @property
    def requests_per_minute(self) -> float | None:
        """The rate of the slowest judge; None if none has a limit."""
        rates = [judge.requests_per_minute for judge in self.judges if judge.requests_per_minute]
        return min(rates, default=None)

    @property
    def attempt_timeout_s(self) -> float:
        """The longest attempt timeout of its judges, seconds."""
        return max(judge.attempt_timeout_s for judge in self.judges)

    def check(self) -> None:
        """Raise SettingError if a judge lacks its key or package; opens nothing."""
        for judge in self.judges:
            judge.check()

    def share(self, index: int, count: int) -> Self:
        """Divide rates among the hosts of a run (see `Judging.share`)."""
        return replace(self, judges=tuple(judge.share(index, count) for judge in self.judges))

    def open(self, ledger_place: Path | str, others: Sequence[Path] = (), index: int = 0, count: int = 1) -> Judge:
        """Open the judge as host `index` of `count`; answers in the ledgers of `others` are used too."""
        return open_judge(self._seats, self, LedgerLocation(ledger_place, others, index, count))
