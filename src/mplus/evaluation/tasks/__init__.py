"""Tasks: a folder holds its YAML files, their README and the builder that turns data into texts with questions. Knows tokenizers, no models."""
