"""Check what Orbax needs for checkpoints on `gs://` besides TensorStore: gcsfs, and permission to read the bucket's
settings. Checked before anything is loaded.
"""

import warnings
from importlib import import_module

from dar_jax.errors import SettingError


def prepare(url: str) -> None:
    """Prepare gcsfs for checkpoints under a URL. Raises SettingError if it is missing."""
    if not url.startswith("gs://"):
        return
    try:
        with warnings.catch_warnings():
            # That they will leave this Python behind some day is no news to a run.
            warnings.filterwarnings("ignore", message="You are using a Python version", category=FutureWarning)
            for name in ("gcsfs", "google.cloud.storage", "google.cloud.storage_control_v2"):
                import_module(name)
    except ImportError:
        raise SettingError(
            f"{url}: checkpoints on gs:// need the package gcsfs; run: pip install 'dar-jax[gcs]'"
        ) from None
    from fsspec.config import conf

    # It would remember lists of objects, and not see those that TensorStore or another process writes or deletes.
    conf.setdefault("gs", {})["use_listings_cache"] = False


def check(url: str) -> None:
    """Read the bucket's settings as Orbax does. Raises SettingError."""
    if not url.startswith("gs://"):
        return
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError
    from google.cloud import storage

    name = url.removeprefix("gs://").partition("/")[0]
    try:
        storage.Client().get_bucket(name)
    except (GoogleAPIError, GoogleAuthError, OSError) as fault:
        raise SettingError(
            f"{url}: the settings of the bucket {name} cannot be read: {' '.join(str(fault).split())}; Orbax looks at"
            " them: give the account roles/storage.bucketViewer on the bucket"
        ) from None
