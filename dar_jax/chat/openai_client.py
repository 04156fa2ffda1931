"""The openai SDK's client, with nothing of the environment for a server that is not OpenAI's."""

import os
from typing import TYPE_CHECKING

from dar_jax.chat.address import same_host
from dar_jax.chat.keys import Credentials

if TYPE_CHECKING:
    from openai import AsyncOpenAI


def environment_values() -> list[str]:
    """Return the values of the headers that the SDK takes from OPENAI_CUSTOM_HEADERS."""
    lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").splitlines()
    return [line.partition(":")[2].strip() for line in lines]


def open_client(base_url: str, vendor_url: str, credentials: Credentials) -> "AsyncOpenAI":
    """Open a client without retries of its own.

    The SDK adds OPENAI_ORG_ID, OPENAI_PROJECT_ID and OPENAI_CUSTOM_HEADERS (which often holds a gateway's key) of the
    environment to every request; here only to those to the vendor's own address.
    """
    from openai import AsyncOpenAI, DefaultAioHttpClient

    client = AsyncOpenAI(
        base_url=base_url,
        api_key=credentials.key.reveal(),
        max_retries=0,
        default_headers=credentials.headers(),
        http_client=DefaultAioHttpClient(),
    )
    if not same_host(base_url, vendor_url):
        client.organization = client.project = None
        client._custom_headers = credentials.headers()
    return client
