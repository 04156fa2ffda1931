"""Programs that stand in for gcloud, kubectl and the like: they record how they were called and answer as told."""

import re
import shutil
import subprocess
from pathlib import Path

SCRIPTS = Path(__file__).parents[2] / "tpu_scripts"
_RECORDER = Path(__file__).with_name("recorder.sh")
_VERBS = ("create", "delete", "list", "ssh", "scp", "archive", "rev-parse", "status")


class StandIns:
    """Stand-ins in a folder of their own, first on the PATH of every script that is `run`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder, folder / "bin"
        self.bin.mkdir(parents=True)
        self.environment = {"PATH": f"{self.bin}:/usr/bin:/bin", "HOME": str(folder), "TMPDIR": "/tmp"}
        self._answers = 0

    def add(self, *names: str) -> None:
        """Put programs of these names there."""
        for name in names:
            shutil.copy(_RECORDER, self.bin / name)
            (self.bin / name).chmod(0o755)

    def answer(self, pattern: str, *answers: str | tuple[str, int]) -> None:
        """Answer calls that match: one output, or output and exit status, after the other, the last again and again.

        The first pattern that matches counts; a call that none matches succeeds without a word.
        """
        place = self.folder / "answers" / f"{self._answers:02}"
        self._answers += 1
        place.mkdir(parents=True)
        (place / "pattern").write_text(pattern)
        (place / "next").write_text("0")
        for number, answer in enumerate(answers):
            output, status = answer if isinstance(answer, tuple) else (answer, 0)
            (place / str(number)).write_text(f"{status}\n{output}")

    def run(self, script: str | Path, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a script, by its path below tpu_scripts/, and check its exit status."""
        command = ["bash", str(SCRIPTS / script), *words]
        done = subprocess.run(
            command,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done

    @property
    def calls(self) -> list[list[str]]:
        """The words of every call, in order."""
        path = self.folder / "calls"
        if not path.exists():
            return []
        return [call.split("\0") for call in path.read_text().removesuffix("\0\0").split("\0\0")]

    @property
    def input(self) -> str:
        """What the programs were given to read."""
        path = self.folder / "input"
        return path.read_text() if path.exists() else ""

    @property
    def deeds(self) -> list[str]:
        """What the calls do, in short: `create`, `ssh start.sh`."""
        return [_deed(call) for call in self.calls]


def _deed(call: list[str]) -> str:
    verb = next((word for word in call if word in _VERBS), "")
    command = next((word for word in call if word.startswith("--command=")), "")
    what = re.search(r"\w+\.(sh|py)|systemctl disable", command)
    return f"{verb} {what[0]}" if what else verb
