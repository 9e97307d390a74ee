"""Read documents into a memory, store it, and answer from it: ``python examples/remember_documents.py [FILE ...]``.

Without files it reads two short texts of its own. Prints the answers, where they were read, and what the memory holds.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from mplus import Memory, MPlusModel

TEXTS = {
    "harbour.txt": "The harbour master of Brightmoor is Oliver Quade. He keeps a parrot at home. The lighthouse was built in 1874, "
    "and its lamp was lit for the first time in spring.",
    "mill.txt": "The old mill stands where the river bends. The gate code of the old mill is 5527. Flour was ground there until the war.",
}
QUESTIONS = ("Who is the harbour master of Brightmoor?", "What is the gate code of the old mill?")


def main(files: list[str]) -> None:
    texts = {name: Path(name).read_text(encoding="utf-8") for name in files} or TEXTS
    model = MPlusModel.from_pretrained("smollm2-135m")
    memory = model.new_memory()
    for name, text in texts.items():
        memory.write(text, source=name)
        print(f"read {name}: {memory.stats().tokens_read} tokens so far")

    with tempfile.TemporaryDirectory() as directory:  # a directory of yours, in earnest
        memory.save(Path(directory) / "memory")
        memory = Memory.load(Path(directory) / "memory", model)

        for question in QUESTIONS:
            answer = model.chat([{"role": "user", "content": question}], memory=memory, max_new_tokens=10)
            print(f"{question} {answer}")
    stats = memory.stats()
    print(
        f"the memory holds {stats.stm_tokens} short-term and {stats.ltm_tokens} long-term tokens, {stats.size_bytes / 1e6:.1f} MB"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
