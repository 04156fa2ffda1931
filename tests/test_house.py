"""The house rules that a machine can keep."""

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from dar_jax.config.config_file import parse_config
from dar_jax.experiments.cells import make_plan
from dar_jax.experiments.compared_file import read_comparison

ROOT = Path(__file__).parent.parent
PACKAGE = sorted((ROOT / "dar_jax").rglob("*.py"))
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
WORDS = [
    *("records", "settings.fields", "terminal.console", "runlog", "tokens", "chat", "judging", "data", "evaluation"),
    *("reporting", "relabeling.relabel", "cli.main"),
]


def test_no_file_over_400_lines():
    long = {str(path): lines for path in PACKAGE if (lines := len(path.read_text().splitlines())) > 400}
    assert not long


def test_no_room_without_a_name():
    assert not [path for path in PACKAGE if re.fullmatch(r"(utils?|common|helpers?|misc|manager|registry)", path.stem)]


def test_word_rooms_import_no_jax():
    code = f"import sys; {'; '.join(f'import dar_jax.{room}' for room in WORDS)}; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_nothing_silences_an_error():
    silent = [
        f"{path}:{node.lineno}"
        for path in PACKAGE
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler) and all(isinstance(line, ast.Pass) for line in node.body)
    ]
    assert not silent


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_loads_and_opens_with_its_command(path):
    text, comparison = read_comparison(path)
    parse_config(text, where=str(path))
    verb = "compare" if comparison.algorithms else "train"
    assert f"dar-jax {verb} {path.relative_to(ROOT)}" in path.read_text().split("\n\n")[0]
    if verb == "compare":
        plan = make_plan(text, comparison, Path("out"), where=str(path))
        assert {cell.config.steps * cell.asked_a_step for cell in plan.tuning()} <= {plan.annotations, 0}


def test_the_readmes_commands_are_those_of_the_package():
    from dar_jax.cli.main import _parser

    text = (ROOT / "README.md").read_text()
    commands = re.findall(r"dar-jax ((?:train|export|serve|plan|judge|ledger|compare|sweep)[^\n`#]*)", text)
    assert commands
    for command in commands:
        if "..." not in command and "CONFIG" not in command:
            _parser().parse_args(re.sub(r"\\$", "", command).split())


def test_no_address_of_this_machine_is_committed():
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    pattern = re.compile(r"p[y]pi\.org|pythonho[s]ted|(^|[\s'\"=(])/(r[o]ot|w[o]rk)/")
    texts = [ROOT / name for name in names if Path(name).suffix in (".py", ".md", ".yaml", ".toml", ".txt", ".json")]
    assert not [path for path in texts if path.exists() and pattern.search(path.read_text())]


# Verbs for which the field has a plainer word: return, load, write, shard, gather, check, print.
PUZZLING = re.compile(
    r"(Say|Give|Name|Lay|Put|Have|Tell|Take|Be|Do|Lend|Speak|Hand|Let|Foretell|Forget|Meet|Mind|Lie)\b"
)


def test_docstrings_open_with_a_plain_imperative():
    puzzling = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {docstring.splitlines()[0]}"
        for path in PACKAGE
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (docstring := ast.get_docstring(node))
        if PUZZLING.match(docstring)
    ]
    assert not puzzling


def test_the_spine_is_short():
    assert len((ROOT / "dar_jax" / "training.py").read_text().splitlines()) < 250


def test_few_files_are_at_the_top():
    assert len(list((ROOT / "dar_jax").glob("*.py"))) <= 12


def test_no_file_and_no_class_has_a_name_twice():
    files = Counter(path.name for path in PACKAGE if not path.name.startswith("__"))
    classes = Counter(
        node.name for path in PACKAGE for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)
    )
    assert not [name for name, count in (files + classes).items() if count > 1]
