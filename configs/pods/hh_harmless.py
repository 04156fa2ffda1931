"""Make the prompts of configs/pods/hh_harmless.yaml: the harmless-base part of Anthropic's HH-RLHF as conversations.

    python configs/pods/hh_harmless.py data

writes data/hh-harmless-train.jsonl and data/hh-harmless-test.jsonl, each conversation up to the last answer.
"""

import json
import re
import sys
from pathlib import Path

ROLES = {"Human": "user", "Assistant": "assistant"}


def prompt(transcript: str) -> list[dict[str, str]]:
    """Read "\\n\\nHuman: ...\\n\\nAssistant: ..." as messages, without the answer that ends it."""
    parts = re.split(r"\n\n(Human|Assistant): ?", transcript)[1:-2]
    return [{"role": ROLES[who], "content": said.strip()} for who, said in zip(parts[::2], parts[1::2], strict=True)]


def main(folder: Path) -> None:
    """Fetch the set and write both files."""
    from datasets import load_dataset

    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        rows = load_dataset("Anthropic/hh-rlhf", data_dir="harmless-base", split=split)
        lines = (json.dumps({"prompt": prompt(row["chosen"])}, ensure_ascii=False) for row in rows)
        (folder / f"hh-harmless-{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
