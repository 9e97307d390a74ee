"""Task folder `documents`."""
