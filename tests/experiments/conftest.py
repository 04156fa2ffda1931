import textwrap

import pytest

from dar_jax.experiments.cells import make_plan
from dar_jax.experiments.compared_file import read_comparison
from tests.nano import run_text


@pytest.fixture(scope="session")
def nano(tmp_path_factory):
    """The settings of a small run whose evaluations have a judge of their own."""
    folder = tmp_path_factory.mktemp("nano")
    text = textwrap.dedent(run_text(folder))
    prompts = folder / "prompts.jsonl"
    evaluation = f"evaluation: {{data: {{path: {prompts}}}, prompts: 8, judge: {{name: scripted, scorer: overlap}}}}"
    lines = [evaluation if line.startswith("evaluation") else line for line in text.splitlines()]
    return "\n".join(line for line in lines if not line.startswith("checkpoints"))


@pytest.fixture
def write(nano, tmp_path):
    """Write a config with a section `compare`."""

    def written(compare=""):
        file = tmp_path / "small.yaml"
        file.write_text(f"{nano}\n{textwrap.dedent(compare)}\n")
        return file

    return written


@pytest.fixture
def plan(write, tmp_path):
    """Make the plan of a section `compare`, with overrides."""

    def planned(compare="", *overrides):
        file = write(compare)
        text, comparison = read_comparison(file, overrides)
        return make_plan(text, comparison, tmp_path / "out", where=file.name)

    return planned
