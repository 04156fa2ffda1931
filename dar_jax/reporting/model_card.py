"""The README.md of an exported policy: a Hugging Face model card in plain words, for people and for the hub."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dar_jax import __version__

_SHOWN = ("rewards/mean", "objective/kl", "completions/mean_length", "completions/clipped_ratio", "loss")
_JUDGE = ("model", "scorer", "rubric", "levels", "mode")
_EVALUATED = ("eval/win_rate", "eval/win_rate_low", "eval/win_rate_high", "eval/reward", "eval/start_reward")


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a model card states.

    `settings` are the run's, resolved, as plain values, and `settings_yaml` the same as text. `hub_id` is the model it
    comes from, where that has one; `tokenizer_class` reads its tokenizer. `step` whole steps and `update` updates of
    the next are in the weights; `metrics` and `evaluation` are log rows of the latest of those steps, if any.
    `adapter` says that the weights are PEFT adapters alone.
    """

    name: str
    settings: Mapping[str, Any]
    settings_yaml: str
    hub_id: str | None
    step: int
    update: int
    dtype: str = "float32"
    tokenizer_class: str = "AutoTokenizer"
    adapter: bool = False
    metrics: Mapping[str, Any] | None = None
    evaluation: Mapping[str, Any] | None = None

    def render(self) -> str:
        """Write the card: front matter for the hub, then what was done, how it went, how to use it."""
        parts = [
            _front(self.hub_id, adapter=self.adapter),
            f"# {self.name}",
            self._what(),
            self._made(),
            *self._measured(),
            self._use(),
        ]
        settings = f"## All settings\n\n```yaml\n{self.settings_yaml.strip()}\n```"
        return "\n\n".join([*parts, settings, _METHOD]) + "\n"

    def _what(self) -> str:
        within = f" and {self.update} updates of the next" if self.update else ""
        start = f"`{self.settings['policy']['path']}`"
        if self.settings["policy"]["weights"] == "random":
            start = f"random weights in the shape of {start}"
        return (
            f"A causal language model trained by dar_jax {__version__} from"
            f" {start}: its policy after step {self.step} of {self.settings['steps']}{within}, in {self.dtype}."
        )

    def _made(self) -> str:
        settings = self.settings
        batch = f"{settings['prompts_per_step']} prompts a step"
        if settings["judge"]:
            batch += f", {settings['group_size']} completions each"
        rows = {
            "data": _told(settings["data"]),
            "judge": _told(settings["judge"], _JUDGE) if settings["judge"] else "none: recorded completions",
            "algorithm": _told(settings["algorithm"]),
            "batch": batch,
            "adapters": _told(settings["policy"]["lora"]) if settings["policy"].get("lora") else "none",
            "optimizer": _told(settings["learning"]["optimizer"]),
            "sampling": _told(settings["sampling"]),
        }
        return _table(("part", "settings"), rows)

    def _measured(self) -> list[str]:
        tables = []
        for title, row, names in (("Logged", self.metrics, _SHOWN), ("Evaluated", self.evaluation, _EVALUATED)):
            values = {f"`{name}`": f"{row[name]:.4g}" for name in names if row and row.get(name) is not None}
            if row and values:
                tables.append(f"## {title} at step {row['step']}\n\n" + _table(("metric", "value"), values))
        return tables

    def _use(self) -> str:
        kind, name = self.tokenizer_class, self.name
        library, model = (
            ("peft", "AutoPeftModelForCausalLM") if self.adapter else ("transformers", "AutoModelForCausalLM")
        )
        imports = f"from {library} import {model}\nfrom transformers import {kind}"
        text = f"""## Use

```python
{imports}

tokenizer = {kind}.from_pretrained("{name}")
model = {model}.from_pretrained("{name}")
```

`generation_config.json` samples as the run did and ends where it ended."""
        if self.adapter:
            return text
        if kind == "AutoTokenizer":
            return f"{text} `transformers serve {name}` answers over OpenAI's protocol."
        return f"{text} `AutoTokenizer`, which `transformers serve` takes, would split words in another way."


def _front(hub_id: str | None, *, adapter: bool) -> str:
    lines = [f"library_name: {'peft' if adapter else 'transformers'}", "pipeline_tag: text-generation"]
    if hub_id:
        lines.append(f"base_model: {hub_id}")
    return "\n".join(["---", *lines, "tags: [direct-advantage-regression, rlaif, jax]", "---"])


def _told(component: Mapping[str, Any], keys: Sequence[str] = ()) -> str:
    """State a component's own settings on one line, those under `keys` or all; nothing for those left empty."""
    name = component.get("name")
    values = {key: component.get(key) for key in keys or component if key != "name"}
    said = [f"{key} {value}" for key, value in values.items() if value not in (None, "", {})]
    return (f"**{name}**: " if name else "") + ", ".join(said)


def _table(head: tuple[str, str], rows: Mapping[str, str]) -> str:
    cells = [head, ("---", "---"), *rows.items()]
    plain = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in cells]
    return "\n".join(f"| {' | '.join(row)} |" for row in plain)


_METHOD = """## Method

dar_jax aligns by Direct Advantage Regression: arXiv [2504.14177](https://arxiv.org/abs/2504.14177); ICLR 2026, arXiv
[2602.11523](https://arxiv.org/abs/2602.11523)."""
