"""Where long-term rows live: host RAM, or immutable segment files of a directory. Knows torch, neither models nor policies."""
