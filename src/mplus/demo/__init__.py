"""The demo: one long text, facts at growing distances, three systems; stored under keys of its own. Builds on the evaluation."""
