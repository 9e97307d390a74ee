"""Attacks on a memory: what threads, kills, failing files, damage, interrupts and long sequences of steps must not do to it.

Knows the public interface only, so that it runs on any version. ``python -m tests.abuse`` prints what was counted.
"""
