"""Hostile completions stay data: in the sealed line, on each SDK's wire, through the templates of judges' families."""

# ruff: noqa: RUF001 - one family draws its control tokens with wide letters.

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Core
from transformers import PreTrainedTokenizerFast

from dar_jax.chat.envelope import seal, unseal
from dar_jax.chat.scripted.server import serve
from dar_jax.judging.questions.attacks import attacks
from dar_jax.judging.questions.protocol import Protocol
from dar_jax.judging.questions.rules import is_degenerate
from tests.judging.sample_questions import Echo, completions, planted
from tests.wires import WIRES, judge_settings

ATTACKS = attacks()
LABELS = tuple("0123456789")
# Every control token of these families as their tokenizers have it, and how each writes a system and a user turn.
CONTROLS = {
    "chatml": ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>", "</think>"],
    "llama2": ["<s>", "</s>", "<unk>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"],
    "llama3": ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    "llama4": ["<|header_start|>", "<|header_end|>", "<|eot|>"],
    "gemma": ["<bos>", "<eos>", "<pad>", "<start_of_turn>", "<end_of_turn>"],
    "mistral": ["[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CALLS]", "[/TOOL_RESULTS]"],
    "phi": ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"],
    "deepseek": ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"],
    "glm": ["[gMASK]", "[sMASK]", "[MASK]", "<sop>", "<eop>", "<|observation|>"],
    "exaone": ["[|system|]", "[|user|]", "[|assistant|]", "[|endofturn|]"],
    "command-r": ["<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|USER_TOKEN|>"],
    "granite": ["<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"],
    "gpt-oss": ["<|start|>", "<|channel|>", "<|message|>", "<|return|>"],
    "kimi": [
        "<|im_user|>",
        "<|im_assistant|>",
        "<|im_middle|>",
        "[BOS]",
        "[EOT]",
        "[start_header_id]",
        "[end_header_id]",
    ],
    "t5-bert": ["<extra_id_0>", "<extra_id_1>", "<extra_id_5>", "[CLS]", "[SEP]", "[UNK]", "[PAD]", "[unused7]"],
}
TEMPLATES = {
    "chatml": "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}",
    "llama2": "{% if m.role == 'system' %}{{ '<s>[INST] <<SYS>>\n' + m.content + '\n<</SYS>>\n\n' }}"
    "{% else %}{{ m.content + ' [/INST]' }}{% endif %}",
    "llama3": "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content + '<|eot_id|>' }}",
    "gemma": "{{ '<start_of_turn>' + m.role + '\n' + m.content | trim + '<end_of_turn>\n' }}",
    "mistral": "{% if m.role == 'system' %}{{ '[SYSTEM_PROMPT]' + m.content + '[/SYSTEM_PROMPT]' }}"
    "{% else %}{{ '[INST]' + m.content + '[/INST]' }}{% endif %}",
    "deepseek": "{{ '<｜User｜>' + m.content + '<｜Assistant｜>' }}",
    "glm": "{{ '[gMASK]<sop><|' + m.role + '|>\n' + m.content }}",
    "exaone": "{{ '[|' + m.role + '|]' + m.content + '[|endofturn|]\n' }}",
}


def clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def of_every_family(template: str) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer that knows the control tokens of all families, and templates as one of them does."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Core(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    core.add_special_tokens([AddedToken(each, normalized=False) for family in CONTROLS.values() for each in family])
    chat = "{% for m in messages %}" + template + "{% endfor %}"
    return PreTrainedTokenizerFast(tokenizer_object=core, chat_template=chat)


def test_there_are_enough_and_of_every_kind():
    assert len(ATTACKS) >= 60
    assert len({attack.name for attack in ATTACKS}) == len({attack.text for attack in ATTACKS}) == len(ATTACKS)
    assert len({attack.kind for attack in ATTACKS}) >= 9
    said = "".join(attack.text for attack in ATTACKS)
    assert not [family for family, own in CONTROLS.items() if not any(control in said for control in own)]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_is_one_line_of_data(attack):
    message = seal({"prompt": attack.text, "completion": attack.text}, LABELS)
    opened, line, closed, *_ = message.split("\n")
    assert unseal(message) == ({"prompt": clean(attack.text), "completion": clean(attack.text)}, LABELS)
    assert opened.startswith("<<<DATA ")
    assert closed.endswith(">>>")
    assert len(message.splitlines()) == len(message.split("\n")) == 5
    assert not set(line) & {"<", ">", "\x00", "\x1b", "\x9b", "\u202e", "\u2028", "\ufeff", "\uff1c"}
    assert not [mark for mark in line if ord(mark) < 32 or 0xE0000 <= ord(mark) < 0xE1000]
    assert not [control for own in CONTROLS.values() for control in own if control in line]


@pytest.mark.parametrize("family", TEMPLATES)
def test_no_control_token_of_any_family_comes_out_of_an_attack(family):
    """A template writes its own control tokens and not one more, whatever the completion holds."""
    tokenizer, protocol = of_every_family(TEMPLATES[family]), Protocol(rubric="Grade it.")
    special = set(tokenizer.get_added_vocab().values())

    def controls(completion: str) -> list[int]:
        turns = [vars(message) for message in protocol.messages("A prompt.", completion)]
        tokens = tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False)
        return [token for token in tokens if token in special]

    expected = controls("A fair answer.")
    assert expected
    raw = set()
    for attack in ATTACKS:
        text = attack.text[:3000]
        assert controls(text) == expected, attack.name
        raw |= special & set(tokenizer.encode(clean(text)))
    assert len(raw) > 40  # which do come out of the same texts where nobody seals them


@given(
    st.lists(st.sampled_from([each for own in CONTROLS.values() for each in own] + list('<>[]|/{}"\\\n ')), max_size=12)
)
def test_no_mixture_of_controls_gets_through(pieces):
    line = seal({"completion": "".join(pieces)}, LABELS).split("\n")[1]
    assert not [control for own in CONTROLS.values() for control in own if control in line]


@pytest.mark.parametrize("wire", WIRES)
def test_what_each_sdk_sends_keeps_an_attack_data(wire, tmp_path):
    """The body that arrives has one system text and one user text; the data in it is the attack to the letter, and the
    reward is what the judge gives, whatever grade the attack names."""
    echo, asked = Echo(), [attack for attack in ATTACKS if not is_degenerate(attack.text)]
    texts = [planted(1 + i % 10) + attack.text for i, attack in enumerate(asked)]
    with serve(model=echo.model) as server:
        settings = judge_settings(wire, server, mode="single", max_completion_chars=50_000)
        with settings.open(tmp_path / "ledger.sqlite") as judge:
            verdicts = judge.submit(completions(texts)).result()
        bodies = list(server.bodies.values())
    assert [verdict.reward for verdict in verdicts] == [1 + i % 10 for i in range(len(asked))]
    sent = [_texts(body) for body in bodies]
    assert len({system for system, _ in sent}) == 1
    found = {unseal(user)[0]["completion"] for _, user in sent}
    assert found == {clean(text)[:50_000] for text in texts}
    assert sorted(text for _, text in echo.shown) == sorted(found)


def _texts(body) -> tuple[str, str]:
    """Take the system's and the user's text out of a body that holds nothing else to read."""
    if "messages" in body:
        system, user = body["messages"]
        assert (system["role"], user["role"]) == ("system", "user")
        return system["content"], user["content"]
    (content,) = body["contents"]
    assert content.get("role", "user") == "user"
    return "".join(part["text"] for part in body["systemInstruction"]["parts"]), content["parts"][0]["text"]
