"""Editing methods: their interface, and how they are found and run."""
