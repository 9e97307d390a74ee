"""A memory as tools of a model: the Model Context Protocol over stdio (`mplus mcp`)."""
