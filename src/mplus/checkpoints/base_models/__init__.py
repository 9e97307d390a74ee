"""Base models: where their weights come from, and stock decoders as memory parts are attached to them. Knows no format of ours."""
