"""The trace of a read: which passages of which sources an answer drew on. Knows memories and what was retrieved, runs no model."""
