"""A server of memories: OpenAI's, mem0's and its own endpoints, one model worker behind them. Extra ``server``."""
