"""Measuring what a memory is worth: retention over distance, against baselines. Uses models through a small protocol only."""
