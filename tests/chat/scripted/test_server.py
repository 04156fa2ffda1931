import json
import urllib.error
import urllib.request

import pytest

from dar_jax.chat.scripted.faults import FAULTS, draw
from dar_jax.chat.scripted.server import ServerSettings, read_settings, serve
from dar_jax.errors import SettingError


def get(url: str):
    with urllib.request.urlopen(url, timeout=10) as reply:
        return json.load(reply)


def test_models_and_health():
    with serve() as server:
        assert get(f"{server.url}/health") == {"status": "ok"}
        assert get(f"{server.openai_url}/models")["data"][0]["id"] == "scripted-overlap"
        assert get(f"{server.url}/counts") == {"asked": 0, "answered": 0, "lost": 0}


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions",
        "/v1/decisions",
        "/v1/systemone",
        "/v1beta/decisions",
        "/v1beta/models/m:generateContent",
    ],
)
@pytest.mark.parametrize("body", [b"no json", b"[]", b"{}", b'{"messages": [{"role": "user"}]}'])
def test_a_bad_request_is_400(path, body):
    with serve() as server, pytest.raises(urllib.error.HTTPError, match="400") as caught:
        urllib.request.urlopen(server.url + path, data=body, timeout=10)
    caught.value.close()


def test_settings_from_the_command_line():
    settings = read_settings(["port=0", "faults={rate_limit: 0.1, hang: 0.2}", "seed=3"])
    assert settings.faults == {"rate_limit": 0.1, "hang": 0.2}
    assert (settings.port, settings.seed, settings.host) == (0, 3, "127.0.0.1")


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("port", "got 'port', expected key=value"),
        ("prot=1", "prot: there is no such setting; did you mean port?"),
        ("port=x", "port: got 'x', expected a valid integer"),
        ("scorer=taste", "scorer: got 'taste', expected one of"),
        ("faults={rain: 0.5}", "faults: got rain, expected any of rate_limit"),
        ("faults={hang: 0.7, quota: 0.7}", "with a sum of at most 1"),
    ],
)
def test_a_mistake_is_one_line(argument, told):
    with pytest.raises(SettingError) as caught:
        read_settings([argument])
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_port_in_use_is_an_error():
    with serve() as server:
        port = int(server.url.rpartition(":")[2])
        with pytest.raises(SettingError, match="choose another port"), serve(ServerSettings(port=port)):
            pass


def test_faults_have_their_shares_and_are_reproducible():
    shares = dict.fromkeys(FAULTS[:4], 0.1)
    drawn = [draw(shares, 1, f"content {i}", 1) for i in range(2000)]
    assert drawn == [draw(shares, 1, f"content {i}", 1) for i in range(2000)]
    for fault in shares:
        assert drawn.count(fault) == pytest.approx(200, abs=60)
    assert drawn != [draw(shares, 2, f"content {i}", 1) for i in range(2000)]
