"""Memory for any Llama, Mistral, Qwen2, Qwen3 or Gemma, without training: ``python examples/your_own_model.py [DIRECTORY or hub id]``.

A memory token is a key and a value that the model itself made, so it reads them as it reads its own context. Prints how well the model
predicts the second half of a text: with the first half in its prompt, in memory, and nowhere.
"""

from __future__ import annotations

import sys

from mplus import Geometry, MPlusModel

FIRST = (
    "The Peregrine sailed from Port Ellery with a cargo of cork and lemons. Her captain, Adela Thornbury, kept a diary in green ink. On the "
    "third day the mast of the Peregrine broke, and Captain Thornbury ordered the lemons thrown into the sea."
)
SECOND = " When the Peregrine came back to Port Ellery, Captain Adela Thornbury had no lemons to sell, only cork."


def main(base: str = "smollm2-135m") -> None:
    model = MPlusModel.from_base(base, geometry=Geometry(new_tokens=128, chunk_tokens=128, stm_tokens=512, ltm_read_tokens=128))
    memory = model.new_memory()
    memory.write(FIRST)

    first, second = (model.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (FIRST, SECOND))
    begun, rest = second[:1], second[1:]  # the first token of the second half is the prompt
    ways = {
        "nowhere": model.log_likelihood([begun], [rest]),
        "in memory": model.log_likelihood([begun], [rest], memory=memory),
        "in the prompt": model.log_likelihood([first + begun], [rest]),
    }
    for name, (found,) in ways.items():
        print(f"first half {name}: {-found.mean():.2f} nats for a token of the second")
    answer = model.generate("Captain", memory=memory, max_new_tokens=12, do_sample=False)
    print(f"goes on from memory: Captain{answer}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
