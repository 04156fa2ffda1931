import copy
import json
import pickle

import pytest

from dar_jax.chat.address import checked_url, key_for
from dar_jax.chat.keys import Key, find_key
from dar_jax.errors import SettingError

SECRET = "sk-very-secret-123"


def test_a_key_prints_as_stars():
    key = Key(SECRET)
    assert f"{key} {key!r} {key!s} {[key]}" == "*** *** *** [***]"
    assert key.reveal() == SECRET
    assert key.redact(f"bad key {SECRET}!") == "bad key ***!"


@pytest.mark.parametrize("write", [pickle.dumps, copy.deepcopy, json.dumps])
def test_a_key_is_written_nowhere(write):
    with pytest.raises(TypeError):
        write(Key(SECRET))


def test_no_key_redacts_nothing():
    assert find_key(None, None).redact("none of this") == "none of this"


def test_a_key_comes_from_a_file_first(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "from-env")
    file = tmp_path / "key"
    file.write_text(f"{SECRET}\n")
    assert find_key(file, "SOME_KEY").reveal() == SECRET
    assert find_key(None, "SOME_KEY").reveal() == "from-env"


def test_a_missing_key_names_the_way_out(tmp_path, monkeypatch):
    monkeypatch.delenv("SOME_KEY", raising=False)
    with pytest.raises(SettingError, match=r"SOME_KEY is not set; export SOME_KEY"):
        find_key(None, "SOME_KEY")
    with pytest.raises(SettingError, match="api_key_file: cannot read"):
        find_key(tmp_path / "absent", None)
    (tmp_path / "empty").write_text(" \n")
    with pytest.raises(SettingError, match="is empty"):
        find_key(tmp_path / "empty", None)


def test_the_vendors_key_goes_to_the_vendor_only(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    vendor = "https://api.openai.com/v1"
    assert key_for(vendor, vendor, "OPENAI_API_KEY", None, None).reveal() == SECRET
    assert key_for("http://127.0.0.1:1/v1", vendor, "OPENAI_API_KEY", None, None).reveal() != SECRET
    assert key_for("http://127.0.0.1:1/v1", vendor, "OPENAI_API_KEY", None, "OPENAI_API_KEY").reveal() == SECRET


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host/v1", "", "http://"])
def test_an_address_must_be_one(url):
    with pytest.raises(ValueError, match="expected an address"):
        checked_url(url)


@pytest.mark.parametrize("url", [f"http://me:{SECRET}@host/v1", f"https://host/v1?key={SECRET}"])
def test_an_address_holds_no_secret(url):
    with pytest.raises(ValueError, match="api_key_env") as caught:
        checked_url(url)
    assert SECRET not in str(caught.value)


def test_a_key_is_blotted_out_in_every_form():
    key = Key('a/b"c')
    assert key.redact('a/b"c and {"key": "a/b\\"c"} and ?key=a%2Fb%22c') == '*** and {"key": "***"} and ?key=***'
