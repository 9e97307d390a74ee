"""Task folder `incremental`."""
