"""One model, a memory for each user: ``python examples/several_users.py``.

A common text is read once and forked, each user's own text goes into their own fork, and one call answers all of them at once. Prints what each
of them is told: nobody is answered from somebody else's memory.
"""

from __future__ import annotations

from mplus import MPlusModel

COMMON = "Visitors may use the library of Harwick House from nine to five. The librarian of Harwick House is Tobias Renn."
OWN = {
    "anna": "The locker of this visitor has the number 318. The visitor borrowed an atlas.",
    "boris": "The locker of this visitor has the number 77. The visitor borrowed a cookbook.",
}
QUESTIONS = ("What is the number of the visitor's locker?", "Who is the librarian of Harwick House?")


def main() -> None:
    model = MPlusModel.from_pretrained("smollm2-135m")
    common = model.new_memory()
    common.write(COMMON, source="house rules")

    memories = {name: common.fork() for name in OWN}  # rows are shared; what is written to a fork stays there
    model.write_many(list(memories.values()), list(OWN.values()))  # one pass for all

    for question in QUESTIONS:
        asked = [[{"role": "user", "content": question}] for _ in memories]
        answers = model.chat(asked, memory=list(memories.values()), max_new_tokens=10)
        print(question)
        for name, answer in zip(memories, answers, strict=True):
            print(f"  {name}: {answer}")
    print(f"the common memory still holds {common.stats().tokens_read} tokens")


if __name__ == "__main__":
    main()
