"""Task folder `babilong`."""
