"""Every family's chat format and ends, on small tokenizers of its shape, read from a folder as its models come."""

import json
import shutil

import pytest

from dar_jax.errors import SettingError
from dar_jax.records import Message, Prompt
from dar_jax.tokens import Tokenizer, TokenizerSettings
from tests.small_families import FAMILIES, TEMPLATES, core, write

HI = Prompt(id=0, text="hi", messages=(Message(role="user", content="hi"),))
ADVICE = Message(role="system", content="Rhyme.")
ADVISED = Prompt(id=0, text="hi", messages=(ADVICE, *HI.messages))
# Words that readers split each in its own way: digits, 's, runs of spaces, what lies behind a line's end.
HARD = "the cat's 1234 the  cats\n\nthe 12é, 'the' cat!"

every_family = pytest.mark.parametrize("name", FAMILIES)
with_system = pytest.mark.parametrize("name", [name for name, small in FAMILIES.items() if small.advised])
without_system = pytest.mark.parametrize("name", [name for name, small in FAMILIES.items() if not small.advised])


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("families")
    return {name: write(name, root / name) for name in FAMILIES}


@pytest.fixture(scope="module")
def opened(folders):
    return {name: TokenizerSettings().open(str(folder)) for name, folder in folders.items()}


def _ids(name, *tokens):
    built = core(name)
    return [built.token_to_id(token) for token in tokens]


def _expected(words, name, text):
    """What a prompt's ids should be: BOS where the family has one before a conversation, then the text's."""
    small = FAMILIES[name]
    bos = _ids(name, small.bos) if small.adds_bos or "bos_token" in TEMPLATES[name] else []
    return bos + words.encode_text(text)


@every_family
def test_a_prompt_is_written_as_the_family_does_and_leaves_the_assistants_turn_open(name, opened):
    assert opened[name].encode_prompt(HI) == _expected(opened[name], name, FAMILIES[name].talk)
    assert opened[name].encode_prompts([HI]) == [opened[name].encode_prompt(HI)]


@with_system
def test_the_system_message_lies_where_the_family_puts_it(name, folders, opened):
    expected = _expected(opened[name], name, FAMILIES[name].advised)
    assert opened[name].encode_prompt(ADVISED) == expected
    assert TokenizerSettings(system="Rhyme.").open(str(folders[name])).encode_prompt(HI) == expected
    own = Prompt(id=0, text="", messages=(ADVICE, *HI.messages))
    assert TokenizerSettings(system="Other.").open(str(folders[name])).encode_prompt(own) == expected


@without_system
def test_a_system_message_that_the_template_refuses_is_found_before_the_run(name, folders, opened):
    with pytest.raises(SettingError, match=r"^tokenizer\.system: .*no system role here; put the words into") as caught:
        TokenizerSettings(system="Rhyme.").open(str(folders[name]))
    assert "\n" not in str(caught.value)
    with pytest.raises(SettingError, match=r"refuses a conversation with the roles \['system', 'user'\]"):
        opened[name].encode_prompt(ADVISED)


@every_family
@pytest.mark.parametrize("tokenizer_adds", [False, True])
@pytest.mark.parametrize("template_writes", [False, True])
def test_double_or_missing_bos(name, tokenizer_adds, template_writes, tmp_path, folders):
    """trl#1114, trl#3520: template and tokenizer may each add BOS, in any family; one results, or none."""
    small = FAMILIES[name]
    bos = small.bos or small.special[0]
    body = TEMPLATES[name].replace("{{ bos_token }}", "").replace("bos_token + ", "")
    folder = shutil.copytree(folders[name], tmp_path / "f")
    _write_bos(folder, name, bos, tokenizer_adds)
    (tmp_path / "t.jinja").write_text("{{ bos_token }}" * template_writes + body)
    ids = Tokenizer.load(str(folder), chat_template=str(tmp_path / "t.jinja")).encode_prompt(HI)
    wanted = [*_ids(name, bos)] * (tokenizer_adds or template_writes)
    assert ids[: len(wanted) + 1].count(_ids(name, bos)[0]) == len(wanted)
    assert ids[: len(wanted)] == wanted


def _write_bos(folder, name, bos, tokenizer_adds):
    from tokenizers import processors

    built = core(name)
    single = f"{bos} $A" if tokenizer_adds else "$A"
    built.post_processor = processors.TemplateProcessing(
        single=single, special_tokens=[(bos, built.token_to_id(bos))] if tokenizer_adds else []
    )
    built.save(str(folder / "tokenizer.json"))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"bos_token": bos}))


@every_family
def test_only_one_eos_id_honoured(name, opened):
    """trl#7039 (Phi, Gemma): the end of a turn and every id of generation_config.json's list end a completion."""
    small = FAMILIES[name]
    assert opened[name].eos_ids == {*_ids(name, *small.ends, small.eos, small.turn_end)}
    assert opened[name].turn_end_id == _ids(name, small.turn_end)[0]


@every_family
def test_the_end_of_a_turn_is_known_without_a_generation_config(name, folders, tmp_path):
    small = FAMILIES[name]
    folder = shutil.copytree(folders[name], tmp_path / "f")
    (folder / "generation_config.json").unlink()
    words = Tokenizer.load(str(folder))
    assert words.eos_ids == {*_ids(name, small.eos, small.turn_end)}
    assert words.encode_completion("the cat", conversation=True)[-1:] == _ids(name, small.turn_end)


@every_family
def test_the_policys_ends_count_when_the_tokenizer_comes_from_elsewhere(name, folders, tmp_path):
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 9]}))
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": 11}))
    words = TokenizerSettings(path=str(folders[name])).open(str(tmp_path))
    assert {7, 9} < words.eos_ids
    assert 11 not in words.eos_ids


@every_family
def test_words_survive_the_way_to_ids_and_back(name, opened):
    words = opened[name]
    assert words.decode(words.encode_text(HARD)) == HARD
    assert words.pad_id == (_ids(name, FAMILIES[name].pad)[0] if FAMILIES[name].pad else words.eos_id)


@every_family
@pytest.mark.parametrize("stated", [None, "PreTrainedTokenizerFast"])
def test_an_exported_tokenizer_splits_words_as_the_original_did(name, stated, folders, opened, tmp_path):
    """Read by us and by plain transformers, whatever class the original states."""
    from transformers import AutoTokenizer

    folder = shutil.copytree(folders[name], tmp_path / "f")
    if stated:
        config = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps(config | {"tokenizer_class": stated}))
    Tokenizer.load(str(folder)).save(tmp_path / "out")
    shutil.copy(folder / "config.json", tmp_path / "out")
    ours, theirs = Tokenizer.load(str(tmp_path / "out")), AutoTokenizer.from_pretrained(str(tmp_path / "out"))
    before = opened[name]
    assert ours.encode_text(HARD) == before.encode_text(HARD)
    assert ours.encode_prompt(HI) == before.encode_prompt(HI)
    assert (ours.eos_ids, ours.pad_id, ours.vocab_size) == (before.eos_ids, before.pad_id, before.vocab_size)
    assert theirs.encode(HARD, add_special_tokens=False) == before.encode_text(HARD)


def test_an_export_keeps_what_the_models_generation_config_says_beside_the_ends(tmp_path):
    folder = write("qwen3", tmp_path / "f")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 0, "temperature": 0.6, "top_k": 20}))
    words = Tokenizer.load(str(folder))
    words.save(tmp_path / "out")
    stated = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert stated == {"eos_token_id": [0, 2], "temperature": 0.6, "top_k": 20, "pad_token_id": 0}
    assert sorted(words.eos_ids) == [0, 2]


@pytest.mark.parametrize("template", ["none", "file"])
def test_an_export_holds_the_template_that_was_used(template, folders, tmp_path):
    (tmp_path / "file").write_text(TEMPLATES["phi4"])
    words = Tokenizer.load(
        str(folders["gemma3"]), chat_template=str(tmp_path / "file") if template == "file" else "none"
    )
    words.save(tmp_path / "out")
    again = Tokenizer.load(str(tmp_path / "out"))
    assert again.has_chat_template == (template == "file")
    if template == "file":
        assert again.encode_prompt(HI) == words.encode_prompt(HI)


# --- arguments of a template ---------------------------------------------------------------------


def test_qwen3_does_not_think_when_told_so(folders, opened):
    silent = TokenizerSettings(template_arguments={"enable_thinking": False}).open(str(folders["qwen3"]))
    behind = silent.encode_prompt(HI)[len(opened["qwen3"].encode_prompt(HI)) :]
    assert behind == silent.encode_text("<think>\n\n</think>\n\n")
    assert silent.decode(behind) == "<think>\n\n</think>\n\n"  # words to the template, not special tokens


def test_a_template_is_told_the_same_day_every_day(folders, opened):
    """A template that asks the clock (Llama 3.2's) would give a resumed run other prompts."""
    text = opened["llama3"].template.render([{"role": "user", "content": "hi"}], add_generation_prompt=True)
    assert "Today Date: 26 Jul 2024" in text
    other = TokenizerSettings(template_arguments={"date_string": "1 May 2030"}).open(str(folders["llama3"]))
    assert "1 May 2030" in other.template.render([{"role": "user", "content": "hi"}], add_generation_prompt=True)


@pytest.mark.parametrize("wrong", ["enable_thinkin", "tokenize", "add_generation_prompt"])
def test_an_argument_that_no_template_reads_is_an_error(wrong, folders):
    with pytest.raises(SettingError, match=rf"^tokenizer\.template_arguments\.{wrong}: .* reads no such argument"):
        TokenizerSettings(template_arguments={wrong: False}).open(str(folders["qwen3"]))


@pytest.mark.parametrize("settings", [{"system": "Rhyme."}, {"wrap_text": True}, {"template_arguments": {"a": 1}}])
def test_what_needs_a_template_is_refused_where_there_is_none(settings, folders):
    with pytest.raises(SettingError, match=rf"^tokenizer\.{next(iter(settings))}.* chat template"):
        TokenizerSettings(chat_template="none", **settings).open(str(folders["qwen3"]))


def test_a_template_that_leaves_the_system_message_out_is_found_before_the_run(folders, tmp_path):
    (tmp_path / "t.jinja").write_text("{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}")
    with pytest.raises(SettingError, match=r"^tokenizer\.system: .* leaves system messages out"):
        TokenizerSettings(chat_template=str(tmp_path / "t.jinja"), system="Rhyme.").open(str(folders["qwen3"]))


# --- a tokenizer with more tokens than the policy ------------------------------------------------


def test_special_tokens_beyond_the_policys_vocabulary_do_no_harm_unless_a_text_writes_one(folders, opened):
    """gemma-3-1b-it: its tokenizer ends in an image token that the text model has no embedding for."""
    words, before = TokenizerSettings().open(str(folders["gemma3"])), opened["gemma3"]
    words.fit(words.vocab_size - 1, "the policy")
    assert words.vocab_size == before.vocab_size - 1
    assert words.encode_prompts([ADVISED]) == before.encode_prompts([ADVISED])
    for encode in (words.encode_text, lambda text: words.encode_prompts([Prompt(id=0, text=text)])):
        with pytest.raises(SettingError, match=r"holds '<image_soft_token>', a token of .* that the policy has not"):
            encode("the <image_soft_token>")


def test_a_pad_token_beyond_the_policys_vocabulary_gives_way_to_eos(folders):
    words = Tokenizer.load(str(_with_pad_behind(folders["llama2"])))
    assert words.pad_id == words.vocab_size - 1
    words.fit(words.vocab_size - 1, "the policy")
    assert words.pad_id == words.eos_id


def _with_pad_behind(source):
    """Add a pad token behind the vocabulary, as is done to Llama 2."""
    folder = shutil.copytree(source, source.with_name("padded"))
    built = core("llama2")
    built.add_special_tokens(["[PAD]"])
    built.save(str(folder / "tokenizer.json"))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"pad_token": "[PAD]"}))
    return folder


def test_words_beyond_the_policys_vocabulary_are_an_error(folders):
    words = Tokenizer.load(str(folders["qwen2"]))
    with pytest.raises(SettingError, match=rf"has {words.vocab_size} tokens, but the policy mine knows 100; name"):
        words.fit(100, "mine")


# --- files ---------------------------------------------------------------------------------------


def test_cuts_and_pads_written_into_a_tokenizer_json_do_not_reach_the_ids(folders, tmp_path):
    folder = shutil.copytree(folders["llama3"], tmp_path / "f")
    built = core("llama3")
    built.enable_truncation(4)
    built.enable_padding(length=64)
    built.save(str(folder / "tokenizer.json"))
    words, whole = Tokenizer.load(str(folder)), Tokenizer.load(str(folders["llama3"]))
    prompts = [HI, Prompt(id=1, text=HARD)]
    assert words.encode_prompts(prompts) == whole.encode_prompts(prompts)
    assert words.encode_text(HARD) == whole.encode_text(HARD)


def test_a_sentencepiece_model_alone_names_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr("dar_jax.tokens.tokenizer_files.find_spec", lambda name: None)
    (tmp_path / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>")
    with pytest.raises(SettingError, match=r"no tokenizer\.json; install the packages sentencepiece and protobuf"):
        Tokenizer.load(str(tmp_path))


def test_vocab_and_merges_without_a_tokenizer_json_are_read(folders, tmp_path, opened):
    """The form of the first Qwen2 and GPT-2 uploads."""
    built = json.loads((folders["qwen2"] / "tokenizer.json").read_text())["model"]
    for name in ("tokenizer_config.json", "config.json"):
        shutil.copy(folders["qwen2"] / name, tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps(built["vocab"]))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in built["merges"]))
    words = Tokenizer.load(str(tmp_path))
    assert words.encode_text(HARD) == opened["qwen2"].encode_text(HARD)


def test_a_broken_side_file_is_one_line(folders, tmp_path):
    folder = shutil.copytree(folders["qwen2"], tmp_path / "f")
    (folder / "generation_config.json").write_text("{")
    with pytest.raises(SettingError, match=r"generation_config\.json: not JSON"):
        Tokenizer.load(str(folder))


def test_the_hub_out_of_reach_is_one_clear_line(monkeypatch, tmp_path):
    """One fetch of the small files as a folder, and no waiting on each in turn."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    asked = []

    def unreachable(source, allow_patterns):
        asked.append(allow_patterns)
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(SettingError, match=r"^tokenizer\.path: a/b: .*\(no network\); offline, name a local") as caught:
        TokenizerSettings().open("a/b")
    assert len(asked) == 1
    assert "\n" not in str(caught.value)
    with pytest.raises(SettingError, match="not a hub id"):
        TokenizerSettings().open(str(tmp_path / "nowhere" / "at" / "all"))


def test_a_hub_id_is_fetched_once_and_read_like_a_folder(monkeypatch, folders, opened):
    import huggingface_hub

    fetched = []

    def fetch(source, allow_patterns):
        fetched.append(source)
        assert {"tokenizer.json", "generation_config.json", "config.json"} <= set(allow_patterns)
        return str(folders["phi3"])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    words = TokenizerSettings().open("some/model")
    assert fetched == ["some/model"]
    assert words.eos_ids == opened["phi3"].eos_ids
