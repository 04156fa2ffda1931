import copy
import json
import pickle

import pytest

from dar_jax.chat.endpoint import checked_url, key_for, looks_like_key
from dar_jax.chat.keys import Credentials, Key, find_key
from dar_jax.errors import SettingError
from dar_jax.judging import OpenAIJudge
from dar_jax.judging.section import parse_judge

SECRET = "sk-very-secret-123"


def test_a_key_prints_as_stars():
    key = Key(SECRET)
    assert f"{key} {key!r} {key!s} {[key]}" == "*** *** *** [***]"
    assert key.reveal() == SECRET
    assert key.redact(f"bad key {SECRET}!") == "bad key ***!"


@pytest.mark.parametrize("write", [pickle.dumps, copy.deepcopy, json.dumps])
def test_a_key_cannot_be_pickled_or_copied(write):
    with pytest.raises(TypeError):
        write(Key(SECRET))


def test_no_key_redacts_nothing():
    assert find_key(None, None).redact("none of this") == "none of this"


def test_the_key_file_precedes_the_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "from-env")
    file = tmp_path / "key"
    file.write_text(f"{SECRET}\n")
    assert find_key(file, "SOME_KEY").reveal() == SECRET
    assert find_key(None, "SOME_KEY").reveal() == "from-env"


def test_a_missing_key_error_names_the_fix(tmp_path, monkeypatch):
    monkeypatch.delenv("SOME_KEY", raising=False)
    with pytest.raises(SettingError, match=r"SOME_KEY is not set; export SOME_KEY"):
        find_key(None, "SOME_KEY")
    with pytest.raises(SettingError, match="api_key_file: cannot read"):
        find_key(tmp_path / "absent", None)
    (tmp_path / "empty").write_text(" \n")
    with pytest.raises(SettingError, match="is empty"):
        find_key(tmp_path / "empty", None)


def test_the_vendors_key_is_sent_to_the_vendor_only(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    vendor = "https://api.openai.com/v1"
    assert key_for(vendor, vendor, "OPENAI_API_KEY", None, None).reveal() == SECRET
    assert key_for("http://127.0.0.1:1/v1", vendor, "OPENAI_API_KEY", None, None).reveal() != SECRET
    assert key_for("http://127.0.0.1:1/v1", vendor, "OPENAI_API_KEY", None, "OPENAI_API_KEY").reveal() == SECRET


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host/v1", "", "http://"])
def test_an_address_must_be_a_url(url):
    with pytest.raises(ValueError, match="expected an address"):
        checked_url(url)


@pytest.mark.parametrize("url", [f"http://me:{SECRET}@host/v1", f"https://host/v1?key={SECRET}"])
def test_an_address_with_a_secret_is_rejected(url):
    with pytest.raises(ValueError, match="api_key_env") as caught:
        checked_url(url)
    assert SECRET not in str(caught.value)


def test_a_key_is_redacted_in_every_form():
    key = Key('a/b"c')
    assert key.redact('a/b"c and {"key": "a/b\\"c"} and ?key=a%2Fb%22c') == '*** and {"key": "***"} and ?key=***'


NESTED = json.dumps({"told": json.dumps({"key": 'sk-planted/7f3"9c41d6e5'})})


@pytest.mark.parametrize(
    ("said", "left"),
    [
        (NESTED, json.dumps({"told": json.dumps({"key": "***"})})),
        ('\\u0073k-planted\\/7f3\\"9c41d6e5 and more', "*** and more"),
        ("sk-planted%2f7f3%229c41d6e5", "***"),
        ("the first characters: sk-planted/7f3", "the first characters: ***"),
        ("another key, sk-plant", "another key, sk-plant"),
        ('sk-planted/7f3"9c41d6e5sk-planted/7f3"9c41d6e5', "******"),
    ],
)
def test_a_key_is_redacted_in_part_and_in_nested_json(said, left):
    assert Key('sk-planted/7f3"9c41d6e5').redact(said) == left


@pytest.mark.parametrize(
    "text",
    [
        "sk-abcdefghijklmnop123456",
        "AIzaSyA1b2C3d4E5f6G7h8I9j0",
        "0123456789abcdef0123456789abcdef",
        "gsk_aB3dE5fG7hJ9",
        "eyJhbGciOiJSUzI1NiJ9",
    ],
)
def test_a_key_in_place_of_a_name_is_rejected_without_being_shown(text):
    """As in `judge.api_key_env=sk-abcdef...`."""
    assert looks_like_key(text)
    lines = [f"{{{field}: {text}}}" for field in ("api_key_env", "api_key_file", "headers_env", "headers_file")]
    lines += [f"{{headers_env: {{api-key: {text}}}}}", f"{{headers_env: {{{text}: MY_KEY}}}}"]
    for name, where in (("openai", "openai"), ("gemini", "gemini")):
        for line in lines[: 6 if name == "openai" else 2]:
            given = f"judge: {{name: {where}, model: m, {line[1:-1]}}}"
            with pytest.raises(SettingError) as caught:
                parse_judge(given, where="x.yaml").check()
            assert text not in str(caught.value), line
    with pytest.raises(ValueError, match="not shown") as raised:
        OpenAIJudge(model="m", api_key_env=text)
    assert text not in str(raised.value)


@pytest.mark.parametrize(
    "text", ["OPENAI_API_KEY", "my_key", "KEY_2", "AZURE_OPENAI_KEY_WEST_EUROPE_1", "~/key", "k.txt"]
)
def test_names_do_not_look_like_keys(text):
    assert not looks_like_key(text)


def test_headers_come_from_variables_and_from_lines_of_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("AZURE_KEY", "azure-secret-1")
    file = tmp_path / "headers"
    file.write_text("x-config: pc-secret-2\n\n# a comment\n")
    found = Credentials(Key(SECRET), {"api-key": "AZURE_KEY"}, file)
    assert found.headers() == {"api-key": "azure-secret-1", "x-config": "pc-secret-2"}
    assert found.redact(f"{SECRET}, azure-secret-1, pc-secret-2") == "***, ***, ***"
    assert "secret" not in f"{found} {found!r}"
    with pytest.raises(TypeError):
        pickle.dumps(found)


def test_a_bad_header_line_is_not_shown(tmp_path):
    file = tmp_path / "headers"
    file.write_text(f"{SECRET}\n")
    with pytest.raises(SettingError, match="line 1: expected `name: value`") as caught:
        Credentials(Key(""), None, file)
    assert SECRET not in str(caught.value)


def test_short_header_values_are_not_redacted(monkeypatch):
    monkeypatch.setenv("A_FLAG", "7")
    assert Credentials(Key(""), {"x-flag": "A_FLAG"}).redact("a grade of 7") == "a grade of 7"


def test_files_are_read_again_once_for_concurrent_refusals(tmp_path):
    file = tmp_path / "key"
    file.write_text("key-number-one")
    found = Credentials(find_key(file, None))
    version = found.version
    assert not found.renew(version)
    file.write_text("key-number-two")
    assert found.renew(version)
    assert found.renew(version), "another call, refused with the old key"
    assert not found.renew(found.version)
    assert found.redact("key-number-one or key-number-two") == "*** or ***"
    file.write_text("")
    assert not found.renew(found.version)
    assert found.key.reveal() == "key-number-two"
