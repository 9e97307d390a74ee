"""The adapters of two deltas averaged, everything else from the second. ``python experiments/average.py A B --out DIR``.

Two trainings that began at the same weights err on different questions. What their mean was worth: decision 0018. ``A A --strength 0.8``
leaves the weights and turns the adapter down: what that is worth is in decision 0019.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file


def main() -> None:
    """Write the delta; its geometry, retriever and BOS are those of the second."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="of the second")
    parser.add_argument("--strength", type=float, default=1.0, help="factor on the read adapter's alpha")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    shutil.copytree(options.second, options.out)
    first, second = (load_file(directory / "delta.safetensors") for directory in (options.first, options.second))
    if first.keys() != second.keys():
        raise SystemExit(f"the deltas hold different tensors: {sorted(first.keys() ^ second.keys())[:4]}")
    adapters = [name for name in second if ".lora_" in name]
    for name in adapters:
        mean = (1 - options.share) * first[name].float() + options.share * second[name].float()
        second[name] = mean.to(second[name].dtype).contiguous()
    save_file(second, options.out / "delta.safetensors")
    about = json.loads((options.out / "mplus.json").read_text(encoding="utf-8"))
    about["adapters"]["read"]["lora_alpha"] = round(about["adapters"]["read"]["lora_alpha"] * options.strength, 6)
    (options.out / "mplus.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    print(f"averaged {len(adapters)} of {len(second)} tensors into {options.out}")


if __name__ == "__main__":
    main()
