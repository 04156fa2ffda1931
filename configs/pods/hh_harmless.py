"""Write the prompts of configs/pods/hh_harmless.yaml: the harmless-base part of Anthropic's HH-RLHF as conversations.

    python configs/pods/hh_harmless.py data

writes data/hh-harmless-train.jsonl and data/hh-harmless-test.jsonl, with each conversation up to its last answer.
"""

import json
import re
import sys
from pathlib import Path

ROLES = {"Human": "user", "Assistant": "assistant"}


def prompt(transcript: str) -> list[dict[str, str]]:
    """Parse "\\n\\nHuman: ...\\n\\nAssistant: ..." to messages, without the last answer."""
    parts = re.split(r"\n\n(Human|Assistant): ?", transcript)[1:-2]
    return [{"role": ROLES[who], "content": text.strip()} for who, text in zip(parts[::2], parts[1::2], strict=True)]


def main(folder: Path) -> None:
    """Download the data and write both files."""
    from datasets import load_dataset

    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        rows = load_dataset("Anthropic/hh-rlhf", data_dir="harmless-base", split=split)
        lines = (json.dumps({"prompt": prompt(row["chosen"])}, ensure_ascii=False) for row in rows)
        (folder / f"hh-harmless-{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
