"""What a training sample holds and which memory tokens it sees. Knows token ids, no models."""
