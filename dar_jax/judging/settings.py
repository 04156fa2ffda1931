"""The judges to choose from: whom to ask (a wire's settings) and how to judge (`terms.py`), in one."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import NonNegativeInt
from pydantic.dataclasses import dataclass

from dar_jax.chat import gemini, openai
from dar_jax.chat.gemini import GeminiWire
from dar_jax.chat.openai import OpenAIWire
from dar_jax.chat.scripted import ScriptedWire
from dar_jax.chat.wire import WireSettings
from dar_jax.judging.judge import Judge
from dar_jax.judging.ledger import Ledger
from dar_jax.judging.parsing import Mode
from dar_jax.judging.prices import FREE, Price, list_price
from dar_jax.judging.protocol import VERSION
from dar_jax.judging.terms import Judging
from dar_jax.settings import STRICT


def open_judge(
    judging: Judging, wire: WireSettings, ledger_place: Path | str, others: Sequence[Path], index: int, count: int
) -> Judge:
    """Open the ledger, then the wire; both close with the judge. Raises SettingError."""
    protocol = judging.protocol
    identity = {**wire.identity(), "protocol": VERSION, "rubric": protocol.rubric, "levels": protocol.count}
    if judging.endpoint:
        identity["endpoint"] = judging.endpoint
    rubric = "a rubric of your own" if judging.rubric_text else f"rubric {judging.rubric}"
    describe = f"{wire.model} {wire.address}, mode {judging.mode}, {rubric}"
    ledger = Ledger(ledger_place, others)
    try:
        chat = wire.connect(judging.concurrency)
    except BaseException:
        ledger.close()
        raise
    price = judging.price
    budget = judging.budget(price, ledger.spent, index, count)
    return Judge(judging, chat, ledger, identity=identity, price=price, budget=budget, describe=describe)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ScriptedJudge(ScriptedWire, Judging):
    """A rule in this process, see `chat/scripted.py`: no key, no network, no cost. Its canaries are off: whoever wrote
    the rule knows what fools it.
    """

    canary_every: NonNegativeInt = 0

    def open(self, ledger_place: Path | str, others: Sequence[Path] = (), index: int = 0, count: int = 1) -> Judge:
        """Start judging as host `index` of `count`; answers are kept in the ledger given, the `others`' used too."""
        return open_judge(self, self, ledger_place, others, index, count)

    @property
    def price(self) -> Price:
        """What it costs: nothing, unless stated."""
        return self.prices or FREE


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OpenAIJudge(OpenAIWire, Judging):
    """A model behind any server that speaks OpenAI's chat completions."""

    def open(self, ledger_place: Path | str, others: Sequence[Path] = (), index: int = 0, count: int = 1) -> Judge:
        """Start judging as host `index` of `count`; answers are kept in the ledger given, the `others`' used too."""
        return open_judge(self, self, ledger_place, others, index, count)

    @property
    def price(self) -> Price | None:
        """What it costs: as stated, or the vendor's list price at its own address; None: unknown."""
        return self.prices or (list_price(self.model) if self.base_url == openai.VENDOR_URL else None)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GeminiJudge(GeminiWire, Judging):
    """A Gemini model. By default the mean of sampled answers: many Gemini models give no log-probabilities."""

    mode: Mode = "samples"

    def open(self, ledger_place: Path | str, others: Sequence[Path] = (), index: int = 0, count: int = 1) -> Judge:
        """Start judging as host `index` of `count`; answers are kept in the ledger given, the `others`' used too."""
        return open_judge(self, self, ledger_place, others, index, count)

    @property
    def price(self) -> Price | None:
        """What it costs: as stated, or the vendor's list price at its own address; None: unknown."""
        return self.prices or (list_price(self.model) if self.base_url == gemini.VENDOR_URL else None)
