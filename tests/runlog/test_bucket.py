import sys

import pytest

from dar_jax.errors import SettingError
from dar_jax.runlog import RemoteFolder, bucket
from tests.fake_gcs import NEEDS_GCSFS


@pytest.mark.parametrize(
    "entry",
    [RemoteFolder.check, RemoteFolder.reopen, lambda url: RemoteFolder(url).is_run()],
    ids=["new", "old", "read"],
)
def test_a_missing_package_is_said_before_anything_else(monkeypatch, gcs, entry):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(SettingError, match=r"^gs://bucket/x: .*gcsfs; run: pip install 'dar-jax\[gcs\]'"):
        entry("gs://bucket/x")
    assert not gcs.requests


def test_files_need_no_package(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    RemoteFolder.check(f"file://{tmp_path}/x")


@NEEDS_GCSFS
class TestGcsfs:
    def test_it_sees_what_others_wrote(self, gcs):
        """Orbax makes its folders by gcsfs and fills them by TensorStore: a list that it remembered would be wrong."""
        from fsspec import filesystem

        bucket.prepare("gs://bucket/x")
        files = filesystem("gs", endpoint_url=gcs.url, token="anon")
        gcs.buckets["bucket"]["x/a"] = b"", 1
        assert files.ls("bucket/x", detail=False) == ["bucket/x/a"]
        gcs.buckets["bucket"]["x/b"] = b"", 2
        assert files.ls("bucket/x", detail=False) == ["bucket/x/a", "bucket/x/b"]

    def test_a_bucket_whose_settings_cannot_be_read_is_said(self, gcs):
        bucket.check("gs://bucket/x")
        for status in (403, 404):
            gcs.fault = lambda method, target, status=status: status
            with pytest.raises(SettingError, match=rf"^gs://bucket/x: .*says {status}.*roles/storage\.bucketViewer"):
                bucket.check("gs://bucket/x")
