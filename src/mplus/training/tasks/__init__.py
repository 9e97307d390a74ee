"""Objectives that recipes can name, one file each."""
