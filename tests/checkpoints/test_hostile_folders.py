"""Model folders that nobody should trust: each is refused in one line, and nothing outside of one is opened."""

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from dar_jax.checkpoints import huggingface
from dar_jax.checkpoints.huggingface import shards
from dar_jax.errors import SettingError
from dar_jax.models import families
from dar_jax.tokens import Tokenizer, model_files
from tests.small_tokenizers import hf, tokenizer

GOLDEN = Path(__file__).parent.parent / "golden" / "models"
CONFIG = json.loads((GOLDEN / "qwen3-tied" / "config.json").read_text())


@pytest.fixture
def sharded(tmp_path):
    return Path(shutil.copytree(GOLDEN / "qwen3-sharded-bfloat16", tmp_path / "checkpoint"))


def refused(folder, said):
    with pytest.raises(SettingError, match=said) as caught:
        huggingface.load(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


# --- the index -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../secret.safetensors", "/etc/passwd", "a/../../b", "..", "", "a\0b", "sub/m.safetensors"]
)
def test_an_index_names_no_file_outside_of_its_folder(name, sharded):
    (sharded.parent / "secret.safetensors").write_bytes(b"")
    index = sharded / shards.INDEX
    content = json.loads(index.read_text())
    content["weight_map"]["model.norm.weight"] = name
    index.write_text(json.dumps(content))
    refused(sharded, r"it names the file .*, which is none of the folder's own")


@pytest.mark.parametrize("weight_map", [None, [], "x", {"a": 1}, {"a": None}, {"a": ["model.safetensors"]}])
def test_an_index_without_a_map_of_names_is_one_line(weight_map, sharded):
    (sharded / shards.INDEX).write_text(json.dumps({"weight_map": weight_map}))
    refused(sharded, "no weight_map")


def test_a_tensor_in_two_files_is_said(sharded):
    shutil.copy(sharded / "model-00001-of-00002.safetensors", sharded / "model-again.safetensors")
    content = json.loads((sharded / shards.INDEX).read_text())
    content["weight_map"]["another"] = "model-again.safetensors"
    (sharded / shards.INDEX).write_text(json.dumps(content))
    refused(sharded, r"is in two files, model-00001-of-00002\.safetensors and model-again\.safetensors")


# --- links and what is no file -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model-00001-of-00002.safetensors", shards.INDEX, "config.json"])
def test_a_link_out_of_the_folder_is_not_followed(name, sharded):
    outside = (sharded / name).rename(sharded.parent / "outside")
    (sharded / name).symlink_to(outside)
    refused(sharded, r"a link to .*outside, outside of the folder; copy the file into it")


def test_links_within_the_folder_and_the_hub_caches_own_are_followed(sharded, tmp_path):
    (sharded / "config.json").rename(sharded / "real.json")
    (sharded / "config.json").symlink_to("real.json")
    config = huggingface.read_config(sharded)
    blobs, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / "0123"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for file in (GOLDEN / "qwen3-sharded-bfloat16").iterdir():
        shutil.copy(file, blobs / f"hash-{file.name}")
        (snapshot / file.name).symlink_to(f"../../blobs/hash-{file.name}")
    assert huggingface.load(snapshot)[0] == config


def test_a_pipe_a_folder_and_a_link_to_itself_are_no_files(sharded):
    for make in (os.mkfifo, os.mkdir, lambda path: os.symlink(path, path)):
        (sharded / "config.json").unlink()
        make(sharded / "config.json")
        refused(sharded, "no regular file|leads nowhere")
        (sharded / "config.json").rmdir() if (sharded / "config.json").is_dir() else None
        if not os.path.lexists(sharded / "config.json"):
            (sharded / "config.json").touch()


# --- JSON ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe\x00", "it is no text in UTF-8"),
        (b"[" * 200_000, "it is nested too deep|not JSON"),
        (b"", "not JSON"),
        (b"null", "expected a JSON object, got NoneType"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
        (b" " * 2000, "2,000 bytes; expected a JSON object of at most 1,000"),
    ],
)
def test_json_that_cannot_be_read_is_one_line(content, said, sharded, monkeypatch):
    monkeypatch.setattr(model_files, "MAX_JSON_BYTES", 1000 if content.startswith(b" ") else 1 << 26)
    (sharded / "config.json").write_bytes(content)
    refused(sharded, said)


def test_a_byte_order_mark_is_read_over(sharded):
    (sharded / "config.json").write_bytes(b"\xef\xbb\xbf" + (sharded / "config.json").read_bytes())
    huggingface.read_config(sharded)


def test_an_adapter_is_no_policy(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "Qwen/Qwen3-0.6B"}')
    with pytest.raises(SettingError, match=r"an adapter of Qwen/Qwen3-0\.6B; merge it first \(peft merge_and_unload\)"):
        huggingface.read_config(tmp_path)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
KEYS = sorted(
    {*CONFIG, "architectures", "model_type", "layer_types", "rope_parameters", "rope_scaling", "sliding_window"}
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.sampled_from(KEYS), junk, min_size=1, max_size=3))
def test_any_config_is_read_or_refused_in_one_line(changed):
    said = ""
    try:
        families.read(CONFIG | changed)
    except SettingError as error:
        said = str(error)
    assert "\n" not in said
    assert len(said) < 600


@pytest.mark.parametrize("key", ["num_hidden_layers", "hidden_size", "vocab_size", "num_attention_heads", "head_dim"])
def test_a_size_beyond_any_model_is_refused_at_once(key):
    with pytest.raises(SettingError, match=r"1000000000"):
        families.read(CONFIG | {key: 1_000_000_000})


@pytest.mark.parametrize("key", ["attention_dropout", "resid_pdrop", "embd_pdrop"])
@pytest.mark.parametrize("family", ["qwen3-tied", "phi3-all-heads-longrope"])
def test_dropout_of_the_pretraining_is_no_reason_to_refuse(key, family):
    """Trainers by reinforcement switch it off: a policy's log-probs are not to be drawn."""
    hf_config = json.loads((GOLDEN / family / "config.json").read_text())
    assert families.read(hf_config | {key: 0.1}) == families.read(hf_config)


# --- safetensors ---------------------------------------------------------------------------------


def tensor(begin, end, shape=None, dtype="F32"):
    return {"dtype": dtype, "shape": [(end - begin) // 4] if shape is None else shape, "data_offsets": [begin, end]}


HEADERS = {
    "overlap": ({"a": tensor(0, 8), "b": tensor(4, 12)}, "b begins at byte .*, where .* is expected"),
    "hole": ({"a": tensor(0, 4), "b": tensor(8, 12)}, "b begins at byte"),
    "beyond": ({"a": tensor(0, 4000)}, "bytes of"),
    "short": ({"a": tensor(0, 8)}, "bytes of"),
    "negative offset": ({"a": tensor(-4, 12, [3])}, "no size"),
    "backwards": ({"a": tensor(12, 0, [-3])}, "no size"),
    "negative shape": ({"a": tensor(0, 12, [-1, -3])}, "no size"),
    "overflow": ({"a": tensor(0, 12, [1 << 62, 1 << 62, 1 << 62])}, "12 bytes for"),
    "wraps to fit": ({"a": tensor(0, 12, [(1 << 62) + 3])}, "12 bytes for"),
    "boolean": ({"a": tensor(0, 4, [True])}, "no size"),
    "float": ({"a": tensor(0, 12, [3.0])}, "no size"),
    "text": ({"a": tensor(0, 12, "abc")}, "no size"),
    "no shape": ({"a": {"dtype": "F32", "data_offsets": [0, 12]}}, "shape"),
    "no offsets": ({"a": {"dtype": "F32", "shape": [3]}}, "data_offsets"),
    "three offsets": ({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 4, 12]}}, "too many values"),
    "many axes": ({"a": tensor(0, 4, [1] * 99)}, "99 axes"),
    "odd dtype": ({"a": tensor(0, 12, dtype=["F32"])}, "dtype"),
    "entry": ({"a": 3}, "damaged"),
    "array": ([1], "damaged"),
}


def spoilt(path, header, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + b"\0" * 12)


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_lies_is_one_line(name, tmp_path):
    header, said = HEADERS[name]
    shutil.copy(GOLDEN / "qwen3-tied" / "config.json", tmp_path)
    spoilt(tmp_path / "model.safetensors", header)
    refused(tmp_path, rf"model\.safetensors: missing, cut off or damaged \(.*{said}|{said}")


@pytest.mark.parametrize(
    ("header", "length", "said"),
    [
        (b"{}", (1 << 64) - 1, "too few for its header"),
        (b"{}", 0, "too few for its header"),
        (b"{" + b" " * 3000 + b"}", None, "a header of 3002 bytes"),
        (b'{"a": {"dtype": "F32", "shape": [1]}, "a": {}}', None, "there twice"),
        (b"[" * 900, None, "damaged"),
        (b"\xff\xff", None, "damaged"),
    ],
)
def test_a_header_that_cannot_be_read_is_one_line(header, length, said, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_LONGEST_HEADER", 2000)
    shutil.copy(GOLDEN / "qwen3-tied" / "config.json", tmp_path)
    spoilt(tmp_path / "model.safetensors", header, length)
    refused(tmp_path, said)


# --- tokenizers ----------------------------------------------------------------------------------


@pytest.fixture
def words(tmp_path):
    hf().save_pretrained(str(tmp_path / "words"))
    return tmp_path / "words"


def change(path, **keys):
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def test_a_tokenizer_opens_no_file_that_its_config_names_elsewhere(words, tmp_path, monkeypatch):
    hf(eos_token="cat").save_pretrained(str(tmp_path / "other"))
    other = str(tmp_path / "other" / "tokenizer.json")
    opened, plain = [], PreTrainedTokenizerFast.from_pretrained.__func__

    def seen(cls, place, **given):
        opened.append(given)
        return plain(cls, place, **given)

    monkeypatch.setattr(PreTrainedTokenizerFast, "from_pretrained", classmethod(seen))
    change(words / "tokenizer_config.json", tokenizer_file=other, vocab_file="/etc/passwd", gguf_file="/etc/passwd")
    read = Tokenizer.load(str(words))
    assert read._hf.get_vocab() == tokenizer()._hf.get_vocab()
    assert opened == [{"tokenizer_file": str(words / "tokenizer.json"), "vocab_file": None, "gguf_file": None}]


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"]
)
def test_a_tokenizers_file_is_no_link_out_of_its_folder(name, words, tmp_path):
    (tmp_path / "outside").write_text("{}")
    (words / name).unlink(missing_ok=True)
    (words / name).symlink_to(tmp_path / "outside")
    with pytest.raises(SettingError, match="outside of the folder"):
        Tokenizer.load(str(words))


def test_code_beside_a_tokenizer_is_never_run(words, tmp_path):
    """`auto_map` asks for code of the folder's: without tokenizer.json as well as with it."""
    (words / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Mine:\n    pass\n")
    change(
        words / "tokenizer_config.json", auto_map={"AutoTokenizer": ["mine.Mine", "mine.Mine"]}, tokenizer_class="Mine"
    )
    (words / "config.json").write_text(json.dumps({"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine"}}))
    Tokenizer.load(str(words))
    (words / "tokenizer.json").unlink()
    (words / "vocab.json").write_text("{}")
    with pytest.raises(SettingError, match=r"^tokenizer\.path: cannot read a tokenizer from ") as caught:
        Tokenizer.load(str(words))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"model": {"type": "BPE", "vocab": {}, "merges": []}}',
        b'{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}, "added_tokens": []}',
        b'{"model": {"type": "Unigram", "unk_id": 99, "vocab": [["a", 0.0]]}, "added_tokens": []}',
        b'{"model": {"type": "WordLevel", "vocab": {"a": 4294967295}, "unk_token": "b"}, "added_tokens": []}',
        b"[" * 100_000,
    ],
)
def test_a_broken_tokenizer_is_one_line(content, words):
    (words / "tokenizer.json").write_bytes(content)
    with pytest.raises(SettingError, match=r"tokenizer") as caught:
        Tokenizer.load(str(words)).encode_text("the cat")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ends", ["2", [2, "3"], -1, True, 1 << 40, {"a": 1}, [[2]]])
def test_an_end_that_is_no_token_id_is_one_line(ends, words):
    (words / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    with pytest.raises(SettingError, match=r"generation_config\.json: eos_token_id .*; expected a token id"):
        Tokenizer.load(str(words))


def test_a_template_file_that_is_no_text_is_one_line(words, tmp_path):
    (tmp_path / "t.jinja").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingError, match=r"tokenizer\.chat_template: cannot read .* \(it is no text in UTF-8\)"):
        Tokenizer.load(str(words), chat_template=str(tmp_path / "t.jinja"))
    with pytest.raises(SettingError, match=r"tokenizer\.chat_template: cannot read .* \(Is a directory\)"):
        Tokenizer.load(str(words), chat_template=str(tmp_path))
