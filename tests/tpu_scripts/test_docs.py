"""The commands of docs/launching.md, and those at the top of the scripts, run as they stand."""

import re

import pytest

from tests.tpu_scripts.stand_in import SCRIPTS

PAGE = (SCRIPTS.parent / "docs" / "launching.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
EXAMPLES = {
    f"{path.name} {number}": example.replace("\\\n#", "\\\n")
    for path in sorted(SCRIPTS.glob("*.sh"))
    for number, example in enumerate(re.findall(r"^#   (tpu_scripts/(?:.*\\\n)*.*)$", path.read_text(), re.MULTILINE))
}
KEY = "sk-planted"


def test_the_page_goes_from_nothing_to_a_run(shell, cloud):
    for variable in ("DAR_JAX_PROJECT", "DAR_JAX_ZONE", "DAR_JAX_NAME"):
        del cloud.environment[variable]
    shell(BLOCKS[0], OPENAI_API_KEY=KEY)
    install = ["status", "archive", "scp", "ssh install.sh"]
    launch = ["ssh preflight.py", "ssh collective.py", "scp", "ssh start.sh"]
    assert cloud.deeds[-11:] == ["create", "list", *install, *launch, "ssh"]
    assert cloud.input == KEY  # what Secret Manager is given to keep
    assert KEY not in str(cloud.calls)


@pytest.mark.parametrize("block", BLOCKS[1:], ids=lambda block: block.split()[0])
def test_the_other_commands_of_the_page_run(block, shell, cloud):
    shell(block, image="i", DAR_JAX_RUN_DIR="gs://b/r")
    assert cloud.calls


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_the_examples_at_the_top_of_a_script_run(example, shell):
    assert shell(example, DAR_JAX_DRY_RUN="1").stdout
