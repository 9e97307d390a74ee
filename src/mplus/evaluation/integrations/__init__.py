"""Doors for other people's evaluation tools. Each imports its library when it is used."""
