"""How prompts become tokens, as a user states it."""

from pydantic import Field
from pydantic.dataclasses import dataclass

from dar_jax.errors import SettingError
from dar_jax.settings.fields import STRICT, FiniteJson, FreeOnResume, Name, PathOrId
from dar_jax.tokens.tokenizer import Tokenizer
from dar_jax.tokens.tokenizer_files import folder, stated_ends


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TokenizerSettings:
    """How prompts become tokens.

    `path` is a folder or hub id, by default the policy's own. `chat_template` is `auto` (the
    tokenizer's, where it has one), `none`, or a file holding one. Conversations go through the
    template; a string prompt is used as it is unless `wrap_text` makes it a user turn. `system` is
    put before conversations that have no system message. `template_arguments` are handed to the
    template, such as Qwen3's `{enable_thinking: false}`; a template that asks for today is told
    26 July 2024 whatever the day, unless an argument of its own (Llama's `date_string`) says another.
    `also_ends` names tokens that end a completion beside those that the files and the template state.
    """

    path: FreeOnResume[PathOrId | None] = None
    chat_template: PathOrId = "auto"
    wrap_text: bool = False
    system: str | None = None
    template_arguments: dict[str, FiniteJson] = Field(default_factory=dict)
    also_ends: tuple[Name, ...] = ()

    def open(self, policy_path: str) -> Tokenizer:
        """Load the tokenizer; `policy_path` is where it lies when the settings name no place.

        Raises SettingError, before any prompt is read, for what its chat template cannot do.
        """
        # A tokenizer from elsewhere does not know in which ways this policy was taught to end.
        ends = stated_ends(folder(policy_path), "generation_config.json") if self.path else set()
        tokenizer = Tokenizer.load(
            self.path or policy_path,
            chat_template=self.chat_template,
            wrap_text=self.wrap_text,
            system=self.system,
            template_arguments=self.template_arguments,
            also_eos=ends,
            also_ends=self.also_ends,
        )
        self._check(tokenizer)
        return tokenizer

    def _check(self, tokenizer: Tokenizer) -> None:
        if not tokenizer.has_chat_template:
            for name in ("wrap_text", "system"):
                if getattr(self, name):
                    raise SettingError(
                        f"tokenizer.{name}: {tokenizer.where} has no chat template; name a file that holds one as"
                        f" tokenizer.chat_template, or leave {name} out"
                    )
        tokenizer.template.check_arguments()
        if self.system is not None:
            tokenizer.template.check_system()
