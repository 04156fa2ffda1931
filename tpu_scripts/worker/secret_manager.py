"""Secrets, read by the service account of the host from Google's Secret Manager."""

import base64
import os

from dar_jax.errors import DarError, SettingError

# The variable is gcloud's own for the purpose.
_ENDPOINT = os.environ.get("CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER", "https://secretmanager.googleapis.com/")
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"


def read_secret(name: str) -> str:
    """Return the newest version of projects/P/secrets/NAME.

    Raises SettingError where it cannot be had, DarError where asking again may help.
    """
    import google.auth
    from google.auth.exceptions import GoogleAuthError
    from google.auth.transport.requests import AuthorizedSession
    from requests import RequestException

    try:
        credentials, _ = google.auth.default(scopes=[_SCOPE])
        url = f"{_ENDPOINT}v1/{name}/versions/latest:access"
        reply = AuthorizedSession(credentials).get(url, timeout=60)
    except (GoogleAuthError, RequestException) as error:
        raise DarError(f"{name}: Secret Manager does not answer ({type(error).__name__})") from None
    if reply.status_code in (403, 404):
        raise SettingError(
            f"{name}: Secret Manager answers {reply.status_code} {reply.reason}; it must have a version, and the host's"
            " service account the role roles/secretmanager.secretAccessor"
        )
    if reply.status_code != 200:
        raise DarError(f"{name}: Secret Manager answers {reply.status_code} {reply.reason}")
    value = base64.b64decode(reply.json()["payload"]["data"]).decode().strip()
    if not value:
        raise SettingError(f"{name}: it is empty in Secret Manager; add a version that holds the key")
    return value
