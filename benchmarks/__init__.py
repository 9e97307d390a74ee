"""Speed and memory of M+ beside the paper's procedure and plain decoding, measured in one run."""
