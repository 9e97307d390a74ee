"""Model weights as they lie on disk: where base weights come from, and the formats M+ models are stored in.

Knows files, hashes and tensor names; knows nothing of memories that people wrote.
"""
